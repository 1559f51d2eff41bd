"""Features, errors, directions and spans as targets: each row reached by another way, and the law of every row."""

import numpy as np
import pytest
import torch

from circuits import attribute, trace
from circuits.attention import load_heads
from circuits.errors import BadTarget
from circuits.model import Model
from circuits.targets import Direction, Error, Feature, Span, Target, parse_span, parse_target
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.flow import flow
from graphs.graph import AttributionGraph
from graphs.paths import influence
from graphs.pruning import prune
from tests.circuits.oracle import effect, frozen_forward, norms_in_float64
from tests.circuits.worlds import ALIKE, FAMILIES, KINDS, dictionary_of, model_of

PROMPT = [1, 2, 3, 5, 7]  # <bos> a red fox runs: in ids, since not every family begins a text with a token


def vector_of(model: Model) -> torch.Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def every_target(model: Model, dictionary: Dictionary, run: Trace) -> list[Target]:
    """One of each kind, at several layers and positions."""
    top, vector, last = model.layers - 1, vector_of(model), len(run.tokens) - 1
    places = [(each, int(run.layer[each]), int(run.position[each])) for each in range(len(run.layer))]
    highest = max(places, key=lambda each: (each[1], each[2]))
    middle = next(each for each in places if each[1] == 1 and each[2] == 2)
    found: list[Target] = [3, (5, 6), Span(2, 4)]
    found += [Feature(layer, int(run.unit[each]), position) for each, layer, position in (middle, highest)]
    if run.errors is not None:
        wanted = ((1, 2), (top, last), (0, last))
        found += [Error(layer, at) for layer, at in wanted if run.errors[layer, at].any()]
    found += [Direction(vector), Direction(vector, "residual_mid", 1, 2), Direction(vector, "residual_post", top)]
    return [*found, Direction(vector, "residual_pre", 1, last - 1), Direction(vector, "residual_post", 0)]


def goal_rows(graph: AttributionGraph) -> np.ndarray:
    return np.flatnonzero(graph.goal)


EVERY = [
    *((family, kind, "float64") for family in FAMILIES for kind in KINDS),
    *((family, "skip", "float32") for family in FAMILIES),
    *((family, "cross-layer", "float64") for family in ALIKE),
]


@pytest.mark.parametrize(("family", "kind", "dtype"), EVERY)
def test_the_inputs_of_every_kind_of_target_sum_to_its_value(family: str, kind: str, dtype: str):
    model = model_of(family, dtype)
    dictionary = dictionary_of(model, kind)
    targets = every_target(model, dictionary, trace(model, dictionary, PROMPT))

    graph = attribute(model, dictionary, PROMPT, targets)

    total = np.bincount(graph.target, weights=graph.weight, minlength=len(graph.nodes))
    gross = np.bincount(graph.target, weights=np.abs(graph.weight), minlength=len(graph.nodes))
    rows = np.union1d(goal_rows(graph), graph.nodes.where("feature", "neuron", "logit", "direction"))
    off = np.abs(total - graph.nodes.value)[rows] / np.maximum(gross[rows], np.abs(graph.nodes.value[rows]))
    assert off.max() <= {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert len(goal_rows(graph)) == len(targets) + 1  # the span is two tokens
    np.testing.assert_allclose(graph.goal.sum(), 1)


@pytest.mark.parametrize("kind", ["skip", "cross-layer"])  # neurons do not read the stream itself
@pytest.mark.parametrize("family", FAMILIES)
def test_the_edges_of_a_direction_are_what_autograd_gives(family: str, kind: str):
    model, vector = model_of(family), vector_of(model_of(family))
    dictionary = dictionary_of(model, kind, reads="residual_mid")
    run = trace(model, dictionary, PROMPT)
    leaves, inputs, added, logits = frozen_forward(model, dictionary, run.tokens)
    read = {
        Direction(model.W_U @ vector[: model.vocabulary], position=2): (logits[0, 2] - model.b_U)
        @ vector[: model.vocabulary],
        Direction(vector, "residual_mid", 1, 2): inputs[1][0, 2] @ vector,
    }
    if model.parallel:  # the MLP reads the stream as it enters the layer
        read[Direction(vector, "residual_post", 0)] = inputs[1][0, -1] @ vector
    else:
        read[Direction(vector, "residual_post", 0)] = (inputs[0] + added[0])[0, -1] @ vector
        read[Direction(vector, "residual_pre", 1, 3)] = (inputs[0] + added[0])[0, 3] @ vector
        read[Direction(vector, "residual_post", model.layers - 1)] = (inputs[-1] + added[-1])[0, -1] @ vector

    for target, value in read.items():
        graph = attribute(model, dictionary, PROMPT, [target])
        row = int(goal_rows(graph)[0])
        np.testing.assert_allclose(value.item(), graph.nodes.value[row], rtol=1e-6, atol=1e-6)
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)]
        sources = graph.nodes.where("token", "feature", "neuron", "error")
        expected = [effect(graph, source, run, dictionary, gradients) for source in sources]
        edges = graph.to_dense()[row, sources]
        np.testing.assert_allclose(edges, expected, rtol=0, atol=1e-10 * np.abs(edges).max())
        gone = [float((g * x).detach().sum()) for g, x in zip(gradients, leaves, strict=True)]
        assert (sum(abs(each) for each in gone) > 0) and len(sources)  # nothing upstream is left out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["gemma2", "gpt_neox"])
