"""EleutherAI's clt-training, a fork of sparsify: cross-layer sets, decoders by offset or shared by all sources."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    WRITES,
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
from circuits.transcoders.mapped import ByTarget, Mapped
from circuits.transcoders.stepped import SteppedTranscoders
from circuits.transcoders.transcoders import Transcoders

# What their training can also do and this reader does not know.
_KNOWN = {
    "activation": ("topk",),
    "transcode": (True,),
    "n_sources": (0,),
    "normalize_io": (False,),
    "divide_cross_layer": (False,),
    "per_source_tied": (False,),
    "secondary_target_tied": (False,),
    "coalesce_topk": ("none", "concat"),
    "topk_coalesced": (False,),
    "use_fp8": (False,),
}


def recognises(folder: Path) -> bool:
    """Whether folders in this one, or itself, look like this layout."""
    folders = folders_with(folder, "cfg.json", "sae.safetensors")
    return any(read_config(each / "cfg.json").get("n_targets") for each in folders)


def load(folder: Path) -> Transcoders:
    """encoder.weight [unit d], encoder.bias, TopK and ReLU; to each target its own step `post_encs` and scale.

    A live feature writes `(a + post_encs) post_enc_scales`. `coalesce_topk` "none": `W_decs`, `b_decs` and `W_skips` by
    target minus source, summed over sources. "concat": one W_dec, b_dec and W_skip for a target, whoever writes.
    """
    folders = sorted(folders_with(folder, "cfg.json", "sae.safetensors"), key=lambda each: find_layer(each.name, each))
    numbers = [find_layer(each.name, each) for each in folders]
    layers = len(folders)
    if numbers != list(range(layers)):
        missing = sorted(set(range(max(numbers) + 1)) - set(numbers)) or "none, but some are there twice"
        raise DamagedTranscoders(f"{folder} holds layers {numbers}, missing {missing}: fetch them.")
    configs = [read_config(each / "cfg.json") for each in folders]
    stored = [Stored(each / "sae.safetensors", each) for each in folders]
    units, width = stored[0].matrix("encoder.weight", "unit d_in")
    tied = configs[0].get("coalesce_topk") == "concat"
    skips = bool(configs[0].get("skip_connection"))
    for source, (each, config) in enumerate(zip(stored, configs, strict=True)):
        path = folders[source] / "cfg.json"
        check_arithmetic(path, config, _KNOWN)
        found = {"d_in": width, "num_latents": units, "n_targets": layers - source, "skip_connection": skips}
        check_agreement(path, config, {**found, "coalesce_topk": "concat" if tied else "none"})
        _check(each, units, width, layers - source, tied=tied, skips=skips)

    def gathered(name: str, missing: float) -> list[Tensor]:
        """[unit written_layer] of every source."""

        def of(source: int, offset: int) -> Tensor:
            for spelt in (f"{name}s.{offset}", f"{name}.{offset}"):
                if spelt in stored[source].shapes:
                    return stored[source].small(spelt)
            return torch.full((units,), missing)

        return [torch.stack([of(source, j) for j in range(layers - source)], 1) for source in range(layers)]

    scale, step = gathered("post_enc_scale", 1.0), gathered("post_enc", 0.0)
    if tied:
        decoders = [ByTarget([to.large("W_dec") for to in stored[s:]], units, width) for s in range(layers)]
        b_dec = [each.small("b_dec") for each in stored]
        own, later = [each.large("W_skip") for each in stored] if skips else None, None
    else:
        decoders = [
            ByTarget([each.large(f"W_decs.{j}") for j in range(layers - s)], units, width)
            for s, each in enumerate(stored)
        ]
        b_dec = [
            torch.stack([stored[s].small(f"b_decs.{to - s}") for s in range(to + 1)]).sum(0) for to in range(layers)
        ]
        own = [each.large("W_skips.0") for each in stored] if skips else None
        later = [
            ByTarget([each.large(f"W_skips.{j}") for j in range(1, layers - s)], width, width)
            for s, each in enumerate(stored)
        ]
    hook = {"hookpoint": folders[0].absolute().name}
    return SteppedTranscoders(
        name=folder.name,
        content_hash=hash_files([each.path for each in stored]),
        W_enc=Mapped([each.large("encoder.weight") for each in stored]),
        b_enc=[each.small("encoder.bias") for each in stored],
        threshold=[torch.zeros(units) for _ in stored],
        W_dec=decoders,
        b_dec=b_dec,
        W_skip=Mapped(own) if own else None,
        reads=find_site(hook, "hookpoint", READS, folder),
        writes=find_site(hook, "hookpoint", WRITES, folder),
        silent_positions=1,
        notes=read_notes(folder),
        scale=scale,
        k=[whole_number(folders[s] / "cfg.json", config, "k", units) for s, config in enumerate(configs)],
        unchecked=True,
        step=[a * b for a, b in zip(step, scale, strict=True)],
        W_later=later if skips else None,
    )


def _check(stored: Stored, units: int, width: int, targets: int, *, tied: bool, skips: bool) -> None:
    wanted: dict[str, tuple[int, ...]] = {"encoder.weight": (units, width), "encoder.bias": (units,)}
    for plain, shape in (("W_dec", (units, width)), ("b_dec", (width,)), ("W_skip", (width, width))):
        if plain != "W_skip" or skips:
            wanted |= {plain: shape} if tied else {f"{plain}s.{j}": shape for j in range(targets)}
    names = [
        f"{name}{plural}.{j}" for name in ("post_enc", "post_enc_scale") for plural in ("", "s") for j in range(targets)
    ]
    stored.expect(wanted, {name: (units,) for name in names})
