"""Truths from a folder of transformers that were compiled with Tracr: `load_truths(folder)`.

Each program is a folder with its weights, pairs of prompts and `ground_truth.json`: the edges by which it was wired
and, for each ablation, those whose cut moves some logit by more than 1e-3, found by brute force when it was made.

Source: Lindner et al. 2023, "Tracr".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.truth.cutting import Edges, edges_together
from benchmarks.truth.truths import Truth
from circuits.components.edge_scores import components_of
from circuits.components.layers import Layer, Projection, bare_layer
from circuits.components.metrics import Metric, logit_difference
from circuits.components.pairs import Pairs
from circuits.components.parts import parts_of
from circuits.components.transformer import Transformer

THEIR_NAMES = {"mean-by-position": "mean_positional"}


def load_truths(folder: Path) -> list[Truth]:
    """The truth of every program in a folder of them, by name."""
    return [load_truth(path.parent) for path in sorted(folder.glob("*/ground_truth.json"))]


def load_truth(folder: Path) -> Truth:
    """The truth of one program's folder."""
    transformer = load_transformer(folder)
    pairs, metric = load_pairs(folder)
    told: Any = json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))
    designed = _edges(transformer, (edge for edge in told["structural"] if edge["on_path"]))

    def found(ablation: str) -> Edges:
        return _edges(transformer, told["effective_edges"][THEIR_NAMES.get(ablation, ablation)]["edges"])

    def found_nodes(ablation: str) -> Bool[np.ndarray, "node"]:
        effective = told["effective_nodes"][THEIR_NAMES.get(ablation, ablation)]
        names = parts_of(transformer).names
        return np.array([("embed" if name == "input" else name) in effective for name in names])

    return Truth(
        name=folder.name,
        about=told["description"],
        transformer=transformer,
        pairs=pairs,
        metric=metric,
        designed=designed,
        found=found,
        found_nodes=found_nodes,
        found_together=cache(partial(edges_together, transformer, pairs, metric, among=designed)),
    )


def load_transformer(folder: Path) -> Transformer:
    """A compiled transformer: no norms, rectified MLPs, every position seen unless it is causal."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}

    def layer(at: int) -> Layer:
        def of(name: str) -> Tensor:
            return weights[f"blocks.{at}.{name}"]

        query, key, value = (Projection(of(f"attn.W_{name}"), of(f"attn.b_{name}"), 1) for name in "QKV")
        return bare_layer(
            query,
            key,
            value,
            of("attn.W_O"),
            of("mlp.W_in"),
            of("mlp.b_in"),
            of("mlp.W_out"),
            scale=1 / math.sqrt(config["d_head"]),
            causal=config["attention_dir"] == "causal",
            b_O=of("attn.b_O"),
            b_out=of("mlp.b_out"),
        )

    return Transformer(
        name=config["model_name"],
        layers=[layer(at) for at in range(config["n_layers"])],
        W_E=weights["embed.W_E"],
        embedding_scale=1.0,
        W_pos=weights["pos_embed.W_pos"],
        W_U=weights["unembed.W_U"],
        b_U=weights["unembed.b_U"],
        final_norm=None,
        parallel=False,
    )


def load_pairs(folder: Path) -> tuple[Pairs, Metric]:
    """Its pairs of prompts, and what is measured: right less wrong answer, or its number towards the right one."""
    pairs = json.loads((folder / "examples.json").read_text(encoding="utf-8"))["pairs"]

    def column(name: str) -> Tensor:
        return torch.tensor([pair.get(name, 0) for pair in pairs])

    found = Pairs(
        clean=column("clean_ids"),
        corrupted=column("corrupted_ids"),
        right=column("correct_id"),
        wrong=column("incorrect_id"),
        position=column("position"),
    )
    if "correct_id" in pairs[0]:
        return found, logit_difference
    towards = torch.sign(column("clean_value") - column("corrupted_value")).double()

    def number(logits: Tensor, pairs: Pairs, clean: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
        return towards * logits[:, 0]

    return found, number


def _edges(transformer: Transformer, told: Iterable[Any]) -> Edges:
    """Edges as the files name them, but for those of the positions, which are no node here."""
    components = components_of(transformer)
    found = np.zeros(components.edges.shape, dtype=bool)
    for edge in told:
        if edge["src"] != "pos_embed":
            found[components.edge(f"{'input' if edge['src'] == 'embed' else edge['src']}->{edge['dst']}")] = True
    return found
