"""The strongest nodes patched for real, and what a node that was not may do at most."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.attribution.atp import score_parts_by_gradient
from circuits.attribution.exact_parts import patch_every_part
from circuits.components.ablations import resample
from circuits.components.metrics import logit_difference
from circuits.components.node_finding import find_nodes, strongest_nodes
from circuits.components.opening import transformer_of
from circuits.components.parts import parts_of
from circuits.components.searching import Search
from circuits.components.verification import verify
from circuits.errors import BadOption
from tests.circuits.test_component_ablations import SHORT
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_part_methods import layer_of, pair_of, world_of
from tests.circuits.worlds import model_of


def search_of(transformer, pairs):
    asked = {"metric": logit_difference, "metric_name": None, "ablation": "resample", "ablate": resample, "batch": 1}
    return Search(model_of("gpt2"), transformer, [pairs], **asked, progress=lambda name, done, total: None)


@pytest.mark.parametrize("level", [{}, {"apart": True}, {"neurons": True}, {"positions": True}])
def test_the_strongest_have_exact_scores_and_the_circuit_is_chosen_from_them(level):
    model = model_of("llama")
    pairs = [PAIRS] if level.get("positions") else [SHORT, PAIRS]
    truth, estimated = (find_nodes(model, pairs, method=name, **level).scores for name in ("exact-nodes", "atp-star"))

    found = find_nodes(model, pairs, method="atp-star", nodes=5, verify=11, batch=1, **level)

    best = strongest_nodes(estimated, 11)
    np.testing.assert_allclose(found.scores[best], truth[best], atol=1e-12)
    np.testing.assert_allclose(found.scores[~best], estimated[~best], atol=1e-12)
    assert (found.chosen == strongest_nodes(np.where(best, truth, 0), 5)).all()
    told = found.graph.provenance["verified"]
    assert told["nodes"] == 11 and told["missed"] > 0
    assert sorted(told["estimates"].values()) == pytest.approx(sorted(estimated[best]))
    assert set(found.graph.provenance["circuit"]) <= set(told["estimates"])


def test_where_effects_add_up_the_bound_is_the_root_of_their_squares():
    # One layer whose MLP does not read its heads, and logits without a norm: nothing stands in another's way.
    whole = transformer_of(model_of("gpt2"))
    transformer = replace(whole, layers=whole.layers[:1], parallel=True, final_norm=None)
    parts = parts_of(transformer, neurons=True)
    exact = patch_every_part(transformer, PAIRS, logit_difference, parts).numpy() / 2
    best = strongest_nodes(exact, 3)

    found = verify(search_of(transformer, PAIRS), parts, np.zeros_like(exact), best)

    left = np.sqrt((exact[~best] ** 2).sum())
    assert left < found.missed < 1.5 * left
    assert (found.scores[~best] == 0).all()
    everything = verify(search_of(transformer, PAIRS), parts, exact, np.ones_like(best))
    assert everything.missed == 0
    np.testing.assert_allclose(everything.scores, exact)


def test_a_query_that_gradients_do_not_see_is_within_the_bound():
    eye = torch.eye(4, dtype=torch.float64)
    transformer = world_of([layer_of(query=eye, key=eye, value=eye, output=eye, scale=200.0)])
    pairs = pair_of([0, 1, 2, 1], [0, 2, 1, 2], 1, 2)
    parts = parts_of(transformer, apart=True)
    exact, estimated = (
        each(transformer, pairs, logit_difference, parts).numpy()
        for each in (patch_every_part, score_parts_by_gradient)
    )
    query = parts.names.index("a0.h0<q>")
    others = np.arange(len(exact)) != query

    found = verify(search_of(transformer, pairs), parts, estimated, others)

    assert abs(found.scores[query]) < 1e-9 and abs(exact[query]) > 0.3
    assert abs(exact[query]) < found.missed < 1.5 * abs(exact[query])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"verify": 0}, "verify must be a whole number"),
        ({"verify": 5}, "the 30 nodes are chosen from those verified"),
        ({"verify": 50, "method": "exact-nodes"}, "nothing is left to verify"),
    ],
)
def test_what_cannot_be_verified_is_told(options, complaint):
    with pytest.raises(BadOption, match=complaint):
        find_nodes(model_of("llama"), [PAIRS], **options)