def test_a_features_own_graph_is_the_part_of_the_whole_one_below_it(family: str, kind: str):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    whole = attribute(model, dictionary, PROMPT)
    units = whole.nodes.where("feature", "neuron")
    here = units[(whole.nodes.layer[units] == model.layers - 1) & (whole.nodes.position[units] == 3)][0]
    layer, unit = int(whole.nodes.layer[here]), int(whole.nodes.feature[here])

    graph = attribute(model, dictionary, PROMPT, [Feature(layer, unit, 3)])

    def edges(of: AttributionGraph, into: set[str] | None) -> dict[tuple[str, str], float]:
        columns = (of.nodes.kind, of.nodes.layer, of.nodes.position, of.nodes.label)
        names = [f"{k} {w} {p} {t}" for k, w, p, t in zip(*columns, strict=True)]
        found = {(names[s], names[t]): w for s, t, w in zip(of.source, of.target, of.weight, strict=True)}
        return {edge: w for edge, w in found.items() if into is None or edge[1] in into}

    ours = edges(graph, None)
    expected = edges(whole, {target for _, target in ours})
    assert ours.keys() == expected.keys() and len(ours)
    np.testing.assert_allclose([ours[each] for each in ours], [expected[each] for each in ours], rtol=1e-9, atol=1e-12)
    (goal,) = goal_rows(graph)
    assert (graph.nodes.kind[goal], graph.nodes.layer[goal], graph.nodes.feature[goal]) == (
        dictionary.at(layer).kind,
        layer,
        unit,
    )
    assert graph.nodes.position[np.unique(graph.source)].max() <= 3
    inner = np.isin(graph.nodes.kind, ("feature", "neuron")) & (graph.goal == 0)
    assert graph.nodes.layer[inner].max() < layer
    np.testing.assert_allclose(graph.nodes.influence, influence(graph), atol=1e-12)
    assert graph.goal.any() and prune(graph, nodes=0.3).goal.sum() == 1  # the goal itself is not pruned
    sources = graph.nodes.where("token", "error", "bias")
    np.testing.assert_allclose(flow(graph)[sources].sum(), graph.nodes.value[goal], rtol=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_span_is_each_of_its_tokens_explained_where_it_came_next(family: str):
    """Nothing to the right of a position reaches it, so each row is that of a prompt that ends there."""
    model = model_of(family)
    dictionary = dictionary_of(model, "cross-layer")
    ids = model.tokenize(PROMPT).tolist()

    span = attribute(model, dictionary, ids, [Span(2, -1)])

    for row, at in zip(goal_rows(span), range(2, len(ids) - 1), strict=True):
        alone = attribute(model, dictionary, ids[:at], [ids[at]])
        assert (span.nodes.position[row], span.nodes.feature[row]) == (at - 1, ids[at])
        np.testing.assert_allclose(span.nodes.value[row], alone.nodes.value[-1], rtol=1e-6, atol=1e-9)
        of_span, of_alone = (
            graph.weight[
                (graph.target == target) & np.isin(graph.nodes.kind[graph.source], ("feature", "token", "error"))
            ]
            for graph, target in ((span, row), (alone, len(alone.nodes) - 1))
        )
        np.testing.assert_allclose(of_span, of_alone, rtol=1e-4, atol=1e-6 * np.abs(of_alone).max())


@pytest.mark.parametrize("kind", ["skip", "cross-layer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_errors_value_is_its_size_and_its_units_count_against_it(family: str, kind: str):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    assert run.errors is not None
    error = run.errors[1, 3]

    graph = attribute(model, dictionary, PROMPT, [Error(1, 3)])

    (goal,) = goal_rows(graph)
    assert (graph.nodes.kind[goal], graph.nodes.layer[goal], graph.nodes.position[goal]) == ("error", 1, 3)
    np.testing.assert_allclose(graph.nodes.value[goal], float(error.norm()), rtol=1e-5)
    own = (graph.nodes.kind == "feature") & (graph.nodes.layer == 1)
    assert set(graph.nodes.position[own]) == {3}
    units = torch.from_numpy(graph.nodes.feature[own])
    written = torch.from_numpy(graph.nodes.activation[own])[:, None] * dictionary.writing(1, units, 1)
    np.testing.assert_allclose(graph.to_dense()[goal, own], -(written @ error / error.norm()).numpy(), atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_token_gives_to_an_error_it_gives_through_the_neurons_behind_it(family: str):
    """No gradient passes an MLP, so it is the neurons' own edges, weighted by what each writes along the error."""
    model = model_of(family)
    dictionary, neurons = dictionary_of(model, "per-layer"), dictionary_of(model, "neurons")
    with norms_in_float64():  # of neurons the stream is rebuilt, of transcoders it is the model's own
        run = trace(model, dictionary, PROMPT)
        through = attribute(model, neurons, PROMPT)
        graph = attribute(model, dictionary, PROMPT, [Error(1, 3)])
    assert run.errors is not None
    along = run.errors[1, 3] / run.errors[1, 3].norm()
    behind = np.flatnonzero(
        (through.nodes.layer == 1) & (through.nodes.position == 3) & (through.nodes.kind == "neuron")
    )
    every = torch.from_numpy(through.nodes.feature[behind])
    written = run.frozen.written(neurons.writing(1, every, 1), 1, torch.tensor([3]), neurons.writes)

    ratio = through.nodes.activation[behind] / through.nodes.value[behind]  # of neurons without a gate
    mlp = ((written @ along).numpy() * ratio) @ through.to_dense()[behind][:, through.nodes.where("token")]
    taken = [each for each in graph.nodes.where("feature") if graph.nodes.layer[each] == 1]
    assert taken  # they are sources, and their own inputs are not among the error's
    row = graph.to_dense()[goal_rows(graph)[0]]
    np.testing.assert_allclose(row[graph.nodes.where("token")], mlp, rtol=0, atol=1e-10 * np.abs(row).max())


@pytest.mark.parametrize("kind", ["skip", "cross-layer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_edges_into_every_kind_of_target_are_split_over_heads_whole(family: str, kind: str):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT, every_target(model, dictionary, run))
    carried = np.isin(graph.nodes.kind[graph.source], ("token", "feature", "neuron", "error"))
    edges = np.flatnonzero(carried & (graph.goal[graph.target] != 0))[::7]

    split = load_heads(run, dictionary, graph, edges)

    total = split.load.sum(2) + split.bypass + split.later
    gross = np.abs(split.load).sum(2) + np.abs(split.bypass) + np.abs(split.later)
    crossed = gross > 0
    weight = np.broadcast_to(graph.weight[edges][:, None], total.shape)
    np.testing.assert_array_less(np.abs(total - weight)[crossed], 1e-10 * np.maximum(gross, 1)[crossed])
    from_token = graph.nodes.kind[graph.source[edges]] == "token"
    high = graph.nodes.layer[graph.target[edges]] == model.layers
    assert crossed[from_token & high].all()


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        ([Feature(1, 10_000)], "not active there; active at this place"),
        ([Feature(9, 0)], "layers 0 to 2, the prompt positions 0 to 4"),
        ([Error(1, 5)], "positions 0 to 4"),
        ([Error(1, 0)], "leaves that position alone"),
        ([Span(0, 2)], "which nothing comes before"),
        ([Span(3, 3)], "at least one token"),
        ([Span(2, 9)], "positions 0 to 4"),
        ([Direction([1.0, 2.0])], "must be 16 finite numbers"),
        ([Direction([0.0] * 16)], "not all zero"),
        ([Direction([1.0] * 16, "residual_pre", 0)], "but the embedding"),
        ([Error(1), Error(1, 4)], "given twice"),
        ([Span(2, 4), Span(3, 4)], "given twice"),
    ],
)
def test_a_target_that_is_not_there_is_refused_with_what_there_is(targets: list[Target], complaint: str):
    model = model_of("llama")
    with pytest.raises(BadTarget, match=complaint):
        attribute(model, dictionary_of(model, "per-layer"), PROMPT, targets)


def test_neurons_leave_no_error_to_trace():
    model = model_of("llama")
    with pytest.raises(BadTarget, match="rebuild the MLPs exactly"):
        attribute(model, dictionary_of(model, "neurons"), PROMPT, [Error(1)])


def test_targets_are_read_as_they_are_written():
    for text in ("L2/544@last", "L2/544@3", "L0/error@last"):
        assert str(parse_target(text)) == text
    assert parse_target("L2/544@last") == Feature(2, 544)
    assert parse_target("austin") == "austin"
    assert (parse_span("4:7"), parse_span("-2:")) == (Span(4, 7), Span(-2))
    for wrong in ("L2/544", "L2/x@3", "L2/544@"):
        with pytest.raises(BadTarget, match="L2/544@last"):
            parse_target(wrong)
    with pytest.raises(BadTarget, match="FIRST:STOP"):
        parse_span("4-7")
    with pytest.raises(BadTarget, match="takes a layer"):
        Direction([1.0], "residual_mid")
