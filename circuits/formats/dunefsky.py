"""Dunefsky's GPT-2 transcoders: pickles `final_sparse_autoencoder_…_blocks.{i}.ln2.hook_normalized_{n}.pt`."""

from __future__ import annotations

from pathlib import Path

from circuits.formats.files import READS, Stored, find_layer, find_site
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders

_NAMES = "final_sparse_autoencoder_*.pt"
# The one class their pickles name. It holds settings of the training, nothing that the numbers depend on.
_SETTINGS = ("sae_training.config.LanguageModelSAERunnerConfig",)


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    return any(folder.glob(_NAMES))


def load(folder: Path) -> Transcoders:
    """W_enc [d_in unit], W_dec [unit d_out], b_enc; b_dec is taken from the input, b_dec_out added to the output. ReLU.

    Trained on a GPT-2 with its norms folded in: the input has no gain and no bias, and the output's mean over its
    d_model coordinates is 0. No norm of GPT-2 reads that mean, so the error node that carries it changes nothing.
    """
    return join_layers(folder, [_read(path, folder) for path in sorted(folder.glob(_NAMES))])


def _read(path: Path, folder: Path) -> Layer:
    stored = Stored(path, folder, inert=_SETTINGS, within="state_dict")
    width, units = stored.matrix("W_enc", "d_in unit")
    _, out = stored.matrix("W_dec", "unit d_out")
    stored.expect(
        {
            "W_enc": (width, units),
            "W_dec": (units, out),
            "b_enc": (units,),
            "b_dec": (width,),
            "b_dec_out": (out,),
        }
    )
    hook = path.stem[path.stem.index("blocks.") :].rpartition("_")[0] if "blocks." in path.stem else path.stem
    return Layer(
        path=path,
        number=find_layer(hook, path),
        reads=find_site({"its name": hook}, "its name", READS, path),
        writes="mlp_output",
        W_enc=stored.large("W_enc", turned=True),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("W_dec"),
        b_dec=stored.small("b_dec_out"),
        centre=stored.small("b_dec"),
    )
