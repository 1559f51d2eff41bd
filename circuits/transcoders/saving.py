"""Transcoders just trained, as a folder in circuit-tracer's published layouts, and the notes on their features."""

import gzip
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from circuits.transcoders.trained import Trained
from graphs.errors import CannotWrite

NOTES = "labels.json.gz"  # beside a set's weights; what a `labels.json` there says goes before it


def save_per_layer(transcoders: Trained, folder: Path, *, model_name: str, writes: str = "mlp.hook_out") -> None:
    """`config.yaml` and one `layer_i.safetensors` a layer.

    writes: the hook whose tensor is rebuilt.
    """
    topk = {} if transcoders.k is None else {"activation": "topk", "k": transcoders.k}
    _configure(folder, model_name, "transcoder_set", writes, topk)
    for layer in range(transcoders.layers):
        tensors = {
            "W_enc": transcoders.encoder[layer],
            "W_dec": transcoders.decoder[layer][:, 0],
            "b_enc": transcoders.encoder_bias[layer],
            "b_dec": transcoders.decoder_bias[layer],
        }
        if transcoders.k is None:
            tensors["activation_function.threshold"] = transcoders.threshold[layer]
        if transcoders.skip is not None:
            tensors["W_skip"] = transcoders.skip[layer]
        _save(folder / f"layer_{layer}.safetensors", tensors)


def save_cross_layer(transcoders: Trained, folder: Path, *, model_name: str, writes: str = "mlp.hook_out") -> None:
    """`config.yaml`, and `W_enc_i.safetensors` and `W_dec_i.safetensors` for every layer i. There is no TopK in it.

    writes: the hook whose tensor is rebuilt.
    """
    _configure(folder, model_name, "cross_layer_transcoder", writes, {})
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


def save_notes(notes: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """What is known of units, as `circuits.formats` reads it: JSON with a unit a line, compressed if it ends in .gz.

    Whole or not at all, and the same bytes for the same notes.

    Raises:
        CannotWrite: the disk refuses. What was there is there still.
    """
    lines = (
        f"{json.dumps(unit)}:{json.dumps(note, ensure_ascii=False, separators=(',', ':'))}"
        for unit, note in notes.items()
    )
    content = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
        os.replace(new, path)
    except OSError as reason:
        raise CannotWrite(f"{path} could not be written: {reason.strerror}. Choose another place.") from reason
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _configure(folder: Path, model_name: str, kind: str, writes: str, more: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model_name": model_name,
        "model_kind": kind,
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": writes,
        **more,
    }
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=2**20)
    (folder / "config.yaml").write_text(text, encoding="utf-8")


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
