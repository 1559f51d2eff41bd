"""An edge split over heads: the parts add up at every layer, and a head's part is what is lost without that head."""

from pathlib import Path

import numpy as np
import pytest

from circuits import attention, attribute, trace
from circuits.attention import can_be_split, find_heads, gather_heads, load_heads, strongest_heads
from circuits.errors import BadOption
from graphs import Store, prune
from graphs.paths import edge_influence
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


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_what_the_store_keeps_of_each_edge_and_what_passed_no_head_add_up_to_it(family: str, tmp_path: Path):
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    graph, run = prune(attribute(model, dictionary, PROMPT), nodes=0.5), trace(model, dictionary, PROMPT)
    edges, store = can_be_split(graph), Store(tmp_path)
    every = strongest_heads(run, dictionary, graph, edges, most=model.layers * model.heads)
    id = store.save(graph)
    store.keep_heads(id, gather_heads(graph, edges, every))

    kept = store.heads(id)

    assert kept is not None and kept.split == kept.of == len(edges)
    by_edge, split = kept.by_edge(), load_heads(run, dictionary, graph, edges)
    passed = 0
    for at, edge in enumerate(edges.tolist()):
        source, target = int(graph.source[edge]), int(graph.target[edge])
        carried = by_edge.get((source, target), ())
        for layer in {layer for layer, _, _ in carried}:
            heads = sum(load for each, _, load in carried if each == layer)
            none = split.bypass[at, layer] + split.later[at, layer]
            assert heads == pytest.approx(graph.weight[edge] - none, abs=1e-9 * max(1, abs(none)))
            passed += 1
    assert passed > len(by_edge) > 0


def test_a_trace_keeps_the_strongest_edges_and_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph, run = prune(attribute(model, dictionary, PROMPT), nodes=0.5), trace(model, dictionary, PROMPT)
    edges = can_be_split(graph)
    strongest = edges[np.argsort(-edge_influence(graph)[edges], kind="stable")]
    whole = find_heads(run, dictionary, graph)
    assert whole is not None and whole.split == whole.of == len(edges)

    monkeypatch.setattr(attention, "MOST_EDGES", 40)
    some = find_heads(run, dictionary, graph)
    monkeypatch.setattr(attention, "ROOM", 30 * model.layers * run.residual.nbytes)
    few = find_heads(run, dictionary, graph)
    again = strongest_heads(run, dictionary, graph, strongest)  # piece by piece, where there is not room for all

    assert some is not None and (some.split, some.of) == (40, len(edges))
    assert few is not None and 1 <= few.split < 40
    sources, targets = (set(ends[strongest[: few.split]].tolist()) for ends in (graph.source, graph.target))
    assert 3 * len(sources) + len(targets) <= 30
    known = whole.by_edge()
    for heads in (some, few):
        first = {(int(graph.source[edge]), int(graph.target[edge])) for edge in strongest[: heads.split]}
        assert set(heads.by_edge()) == first & set(known)
        for edge, carried in heads.by_edge().items():
            assert [each[:2] for each in carried] == [each[:2] for each in known[edge]]
            np.testing.assert_allclose([each[2] for each in carried], [each[2] for each in known[edge]], rtol=1e-9)
    for edge, carried in zip(strongest.tolist(), again, strict=True):
        before = known.get((int(graph.source[edge]), int(graph.target[edge])), [])
        np.testing.assert_allclose([each[2] for each in carried], [each[2] for each in before], rtol=1e-9)
