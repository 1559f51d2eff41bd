"""Scores of edges between components, in every family, against what they are defined to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.attribution import EDGE_METHODS
from circuits.attribution.clean_corrupted import score_at_both_ends
from circuits.attribution.eap import score_by_gradient
from circuits.attribution.eap_ig import score_between_inputs
from circuits.attribution.eap_ig_activations import score_between_activations
from circuits.attribution.exact_edges import patch_every_edge
from circuits.attribution.information_flow import score_by_flow
from circuits.attribution.random_scores import draw_scores
from circuits.attribution.relp import follow_rules, score_by_relevance
from circuits.components import edge_scores
from circuits.components.ablations import ABLATIONS
from circuits.components.circuit_runs import run_circuit
from circuits.components.edge_scores import components_of, loss_of, read_logits
from circuits.components.metrics import METRICS, logit_difference
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import model_of

PAIRS = Pairs(
    clean=torch.tensor([[1, 2, 5, 6, 10, 3], [1, 3, 6, 8, 10, 4]]),
    corrupted=torch.tensor([[1, 4, 5, 7, 10, 3], [1, 3, 9, 5, 2, 4]]),
    right=torch.tensor([6, 7]),
    wrong=torch.tensor([8, 2]),
    position=torch.tensor([5, 3]),
)


def slope(transformer, embedding, metric=logit_difference, corrupted=None):
    """The derivative of the loss by how far each edge is cut, nothing being cut, on these embeddings."""
    components = components_of(transformer)
    corrupted = corrupted or transformer.run(transformer.embed(PAIRS.corrupted))
    clean = read_logits(transformer, transformer.run(transformer.embed(PAIRS.clean)).after, PAIRS)
    cut = torch.zeros(len(components.sources), len(components.readers), dtype=torch.float64, requires_grad=True)
    logits = read_logits(transformer, run_circuit(transformer, embedding, corrupted, cut), PAIRS)
    loss = loss_of(transformer, logits, PAIRS, metric, clean).sum()
    return torch.autograd.grad(loss, cut)[0]


@pytest.mark.parametrize("family", OPEN)
def test_every_method_is_its_definition_in_every_family(family):
    transformer = transformer_of(model_of(family))
    clean, corrupted = (transformer.embed(tokens) for tokens in (PAIRS.clean, PAIRS.corrupted))
    components = components_of(transformer)
    edges = torch.from_numpy(components.edges)

    found = score_by_gradient(transformer, PAIRS, logit_difference)

    torch.testing.assert_close(found, slope(transformer, clean), rtol=1e-9, atol=1e-12)
    assert (found[~edges] == 0).all() and (found[edges] != 0).all()

    exact = patch_every_edge(transformer, PAIRS, logit_difference)
    run = transformer.run(corrupted)
    whole = torch.zeros(edges.shape, dtype=torch.float64)

    def loss(cut):
        after = run_circuit(transformer, clean, run, cut)
        return -logit_difference(read_logits(transformer, after, PAIRS), PAIRS, whole, torch.clone).sum()

    for source, reader in components_sample(components):
        cut = whole.clone()
        cut[source, reader] = 1
        torch.testing.assert_close(exact[source, reader], loss(cut) - loss(whole), rtol=1e-9, atol=1e-12)
    assert (exact[~edges] == 0).all() and (exact[edges] != 0).all()

    everything_cut = run_circuit(transformer, clean, run, torch.ones_like(whole))
    torch.testing.assert_close(everything_cut, run.after, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("begin", ["corrupted", "clean"])
def test_integrated_gradients_are_the_mean_over_points_between_the_prompts(family, begin):
    transformer = transformer_of(model_of(family))
    ends = [transformer.embed(tokens) for tokens in (PAIRS.clean, PAIRS.corrupted)]
    clean, corrupted = (transformer.run(end) for end in ends)
    shares = {"corrupted": (0, 1 / 3, 2 / 3), "clean": (1 / 3, 2 / 3, 1)}[begin]
    total = 0.0
    for share in shares:
        between = ends[1] + share * (ends[0] - ends[1])
        here = transformer.run(between)
        # Every source differs by what it differs by between the prompts, whatever it writes here.
        moved = replace(
            here,
            before=[here.before[0] + corrupted.before[0] - clean.before[0]],
            mixed=[a + b - c for a, b, c in zip(here.mixed, corrupted.mixed, clean.mixed, strict=True)],
            mlp=[a + b - c for a, b, c in zip(here.mlp, corrupted.mlp, clean.mlp, strict=True)],
        )
        total = total + slope(transformer, between, corrupted=moved) / 3

    found = score_between_inputs(transformer, PAIRS, logit_difference, steps=3, begin=begin)

    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_one_step_of_integrated_gradients_at_an_end_is_the_gradient_there(family):
    transformer = transformer_of(model_of(family))
    at_clean = score_by_gradient(transformer, PAIRS, logit_difference)

    found = score_between_inputs(transformer, PAIRS, logit_difference, steps=1, begin="clean")
    torch.testing.assert_close(found, at_clean, rtol=1e-9, atol=1e-12)
    # Both ends' mean, of which one is known, is that of two halves.
    at_corrupted = score_between_inputs(transformer, PAIRS, logit_difference, steps=1, begin="corrupted")
    both = score_at_both_ends(transformer, PAIRS, logit_difference)
    torch.testing.assert_close(both, (at_clean + at_corrupted) / 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("begin", "shares"), [("corrupted", (0, 0.5)), ("clean", (0.5, 1))])
def test_all_edges_of_a_source_together_are_the_loss_falling_along_its_change_while_a_stage_is_between(begin, shares):
    transformer = transformer_of(model_of("gpt2"))
    components = components_of(transformer)
    ends = [transformer.embed(tokens) for tokens in (PAIRS.clean, PAIRS.corrupted)]
    clean, corrupted = (transformer.run(end) for end in ends)
    source, expected = ("mlp", 1), 0.0
    change = corrupted.mlp[1] - clean.mlp[1]
    stages = [None, *((name, layer) for layer in range(3) for name in ("mixed", "mlp"))]
    for stage in stages:
        for share in shares:
            embedding, between = ends[0], {}
            if stage is None:
                embedding = ends[1] + share * (ends[0] - ends[1])
            else:
                ours, theirs = (getattr(run, stage[0])[stage[1]] for run in (clean, corrupted))
                between = {stage: theirs + share * (ours - theirs)}
            here = transformer.run(embedding, replace=between)
            along = torch.zeros((), dtype=torch.float64, requires_grad=True)
            moved = {**between, source: here.mlp[1].detach() + along * change}
            logits = read_logits(transformer, transformer.run(embedding, replace=moved).after, PAIRS)
            loss = -logit_difference(logits, PAIRS, logits, transformer.log_probabilities).sum()
            expected += float(torch.autograd.grad(loss, along)[0]) / (2 * len(stages))

    found = score_between_activations(transformer, PAIRS, logit_difference, steps=2, begin=begin)

    row = components.sources.index("m1")
    assert float(found[row].sum()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox", "olmo2"])
def test_an_edge_at_a_position_is_the_edge_cut_there_alone(family):
    transformer = transformer_of(model_of(family))
    components = components_of(transformer)
    clean, other = transformer.embed(PAIRS.clean), transformer.run(transformer.embed(PAIRS.corrupted))
    cut = torch.zeros(*components.edges.shape, 6, dtype=torch.float64, requires_grad=True)
    logits = read_logits(transformer, run_circuit(transformer, clean, other, cut), PAIRS)
    loss = loss_of(transformer, logits, PAIRS, logit_difference, logits).sum()

    found = score_by_gradient(transformer, PAIRS, logit_difference, positions=True)

    torch.testing.assert_close(found, torch.autograd.grad(loss, cut)[0], rtol=1e-9, atol=1e-12)
    for method in (score_by_gradient, score_between_inputs, score_between_activations):
        apart = method(transformer, PAIRS, logit_difference, positions=True)
        torch.testing.assert_close(apart.sum(-1), method(transformer, PAIRS, logit_difference), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("score", "own"), [(score_between_inputs, "corrupted"), (score_between_activations, "clean")])
def test_steps_begin_where_those_of_eap_ig_itself_do(score, own):
    transformer = transformer_of(model_of("gpt2"))

    usual, from_corrupted, from_clean = (
        score(transformer, PAIRS, logit_difference, steps=2, **how)
        for how in ({}, {"begin": "corrupted"}, {"begin": "clean"})
    )

    assert torch.equal(usual, from_clean if own == "clean" else from_corrupted)
    assert not torch.allclose(from_corrupted, from_clean)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "qwen3", "olmo2"])
def test_relevance_is_the_gradient_of_a_model_that_runs_the_same_and_goes_back_by_the_rules(family):
    transformer = transformer_of(model_of(family))
    ruled = follow_rules(transformer)
    clean = transformer.embed(PAIRS.clean)

    torch.testing.assert_close(ruled.run(clean).after, transformer.run(clean).after)
    found = score_by_relevance(transformer, PAIRS, logit_difference)
    torch.testing.assert_close(found, slope(ruled, clean), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found, score_by_gradient(transformer, PAIRS, logit_difference))


def test_relevance_is_conserved_where_nothing_is_added_on_the_way():
    # One position, no biases: the pattern is one, and all that the rules leave is a linear map of the embedding.
    ruled = follow_rules(transformer_of(model_of("llama")))
    token = ruled.embed(torch.tensor([[5]])).requires_grad_()

    logits = ruled.unembed(ruled.run(token).after)[0, 0]
    (gradient,) = torch.autograd.grad(logits[3] - logits[7], token)

    assert float((gradient * token).sum()) == pytest.approx(float(logits[3] - logits[7]), rel=1e-9)


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_batch_is_its_pairs_one_by_one_by_any_metric(metric):
    transformer = transformer_of(model_of("gemma2"))

    together = score_between_inputs(transformer, PAIRS, METRICS[metric], steps=2)
    apart = [score_between_inputs(transformer, each, METRICS[metric], steps=2) for each in PAIRS.split(1)]

    torch.testing.assert_close(together, sum(apart), rtol=1e-9, atol=1e-12)
    assert together.abs().max() > 0


def test_scores_do_not_depend_on_how_many_rows_are_laid_out_at_once(monkeypatch):
    transformer = transformer_of(model_of("gemma2"))
    whole = score_by_gradient(transformer, PAIRS, logit_difference)

    by_position = score_by_gradient(transformer, PAIRS, logit_difference, positions=True)
    monkeypatch.setattr(edge_scores, "NUMBERS", 1)

    few = score_by_gradient(transformer, PAIRS, logit_difference, positions=True)
    torch.testing.assert_close(few, by_position, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(score_by_gradient(transformer, PAIRS, logit_difference), whole, rtol=1e-9, atol=1e-12)


def test_a_stream_that_holds_only_tokens_comes_from_the_tokens():
    transformer = transformer_of(model_of("llama"))
    components = components_of(transformer)

    found = score_by_flow(transformer, PAIRS, logit_difference)

    torch.testing.assert_close(found[0, : 3 * components.heads], torch.full((12,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(found.sum(0), torch.full((len(components.readers),), 2.0, dtype=torch.float64))
    assert (found >= 0).all() and (found[~torch.from_numpy(components.edges)] == 0).all()


def test_random_scores_are_the_same_for_a_seed_and_every_batch():
    transformer = transformer_of(model_of("llama"))

    one, two = (draw_scores(transformer, each, logit_difference, seed=3) for each in PAIRS.split(1))

    assert torch.equal(one, two)
    assert torch.equal(one + two, draw_scores(transformer, PAIRS, logit_difference, seed=3))
    assert not torch.equal(one, draw_scores(transformer, PAIRS.swapped(), logit_difference, seed=4) / 2)


def components_sample(components):
    """Some edges of every sort."""
    edges = np.argwhere(components.edges)
    return [tuple(edge) for edge in edges[:: max(1, len(edges) // 60)]]


@pytest.mark.parametrize("ablation", ["zero", "mean", "optimal"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_edges_carry_what_the_ablation_puts_in_place_of_the_corrupted_prompt(family, ablation, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 3)
    transformer = transformer_of(model_of(family))
    components = components_of(transformer)
    ablate = ABLATIONS[ablation](transformer, [PAIRS], lambda name, done, total: None)
    clean, other = transformer.embed(PAIRS.clean), ablate(transformer, PAIRS)
    cut = torch.zeros(components.edges.shape, dtype=torch.float64)
    everything_cut = run_circuit(transformer, clean, other, torch.ones_like(cut))

    exact = patch_every_edge(transformer, PAIRS, logit_difference, ablation=ablate)
    found = score_by_gradient(transformer, PAIRS, logit_difference, ablation=ablate)

    torch.testing.assert_close(everything_cut, other.after)
    torch.testing.assert_close(found, slope(transformer, clean, corrupted=other), rtol=1e-9, atol=1e-12)
    losses = []
    for edge in [("input", "m1"), ("a0.h2", "logits"), ("m0", "a1.h1<k>"), ("a1.h0", "m1")]:
        one = cut.clone()
        at = components.edge("->".join(edge))
        one[at] = 1
        for each in (one, cut):
            logits = read_logits(transformer, run_circuit(transformer, clean, other, each), PAIRS)
            losses.append(-logit_difference(logits, PAIRS, logits, torch.clone).sum())
        torch.testing.assert_close(exact[at], losses[-2] - losses[-1], rtol=1e-9, atol=1e-12)


def test_where_all_is_linear_gradients_are_exact():
    # No norms, no MLP but a linear one, patterns that no input moves: nothing is left that a gradient could miss.
    transformer = transformer_of(model_of("gpt2"))
    norms = dict.fromkeys(("norm", "mlp_norm"))
    flat = [
        replace(
            layer, **norms, function=torch.clone, query=replace(layer.query, weight=0 * layer.query.weight, bias=None)
        )
        for layer in transformer.layers
    ]
    linear = replace(transformer, layers=flat, final_norm=None)

    exact = patch_every_edge(linear, PAIRS, logit_difference)

    assert (exact.abs() > 1e-6).sum() > 100
    for method in ("eap", "eap-ig", "eap-ig-activations", "clean-corrupted"):
        found = EDGE_METHODS[method](linear, PAIRS, logit_difference)
        if method == "eap-ig-activations":  # what is set between the prompts hands nothing back, so it is a share
            assert (found[exact.abs() < 1e-12].abs() < 1e-9).all()
        else:
            torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-10)
