"""SAELens: a folder a layer with `cfg.json` and `sae_weights.safetensors`; transcoders and autoencoders."""

from __future__ import annotations

from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    REBUILDS,
    WRITES,
    Stored,
    check_agreement,
    check_arithmetic,
    find_layer,
    find_site,
    folders_with,
    read_config,
    whole_number,
)
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders

TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
AUTOENCODERS = ("standard", "jumprelu", "topk")


def recognises(folder: Path) -> bool:
    """Whether the folder, or folders in it, look like this layout."""
    return bool(folders_with(folder, "cfg.json", "sae_weights.safetensors"))


def load(folder: Path) -> Transcoders:
    """W_enc [d_in unit], W_dec [unit d_out], b_enc, b_dec, threshold of a jumprelu, W_skip [d_out d_in] of a skip.

    From version 6 on hooks stand in `metadata`; before, beside the other settings. A setting that changes the numbers
    and is not honoured here is refused.
    """
    folders = folders_with(folder, "cfg.json", "sae_weights.safetensors")
    return join_layers(folder, [_read(each) for each in folders])


def _read(folder: Path) -> Layer:
    path = folder / "cfg.json"
    config = read_config(path)
    metadata = config.get("metadata", config)
    if not isinstance(metadata, dict):
        raise DamagedTranscoders(f"{path}: metadata should hold settings, found {type(metadata).__name__}.")
    architecture = _architecture(config, path)
    transcodes, skips = architecture in TRANSCODERS, "skip" in architecture
    check_arithmetic(
        path,
        config,
        {
            "normalize_activations": ("none", None, False),
            "reshape_activations": ("none", None),
            "rescale_acts_by_decoder_norm": (False, None),
            "finetuning_scaling_factor": (False, None),
            "scaling_factor": (None,),
            "noise_scale": (0, 0.0, None),
            **({"apply_b_dec_to_input": (False, None)} if transcodes else {}),
        },
    )
    stored = Stored(folder / "sae_weights.safetensors", folder)
    width, units = stored.matrix("W_enc", "d_in unit")
    _, out = stored.matrix("W_dec", "unit d_out")
    if not transcodes:
        out = width
    shapes: dict[str, tuple[int, ...]] = {
        "W_enc": (width, units),
        "W_dec": (units, out),
        "b_enc": (units,),
        "b_dec": (out,),
    }
    if "jumprelu" in architecture:
        shapes["threshold"] = (units,)
    if skips:
        shapes["W_skip"] = (out, width)
    stored.expect(shapes)
    check_agreement(path, config, {"d_in": width, "d_sae": units, "d_out": out})
    reads = find_site(metadata, "hook_name", READS if transcodes else REBUILDS, path)
    b_dec = stored.small("b_dec")
    subtracts = not transcodes and config.get("apply_b_dec_to_input", architecture == "standard")
    return Layer(
        path=stored.path,
        number=find_layer(metadata["hook_name"], path),
        reads=reads,
        writes=find_site(metadata, "hook_name_out", WRITES, path) if transcodes else reads,
        W_enc=stored.large("W_enc", turned=True),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("W_dec"),
        b_dec=b_dec,
        # A ReLU comes before their threshold, so that a negative one is as good as none.
        threshold=stored.small("threshold").clamp_min(0) if "threshold" in shapes else None,
        W_skip=stored.large("W_skip") if skips else None,
        centre=b_dec if subtracts else None,
        k=_k(config, path, units) if architecture == "topk" else None,
    )


def _architecture(config: dict, path: Path) -> str:
    architecture = config.get("architecture", "standard")
    activation = config.get("activation_fn_str", config.get("activation_fn"))  # before version 6
    if architecture == "standard" and activation == "topk":
        architecture = "topk"
    elif activation not in (None, "relu", "topk"):
        raise DamagedTranscoders(f"{path}: activation {activation!r} is not known; relu and topk are.")
    if architecture not in (*TRANSCODERS, *AUTOENCODERS):
        known = ", ".join((*TRANSCODERS, *AUTOENCODERS))
        raise DamagedTranscoders(f"{path}: architecture {architecture!r} is not known; {known} are.")
    return architecture


def _k(config: dict, path: Path, units: int) -> int:
    before = config.get("activation_fn_kwargs")
    settings = config if "k" in config or not isinstance(before, dict) else before
    return whole_number(path, settings, "k", units)
