"""A model whose attention looks both ways: traced, changed and assayed as others are."""

import numpy as np
import torch

from circuits import assay, attribute, intervene, trace
from circuits.attention import load_heads
from circuits.changes import Intervention
from circuits.sampling import sample_prompts
from graphs.pruning import prune
from tests.circuits.worlds import dictionary_of, native_of

PROMPT = [1, 2, 3, 5, 7, 4]


def test_a_change_is_felt_on_both_sides_as_in_a_run_of_the_whole_prompt():
    model = native_of("two-way")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    at = int(torch.nonzero((run.layer == 1) & (run.position == 4))[0, 0])
    unit, activation = int(run.unit[at]), float(run.activation[at])
    vector = activation * dictionary.writing(1, run.unit[at, None], 1)[0]

    (changed,) = intervene(model, dictionary, run, [[Intervention(1, 4, unit)]])

    def take_away(x: torch.Tensor) -> torch.Tensor:
        x = run.written[1][None].clone()
        x[0, 4] -= vector
        return x

    expected, _ = model.run(run.tokens[None], edit={(dictionary.at(1).writes, 1): take_away})
    torch.testing.assert_close(changed, expected[0])
    assert float((changed - run.logits)[:4].abs().max()) > 1e-6  # to its left too


def test_edges_are_split_over_heads_whole():
    model = native_of("two-way")
    dictionary = dictionary_of(model, "per-layer")
    run, graph = trace(model, dictionary, PROMPT), attribute(model, dictionary, PROMPT)
    position = graph.nodes.position
    carried = np.isin(graph.nodes.kind[graph.source], ("token", "feature", "error"))
    edges = np.flatnonzero(carried & (position[graph.source] > position[graph.target]))[::5]

    split = load_heads(run, dictionary, graph, edges)

    total = split.load.sum(2) + split.bypass + split.later
    crossed = (np.abs(split.load).sum(2) + np.abs(split.bypass) + np.abs(split.later)) > 0
    weight = np.broadcast_to(graph.weight[edges][:, None], total.shape)
    assert len(edges) and crossed.any()
    np.testing.assert_allclose(total[crossed], weight[crossed], rtol=0, atol=1e-10 * np.abs(graph.weight).max())


def test_a_graph_is_assayed_and_its_other_prompts_are_random_tokens():
    model = native_of("two-way")
    dictionary = dictionary_of(model, "per-layer")

    drawn = sample_prompts(model, 1, count=200, length=5, seed=0)
    found = assay(model, dictionary, prune(attribute(model, dictionary, PROMPT, [3])), deep=True, controls=20)

    assert set(drawn[:, 1:].unique().tolist()) == set(range(model.vocabulary)) and (drawn[:, 0] == 1).all()
    assert found.edges[0].tested > 0 and found.edges[0].largest < 1e-10
    assert not found.skipped
