"""ACDC with shared runs and candidates side by side against the plain loop: one whole run for every edge."""

import numpy as np
import pytest
import torch

from circuits.attribution.acdc import take_edges_out
from circuits.components.ablations import resample
from circuits.components.circuit_runs import run_circuit, run_variants
from circuits.components.edge_scores import components_of, loss_of, read_logits
from circuits.components.metrics import METRICS
from circuits.components.transformer import transformer_of
from tests.circuits.test_component_ablations import SHORT
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import model_of


def taken_out_plainly(transformer, pairs, metric, threshold):
    """Every edge by itself, from the last reader to the first; a whole run of the circuit for each."""
    components = components_of(transformer)
    cut = torch.zeros(components.edges.shape, dtype=torch.float64)
    ends = [(each, transformer.embed(each.clean), resample(transformer, each)) for each in pairs]
    wanted = [read_logits(transformer, transformer.run(clean).after, each) for each, clean, _ in ends]

    def loss():
        total = 0.0
        for (each, clean, other), said in zip(ends, wanted, strict=True):
            logits = read_logits(transformer, run_circuit(transformer, clean, other, cut), each)
            total += float(loss_of(transformer, logits, each, metric, said).sum())
        return total / sum(len(each) for each in pairs)

    now = loss()
    for reader in reversed(range(cut.shape[1])):
        for source in reversed(np.flatnonzero(components.edges[:, reader])):
            cut[source, reader] = 1
            without = loss()
            if without - now < threshold:
                now = without
            else:
                cut[source, reader] = 0
    return components.edges & (cut.numpy() == 0)


@pytest.mark.parametrize(("family", "threshold"), [("gemma2", 0.003), ("gpt_neox", 0.002)])
def test_the_circuit_is_that_of_a_run_for_every_edge(family, threshold):
    transformer = transformer_of(model_of(family))
    pairs, metric = [SHORT, PAIRS], METRICS["kl"]

    plain = taken_out_plainly(transformer, pairs, metric, threshold)
    found = take_edges_out(transformer, pairs, metric, threshold=threshold)
    one_by_one = take_edges_out(transformer, pairs, metric, threshold=threshold, at_once=1)

    assert (found.chosen == plain).all() and (one_by_one.chosen == plain).all()
    edges = components_of(transformer).edges
    assert 5 < plain.sum() < 0.9 * edges.sum()
    assert (found.rise[found.chosen] >= threshold).all() and (found.rise[edges & ~found.chosen] < threshold).all()
    assert one_by_one.tried <= edges.sum()


@pytest.mark.parametrize("family", OPEN)
def test_variants_of_a_circuit_are_their_own_runs(family):
    transformer = transformer_of(model_of(family))
    components = components_of(transformer)
    clean, other = transformer.run(transformer.embed(PAIRS.clean)), resample(transformer, PAIRS)
    numbers = torch.Generator().manual_seed(2)
    edges = torch.from_numpy(components.edges)
    for name in ("logits", "m1", "m0", "a1.h2<q>", "a1.h1<k>", "a0.h3<v>"):
        reader = components.readers.index(name)
        cut = (torch.rand(edges.shape, generator=numbers) < 0.5) & edges
        cut[:, :reader] = False
        columns = (torch.rand(len(edges), 3, generator=numbers) < 0.5) & edges[:, reader, None]

        found = run_variants(transformer, clean, other, cut.double(), reader, columns.double())

        for variant in range(3):
            cut[:, reader] = columns[:, variant]
            expected = run_circuit(transformer, transformer.embed(PAIRS.clean), other, cut.double())
            torch.testing.assert_close(found[variant], expected)


def test_a_threshold_above_all_leaves_nothing_and_one_below_all_leaves_what_leads_somewhere():
    transformer = transformer_of(model_of("llama"))

    nothing = take_edges_out(transformer, [PAIRS], METRICS["kl"], threshold=1e6)
    everything = take_edges_out(transformer, [PAIRS], METRICS["kl"], threshold=-1e6)

    edges = components_of(transformer).edges
    assert not nothing.chosen.any() and nothing.tried == edges[:, -1].sum()  # no other edge leads anywhere by then
    assert (everything.chosen == edges).all()
