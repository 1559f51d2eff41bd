"""Shipped transcoders read back from circuit-tracer's layouts."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from circuits.transcoders.trained import Trained


def load_transcoders(folder: Path) -> Trained:
    """Either layout, in float32."""
    layers = range(len(list(folder.glob("layer_*.safetensors")) or list(folder.glob("W_enc_*.safetensors"))))
    if (folder / "layer_0.safetensors").exists():
        files = [load_file(folder / f"layer_{k}.safetensors") for k in layers]
        names = [("W_enc", "b_enc", "activation_function.threshold", "W_dec", "b_dec") for _ in layers]
    else:
        files = [
            load_file(folder / f"W_enc_{k}.safetensors") | load_file(folder / f"W_dec_{k}.safetensors") for k in layers
        ]
        names = [(f"W_enc_{k}", f"b_enc_{k}", f"threshold_{k}", f"W_dec_{k}", f"b_dec_{k}") for k in layers]
    columns = list(
        zip(*([file[name].float() for name in row] for file, row in zip(files, names, strict=True)), strict=True)
    )
    encoder, bias, threshold, decoder, decoder_bias = columns
    slots = tuple(d[:, None] if d.ndim == 2 else d for d in decoder)
    return Trained(tuple(encoder), tuple(bias), tuple(threshold), slots, torch.stack(decoder_bias))
