"""Levels 3 and 4: what nodes do to nodes, and how both models answer a small change."""

import numpy as np
import pytest
import torch

from circuits import attribute
from circuits.assaying import disturbing, thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.between import count_hops, predict_between, summarise_between
from circuits.assaying.between import test_between as try_between
from circuits.assaying.disturbing import test_disturbances as try_disturbances
from circuits.assaying.verdicts import judge_between, judge_disturbances
from circuits.changes import ERROR, Intervention
from circuits.interventions import read_under
from graphs.assays import Between, Disturbance
from graphs.pruning import prune
from tests.circuits.test_assay_levels import PROMPT, bench_of
from tests.circuits.worlds import dictionary_of, model_of

FAMILY_KINDS = [("llama", "per-layer"), ("gemma2", "cross-layer"), ("gpt_neox", "neurons"), ("gpt2", "skip")]


@pytest.mark.parametrize(("family", "kind"), FAMILY_KINDS)
def test_every_pair_is_predicted_by_walking_the_graph_and_measured_by_one_intervention(family: str, kind: str):
    bench = sparse_bench_of(family, kind)
    nodes, dictionary = bench.graph.nodes, bench.transcoders

    (found,) = try_between(bench)

    assert len(found.source) > 0 and found.left_out == 0
    assert set(found.hops) >= ({1, 2} if kind != "cross-layer" else {2})
    weight = {(s, t): w for s, t, w in zip(bench.graph.source, bench.graph.target, bench.graph.weight, strict=True)}
    for pair in range(0, len(found.source), max(1, len(found.source) // 12)):
        source, target = found.source[pair], found.target[pair]
        layer, position, unit = (int(column[target]) for column in (nodes.layer, nodes.position, nodes.feature))
        ablated = Intervention(int(nodes.layer[source]), int(nodes.position[source]), int(nodes.feature[source]))
        site = (dictionary.at(layer).reads, layer)
        read = {}
        for mode in ("live", "frozen"):
            x = read_under(bench.model, dictionary, bench.run, [[], [ablated]], [site], attention=mode)[site]
            vectors, constants = dictionary.reading(layer, x[:, position], torch.tensor([unit, unit]))
            clean, now = ((vectors * x[:, position]).sum(-1) + constants).tolist()
            read[mode] = (now - clean) / clean
        np.testing.assert_allclose(found.measured[pair], read["live"], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found.measured_frozen[pair], read["frozen"], rtol=1e-4, atol=1e-7)
        if kind != "cross-layer":  # whose direct effect is cut at the window
            edge = weight.get((source, target), 0.0)
            np.testing.assert_allclose(found.direct[pair], -edge / nodes.value[target], rtol=1e-9, atol=1e-12)
            assert (found.hops[pair] == 1) == (edge != 0)
            np.testing.assert_allclose(found.predicted[pair], walk(bench, source)[target], rtol=1e-9, atol=1e-12)


def sparse_bench_of(family: str, kind: str) -> Bench:
    """Without the edges over more than one layer, so that longer paths alone join what stands further apart."""
    model = model_of(family)
    whole = prune(attribute(model, dictionary_of(model, kind), PROMPT, ["red"]), nodes=0.9)
    layer = whole.nodes.layer
    return bench_of(family, kind, whole.select(np.arange(len(layer)), layer[whole.target] - layer[whole.source] <= 1))


def walk(bench: Bench, source: int) -> dict[int, float]:
    """Every unit's relative change when one node is taken away, node by node in reading order."""
    graph = bench.graph
    change = {source: -1.0}
    for target in graph.nodes.where("feature", "neuron"):
        edges = np.flatnonzero(graph.target == target)
        moved = sum(graph.weight[edge] * change.get(int(graph.source[edge]), 0.0) for edge in edges)
        if target != source:
            change[int(target)] = moved / graph.nodes.value[target]
    return change


def test_the_influence_of_a_pair_is_the_sum_over_all_its_paths():
    bench = bench_of("llama", "per-layer")
    graph, units = bench.graph, bench.graph.nodes.where("feature")
    share = np.abs(graph.to_dense()) / np.where(graph.nodes.gross > 0, graph.nodes.gross, 1)[:, None]
    inner = np.zeros(len(graph.nodes))
    inner[units] = 1
    total, paths = share.copy(), share.copy()
    for _ in range(bench.model.layers):
        paths = (paths * inner) @ share
        total += paths

    _, _, influence = predict_between(bench, units, units)

    np.testing.assert_allclose(influence, total[np.ix_(units, units)], rtol=1e-9, atol=1e-12)
    hops = count_hops(graph, units, units)
    assert ((influence > 0) == np.isfinite(hops)).all()


def test_of_many_pairs_those_of_most_influence_are_kept_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch):
    bench = bench_of("llama", "per-layer")
    (whole,) = try_between(bench)
    monkeypatch.setattr(thresholds, "PAIRS", 7)

    (found,) = try_between(bench)

    assert found.left_out == len(whole.source) - 7
    assert sorted(found.influence) == pytest.approx(sorted(whole.influence)[-7:])


def test_errors_are_ablated_and_never_read():
    bench = bench_of("llama", "per-layer")
    (found,) = try_between(bench)
    kinds = bench.graph.nodes.kind
    assert "error" in kinds[found.source] and set(kinds[found.target]) == {"feature"}
    assert ERROR in bench.graph.nodes.feature[found.source]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox", "gpt2"])
def test_exact_units_answer_as_the_model_does_when_attention_and_norms_are_held(family: str):
    found = try_disturbances(bench_of(family, "neurons"))

    held = [each for each in found if each.attention == "frozen"]
    assert {each.kind for each in held} == set(disturbing.KINDS)
    for each in held:
        assert each.distance[0] == 1 and each.count[0] > 0
        np.testing.assert_allclose(each.cosine, 1, atol=1e-5)
        np.testing.assert_allclose(each.error, 0, atol=1e-5)
        np.testing.assert_allclose(each.ratio, 1, atol=1e-5)
    live = [each for each in found if each.attention == "live"]
    assert max(np.max(each.error) for each in live) > 1e-4  # then attention moves too


@pytest.mark.parametrize("kind", ["per-layer", "skip", "cross-layer"])
def test_random_features_answer_differently_from_the_mlps(kind: str):
    found = try_disturbances(bench_of("llama", kind))

    assert all(each.error[0] > 1e-3 for each in found)
    for each in found:
        assert all(-1 <= cosine <= 1 for cosine in each.cosine)
        assert list(each.count) == sorted(each.count, reverse=True)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_each_way_raises_the_units_value_by_a_tenth_of_itself(family: str):
    """With attention and norms held and no other change the effect is linear: read in the held model."""
    bench = bench_of(family, "per-layer")
    rows = bench.units[:6].tolist()
    ways = list(disturbing._ways(bench, rows, torch.Generator().manual_seed(0)))

    for row, (upstream, along, random) in zip(rows, ways, strict=True):
        value = float(bench.graph.nodes.value[row])
        for added in (upstream, along):
            if added:
                assert raised(bench, row, added) == pytest.approx(thresholds.RAISED * abs(value), rel=0.02)
        lengths = [next(iter(each.values()))[1].norm() for each in (along, random)]
        assert lengths[0] == pytest.approx(lengths[1])


def raised(bench: Bench, row: int, added: disturbing.Added) -> float:
    """How far a unit's value rises when vectors are written by layers below it, all else held."""
    run, nodes, dictionary = bench.run, bench.graph.nodes, bench.transcoders
    layer, position = int(nodes.layer[row]), int(nodes.position[row])
    stream = torch.zeros_like(run.residual)
    for below in range(layer + 1):
        if below < layer or not run.frozen.parallel:
            stream = stream + run.frozen.attention[below].forward(stream)
        for name in ("attention_output", "mlp_output") if below < layer else ("attention_output",):
            if (name, below) in added:
                at, vector = added[(name, below)]
                stream[at] += vector
    unit = torch.tensor([int(nodes.feature[row])])
    read, _ = dictionary.reading(layer, run.inputs[layer][position, None], unit)
    vector = run.frozen.read_residual(read, layer, torch.tensor([position]), dictionary.at(layer).reads)[0][0]
    return float(stream[position] @ vector)


# -- figures and verdicts ---------------------------------------------------------------------------------------------


def pairs_of(measured: np.ndarray, direct: np.ndarray, predicted: np.ndarray, hops: np.ndarray) -> Between:
    columns = (np.abs(predicted), direct, predicted, measured, 0 * measured)
    rows = list(range(len(hops)))
    return Between(rows, rows, hops.tolist(), *(column.tolist() for column in columns), left_out=0)


def test_what_the_edge_itself_does_is_no_evidence_for_what_goes_through_others():
    """Measured is all edge: the slope over the whole looks fair, beyond the edge it is nothing."""
    direct = np.linspace(0.1, 1, 12)
    found = pairs_of(direct, direct, 1.5 * direct, np.ones(12, dtype=int))

    figures = summarise_between(found, seed=0)

    assert figures["between_slope"] == pytest.approx(1 / 1.5)
    assert figures["beyond_slope"] == pytest.approx(0)
    assert (figures["near_pairs"], figures["far_pairs"], figures["beyond_pairs"]) == (12, 0, 12)
    _, predicts = judge_between([found], figures, "", "attention live")
    assert predicts.verdict == "not supported" and predicts.number == pytest.approx(0)


def test_a_graph_that_is_right_beyond_its_edges_is_supported_and_a_shuffled_one_is_not():
    numbers = np.random.default_rng(0)
    direct, beyond = numbers.normal(size=40), numbers.normal(size=40)
    hops = np.where(np.arange(40) < 30, 1, 2)
    direct[hops == 2] = 0
    right = pairs_of(direct + 0.9 * beyond, direct, direct + beyond, hops)
    wrong = pairs_of(direct + numbers.permutation(beyond), direct, direct + beyond, hops)

    for found, verdicts in ((right, ["supported", "supported"]), (wrong, ["not supported"])):
        figures = summarise_between(found, seed=0)
        assert figures["far_pairs"] == 10
        judged = judge_between([found], figures, "", "attention live")
        assert [each.verdict for each in judged][-len(verdicts) :] == verdicts
    untested = judge_between([], {}, "", "attention live", "not run")
    assert {each.verdict for each in untested} == {"untested"} and "not run" in untested[0].control


def test_the_next_layers_answer_is_judged_by_more_of_an_upstream_feature():
    def record(kind: str, attention: str, cosine: float) -> Disturbance:
        return Disturbance(kind, attention, [1], [4], [cosine], [0.1], [1.0], [cosine])

    upstream, _, random = disturbing.KINDS
    records = [record(upstream, "live", 0.9), record(upstream, "frozen", 0.7), record(random, "live", 0.2)]

    live, held = judge_disturbances(records)

    assert (live.verdict, held.verdict) == ("supported", "not supported")
    assert "0.20" in live.control
    assert {each.verdict for each in judge_disturbances([])} == {"untested"}
