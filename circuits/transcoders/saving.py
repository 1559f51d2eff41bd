"""Transcoders just trained, as a folder in circuit-tracer's published layouts."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from circuits.transcoders.trained import Trained


def save_per_layer(transcoders: Trained, folder: Path, *, model_name: str) -> None:
    """`config.yaml` and one `layer_i.safetensors` a layer."""
    _configure(folder, model_name, "transcoder_set")
    for layer in range(transcoders.layers):
        _save(
            folder / f"layer_{layer}.safetensors",
            {
                "W_enc": transcoders.encoder[layer],
                "W_dec": transcoders.decoder[layer][:, 0],
                "b_enc": transcoders.encoder_bias[layer],
                "b_dec": transcoders.decoder_bias[layer],
                "activation_function.threshold": transcoders.threshold[layer],
            },
        )


def save_cross_layer(transcoders: Trained, folder: Path, *, model_name: str) -> None:
    """`config.yaml`, and `W_enc_i.safetensors` and `W_dec_i.safetensors` for every layer i."""
    _configure(folder, model_name, "cross_layer_transcoder")
    for layer in range(transcoders.layers):
        _save(
            folder / f"W_enc_{layer}.safetensors",
            {
                f"W_enc_{layer}": transcoders.encoder[layer],
                f"b_enc_{layer}": transcoders.encoder_bias[layer],
                f"b_dec_{layer}": transcoders.decoder_bias[layer],
                f"threshold_{layer}": transcoders.threshold[layer],
            },
        )
        _save(folder / f"W_dec_{layer}.safetensors", {f"W_dec_{layer}": transcoders.decoder[layer]})


def _configure(folder: Path, model_name: str, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        f"model_name: {model_name}",
        f"model_kind: {kind}",
        "feature_input_hook: mlp.hook_in",
        "feature_output_hook: mlp.hook_out",
    )
    (folder / "config.yaml").write_text("\n".join(lines) + "\n")


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
