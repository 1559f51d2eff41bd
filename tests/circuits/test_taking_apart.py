"""MLPs taken apart into features and what these miss, in the real model's run, against the real model's own numbers."""

from dataclasses import replace

import pytest
import torch

from circuits.attribution import PART_METHODS
from circuits.components.ablations import ABLATIONS, resample
from circuits.components.batching import fit_batch
from circuits.components.edge_scores import read_logits
from circuits.components.metrics import logit_difference
from circuits.components.node_finding import find_nodes
from circuits.components.node_runs import run_nodes
from circuits.components.opening import transformer_of
from circuits.components.parts import parts_of
from circuits.components.taking_apart import take_apart
from circuits.errors import BadOption, UnfitTranscoders
from circuits.transcoders.transcoders import Transcoders
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_part_methods import nearby
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import dictionary_of, model_of

SITES = [("mlp_input", "mlp_output"), ("mlp_normalised", "mlp_raw"), ("residual_mid", "mlp_raw")]


def taken_apart(family, kind="per-layer", most=None, **options):
    """A model, a random set for it, and the model open with that set's features."""
    model = model_of(family)
    dictionary = dictionary_of(model, kind, **options)
    return model, dictionary, take_apart(transformer_of(model), dictionary, [PAIRS], most)


@pytest.mark.parametrize("family", OPEN)
@pytest.mark.parametrize(("reads", "writes"), SITES)
def test_features_and_what_they_miss_are_those_of_the_real_model(family, reads, writes):
    model, dictionary, transformer = taken_apart(family, reads=reads, writes=writes)
    sites = [(site, layer) for site in (reads, writes) for layer in range(model.layers)]
    seen = [model.run(tokens, read=sites)[1] for tokens in (PAIRS.clean, PAIRS.corrupted)]
    heard = (torch.arange(6) >= dictionary.at(0).silent_positions)[:, None]

    run = transformer.run(transformer.embed(PAIRS.clean), neurons=True)

    for layer in range(model.layers):
        active = [dictionary.activations(layer, each[(reads, layer)]) * heard for each in seen]
        features = transformer.layers[layer].features
        assert features is not None
        alive = torch.stack(active).flatten(0, 2).any(0).nonzero()[:, 0]
        assert torch.equal(features.unit, alive) and 0 < len(alive)
        rebuilt = dictionary.decode(layer, active[0], layer) + dictionary.bias(layer)
        torch.testing.assert_close(run.features[layer], active[0][..., alive], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(run.errors[layer], seen[0][(writes, layer)] - rebuilt, rtol=1e-3, atol=1e-4)
    plain = transformer_of(model).run(transformer.embed(PAIRS.clean))
    torch.testing.assert_close(run.after, plain.after)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("kind", ["per-layer", "autoencoder", "mixed"])
def test_with_nothing_kept_the_run_is_the_corrupted_one_and_with_all_the_clean_one(family, kind):
    _, _, transformer = taken_apart(family, kind)
    parts = parts_of(transformer, neurons=True)
    embedding, other = transformer.embed(PAIRS.clean), resample(transformer, PAIRS, neurons=True)
    kept = torch.zeros(len(parts.names), dtype=torch.bool)

    torch.testing.assert_close(run_nodes(transformer, embedding, other, parts, kept), other.after)
    torch.testing.assert_close(
        run_nodes(transformer, embedding, other, parts, ~kept), transformer.run(embedding).after, rtol=1e-9, atol=1e-9
    )
    kinds = {column[0] for column in parts.columns}
    assert {"features", "errors"} <= kinds and ("neurons" in kinds) == (kind == "mixed")


@pytest.mark.parametrize("ablation", ["zero", "mean", "mean-by-position"])
def test_features_are_ablated_to_their_means_and_so_is_what_they_miss(ablation):
    model, dictionary, transformer = taken_apart("gemma2", writes="mlp_raw")
    parts = parts_of(transformer, neurons=True)
    corrupted = transformer.run(transformer.embed(PAIRS.corrupted), neurons=True)
    kept = torch.zeros(len(parts.names), dtype=torch.bool)

    ablate = ABLATIONS[ablation](transformer, [PAIRS], lambda name, done, total: None, neurons=True)
    other = ablate(transformer, PAIRS, neurons=True)
    found = find_nodes(model, [PAIRS], transcoders=dictionary, ablation=ablation, nodes=10**6)

    after = run_nodes(transformer, transformer.embed(PAIRS.clean), other, parts, kept)
    torch.testing.assert_close(after, other.after)
    for name in ("features", "errors"):
        own = getattr(corrupted, name)[1]
        mean = {"zero": 0 * own, "mean": own.mean((0, 1)), "mean-by-position": own.mean(0)}[ablation]
        torch.testing.assert_close(getattr(other, name)[1], mean.expand_as(own))
    assert found.faithfulness == pytest.approx(1) and found.corrupted != pytest.approx(found.clean)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_a_patched_feature_writes_as_much_less_and_all_of_them_are_the_mlp(family):
    _, _, transformer = taken_apart(family)
    parts, whole = parts_of(transformer, neurons=True), parts_of(transformer)
    clean, other = (transformer.run(transformer.embed(each), neurons=True) for each in (PAIRS.clean, PAIRS.corrupted))
    layer, features = 1, transformer.layers[1].features
    assert features is not None

    exact = PART_METHODS["exact-nodes"](transformer, PAIRS, logit_difference, parts)
    slope = PART_METHODS["atp"](transformer, PAIRS, logit_difference, parts)

    def loss(mlp):
        after = transformer.run(transformer.embed(PAIRS.clean), replace={("mlp", layer): mlp}).after
        return -logit_difference(read_logits(transformer, after, PAIRS), PAIRS, after, torch.clone).sum()

    own = range(parts.names.index(f"m{layer}.f{features.unit[0]}"), parts.names.index(f"m{layer}.error"))
    for at, row in enumerate(own):
        change = (other.features[layer] - clean.features[layer])[..., at, None] * features.W_dec[at]
        rise = loss(clean.mlp[layer] + change) - loss(clean.mlp[layer])
        torch.testing.assert_close(exact[row], rise, rtol=1e-7, atol=1e-9)
    together = PART_METHODS["atp"](transformer, PAIRS, logit_difference, whole)
    torch.testing.assert_close(slope[own.start : own.stop + 1].sum(), together[whole.names.index(f"m{layer}")])
    few = {"positions": True, "ablation": nearby(1e-6)}
    small = PART_METHODS["exact-nodes"](transformer, PAIRS, logit_difference, parts, **few)
    found = PART_METHODS["atp"](transformer, PAIRS, logit_difference, parts, **few)
    torch.testing.assert_close(found, small, rtol=1e-3, atol=1e-8)


def test_of_a_set_that_ranks_its_features_those_of_all_are_compared():
    model, dictionary, _ = taken_apart("gpt2", units=12)
    assert isinstance(dictionary, Transcoders)
    ranked = replace(dictionary, k=[3] * model.layers, threshold=[each * 0 for each in dictionary.threshold])

    transformer = take_apart(transformer_of(model), ranked, [PAIRS], 8)

    run = transformer.run(transformer.embed(PAIRS.clean), neurons=True)
    assert sum(len(each.features.unit) for each in transformer.layers if each.features) == 8
    for layer, found in enumerate(run.features):
        stream = run.mlp_input[layer]
        norm, features = transformer.layers[layer].mlp_norm, transformer.layers[layer].features
        assert norm is not None and features is not None
        active = ranked.activations(layer, norm(stream))[..., features.unit]
        torch.testing.assert_close(found[:, 1:], active[:, 1:])
        rows = torch.arange(len(features.unit)).flip(0)
        torch.testing.assert_close(features.only(rows).active(stream), found.flip(-1))


def test_the_features_that_differ_most_are_taken_and_the_others_are_error():
    _, _, everything = taken_apart("llama")
    _, _, few = taken_apart("llama", most=5)
    runs = [everything.run(everything.embed(each), neurons=True) for each in (PAIRS.clean, PAIRS.corrupted)]
    moved = {}
    for layer, (ours, theirs) in enumerate(zip(runs[0].features, runs[1].features, strict=True)):
        features = everything.layers[layer].features
        assert features is not None
        sizes = (ours - theirs).abs().sum((0, 1)) * features.W_dec.norm(dim=1)
        moved |= {(layer, unit): size for unit, size in zip(features.unit.tolist(), sizes.tolist(), strict=True)}

    chosen = {(at, unit) for at, each in enumerate(few.layers) if each.features for unit in each.features.unit.tolist()}

    assert chosen == set(sorted(moved, key=lambda place: -moved[place])[:5])
    run = few.run(few.embed(PAIRS.clean), neurons=True)
    torch.testing.assert_close(run.after, runs[0].after)
    assert run.errors[0].norm() > runs[0].errors[0].norm() * 0.1


def test_as_many_pairs_are_run_at_a_time_as_fit_with_their_features(monkeypatch):
    model, dictionary, opened = taken_apart("llama")
    least = 3 * 2**22 * opened.W_E.element_size()  # whatever the pairs
    asked = ([PAIRS], logit_difference)
    rooms = range(least + 200_000, least + 400_000, 10_000)
    memory = next(room for room in rooms if fit_batch(transformer_of(model), *asked, room, neurons=True) == 2)
    sizes, score = [], PART_METHODS["atp"]

    def scored(transformer, pairs, *given, **options):
        sizes.append(len(pairs))
        return score(transformer, pairs, *given, **options)

    monkeypatch.setitem(PART_METHODS, "atp", scored)
    find_nodes(model, [PAIRS], method="atp", transcoders=dictionary, nodes=4, memory=memory)

    assert sizes == [1, 1] and fit_batch(opened, *asked, memory, neurons=True) == 1


@pytest.mark.parametrize(("kind", "complaint"), [("cross-layer", "no one MLP"), ("skip", "carry the input past")])
def test_sets_whose_features_are_parts_of_no_one_mlp_are_refused(kind, complaint):
    model = model_of("llama")

    with pytest.raises(UnfitTranscoders, match=complaint):
        find_nodes(model, [PAIRS], transcoders=dictionary_of(model, kind))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"neurons": True}, "has both"),
        ({"max_features": 0}, "at least 1"),
        ({"max_features": 3, "transcoders": None}, "give the transcoders"),
    ],
)
def test_what_cannot_be_done_with_features_is_said(options, complaint):
    model = model_of("llama")

    with pytest.raises(BadOption, match=complaint):
        find_nodes(model, [PAIRS], **{"transcoders": dictionary_of(model, "per-layer"), **options})


