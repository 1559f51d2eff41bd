"""OpenMOSS Lorsa (Llama Scope 2): a folder a layer with config.json and sae_weights.safetensors, for attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    Stored,
    check_agreement,
    check_arithmetic,
    find_layer,
    find_site,
    folders_with,
    hash_files,
    read_config,
    read_notes,
    whole_number,
)
from circuits.numbers import is_number
from circuits.transcoders.lorsa import Lorsa, Rotation
from circuits.transcoders.mapped import Mapped

READS = {
    "ln1.hook_normalized": "attention_normalised",
    "ln1.hook_out": "attention_input",
    "attn.hook_in": "attention_input",
}
WRITES = {"hook_attn_out": "attention_output", "attn.hook_out": "attention_raw"}

_NORM = "dataset_average_activation_norm."
_THRESHOLD = "activation_function.log_jumprelu_threshold"
_TABLE = 2e-2  # cosines may be stored in bfloat16


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer as its files have it: see `Lorsa`. W: what opens each large weight, by name."""

    path: Path
    number: int
    reads: str
    writes: str
    eps: float
    W: Mapping[str, Callable[[], Tensor]]
    b_Q: Tensor
    b_K: Tensor
    b_V: Tensor
    b_O: Tensor
    threshold: Tensor
    score_scale: float
    rotation: Rotation | None
    query_gain: Tensor | None
    key_gain: Tensor | None
    rank: Tensor | None
    k: int | None
    zoom: float
    scale: float


def recognises(folder: Path) -> bool:
    """Whether the folder, or folders in it, hold Lorsa layers."""
    found = folders_with(folder, "config.json", "sae_weights.safetensors")
    return bool(found) and read_config(found[0] / "config.json").get("sae_type") == "lorsa"


def load(folder: Path) -> Lorsa:
    """W_Q, W_K [head d_model d_head], W_V, W_O [unit d_model] and their biases, b_D for the output.

    TopK or JumpReLU, on `h ‖W_O row‖` where the configuration says so. Input and output are scaled to norm √d by the
    average norms kept beside the weights. Heads may be stored once for several of the configuration's `n_qk_heads`,
    which then are equal: units are shared out among them in order, so that nothing changes.

    Source: OpenMOSS/Language-Model-SAEs, `LowRankSparseAttention`.
    """
    layers = [_read(each) for each in folders_with(folder, "config.json", "sae_weights.safetensors")]
    return _join(folder, sorted(layers, key=lambda layer: layer.number))


def _join(folder: Path, layers: Sequence[_Layer]) -> Lorsa:
    first = layers[0]
    for before, layer in pairwise(layers):
        if before.number == layer.number:
            raise DamagedTranscoders(
                f"{folder} holds layer {layer.number} twice, in {before.path} and {layer.path}: keep one of them."
            )
    for layer in layers:
        for name in ("reads", "writes", "eps"):
            one, other = getattr(first, name), getattr(layer, name)
            if one != other:
                raise DamagedTranscoders(f"{first.path} has {name} {one}, but {layer.path} has {other}: no one set.")
        for name in ("b_Q", "b_V", "b_O"):
            one, other = tuple(getattr(first, name).shape), tuple(getattr(layer, name).shape)
            if one != other:
                raise DamagedTranscoders(f"{first.path} has {name} {one}, but {layer.path} has {other}: no one set.")
        for name in ("k", "rank", "query_gain"):
            if (getattr(first, name) is None) != (getattr(layer, name) is None):
                raise DamagedTranscoders(f"{folder}: some layers have {name} and some have not.")

    def every(name: str) -> list[Any] | None:
        found = [getattr(layer, name) for layer in layers]
        return None if found[0] is None else found

    whole = ("b_Q", "b_K", "b_V", "b_O", "threshold", "score_scale", "zoom", "scale")
    columns: dict[str, Any] = {name: every(name) for name in (*whole, "query_gain", "key_gain", "rank", "k")}
    columns |= {name: Mapped([layer.W[name] for layer in layers]) for name in first.W}
    return Lorsa(
        name=folder.name,
        content_hash=hash_files(layer.path for layer in layers),
        numbers=tuple(layer.number for layer in layers),
        reads=first.reads,
        writes=first.writes,
        rotation=[layer.rotation for layer in layers],
        eps=first.eps,
        notes=read_notes(folder),
        unchecked=True,
        **columns,
    )


