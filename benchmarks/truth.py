"""Methods held to transformers compiled from programs, whose edges are known: `python -m benchmarks.truth FOLDER`.

FOLDER holds one folder for each program, with its weights, pairs of prompts and `ground_truth.json`: the edges whose
patch from another prompt moves a logit. For each method: the share of the true edges it gives any score to (above a
millionth of its largest), and how well it ranks them, as the area under the ROC curve, ties counting half. Methods that
score nodes are held to the heads and MLPs whose patch moves a logit; ACDC's edges, at a threshold of a thousandth, are
counted: how many of the true ones are among them, and how many others.

Source: Lindner et al. 2023, "Tracr"; METHODS sections 8.7 and 8.8.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from torch import Tensor

from circuits.attribution import EDGE_METHODS, PART_METHODS
from circuits.attribution.acdc import take_edges_out
from circuits.components.edge_scores import components_of
from circuits.components.metrics import Metric, logit_difference
from circuits.components.pairs import Pairs
from circuits.components.parts import parts_of
from circuits.components.transformer import Layer, Projection, Transformer

SOME = 1e-6  # of the largest score: what counts as a score at all
STEPS = 10
THRESHOLD = 1e-3  # of ACDC, in logits or units of the answer


def load_compiled(folder: Path) -> Transformer:
    """A compiled transformer: no norms, rectified MLPs, every position seen unless it is causal."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}

    def layer(at: int) -> Layer:
        def of(name: str) -> Tensor:
            return weights[f"blocks.{at}.{name}"]

        query, key, value = (Projection(of(f"attn.W_{name}"), of(f"attn.b_{name}"), 1) for name in "QKV")
        return Layer(
            query=query,
            key=key,
            value=value,
            query_norm=None,
            key_norm=None,
            W_O=of("attn.W_O"),
            b_O=of("attn.b_O"),
            scale=1 / math.sqrt(config["d_head"]),
            cap=None,
            window=None,
            rotation=None,
            causal=config["attention_dir"] == "causal",
            norm=None,
            post_norm=None,
            mlp_norm=None,
            mlp_post_norm=None,
            W_gate=None,
            W_in=of("mlp.W_in"),
            W_out=of("mlp.W_out"),
            b_gate=None,
            b_in=of("mlp.b_in"),
            b_out=of("mlp.b_out"),
            function=torch.relu,
            ratio=lambda x: (x > 0).to(x.dtype),
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


def load_examples(folder: Path) -> tuple[Pairs, Metric]:
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


def true_edges(folder: Path, transformer: Transformer, ablation: str = "resample") -> Bool[np.ndarray, "source reader"]:
    """The edges that matter when they carry another prompt; or "zero", "mean", "mean_positional"."""
    truth: Any = json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))
    components = components_of(transformer)
    found = np.zeros(components.edges.shape, dtype=bool)
    for edge in truth["effective_edges"][ablation]["edges"]:
        source = "input" if edge["src"] == "embed" else edge["src"]
        if source != "pos_embed":  # the same on both prompts, and no node here
            found[components.edge(f"{source}->{edge['dst']}")] = True
    return found


def true_nodes(folder: Path, transformer: Transformer) -> Bool[np.ndarray, "node"]:
    """The heads and MLPs that matter when they carry another prompt, and the tokens."""
    truth: Any = json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))
    effective = truth["effective_nodes"]["resample"]
    names = parts_of(transformer).names
    return np.array([("embed" if name == "input" else name) in effective for name in names])


def recall(scores: Float[np.ndarray, "edge"], true: Bool[np.ndarray, "edge"]) -> float:
    """The share of the true edges that got a score."""
    return float((np.abs(scores) > SOME * np.abs(scores).max())[true].mean())


def ranking(scores: Float[np.ndarray, "edge"], true: Bool[np.ndarray, "edge"]) -> float:
    """The chance that a true edge has a larger score than another, by size; equal ones count half.

    nan where there are no others.
    """
    if true.all():
        return math.nan
    size = np.abs(scores)
    size = np.where(size > SOME * size.max(), size, 0.0)  # below that, order is rounding
    above = size[true][:, None] - size[~true]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def judge(folder: Path, methods: tuple[str, ...] = tuple(EDGE_METHODS)) -> dict[str, tuple[float, float]]:
    """Recall and ranking of each method on one program."""
    transformer = load_compiled(folder)
    pairs, metric = load_examples(folder)
    edges, true = components_of(transformer).edges, true_edges(folder, transformer)
    found = {}
    for name in methods:
        steps = {"steps": STEPS} if "-ig" in name else {}
        scores = EDGE_METHODS[name](transformer, pairs, metric, **steps).numpy()
        found[name] = (recall(scores[edges], true[edges]), ranking(scores[edges], true[edges]))
    return found


def judge_nodes(folder: Path, methods: tuple[str, ...] = tuple(PART_METHODS)) -> dict[str, tuple[float, float]]:
    """Recall and ranking of each method of nodes on one program."""
    transformer = load_compiled(folder)
    pairs, metric = load_examples(folder)
    parts, true = parts_of(transformer), true_nodes(folder, transformer)
    found = {}
    for name in methods:
        scores = PART_METHODS[name](transformer, pairs, metric, parts).numpy()
        found[name] = (recall(scores, true), ranking(scores, true))
    return found


def judge_search(folder: Path) -> tuple[int, int, int]:
    """How many true edges ACDC leaves, of how many, and how many others."""
    transformer = load_compiled(folder)
    pairs, metric = load_examples(folder)
    true = true_edges(folder, transformer)
    chosen = take_edges_out(transformer, [pairs], metric, threshold=THRESHOLD).chosen
    return int((chosen & true).sum()), int(true.sum()), int((chosen & ~true).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of compiled transformers")
    programs = sorted(path.parent for path in parser.parse_args().folder.glob("*/ground_truth.json"))
    for title, methods, judged in (("edges", EDGE_METHODS, judge), ("nodes", PART_METHODS, judge_nodes)):
        print(f"| {title} of | " + " | ".join(methods) + " |")
        print("|" + " --- |" * (1 + len(methods)))
        for program in programs:
            found = judged(program).values()
            print(f"| {program.name} | " + " | ".join(f"{a:.2f}, {b:.2f}" for a, b in found) + " |", flush=True)
        print("\nShare of the true ones with a score, area under the ROC curve.\n")
    print("| edges of | acdc: true ones left | others |\n| --- | --- | --- |")
    for program in programs:
        left, of, others = judge_search(program)
        print(f"| {program.name} | {left} of {of} | {others} |", flush=True)


if __name__ == "__main__":
    main()
