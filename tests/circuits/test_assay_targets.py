"""The assay of graphs that explain something else than the next token: features, spans, and what cannot be measured."""

import numpy as np
import pytest
import torch

from circuits import assay, attribute, trace
from circuits.assaying import thresholds
from circuits.assaying.metric import choose_metric, find_foremost
from circuits.changes import Intervention
from circuits.interventions import intervene
from circuits.targets import Direction, Error, Feature, Span, Target
from circuits.transcoders.transcoders import Transcoders
from graphs.graph import AttributionGraph
from tests.circuits.worlds import dictionary_of, model_of

PROMPT = [1, 2, 3, 5, 7]


def unit_of(graph: AttributionGraph, layer: int, position: int) -> Feature:
    nodes = graph.nodes
    units = nodes.where("feature", "neuron")
    here = units[(nodes.layer[units] == layer) & (nodes.position[units] == position)]
    return Feature(layer, int(nodes.feature[here[0]]), position)


@pytest.mark.parametrize("what", ["feature", "span"])
def test_all_neurons_behind_a_target_are_enough_for_it_and_needed(what: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(thresholds, "SMALLEST", 1e-6)  # a random model's values move by little
    monkeypatch.setattr(thresholds, "SMALLEST_SHARE", 1e-6)
    model = model_of("gpt2")
    neurons = dictionary_of(model, "neurons")
    target = Span(2, 4) if what == "span" else unit_of(attribute(model, neurons, PROMPT), 2, 3)
    graph = attribute(model, neurons, PROMPT, [target])

    result = assay(model, neurons, graph, controls=3, top=9)

    for subset in result.subsets:
        assert subset.faithfulness == pytest.approx(1, abs=1e-6)
        assert subset.complement == pytest.approx(0, abs=1e-6)
    rows = find_foremost(graph)[0].tolist()
    assert rows and not set(rows) & {each.node for each in result.ablations}  # what is explained is not ablated
    assert any(each.measured for each in result.ablations)
    by = "KL" if what == "span" else "the size of the change"
    assert any(f"Spearman with {by} " in each.threshold for each in result.verdicts)


def test_a_features_value_is_what_it_reads_when_a_source_is_gone():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT, [unit_of(attribute(model, dictionary, PROMPT), 2, 3)])
    metric = choose_metric(model, dictionary, graph, run)
    (row,) = metric.rows
    assert metric.clean == pytest.approx(graph.nodes.value[row])
    source = int(np.flatnonzero((graph.nodes.kind == "feature") & (graph.nodes.layer == 1))[0])
    place = [int(column[source]) for column in (graph.nodes.layer, graph.nodes.position, graph.nodes.feature)]

    read = intervene(
        model, dictionary, run, [[Intervention(*place)], [Intervention(*place, factor=1.0)]], read=metric.site
    )

    assert isinstance(dictionary, Transcoders)
    unit = int(graph.nodes.feature[row])
    by_hand = read[:, 3] @ dictionary.W_enc[2][unit] + dictionary.b_enc[2][unit]
    torch.testing.assert_close(metric.explained(read), by_hand, rtol=1e-9, atol=1e-12)
    assert metric.moved(read)[0] > 1e-6 > metric.moved(read)[1]


def test_a_span_is_measured_where_its_tokens_come_next():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT, [Span(2, 4), 3])

    metric = choose_metric(model, dictionary, graph, run)

    assert find_foremost(graph)[1] == 2 and graph.nodes.position[metric.rows].tolist() == [len(PROMPT) - 1]
    graph = attribute(model, dictionary, PROMPT, [Span(2, 4)])
    metric = choose_metric(model, dictionary, graph, run)
    assert graph.nodes.position[metric.rows].tolist() == [1, 2]
    own = [float(run.logits[at - 1, PROMPT[at]] - run.logits[at - 1].mean()) for at in (2, 3)]
    assert metric.clean == pytest.approx(np.mean(own)) == pytest.approx(metric.worth.sum())
    assert float(metric.moved(run.logits)) == pytest.approx(0, abs=1e-12)
    assert "prompt's own 2 tokens after positions 1 to 2" in metric.words


@pytest.mark.parametrize("target", [Error(1, 3), Direction([1.0] * 16)])
def test_a_graph_of_what_cannot_be_measured_has_an_assay_that_says_so(target: Target):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")

    result = assay(model, dictionary, attribute(model, dictionary, PROMPT, [target]))

    missed, law, *others = result.verdicts
    assert missed.verdict != "untested" and law.verdict == "supported" and others
    for each in others:
        assert each.verdict == "untested" and "tokens and features are measured" in each.control
