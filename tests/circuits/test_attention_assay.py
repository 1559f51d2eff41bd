"""Graphs of replaced attention used as any others: pruned, kept, drawn, explained from inside, tested by ablation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from circuits.ablation import ablate_sets
from circuits.assaying import assay
from circuits.attending import places_of
from circuits.attributing import attribute
from circuits.attribution.direct import effects_on
from circuits.errors import BadOption, BadTarget
from circuits.sampling import activations_on, mean_activations
from circuits.targets import Direction, Error, Feature, parse_target
from circuits.tracing import trace
from circuits.transcoders.with_attention import attention_of
from graphs.export import export
from graphs.paths import influence
from graphs.pruning import prune
from graphs.scores import scores
from graphs.store import Store
from tests.circuits.test_replaced_attention import PROMPT, world_of


def test_a_graph_of_replaced_attention_is_pruned_kept_and_drawn(tmp_path: Path):
    model, dictionary, prompt = world_of("llama")
    graph = attribute(model, dictionary, prompt)

    small = prune(graph, nodes=0.9)
    store = Store(tmp_path)
    again = store.load(store.save(small))

    assert (small.nodes.kind == "attention").any()
    assert again.nodes.kind.tolist() == small.nodes.kind.tolist()
    np.testing.assert_allclose(influence(graph), graph.nodes.influence, atol=1e-12)
    known = scores(graph)
    assert 0 <= known.replacement <= known.completeness <= 1
    row = int(small.nodes.where("attention")[0])
    name = f"L{small.nodes.layer[row]}/attn/{small.nodes.feature[row]}"
    assert small.nodes.label[row] == name
    for ending in ("svg", "html", "graphml"):
        assert name in export(small, tmp_path / f"graph.{ending}").read_text()


def test_a_feature_of_attention_is_explained_from_inside():
    model, dictionary, prompt = world_of("gpt2")
    whole = attribute(model, dictionary, prompt)
    row = int(whole.nodes.where("attention")[-1])
    layer, unit, position = (int(getattr(whole.nodes, name)[row]) for name in ("layer", "feature", "position"))

    target = parse_target(f"L{layer}/attn/{unit}@{position}")
    graph = attribute(model, dictionary, prompt, [target])

    assert target == Feature(layer, unit, position, attention=True)
    (goal,) = np.flatnonzero(graph.goal)
    assert graph.nodes.kind[goal] == "attention"
    ours = {label(graph, s): w for s, t, w in zip(graph.source, graph.target, graph.weight, strict=True) if t == goal}
    theirs = {label(whole, s): w for s, t, w in zip(whole.source, whole.target, whole.weight, strict=True) if t == row}
    assert ours == pytest.approx(theirs)
    with pytest.raises(BadTarget, match="not active there"):
        attribute(model, dictionary, prompt, [Feature(layer, 10**6, position, attention=True)])
    with pytest.raises(BadTarget, match="is a source"):
        parse_target("L1/attn/error@2")


def label(graph, row: int) -> tuple:
    return tuple(getattr(graph.nodes, name)[row] for name in ("kind", "label", "layer", "position"))


@pytest.mark.parametrize("world", ["llama", "gpt2, not the first", "parallel"])
@pytest.mark.parametrize("site", ["residual_pre", "residual_mid", "residual_post"])
def test_directions_sum_to_what_the_stream_has_along_them(world: str, site: str):
    model, dictionary, prompt = world_of(world)
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    graph = attribute(model, dictionary, prompt, [Direction(vector, site, 1, -1)])

    written = [("attention_output", 0), ("mlp_output", 0)]
    if site == "residual_post" or (site == "residual_mid" and not model.parallel):
        written.append(("attention_output", 1))
    if site == "residual_post":
        written.append(("mlp_output", 1))
    run = trace(model, dictionary, prompt)
    _, seen = model.run(run.tokens[None], read=written)
    stream = run.frozen.embedding[-1] + (0 if run.frozen.positions is None else run.frozen.positions[-1])
    expected = float((stream + sum(seen[each][0, -1] for each in written)) @ vector)
    (goal,) = np.flatnonzero(graph.goal)
    assert graph.nodes.value[goal] == pytest.approx(expected, rel=1e-6)
    assert graph.weight[graph.target == goal].sum() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("world", ["llama", "parallel, one layer", "autoencoders, norm behind"])
def test_an_mlps_error_is_explained_through_features_of_attention(world: str):
    model, dictionary, prompt = world_of(world)
    errors = trace(model, dictionary, prompt).errors
    assert errors is not None

    graph = attribute(model, dictionary, prompt, [Error(2, -1)])

    (goal,) = np.flatnonzero(graph.goal)
    assert graph.weight[graph.target == goal].sum() == pytest.approx(float(errors[2, -1].norm()), rel=1e-6)
    assert "attention" in graph.nodes.kind[graph.source[graph.target == goal]]


@pytest.mark.parametrize("world", ["llama", "gemma2", "parallel, one layer", "autoencoders"])
def test_effects_asked_for_again_are_the_edges(world: str):
    model, dictionary, prompt = world_of(world)
    graph = attribute(model, dictionary, prompt)
    targets = graph.nodes.where("feature", "neuron", "attention", "logit")[::3]
    sources = graph.nodes.where("feature", "neuron", "attention")[::2]

    found = effects_on(trace(model, dictionary, prompt), dictionary, graph, targets, sources)

    np.testing.assert_allclose(found, graph.to_dense()[np.ix_(targets, sources)], atol=1e-12)


def test_features_left_untraced_keep_their_mass():
    model, dictionary, prompt = world_of("llama")
    whole = attribute(model, dictionary, prompt)

    small = attribute(model, dictionary, prompt, max_features=9, round_size=3)

    assert np.isin(small.nodes.kind, ("feature", "attention")).sum() == 9
    total = np.bincount(small.target, weights=small.weight, minlength=len(small.nodes))
    np.testing.assert_allclose(total[-1], whole.nodes.value[-1], rtol=1e-9)


@pytest.mark.parametrize("world", ["llama", "gemma2", "gpt2, not the first", "autoencoders"])
def test_ablating_takes_away_what_attention_features_write(world: str):
    """Against a run of hand-made hooks: the last replaced layer's features alone are ablated."""
    model, dictionary, prompt = world_of(world)
    run, attention = trace(model, dictionary, prompt), attention_of(dictionary)
    assert attention is not None
    layer = attention.numbers[-1]
    rows = run.units_at("attention", layer)
    units = torch.stack([run.layer, run.position, run.unit], dim=1)[rows]

    (out,) = ablate_sets(model, dictionary, run, [units], keep=False)

    live = attention.activations(layer, run.attended[layer].inputs)
    taken = attention.decode(layer, live)
    expected, _ = model.run(run.tokens[None], edit={(attention.writes, layer): lambda now: now - taken})
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    (same,) = ablate_sets(model, dictionary, run, [units[:0]], keep=False)
    torch.testing.assert_close(same[0], run.logits, rtol=1e-5, atol=1e-6)


