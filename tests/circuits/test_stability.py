"""What of a graph hangs on the thresholds of pruning, and on the words of the prompt."""

from dataclasses import replace

import numpy as np
import pytest

from circuits import assay, attribute, trace
from circuits.ablation import ablate_sets
from circuits.assaying import thresholds
from circuits.assaying.controls import sample_others
from circuits.assaying.examples import summarise_examples
from circuits.assaying.examples import test_examples as try_examples
from circuits.assaying.set_verdicts import judge_seeds
from circuits.assaying.sets import test_seeds as try_seeds
from circuits.assaying.sets import test_sets as try_sets
from circuits.assaying.stability import summarise_stability
from circuits.assaying.stability import test_prunings as try_prunings
from circuits.assaying.stability import test_rewordings as try_rewordings
from circuits.assaying.verdicts import judge_examples, judge_rewordings
from circuits.errors import BadPrompt
from circuits.targets import Feature
from graphs.assays import Assay, Prunings, Rewording, Subset
from graphs.graph import AttributionGraph
from graphs.pruning import prune
from tests.circuits.test_assay_levels import PROMPT, bench_of, graph_of
from tests.circuits.worlds import dictionary_of, model_of


def names(graph: AttributionGraph) -> list[tuple]:
    nodes = graph.nodes
    labels = [str(label) if unit < 0 else "" for label, unit in zip(nodes.label, nodes.feature, strict=True)]
    return list(zip(nodes.kind, nodes.layer, nodes.position, nodes.feature, labels, strict=True))


@pytest.mark.parametrize("kind", ["per-layer", "cross-layer", "neurons"])
def test_nodes_and_edges_are_counted_over_prunings_of_the_same_trace(kind: str):
    model = model_of("llama")
    dictionary = dictionary_of(model, kind)
    whole = attribute(model, dictionary, PROMPT, ["red", ("fox", "dog")])
    graph = prune(whole, nodes=0.8)

    (found,) = try_prunings(bench_of("llama", kind, graph))

    assert len(found.settings) == len(thresholds.GRID_NODES) * len(thresholds.GRID_EDGES)
    expected_nodes, expected_edges = np.zeros(len(graph.nodes)), np.zeros(len(graph.source))
    ours = names(graph)
    for nodes, edges in found.settings:
        small = prune(whole, nodes=nodes, edges=edges)
        kept = names(small)
        joined = {(kept[s], kept[t]) for s, t in zip(small.source, small.target, strict=True)}
        expected_nodes += [name in set(kept) for name in ours]
        expected_edges += [(ours[s], ours[t]) in joined for s, t in zip(graph.source, graph.target, strict=True)]
    np.testing.assert_allclose(found.node, expected_nodes / len(found.settings))
    np.testing.assert_allclose(found.edge, expected_edges / len(found.settings))
    assert min(found.edge) < 1 and max(found.edge) == 1


def test_a_graph_under_a_budget_is_traced_again_under_it():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    whole = attribute(model, dictionary, PROMPT, ["red"], max_features=6)
    (found,) = try_prunings(bench_of("llama", "per-layer", prune(whole, nodes=0.7)))
    assert np.mean(found.node) > 0.5 and not found.untested


def test_a_features_graph_is_not_asked_again():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    whole = attribute(model, dictionary, PROMPT, ["red"])
    units = whole.nodes.where("feature")
    row = units[whole.nodes.layer[units].argmax()]
    place = (int(column[row]) for column in (whole.nodes.layer, whole.nodes.feature, whole.nodes.position))
    bench = bench_of("llama", "per-layer", attribute(model, dictionary, PROMPT, [Feature(*place)]))

    (pruned,) = try_prunings(bench)

    assert "something else" in pruned.untested
    assert summarise_stability(bench.graph, [pruned], []) == {}


def test_the_same_prompt_shares_all_of_itself_and_an_unrelated_one_less():
    bench = bench_of("llama", "per-layer")
    same, other = bench.graph.token_ids, bench.model.tokenize("dog runs a red").tolist()

    found = try_rewordings(replace(bench, paraphrases=[same, other]))

    mine, theirs, *unrelated = found
    assert (mine.nodes, mine.influence, mine.overlap) == pytest.approx((1, 1, 1)) and mine.answered
    assert theirs.overlap < 1 and not theirs.control
    assert len(unrelated) == thresholds.OTHERS and all(each.control for each in unrelated)
    assert mine.prompt.split()[-4:] == PROMPT.split()


def reworded(influence: float, *, control: bool = False, answered: bool = True) -> Rewording:
    return Rewording("words", control, answered, 0.5, influence, 0.3)


def test_rewordings_are_held_against_unrelated_prompts():
    unrelated = [reworded(0.4 + each / 100, control=True) for each in range(20)]
    graph = graph_of("llama", "per-layer")

    def judged(*records: Rewording) -> str:
        every = [*records, *unrelated]
        return judge_rewordings(every, summarise_stability(graph, [], every)).verdict

    assert judged(reworded(0.8), reworded(0.7)) == "supported"
    assert judged(reworded(0.8), reworded(0.05, answered=False)) == "supported"  # answered otherwise: does not count
    assert judged(reworded(0.55), reworded(0.55)) == "not supported"  # one unrelated prompt of 20 shares as much
    assert judged(reworded(0.3)) == "not supported"
    assert judged(reworded(0.9, answered=False)) == "untested"


