"""Work handed to circuit-tracer in its own environment through files, and its results read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.peers.hooked_models import NotTranslated, write_hooked
from benchmarks.peers.processes import Process, Spent, is_installed
from benchmarks.peers.scratch import scratch_folder
from circuits.transcoders.base import Dictionary
from circuits.transcoders.transcoders import Transcoders
from graphs.graph import AttributionGraph

PEER = "circuit_tracer"
HOOKS = {
    "mlp_input": "mlp.hook_in",
    "mlp_normalised": "ln2.hook_normalized",
    "residual_mid": "hook_resid_mid",
    "mlp_raw": "mlp.hook_out",
    "mlp_output": "hook_mlp_out",
}
INSTALL = "circuit-tracer is not installed: run benchmarks/peers/circuit_tracer/install"


def installed() -> bool:
    """Whether the peer's environment is there."""
    return is_installed(PEER)


class Peer(Process):
    """Circuit-tracer with one job, waiting for orders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(PEER, folder)

    def attribute(self, *, tokens: Sequence[int] | None = None, save: Path | None = None, **options: Any) -> Spent:
        """One attribution, with circuit-tracer's own options. tokens: a prompt in place of the job's."""
        return self.do("attribute", tokens=None if tokens is None else list(tokens), options=options, save=save)

    def prune(self, nodes: float, edges: float, *, save: Path | None = None) -> Spent:
        """Prune the job's graph, or the one attributed last."""
        return self.do("prune", nodes=nodes, edges=edges, save=save)

    def score(self, save: Path) -> None:
        """Influence, replacement and completeness of the same graph."""
        self.do("score", save=save)

    def intervene(
        self, interventions: Sequence[tuple], save: Path, *, generate: int = 0, **options: Any
    ) -> dict[str, np.ndarray]:
        """Its interventions, (layer, position or [first, None], feature, value), with its own options: the logits and
        activations, and with `generate` the tokens that it then says."""
        self.do("intervene", interventions=interventions, generate=generate, options=options, save=save)
        return dict(np.load(save))


def write_attribution(model: Path, dictionary: Dictionary, tokens: Sequence[int], dtype: str = "float32") -> Path:
    """A job folder with a model, in Hugging Face layout, a dictionary and a prompt.

    Raises:
        NotTranslated: circuit-tracer knows no such dictionary, or the model is not known here.
    """
    folder = scratch_folder("job-")
    dictionary = _plain(dictionary)
    layers = range(dictionary.layers)
    tensors = {
        f"{name}.{layer}": getattr(dictionary, name)[layer]
        for name in ("W_enc", "b_enc", "threshold", "W_dec", "b_dec")
        for layer in layers
    }
    if dictionary.W_skip is not None:
        tensors |= {f"W_skip.{layer}": dictionary.W_skip[layer] for layer in layers}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "dictionary.safetensors")
    settings = write_hooked(model, folder, getattr(torch, dtype))
    shape = {
        "units": dictionary.units,
        "cross_layer": dictionary.cross_layer,
        "skip": dictionary.W_skip is not None,
        "input_hook": HOOKS[dictionary.reads],
        "output_hook": HOOKS[dictionary.writes],
    }
    job = {"dtype": dtype, "threads": 1, "tokens": list(tokens), "model": settings, "dictionary": shape}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder


def write_graph(graph: AttributionGraph, dtype: str = "float32") -> tuple[Path, np.ndarray]:
    """A job folder with a graph to prune, its biases left out; and the row of our table that each peer node has."""
    folder = scratch_folder("job-")
    order = peer_order(graph)
    place = np.full(len(graph.nodes), -1)
    place[order[order >= 0]] = np.flatnonzero(order >= 0)
    drawn = (place[graph.source] >= 0) & (place[graph.target] >= 0)
    logits = graph.nodes.where("logit")
    np.savez(
        folder / "graph.npz",
        source=place[graph.source[drawn]],
        target=place[graph.target[drawn]],
        weight=graph.weight[drawn],
        logit_probabilities=graph.goal[logits],
    )
    job = {
        "dtype": dtype,
        "threads": 1,
        "features": int((graph.nodes.kind == "feature").sum()),
        "layers": int(graph.nodes.layer[logits[0]]),
        "tokens": len(graph.tokens),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder, order


def peer_order(graph: AttributionGraph) -> np.ndarray:
    """For each node of the peer's table the row of ours: features, errors by layer and position, tokens, logits.

    -1 for the errors at positions that the dictionary leaves out, which we do not have.
    """
    nodes, length = graph.nodes, len(graph.tokens)
    logits = nodes.where("logit")
    errors = np.full((int(nodes.layer[logits[0]]), length), -1)
    rows = nodes.where("error")
    errors[nodes.layer[rows], nodes.position[rows]] = rows
    return np.concatenate([nodes.where("feature"), errors.ravel(), nodes.where("token"), logits])


def _plain(dictionary: Dictionary) -> Transcoders:
    """A dictionary as circuit-tracer has them: features with a threshold, and nothing in front of or behind them."""
    if not isinstance(dictionary, Transcoders) or dictionary.kind != "feature":
        raise NotTranslated(f"circuit-tracer takes transcoders alone as units, found {dictionary.name}.")
    more = [name for name in ("zoom", "centre", "rank", "scale", "k", "numbers") if getattr(dictionary, name)]
    if more or dictionary.silent_positions != 1:
        raise NotTranslated(
            f"{dictionary.name} is not handed to circuit-tracer: it is of a layout, {', '.join(more) or 'silent'}, "
            "that is not translated for it."
        )
    return dictionary
