"""Scores of edges between components, in every family, against what they are defined to be."""

import numpy as np
import pytest
import torch

from circuits.attribution.clean_corrupted import score_at_both_ends
from circuits.attribution.eap import score_by_gradient
from circuits.attribution.eap_ig import score_between_inputs
from circuits.attribution.eap_ig_activations import score_between_activations
from circuits.attribution.exact_edges import patch_every_edge
from circuits.circuit_runs import run_circuit
from circuits.edge_scores import components_of, loss_of, read_logits
from circuits.metrics import METRICS, logit_difference
from circuits.pairs import Pairs
from circuits.transformer import transformer_of
from tests.circuits.worlds import ALIKE, FAMILIES, model_of

PAIRS = Pairs(
    clean=torch.tensor([[1, 2, 5, 6, 10, 3], [1, 3, 6, 8, 10, 4]]),
    corrupted=torch.tensor([[1, 4, 5, 7, 10, 3], [1, 3, 9, 5, 2, 4]]),
    right=torch.tensor([6, 7]),
    wrong=torch.tensor([8, 2]),
    position=torch.tensor([5, 3]),
)


def slope(transformer, embedding, metric=logit_difference):
    """The derivative of the loss by how far each edge is cut, nothing being cut, on these embeddings."""
    components = components_of(transformer)
    corrupted = transformer.run(transformer.embed(PAIRS.corrupted))
    clean = read_logits(transformer, transformer.run(transformer.embed(PAIRS.clean)).after, PAIRS)
    cut = torch.zeros(len(components.sources), len(components.readers), dtype=torch.float64, requires_grad=True)
    logits = read_logits(transformer, run_circuit(transformer, embedding, corrupted, cut), PAIRS)
    loss = loss_of(transformer, logits, PAIRS, metric, clean).sum()
    return torch.autograd.grad(loss, cut)[0]


@pytest.mark.parametrize("family", [*FAMILIES, *ALIKE])
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
        return -logit_difference(read_logits(transformer, after, PAIRS), PAIRS, whole, whole).sum()

    for source, reader in components_sample(components):
        cut = whole.clone()
        cut[source, reader] = 1
        torch.testing.assert_close(exact[source, reader], loss(cut) - loss(whole), rtol=1e-9, atol=1e-12)
    assert (exact[~edges] == 0).all() and (exact[edges] != 0).all()

    everything_cut = run_circuit(transformer, clean, run, torch.ones_like(whole))
    torch.testing.assert_close(everything_cut, run.after, rtol=1e-9, atol=1e-9)


def components_sample(components):
    """Some edges of every sort."""
    edges = np.argwhere(components.edges)
    return [tuple(edge) for edge in edges[:: max(1, len(edges) // 60)]]
