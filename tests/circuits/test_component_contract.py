"""Every method of component circuits over the tiny models of every family, where they are at hand."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from circuits.attribution import EDGE_METHODS, PART_METHODS
from circuits.components.circuit_runs import run_circuit
from circuits.components.edge_scores import components_of, read_logits
from circuits.components.metrics import logit_difference
from circuits.components.node_edges import score_node_edges
from circuits.components.opening import check_faithful, transformer_of
from circuits.components.pairs import Pairs
from circuits.components.parts import UNITS, parts_of
from circuits.components.taking_apart import take_apart
from circuits.model import load_model
from tests.circuits.worlds import dictionary_of

TINY = Path(__file__).parents[3] / "shared" / "models" / "tiny"
FAMILIES = ("gpt2", "gemma2", "gemma3", "llama", "qwen3", "pythia", "gptneo")
pytestmark = pytest.mark.skipif(not TINY.exists(), reason=f"{TINY} is not there")

NUMBERS = torch.Generator().manual_seed(0)
CLEAN, OTHER = torch.randint(3, 200, (2, 2, 10), generator=NUMBERS)  # longer than the windows of local layers
ENDS = ("corrupted", "clean")
PAIRS = Pairs(
    clean=CLEAN,
    corrupted=torch.cat((CLEAN[:, :2], OTHER[:, 2:]), 1),
    right=torch.tensor([66, 77]),
    wrong=torch.tensor([88, 22]),
    position=torch.tensor([9, 8]),
)


@cache
def loaded(family):
    return load_model(TINY / family, dtype="float64")


@cache
def opened(family):
    transformer = transformer_of(loaded(family))
    check_faithful(transformer, loaded(family), CLEAN)
    return transformer


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_what_cutting_edges_does(family):
    transformer = opened(family)
    components = components_of(transformer)
    clean, corrupted = (transformer.embed(tokens) for tokens in (PAIRS.clean, PAIRS.corrupted))
    other = transformer.run(corrupted)

    def loss(cut):
        logits = read_logits(transformer, run_circuit(transformer, clean, other, cut), PAIRS)
        return -logit_difference(logits, PAIRS, logits, torch.clone).sum()

    nothing = torch.zeros(components.edges.shape, dtype=torch.float64, requires_grad=True)
    before = loss(nothing)
    (slope,) = torch.autograd.grad(before, nothing)
    at_clean = EDGE_METHODS["eap"](transformer, PAIRS, logit_difference)
    torch.testing.assert_close(at_clean, slope, rtol=1e-8, atol=1e-12)

    exact = EDGE_METHODS["exact"](transformer, PAIRS, logit_difference)
    edges = np.argwhere(components.edges)
    for source, reader in edges[:: len(edges) // 40]:
        cut = torch.zeros_like(nothing)
        cut[source, reader] = 1
        torch.testing.assert_close(exact[source, reader], (loss(cut) - before).detach(), rtol=1e-8, atol=1e-12)

    one = {begin: EDGE_METHODS["eap-ig"](transformer, PAIRS, logit_difference, steps=1, begin=begin) for begin in ENDS}
    torch.testing.assert_close(one["clean"], at_clean, rtol=1e-8, atol=1e-12)
    both = EDGE_METHODS["clean-corrupted"](transformer, PAIRS, logit_difference)
    torch.testing.assert_close(both, (at_clean + one["corrupted"]) / 2, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_scores_edges_or_parts_pair_by_pair(family):
    transformer = opened(family)
    edges = torch.from_numpy(components_of(transformer).edges)
    parts = parts_of(transformer)
    for name, method in EDGE_METHODS.items():
        options = {"steps": 2} if name.startswith("eap-ig") else {}
        found = method(transformer, PAIRS, logit_difference, **options)
        apart = sum(method(transformer, each, logit_difference, **options) for each in PAIRS.split(1))

        torch.testing.assert_close(found, apart, rtol=1e-8, atol=1e-12, msg=name)
        assert (found[~edges] == 0).all() and found[edges].abs().max() > 0, name
    for name, method in PART_METHODS.items():
        found = method(transformer, PAIRS, logit_difference, parts)
        apart = sum(method(transformer, each, logit_difference, parts) for each in PAIRS.split(1))

        torch.testing.assert_close(found, apart, rtol=1e-8, atol=1e-12, msg=name)
        assert found.abs().max() > 0, name


@pytest.mark.parametrize("kind", ["neurons", "per-layer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_neuron_or_feature_hands_on_is_what_it_does(family, kind):
    transformer = take_apart(opened(family), dictionary_of(loaded(family), kind), [PAIRS])
    parts = parts_of(transformer, neurons=True)
    everything = torch.ones(len(parts.names), dtype=torch.bool)

    edges = score_node_edges(transformer, PAIRS, logit_difference, parts, everything, steps=1, begin="clean")

    units = [at for at, (column, _) in enumerate(parts.places) if column[0] in UNITS]
    expected = PART_METHODS["atp"](transformer, PAIRS, logit_difference, parts)
    torch.testing.assert_close(edges.sum(1), expected, rtol=1e-6, atol=1e-9)
    assert (expected[units] != 0).sum() > 0.5 * len(units) > 0