@pytest.mark.parametrize("ablation", ["mean", "optimal"])
def test_features_give_way_to_constants_too(ablation, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 1)
    model, dictionary, opened = taken_apart("gpt2")

    found = find_nodes(model, [PAIRS], transcoders=dictionary, ablation=ablation, nodes=10**6)

    ablate = ABLATIONS[ablation](opened, [PAIRS], lambda name, done, total: None, neurons=True)
    other = read_logits(opened, ablate(opened, PAIRS).after, PAIRS)
    whole = float(logit_difference(other, PAIRS, other, opened.log_probabilities).mean())
    assert found.corrupted == pytest.approx(whole) and found.kept == pytest.approx(found.clean)


LEVELS = [{"positions": True}, {"apart": True}, {"max_features": 6}]


@pytest.mark.parametrize(
    ("method", "level"), [*((each, {}) for each in PART_METHODS), *(("atp", each) for each in LEVELS)]
)
def test_a_circuit_of_heads_and_features_is_one_graph(method, level):
    model = model_of("gemma2")
    made = dictionary_of(model, "per-layer")
    assert isinstance(made, Transcoders)
    dictionary = replace(made, notes={f"0/{unit}": {"label": "cats"} for unit in range(99)})

    found = find_nodes(model, [PAIRS], method=method, transcoders=dictionary, nodes=16, **level)

    graph = found.graph
    assert {"feature", "logit"} <= set(graph.nodes.kind) <= {"feature", "head", "logit", "token", "error"}
    assert not set(graph.nodes.kind[graph.target].tolist()) & {"error", "token"}
    features = graph.nodes.where("feature").tolist()
    assert {str(graph.nodes.label[row]) for row in features if graph.nodes.layer[row] == 0} <= {"cats"}
    told = {f"m{graph.nodes.layer[row]}.f{graph.nodes.feature[row]}" for row in features}
    assert told <= {name.partition("@")[0] for name in graph.provenance["circuit"]}
    assert graph.provenance["transcoders"] == dictionary.name
    notes = graph.provenance["feature_notes"]
    assert set(notes) == {graph.nodes.unit(row) for row in features if graph.nodes.layer[row] == 0}