def _read(folder: Path) -> _Layer:
    path = folder / "config.json"
    config = read_config(path)
    normed = bool(config.get("use_post_qk_ln"))
    check_arithmetic(
        path,
        config,
        {
            "sae_type": ("lorsa",),
            "norm_activation": ("dataset-wise", "inference", "none", None),
            "positional_embedding_type": ("rotary", "none"),
            "rotary_scale": (1,),
            "use_NTK_by_parts_rope": (True, False),
            "use_post_qk_ln": (True, False),
            "use_decoder_bias": (True, False),
            "act_fn": ("topk", "jumprelu", "relu"),
            **({"normalization_type": ("RMS",)} if normed else {}),
        },
    )
    reads, writes = find_site(config, "hook_point_in", READS, path), find_site(config, "hook_point_out", WRITES, path)
    stored = Stored(folder / "sae_weights.safetensors", folder, masks=("mask",))
    units, width = stored.matrix("W_V", "unit d_model")
    heads, wide = stored.matrix("b_Q", "head d_head")
    inward, outward = str(config.get("hook_point_in")), str(config.get("hook_point_out"))
    shapes: dict[str, tuple[int, ...]] = {"W_V": (units, width), "W_O": (units, width), "b_V": (units,)}
    shapes |= {f"W_{each}": (heads, width, wide) for each in "QK"} | {f"b_{each}": (heads, wide) for each in "QK"}
    if config.get("use_decoder_bias", True):
        shapes["b_D"] = (width,)
    scaled = config.get("norm_activation") == "dataset-wise"
    if scaled:
        shapes |= {_NORM + inward: (), _NORM + outward: ()}
    activation = config.get("act_fn", "relu")
    if activation == "jumprelu":
        shapes[_THRESHOLD] = (units,)
    if normed:
        shapes |= {"ln_q.w": (heads, wide), "ln_k.w": (heads, wide)}
    context = stored.shapes.get("mask", (0,))[0]
    turned = int(config.get("rotary_dim") or 0)
    optional: dict[str, tuple[int, ...]] = {"mask": (context, context), "IGNORE": ()}
    optional |= {f"rotary_{each}": (context, turned) for each in ("sin", "cos")}
    optional |= {_NORM + inward: (), _NORM + outward: ()}
    stored.expect(shapes, optional)
    check_agreement(path, config, {"d_model": width, "d_qk_head": wide})
    for name, many in (("W_V", units), ("n_qk_heads", config.get("n_qk_heads") or heads)):
        if not isinstance(many, int) or many % heads:
            raise DamagedTranscoders(f"{path}: {name} has {many!r} rows, which {heads} stored heads cannot share.")
    rotation = _rotation(path, config, wide) if config.get("positional_embedding_type", "rotary") == "rotary" else None
    if rotation is not None and "rotary_cos" in stored.shapes:
        _check_table(stored, rotation)
    norms = _row_norms(stored, units) if config.get("sparsity_include_decoder_norm", True) else None
    threshold = stored.small(_THRESHOLD).exp() if activation == "jumprelu" else torch.zeros(units)
    if activation == "jumprelu" and norms is not None:
        threshold = threshold / norms
    scale = 1 / _zoom(stored, outward, width) if scaled else 1.0
    score_scale = config.get("attn_scale") or wide**0.5
    if not is_number(score_scale) or score_scale <= 0:
        raise DamagedTranscoders(f"{path}: attn_scale should be a number above 0, found {score_scale!r}.")
    return _Layer(
        path=stored.path,
        number=find_layer(inward, path),
        reads=reads,
        writes=writes,
        eps=_number(path, config, "eps", 1e-6),
        W={name: stored.large(name) for name in ("W_Q", "W_K", "W_V", "W_O")},
        b_Q=stored.small("b_Q"),
        b_K=stored.small("b_K"),
        b_V=stored.small("b_V"),
        b_O=(stored.small("b_D") if "b_D" in shapes else torch.zeros(width)) * scale,
        threshold=threshold,
        score_scale=float(score_scale),
        rotation=rotation,
        query_gain=stored.small("ln_q.w") if normed else None,
        key_gain=stored.small("ln_k.w") if normed else None,
        rank=norms if activation == "topk" else None,
        k=whole_number(path, config, "top_k", units) if activation == "topk" else None,
        zoom=_zoom(stored, inward, width) if scaled else 1.0,
        scale=scale,
    )


def _rotation(path: Path, config: dict[str, Any], wide: int) -> Rotation:
    width = whole_number(path, config, "rotary_dim", wide)
    if width % 2:
        raise DamagedTranscoders(f"{path}: rotary_dim should be even, found {width}.")
    stretch = None
    if config.get("use_NTK_by_parts_rope"):
        names = ("NTK_by_parts_factor", "NTK_by_parts_low_freq_factor", "NTK_by_parts_high_freq_factor")
        factor, low, high = (_number(path, config, name, 1.0) for name in names)
        if high <= low:
            raise DamagedTranscoders(f"{path}: {names[2]} should be above {names[1]}, found {high} and {low}.")
        stretch = (factor, low, high, whole_number(path, config, "old_context_len", 2**31))
    base = _number(path, config, "rotary_base", 10000.0)
    return Rotation(width, base, bool(config.get("rotary_adjacent_pairs", True)), stretch)


def _check_table(stored: Stored, rotation: Rotation) -> None:
    """The cosines that a set keeps must be those of its configuration."""
    table = stored.small("rotary_cos")
    cosines = rotation.angles(len(table)).cos().float()
    cosines = cosines.repeat_interleave(2, dim=1) if rotation.adjacent else cosines.repeat(1, 2)
    off = float((table - cosines).abs().max())
    if off > _TABLE:
        raise DamagedTranscoders(
            f"{stored.path} turns keys otherwise than its config.json says (cosines are off by {off:.1g}): "
            "rotary_base, rotary_adjacent_pairs and NTK_by_parts settings do not belong to these weights."
        )


def _row_norms(stored: Stored, units: int) -> Tensor:
    rows = stored.large("W_O")()
    return torch.cat([rows[first : first + 4096].float().norm(dim=1) for first in range(0, units, 4096)])


def _zoom(stored: Stored, hook: str, width: int) -> float:
    norm = float(stored.small(_NORM + hook))
    if norm <= 0:
        raise DamagedTranscoders(f"{stored.path}: {_NORM + hook} should be above 0, found {norm}.")
    return width**0.5 / norm


def _number(path: Path, config: dict[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    if not is_number(value) or value <= 0:
        raise DamagedTranscoders(f"{path}: {name} should be a number above 0, found {value!r}.")
    return float(value)
