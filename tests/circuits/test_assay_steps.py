"""Where a prediction is lost: each model of the row against another route to the same figure."""

import numpy as np
import pytest

from circuits import assay, attribute
from circuits.assaying.steps import summarise_steps
from circuits.assaying.steps import test_steps as try_steps
from circuits.interventions import change_node, intervene
from graphs.assays import STEPS, Assay, Steps
from graphs.pruning import prune
from graphs.wording import assay_in_words
from tests.circuits.test_assay_levels import PROMPT, bench_of, graph_of
from tests.circuits.worlds import dictionary_of, model_of

FAMILY_KINDS = [("llama", "per-layer"), ("gemma2", "cross-layer"), ("gpt_neox", "neurons"), ("gpt2", "skip")]


def close(found, wanted) -> None:
    scale = float(np.abs(wanted).max())
    assert scale > 0
    np.testing.assert_allclose(np.array(found) / scale, np.array(wanted) / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("family", "kind"), FAMILY_KINDS)
def test_of_a_whole_graph_the_forward_run_gives_what_its_paths_add_up_to(family: str, kind: str):
    model = model_of(family)
    bench = bench_of(family, kind, attribute(model, dictionary_of(model, kind), PROMPT, ["red"]))

    (found,) = try_steps(bench)

    close(found.whole, found.pruned)


@pytest.mark.parametrize(("family", "kind"), FAMILY_KINDS)
def test_the_last_three_are_the_real_model_under_one_intervention_each(family: str, kind: str):
    bench = bench_of(family, kind)
    options = {"norms_held": ("frozen", "frozen"), "attention_held": ("frozen", "live"), "live": ("live", "live")}

    (found,) = try_steps(bench)

    row = found.node.index(int(bench.graph.nodes.where("feature", "neuron")[0]))
    for name, (attention, norms) in options.items():
        alone = [[change_node(bench.graph.nodes, found.node[row], 0.0)]]
        read = intervene(bench.model, bench.transcoders, bench.run, alone, attention=attention, norms=norms)
        wanted = float(bench.metric.explained(read)[0]) - bench.metric.clean
        assert getattr(found, name)[row] == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_neurons_that_answer_anew_are_the_models_own_mlps(family: str):
    (found,) = try_steps(bench_of(family, "neurons"))

    close(found.replaced, found.norms_held)


@pytest.mark.parametrize("kind", ["per-layer", "skip"])
def test_features_that_answer_anew_are_the_model_with_all_mlps_rebuilt(kind: str):
    bench = bench_of("llama", kind)
    rows = [int(row) for row in bench.ablated if bench.graph.nodes.kind[row] == "feature"]
    window = range(bench.model.layers)
    alone = [[change_node(bench.graph.nodes, row, 0.0)] for row in rows]
    held = {"attention": "frozen", "norms": "frozen", "mlps": "rebuilt", "window": window}

    (found,) = try_steps(bench)

    read = bench.metric.explained(intervene(bench.model, bench.transcoders, bench.run, alone, **held))
    wanted = (read - bench.metric.clean).numpy()
    ours = np.array(found.replaced)[[found.node.index(row) for row in rows]]
    close(ours, wanted)


def test_silent_units_stay_silent_until_they_may_wake():
    bench = bench_of("llama", "per-layer")

    (found,) = try_steps(bench)

    assert not np.allclose(found.whole, found.gated)
    assert not np.allclose(found.gated, found.replaced)


def test_what_each_step_keeps_is_told():
    columns = {name: [size, 2 * size] for name, size in zip(STEPS, (1.0, 2.0, 2.0, 2.0, 1.0, 0.1, 0.1), strict=True)}

    figures = summarise_steps(Steps(node=[0, 1], **columns))

    assert figures == pytest.approx(
        {
            "kept_by_whole": 2.0,
            "kept_by_gated": 1.0,
            "kept_by_replaced": 1.0,
            "kept_by_norms_held": 0.5,
            "kept_by_attention_held": 0.1,
            "kept_by_live": 1.0,
        }
    )


def test_an_assay_says_where_most_is_lost_and_survives_its_file():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")

    found = assay(model, dictionary, graph_of("llama", "per-layer"), experiments=["steps"], top=5)

    assert len(found.steps[0].node) == 5
    (line,) = [each for each in assay_in_words(found) if each.startswith("what a single ablation does")]
    least = min(STEPS, key=lambda name: found.statistics.get(f"kept_by_{name}", np.inf))
    assert line.endswith(f"most is lost at {STEPS[least]}") == (found.statistics[f"kept_by_{least}"] < 0.9)
    assert Assay.from_json(found.to_json()) == found


def test_a_graph_of_nothing_but_errors_has_no_units_to_follow():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = prune(attribute(model, dictionary, PROMPT, ["red"]), nodes=0.7)
    bare = graph.select(np.flatnonzero(~np.isin(graph.nodes.kind, ("feature",))))

    found = assay(model, dictionary, bare, experiments=["steps"])

    assert found.steps[0].node == [] and "kept_by_whole" in found.statistics
