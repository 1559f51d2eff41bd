"""Which kept nodes are drawn: those that lie between the tokens, or an error, and the logits."""

import numpy as np
import pytest
import torch

from circuits.components.metrics import logit_difference
from circuits.components.node_edges import score_node_edges
from circuits.components.node_graphs import graph_of_nodes
from circuits.components.opening import transformer_of
from circuits.components.parts import parts_of
from circuits.components.taking_apart import take_apart
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.worlds import dictionary_of, model_of


def drawn(family, *names, apart=False, features=False):
    """The graph of these parts alone, each "a1.h2" or "a1.h2@3"; all of them with positions or none."""
    model = model_of(family)
    transformer = transformer_of(model)
    if features:
        transformer = take_apart(transformer, dictionary_of(model, "per-layer"), [PAIRS])
    parts = parts_of(transformer, apart=apart, neurons=features)
    places = [each.partition("@") for each in names]
    positions = all(mark for _, mark, _ in places)
    kept = np.zeros((len(parts.names), 6)[: 1 + positions], dtype=bool)
    for name, _, position in places:
        kept[(parts.names.index(name), *([int(position)] if positions else []))] = True
    edges = score_node_edges(transformer, PAIRS, logit_difference, parts, torch.from_numpy(kept)).numpy()
    graph = graph_of_nodes(model, transformer, parts, np.zeros(kept.shape), kept, edges, PAIRS, {}, {})
    return graph


def told(graph):
    """(kind, layer, position) of every node but the logits."""
    columns = (graph.nodes.kind, graph.nodes.layer.tolist(), graph.nodes.position.tolist())
    return {(str(kind), layer, at) for kind, layer, at in zip(*columns, strict=True)} - {("logit", 3, 5)}


TOKEN = ("token", -1, -1)


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        (["input", "a0.h1"], set()),  # it reads nothing
        (["input", "a0.h1", "a0.h1<v>"], {("head", 0, -1)}),
        (["input", "a0.h1", "a1.h2", "a1.h2<k>"], {("head", 1, -1)}),
        (["a0.h1", "a0.h1<v>"], set()),  # there is nothing to read
    ],
)
def test_a_head_is_drawn_where_something_feeds_what_is_kept_of_its_reading(names, heads):
    found = told(drawn("gpt2", *names, apart=True))

    assert found == heads | ({TOKEN} if "input" in names else set())


@pytest.mark.parametrize(
    ("names", "drawn_too"),
    [
        (["input@1", "a1.h1@5", "a1.h1<k>@1"], {("head", 1, 5)}),
        (["input@1", "a1.h1@5", "a1.h1<k>@0", "a1.h1<q>@5"], set()),
        (["input@5", "a1.h1@5", "a1.h1<q>@5"], {("head", 1, 5)}),
        (["input@5", "a1.h1@5", "a1.h1<q>@4"], set()),
    ],
)
def test_at_a_position_a_head_asks_there_and_reads_what_is_kept_elsewhere(names, drawn_too):
    found = told(drawn("gpt2", *names, apart=True))

    assert {each for each in found if each[0] == "head"} == drawn_too


@pytest.mark.parametrize(
    ("names", "drawn_too"),
    [
        (["input@1", "a0.h1@5"], {("head", 0, 5)}),
        (["input@5", "a0.h1@3", "a1.h0@5"], {("head", 1, 5)}),  # nobody looks to the right
        (["input@1", "m0@3", "a1.h0@5"], {("head", 1, 5)}),  # an MLP reads its own position alone
        (["input@3", "m0@3", "a1.h0@5"], {("mlp", 0, 3), ("head", 1, 5)}),
        (["input@5", "m0@4", "m1@5"], {("mlp", 1, 5)}),  # what ends before the answer leads nowhere
    ],
)
def test_at_positions_only_what_is_seen_makes_a_path(names, drawn_too):
    found = told(drawn("gpt2", *names))

    assert {each for each in found if each[0] != "token"} == drawn_too


def test_a_window_hides_what_lies_before_it():
    windows = [layer.window for layer in transformer_of(model_of("gemma2")).layers]
    narrow, wide = windows.index(4), windows.index(None)

    found = told(drawn("gemma2", "input@1", f"a{narrow}.h0@5", f"a{wide}.h0@5"))

    assert ("head", wide, 5) in found and ("head", narrow, 5) not in found


def test_what_features_miss_is_where_a_path_may_begin_and_none_goes_on():
    graph = drawn("llama", "m0.error", "a1.h0", "m1.error", features=True)

    assert told(graph) == {("error", 0, -1), ("head", 1, -1), ("error", 1, -1)}
    nodes = graph.nodes
    assert set(nodes.kind[graph.target].tolist()) == {"head", "logit"}
    for row in range(len(nodes)):
        coming_in = graph.weight[graph.target == row]
        assert nodes.gross[row] == pytest.approx(np.abs(coming_in).sum())
        expected = coming_in.sum() if nodes.kind[row] in ("head", "logit") else np.nan
        assert nodes.value[row] == pytest.approx(expected, nan_ok=True)
    told_edges = graph.provenance["edges"]
    assert all(not edge.endswith("error") for edge in told_edges) and len(told_edges) > 3
    assert sum(told_edges.values()) == pytest.approx(graph.weight.sum())


def test_a_neuron_of_all_positions_has_its_largest_activation_whatever_its_sign():
    model = model_of("gpt2")
    transformer = transformer_of(model)
    parts = parts_of(transformer, neurons=True)
    kept = np.ones(len(parts.names), dtype=bool)
    edges = np.ones((len(kept), 3 * 12 + 3 * transformer.layers[0].W_out.shape[0] + 1))

    graph = graph_of_nodes(model, transformer, parts, np.zeros(kept.shape), kept, edges, PAIRS, {}, {})

    run = transformer.run(transformer.embed(PAIRS.clean[:1]), neurons=True)
    for row in graph.nodes.where("neuron")[::7]:
        active = run.neurons[graph.nodes.layer[row]][0, :, graph.nodes.feature[row]]
        assert graph.nodes.activation[row] == pytest.approx(float(active[active.abs().argmax()]))
    assert (graph.nodes.activation[graph.nodes.where("neuron")] < 0).any()