def test_what_every_pruning_keeps_is_weighed():
    graph = graph_of("llama", "per-layer")
    node = np.where(graph.nodes.kind == "feature", 0.5, 1.0)
    units = graph.nodes.where("feature")
    node[units[0]] = 1
    edge = np.full(len(graph.weight), 0.9)
    edge[3] = 1

    figures = summarise_stability(graph, [Prunings([[0.7, 0.9]], node.tolist(), edge.tolist())], [])

    assert figures["steady_features"] == pytest.approx(1 / len(units))
    assert figures["steady_weight"] == pytest.approx(abs(graph.weight[3]) / np.abs(graph.weight).sum())


def test_an_assay_with_paraphrases_judges_them_and_travels():
    model = model_of("llama")
    dictionary, graph = dictionary_of(model, "per-layer"), graph_of("llama", "per-layer")

    without = assay(model, dictionary, graph)
    found = assay(model, dictionary, graph, paraphrases=["a fox red runs"])

    assert not without.rewordings and "survives rewording" not in str(without.verdicts)
    assert found.registration["hash"] != without.registration["hash"]
    assert "the graph survives rewording" in [each.claim for each in found.verdicts]
    assert "68 are wanted" in found.verdicts[-1].control
    assert Assay.from_json(found.to_json()).rewordings == found.rewordings
    with pytest.raises(BadPrompt, match="own prompt"):
        assay(model, dictionary, graph, paraphrases=[PROMPT])


def test_the_graphs_features_are_kept_in_wordings_as_long_as_the_prompt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(thresholds, "EXAMPLES", 2)
    bench = bench_of("llama", "per-layer")
    model, dictionary = bench.model, bench.transcoders
    alike, longer = (model.tokenize(text).tolist() for text in ("dog runs a red", "a red fox runs here"))
    same = list(bench.graph.token_ids)

    (found,) = try_examples(replace(bench, paraphrases=[same, alike, longer]))

    assert len(found.prompt) == 2 and not found.untested
    assert found.model[0] == pytest.approx(bench.metric.clean_kept)
    ours = bench.places(bench.units)
    run = trace(model, dictionary, alike)
    for keep, score in ((True, found.circuit[1]), (False, found.without[1])):
        (logits,) = ablate_sets(model, dictionary, run, [ours], keep=keep, fill=bench.means)
        assert score == pytest.approx(float(bench.metric.kept(logits)[0]))
    figures = summarise_examples([found], seed=0)
    assert set(figures) == {"higher", "p_differs", "p_equivalent", "hsic", "p_independent"}
    equal, apart = judge_examples([found], figures)
    assert equal.verdict == "not supported" and apart.verdict == "supported"  # two examples show nothing


def test_too_few_wordings_of_that_length_are_said_to_be_so():
    bench = bench_of("llama", "per-layer")
    (found,) = try_examples(replace(bench, paraphrases=[bench.model.tokenize("dog runs a red").tolist()]))
    assert "1 wordings have 5 tokens" in found.untested and "68 are wanted" in found.untested
    assert {each.verdict for each in judge_examples([found], summarise_examples([found], 0))} == {"untested"}


def test_other_prompts_are_all_different_and_none_is_the_graphs_own():
    bench = bench_of("llama", "per-layer")
    drawn = [tuple(prompt.tolist()) for prompt in sample_others(bench, seed=0)]
    assert len(set(drawn)) == len(drawn) == thresholds.OTHERS
    likely = replace(bench, run=replace(bench.run, tokens=bench.run.tokens.new_tensor(drawn[0])))
    again = [tuple(prompt.tolist()) for prompt in sample_others(likely, seed=0)]
    assert drawn[0] not in again and len(again) == thresholds.OTHERS


def test_the_whole_graph_is_tested_with_two_more_seeds_and_a_changed_verdict_is_told():
    bench = bench_of("llama", "per-layer")

    again = try_seeds(bench)

    assert [each.ablation for each in again] == ["mean", "zero"] * 2
    first = try_sets(bench)
    assert again[1].random_faithfulness != first[1].random_faithfulness  # zero: other sets are drawn
    assert again[1].faithfulness == pytest.approx(first[1].faithfulness)  # and nothing else is random
    good = Subset("mean", 0.9, 0.1, [0.1] * 20, [0.9] * 20, 0.04, 0.04)
    same, other = replace(good, faithfulness=0.85), replace(good, faithfulness=0.75)
    assert judge_seeds([good], [same, same]).verdict == "supported"
    changed = judge_seeds([good], [same, other])
    assert changed.verdict == "not supported" and changed.number == pytest.approx(0.75)
    assert "differs by 0.15" in changed.control
    assert judge_seeds([], [], "not run").verdict == "untested"
