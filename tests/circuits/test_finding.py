"""The front doors of component circuits: edges or nodes, under any ablation, in batches that fit, gone on with."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from circuits.attribution import PART_METHODS
from circuits.components.ablations import ABLATIONS, resample
from circuits.components.batching import fit_batch
from circuits.components.circuit_runs import run_circuit
from circuits.components.components import Components
from circuits.components.edge_scores import components_of
from circuits.components.finding import find
from circuits.components.kept_scores import KeptScores
from circuits.components.metrics import METRICS, logit_difference
from circuits.components.node_finding import find_nodes, strongest_nodes
from circuits.components.node_runs import run_nodes
from circuits.components.opening import transformer_of
from circuits.components.parts import Parts, parts_of
from circuits.components.searching import begin_search, kept_of
from circuits.errors import BadOption
from tests.circuits.test_component_ablations import SHORT
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.worlds import model_of, native_of


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox"])
def test_what_is_not_kept_is_cut_from_all_that_it_writes_or_reads(family):
    transformer = transformer_of(model_of(family))
    components, parts = components_of(transformer), parts_of(transformer, apart=True)
    embedding, other = transformer.embed(PAIRS.clean), resample(transformer, PAIRS)
    gone = ["a0.h1", "m1", "a2.h3<k>", "a1.h0<q>", "a1.h2<v>"]
    kept = torch.tensor([name not in gone for name in parts.names])
    cut = torch.zeros(components.edges.shape, dtype=torch.float64)
    for name in gone:
        if name in components.sources:
            cut[components.sources.index(name)] = 1
        else:
            cut[:, components.readers.index(name)] = 1

    found = run_nodes(transformer, embedding, other, parts, kept)

    torch.testing.assert_close(found, run_circuit(transformer, embedding, other, cut))
    by_position = run_nodes(transformer, embedding, other, parts, kept[:, None].expand(-1, 6))
    torch.testing.assert_close(by_position, found)
    nothing = run_nodes(transformer, embedding, other, parts, torch.zeros_like(kept))
    torch.testing.assert_close(nothing, other.after)


@pytest.mark.parametrize("level", [{}, {"apart": True}, {"neurons": True}, {"positions": True}])
@pytest.mark.parametrize("method", list(PART_METHODS))
def test_a_circuit_of_nodes_is_a_graph_of_them_and_what_each_reads_of_another(method, level):
    found = find_nodes(model_of("llama"), [PAIRS], method=method, nodes=9, **level)

    assert isinstance(found.over, Parts)
    graph, names = found.graph, found.over.names
    assert int(found.chosen[1:].sum()) == 9 and found.chosen[0].all()
    circuit = graph.provenance["circuit"]
    assert all(circuit[name] == found.scores[at].sum() for at, name in enumerate(names) if name in circuit)
    edges = graph.provenance["edges"]
    assert sum(edges.values()) == pytest.approx(graph.weight.sum())
    assert {part.partition("@")[0] for edge in edges for part in edge.split("->")} <= {
        *(f"{name}<{letter}>" for name in names for letter in "qkv"),
        *(*names, "logits"),
    }
    kinds = {"neurons": "neuron"} if level.get("neurons") else {}
    assert set(graph.nodes.kind) <= {"token", "head", kinds.get("neurons", "mlp"), "logit"}
    assert graph.goal.sum() == 1 and len(graph.source)


def test_nodes_at_every_answer_lead_to_the_logits():
    answers = set(PAIRS.position.tolist())

    graph = find_nodes(model_of("llama"), [PAIRS], nodes=10**6, positions=True).graph

    last = len(graph.nodes) - 1
    assert set(graph.nodes.position[graph.source[graph.target == last]].tolist()) == answers and len(answers) == 2


def test_all_nodes_keep_all_of_the_difference_and_none_keeps_nothing():
    model = model_of("gemma2")

    everything = find_nodes(model, [SHORT, PAIRS], nodes=10**6)
    assert everything.faithfulness == pytest.approx(1)
    assert everything.kept == pytest.approx(everything.clean)
    with pytest.raises(BadOption, match="equally long"):
        find_nodes(model, [SHORT, PAIRS], positions=True)


def test_edges_at_positions_make_a_circuit():
    model = model_of("gpt2")

    found = find(model, [PAIRS], method="eap", edges=40, positions=True)
    everything = find(model, [PAIRS], method="eap", edges=10**6, positions=True)

    assert found.scores.shape == (16, 40, 6) and 0 < found.chosen.sum() <= 40
    cut = torch.from_numpy(~found.chosen).double()
    transformer = transformer_of(model)
    after = run_circuit(transformer, transformer.embed(PAIRS.clean), resample(transformer, PAIRS), cut)
    logits = transformer.unembed(after[torch.arange(2), PAIRS.position])
    assert found.kept == pytest.approx(float(logit_difference(logits, PAIRS, logits, torch.clone).mean()))
    assert everything.faithfulness == pytest.approx(1)
    circuit = found.graph.provenance["circuit"]
    assert len(circuit) == found.chosen.sum() and all(name[-2] == "@" for name in circuit)
    assert found.graph.weight.sum() == pytest.approx(sum(circuit.values()))
    for search in (find, find_nodes):
        with pytest.raises(BadOption, match="equally long"):
            search(model, [SHORT, PAIRS], positions=True)
    with pytest.raises(BadOption, match="relp takes no positions"):
        find(model, [PAIRS], method="relp", positions=True)


def test_the_tokens_are_always_kept():
    scores = np.array([0.0, -3.0, 2.0, 1.0])

    assert strongest_nodes(scores, 1).tolist() == [True, True, False, False]
    assert strongest_nodes(scores, 2, signed=True).tolist() == [True, False, True, True]


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_a_circuit_is_measured_against_its_ablation(ablation, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 2)
    model = model_of("gpt2")
    transformer = transformer_of(model)

    found = find(model, [PAIRS], ablation=ablation, edges=60, method="eap")
    other = ABLATIONS[ablation](transformer, [PAIRS], lambda name, done, total: None)(transformer, PAIRS)

    cut = torch.from_numpy(~found.chosen).double()
    after = run_circuit(transformer, transformer.embed(PAIRS.clean), other, cut)
    for value, stream in ((found.corrupted, other.after), (found.kept, after)):
        logits = transformer.unembed(stream[torch.arange(2), PAIRS.position])
        assert value == pytest.approx(float(logit_difference(logits, PAIRS, logits, torch.clone).mean()))
    assert found.graph.provenance["options"]["ablation"] == ablation


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
@pytest.mark.parametrize("ablation", ["zero", "mean", "mean-by-position", "optimal"])
def test_a_circuit_of_no_nodes_is_the_run_where_all_is_ablated(family, ablation, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 1)
    transformer = transformer_of(model_of(family))
    levels: list[dict[str, Any]] = [{}, {"apart": True}, {"neurons": True}]
    for level in levels:
        parts = parts_of(transformer, **level)
        ablate = ABLATIONS[ablation](transformer, [PAIRS], lambda name, done, total: None, **level)
        other = ablate(transformer, PAIRS, neurons=True)

        after = run_nodes(transformer, transformer.embed(PAIRS.clean), other, parts, torch.zeros(len(parts.names)) > 0)

        torch.testing.assert_close(after, other.after)


@pytest.mark.parametrize("level", [{"apart": True}, {"neurons": True}])
def test_nodes_that_are_taken_apart_have_best_constants_of_their_own(level, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 1)
    model = model_of("llama")

    found = find_nodes(model, [PAIRS], ablation="optimal", nodes=10**6, method="exact-nodes", **level)

    assert found.faithfulness == pytest.approx(1)
    transformer = transformer_of(model)
    ablate = ABLATIONS["optimal"](transformer, [PAIRS], lambda name, done, total: None, **level)
    patch = PART_METHODS["exact-nodes"]
    expected = patch(transformer, PAIRS, logit_difference, parts_of(transformer, **level), ablation=ablate)
    np.testing.assert_allclose(found.scores, expected / 2, atol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "bare", "two-way"])
def test_circuits_are_found_in_native_models_too(kind):
    model = native_of(kind)
    transformer = transformer_of(model)

    found, nodes = find(model, [PAIRS], method="exact", edges=10**6), find_nodes(model, [PAIRS], nodes=10**6)

    assert found.faithfulness == pytest.approx(1) and nodes.faithfulness == pytest.approx(1)
    components = found.over
    assert isinstance(components, Components)
    cut = torch.zeros(components.edges.shape, dtype=torch.float64)
    for name in ("a0.h1->a1.h2<k>", "a0.h0->logits", "input->a1.h0<v>"):
        one = cut.clone()
        one[components.edge(name)] = 1
        after = run_circuit(transformer, transformer.embed(PAIRS.clean), resample(transformer, PAIRS), one)
        logits = transformer.unembed(after[torch.arange(2), PAIRS.position])
        fallen = found.clean - float(logit_difference(logits, PAIRS, logits, torch.clone).mean())
        assert found.scores[components.edge(name)] == pytest.approx(fallen)


def test_a_metric_of_ones_own_does_as_well():
    def twice(logits, pairs, clean, say):
        return 2 * METRICS["logit-difference"](logits, pairs, clean, say)

    model = model_of("llama")
    once, found = (find(model, [PAIRS], metric=each, method="eap") for each in ("logit-difference", twice))

    np.testing.assert_allclose(found.scores, 2 * once.scores)
    assert found.graph.provenance["options"]["metric"] == "twice"


def test_options_are_told_also_where_they_were_not_asked():
    model = model_of("llama")

    for method, begin in (("eap-ig", "corrupted"), ("eap-ig-activations", "clean")):
        told = find(model, [PAIRS], method=method, steps=2).graph.provenance
        assert (told["options"]["begin"], told["options"]["steps"]) == (begin, 2)
    assert find(model, [PAIRS], method="eap-ig").graph.provenance["options"]["steps"] == 5
    assert find_nodes(model, [PAIRS], method="conductance").graph.provenance["options"]["steps"] > 1


@pytest.mark.parametrize("search", [find, find_nodes])
def test_what_was_scored_before_an_interruption_is_not_scored_again(search, tmp_path):
    model = model_of("llama")
    settings = {"batch": 1, "unfinished": tmp_path / "kept"}
    done = []

    def stop(name, at, total):
        if name == "scoring":
            done.append(at)
            if len(done) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(model, [SHORT, PAIRS], progress=stop, **settings)
    assert done == [1, 2]
    other = search(model, [PAIRS], **settings)  # another question: what is kept is none of its business
    assert (tmp_path / "kept").exists()

    found = search(model, [SHORT, PAIRS], progress=stop, **settings)

    assert done == [1, 2, 3] and not (tmp_path / "kept").exists()
    np.testing.assert_allclose(found.scores, search(model, [SHORT, PAIRS]).scores, atol=1e-12)
    assert not np.allclose(found.scores, other.scores)


def test_kept_scores_belong_to_their_pairs_and_to_the_precision_they_were_computed_in(tmp_path):
    columns = [replace(PAIRS, **{name: column.flip(0)}) for name, column in vars(PAIRS).items()]
    asked: dict[str, Any] = {"metric": "kl", "ablation": "resample", "batch": 1, "memory": None}
    searches = [
        begin_search(model_of("llama", dtype), [PAIRS], **asked, progress=lambda name, done, total: None)
        for dtype in ("float32", "float64")
    ]

    files = [KeptScores(tmp_path, {}, [each]).path for each in (PAIRS, *columns)]
    files += [kept_of(each, "eap", {}, tmp_path).path for each in searches]

    assert len(columns) == 5 and len(set(files)) == 8


def test_kept_scores_that_are_damaged_are_made_again(tmp_path):
    model = model_of("llama")

    def stop(name, at, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(model, [PAIRS], batch=1, unfinished=tmp_path / "kept", progress=stop)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:100])

    found = find(model, [PAIRS], batch=1, unfinished=tmp_path / "kept")

    np.testing.assert_allclose(found.scores, find(model, [PAIRS]).scores, atol=1e-12)


def test_a_batch_is_as_large_as_memory_holds():
    transformer = transformer_of(model_of("llama"))
    remembered = {}

    def count(tensor):
        remembered[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        transformer.run(transformer.embed(PAIRS.clean).requires_grad_())

    fixed = 3 * 2**22 * 8
    small, large = (fit_batch(transformer, [SHORT, PAIRS], logit_difference, fixed + more) for more in (2e6, 4e6))
    assert 2 * small <= large <= 2 * small + 1
    assert 2e6 / small * 2 > sum(remembered.values()) - 5e4  # two pairs' share holds what two pairs leave behind
    with pytest.raises(BadOption, match="give more memory"):
        fit_batch(transformer, [SHORT, PAIRS], logit_difference, fixed)


@pytest.mark.parametrize(
    ("search", "option", "complaint"),
    [
        (find, {"method": "atp"}, "method must be one of"),
        (find_nodes, {"method": "eap"}, "method must be one of"),
        (find, {"ablation": "median"}, "ablation must be one of"),
        (find, {"metric": "accuracy"}, "metric must be one of"),
        (find, {"edges": 0}, "edges must be a whole number"),
        (find_nodes, {"nodes": -1}, "nodes must be a whole number"),
        (find_nodes, {"nodes": True}, "nodes must be a whole number"),
        (find, {"batch": 0}, "batch must be a whole number"),
        (find, {"memory": -1}, "memory must be a number of bytes"),
        (find, {"seed": 3}, "eap-ig takes no seed: its options are positions, steps, begin"),
        (find_nodes, {"steps": 3}, "atp takes no steps: it has no options"),
        (find_nodes, {"method": "conductance", "steps": 0}, "steps must be"),
        (find, {"begin": "middle"}, "steps begin at"),
    ],
)
def test_what_makes_no_sense_is_told(search, option, complaint):
    with pytest.raises(BadOption, match=complaint):
        search(model_of("llama"), [PAIRS], **option)
