"""dictionary_learning's autoencoders: `ae.pt` and `config.json` of its trainer."""

from __future__ import annotations

from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import Stored, check_agreement, check_arithmetic, find_layer, folders_with, read_config
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders

_SITES = {"resid_post": "residual_after", "mlp_out": "mlp_raw", "attn_out": "attention_output"}


def recognises(folder: Path) -> bool:
    """Whether the folder, or folders in it, look like this layout."""
    return bool(folders_with(folder, "ae.pt", "config.json"))


def load(folder: Path) -> Transcoders:
    """encoder.weight [unit d], encoder.bias, decoder.weight [d unit]; b_dec (or bias) is taken from the input.

    BatchTopK is used as its authors use it after training: with the one threshold kept beside the weights.
    """
    return join_layers(folder, [_read(each) for each in folders_with(folder, "ae.pt", "config.json")])


def _read(folder: Path) -> Layer:
    path = folder / "config.json"
    config = read_config(path)
    trainer, buffer = config.get("trainer"), config.get("buffer", {})
    if not isinstance(trainer, dict) or not isinstance(buffer, dict):
        raise DamagedTranscoders(f"{path} should hold the settings of a trainer and its buffer.")
    check_arithmetic(path, {"dict_class": None, **trainer}, {"dict_class": ("BatchTopKSAE", "AutoEncoder")})
    check_arithmetic(path, buffer, {"io": ("out",)})
    thresholded = trainer["dict_class"] == "BatchTopKSAE"
    bias = "b_dec" if thresholded else "bias"
    stored = Stored(folder / "ae.pt", folder)
    units, width = stored.matrix("encoder.weight", "unit d_in")
    stored.expect(
        {
            "encoder.weight": (units, width),
            "encoder.bias": (units,),
            "decoder.weight": (width, units),
            bias: (width,),
            **({"threshold": ()} if thresholded else {}),
        },
        {"k": ()} if thresholded else {},
    )
    check_agreement(path, trainer, {"activation_dim": width, "dict_size": units})
    name = str(trainer.get("submodule_name"))
    site = next((site for begin, site in _SITES.items() if name.startswith(begin)), None)
    if site is None:
        raise DamagedTranscoders(f"{path}: submodule_name should begin with {', '.join(_SITES)}, found {name!r}.")
    b_dec = stored.small(bias)
    return Layer(
        path=stored.path,
        number=trainer["layer"] if isinstance(trainer.get("layer"), int) else find_layer(name, path),
        reads=site,
        writes=site,
        W_enc=stored.large("encoder.weight"),
        b_enc=stored.small("encoder.bias"),
        W_dec=stored.large("decoder.weight", turned=True),
        b_dec=b_dec,
        threshold=stored.small("threshold").clamp_min(0).expand(units).clone() if thresholded else None,
        centre=b_dec,
    )
