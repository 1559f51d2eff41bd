"""An edge split over heads: the parts add up at every layer, and a head's part is what is lost without that head."""

import numpy as np
import pytest

from circuits import attribute, trace
from circuits.attention import can_be_split, load_heads, strongest_heads
from circuits.errors import BadOption
from tests.circuits.worlds import FAMILIES, KINDS, dictionary_of, model_of

PROMPT = "a red fox runs"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_at_every_layer_the_parts_of_an_edge_add_up_to_it(family: str, kind: str):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    graph = attribute(model, dictionary, PROMPT)
    inner = np.flatnonzero(np.isin(graph.nodes.kind[graph.source], ("token", "feature", "neuron", "error")))
    edges = inner[:: max(1, len(inner) // 60)]

    split = load_heads(trace(model, dictionary, PROMPT), dictionary, graph, edges)

    total = split.load.sum(2) + split.bypass + split.later
    below = graph.nodes.layer[graph.source[edges]]
    above = graph.nodes.layer[graph.target[edges]]
    gross = np.abs(split.load).sum(2) + np.abs(split.bypass) + np.abs(split.later)
    for layer in range(model.layers):
        reads = above > layer if model.parallel else above >= layer
        crosses = (below < layer) & reads
        off = np.abs(total[crosses, layer] - graph.weight[edges][crosses])
        assert (off <= 1e-10 * np.maximum(gross[crosses, layer], 1e-9)).all()
        assert not gross[~crosses, layer].any()
    assert split.load.any()


def test_a_heads_load_is_what_the_edge_loses_without_it():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT)
    logit = len(graph.nodes) - 1
    last = model.layers - 1
    from_unit = np.isin(graph.nodes.kind[graph.source], ("feature", "error"))
    edges = np.flatnonzero((graph.target == logit) & (graph.nodes.layer[graph.source] == last - 1) & from_unit)
    split = load_heads(run, dictionary, graph, edges)

    for head in range(model.heads):
        run.frozen.attention[last].mixing[head] = 0  # by hand: this head moves nothing
        without = load_heads(run, dictionary, graph, edges)
        run = trace(model, dictionary, PROMPT)
        lost = graph.weight[edges] - (without.load[:, last].sum(1) + without.bypass[:, last])
        np.testing.assert_allclose(lost, split.load[:, last, head], atol=1e-12)


def test_an_edge_from_a_bias_is_refused():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = attribute(model, dictionary, PROMPT)
    from_bias = np.flatnonzero(graph.nodes.kind[graph.source] == "bias")[:1]
    with pytest.raises(BadOption, match="from units, errors and tokens"):
        load_heads(trace(model, dictionary, PROMPT), dictionary, graph, from_bias)


def test_the_strongest_heads_are_those_that_carry_most():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph, run = attribute(model, dictionary, PROMPT), trace(model, dictionary, PROMPT)
    edges = can_be_split(graph)

    found = strongest_heads(run, dictionary, graph, edges, most=2)

    load = load_heads(run, dictionary, graph, edges).load
    assert not np.isin(graph.nodes.kind[graph.source[edges]], ("bias", "unselected")).any()
    for heads, each in zip(found, load, strict=True):
        largest = np.sort(np.abs(each), axis=None)[::-1][:2]
        assert [abs(carried) for _, _, carried in heads] == [size for size in largest if size]
        assert all(each[layer, head] == carried for layer, head, carried in heads)
    assert strongest_heads(run, dictionary, graph, edges[:0]) == []