def test_means_of_attention_features_come_after_those_of_the_mlp():
    model, dictionary, prompt = world_of("llama, one layer")
    attention = attention_of(dictionary)
    assert attention is not None
    run = trace(model, dictionary, prompt)

    found = activations_on(model, dictionary, run.tokens)
    means = mean_activations(model, dictionary, run.tokens[None])

    acts = attention.activations(1, run.attended[1].inputs)
    torch.testing.assert_close(found[1][:, dictionary.at(1).units :], acts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(means[1][dictionary.at(1).units :], acts[1:].mean(0), rtol=1e-5, atol=1e-6)
    assert found[0].shape[1] == dictionary.at(0).units


@pytest.mark.parametrize("world", ["llama", "gpt2", "autoencoders"])
def test_the_assay_holds_every_edge_to_experiment(world: str):
    model, dictionary, prompt = world_of(world)
    graph = prune(attribute(model, dictionary, prompt), nodes=0.95)

    found = assay(model, dictionary, graph, experiments=["edges", "subsets"], controls=20)

    (edges,) = found.edges
    assert edges.largest < 1e-5 and edges.tested > len(graph.nodes)
    assert 0 < found.statistics["missed"]
    attended = places_of(graph.nodes, graph.nodes.where("attention"))
    assert len(attended) and len({tuple(each) for each in attended.tolist()}) == len(attended)


def test_heads_are_not_split_where_they_are_not_passed():
    from circuits.attention import load_heads

    model, dictionary, prompt = world_of("llama, one layer")
    graph = attribute(model, dictionary, prompt)

    with pytest.raises(BadOption, match="replaced in layers 1"):
        load_heads(trace(model, dictionary, PROMPT), dictionary, graph, np.array([0]))
