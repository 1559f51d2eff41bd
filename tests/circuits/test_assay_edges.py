"""Level 1 of the assay: every edge by experiment, in every family; and edges that are wrong are found."""

from dataclasses import replace

import numpy as np
import pytest

from circuits import attribute, trace
from circuits.assaying.bench import Bench
from circuits.assaying.edges import test_edges as try_edges
from circuits.assaying.metric import choose_metric
from graphs.graph import AttributionGraph
from graphs.pruning import prune
from tests.circuits.worlds import FAMILIES, dictionary_of, model_of

PROMPT = "a red fox runs"


def bench_of(graph: AttributionGraph, family: str, kind: str) -> Bench:
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, graph.token_ids)
    metric = choose_metric(model, dictionary, graph, run)
    return Bench(model, dictionary, run, graph, metric, graph.nodes.where("feature"), 20, 0, lambda *_: None)


@pytest.mark.parametrize("kind", ["neurons", "skip", "cross-layer", "autoencoder", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_edge_is_what_its_target_loses_without_its_source(family: str, kind: str):
    model = model_of(family)
    graph = prune(attribute(model, dictionary_of(model, kind), PROMPT, ["red", ("fox", "dog")]), nodes=0.9)

    (edges,) = try_edges(bench_of(graph, family, kind))

    read_not_written = [
        row
        for row in graph.nodes.where("bias")
        if str(graph.nodes.label[row]).startswith(("encoder", "norm bias before", "final", "unemb"))
    ]
    assert edges.left_out == np.isin(graph.source, read_not_written).sum()
    assert edges.tested + edges.left_out == len(graph.source)
    assert edges.largest <= 1e-6  # the norms of most families compute in float32


def test_an_edge_with_another_weight_is_found():
    model = model_of("llama")
    graph = attribute(model, dictionary_of(model, "per-layer"), PROMPT)
    edge = int(np.flatnonzero(graph.nodes.kind[graph.source] == "feature")[7])
    weight = np.array(graph.weight)
    weight[edge] += 0.01 * graph.nodes.gross[graph.target[edge]]

    (edges,) = try_edges(bench_of(replace(graph, weight=weight), "llama", "per-layer"))

    assert edges.largest == pytest.approx(0.01, rel=1e-3)
    assert (edges.source, edges.target) == (graph.source[edge], graph.target[edge])
