"""What is not traced under a budget, and that the bound stated on it holds against the whole graph."""

import numpy as np
import pytest

from circuits import attribute
from circuits.attribution.direct import attribute_directly
from circuits.errors import BadOption
from circuits.targets import Feature
from graphs.graph import AttributionGraph
from graphs.paths import influence
from tests.circuits.worlds import FAMILIES, KINDS, dictionary_of, model_of

PROMPT = "a red fox runs"


def units_of(graph: AttributionGraph) -> dict[tuple[int, int, int], int]:
    rows = graph.nodes.where("feature", "neuron")
    places = zip(*(getattr(graph.nodes, name)[rows].tolist() for name in ("layer", "position", "feature")), strict=True)
    return dict(zip(places, rows.tolist(), strict=True))


def first_met(whole: AttributionGraph, untraced: list[int]) -> np.ndarray:
    """Which share of the goal meets each untraced node before any other, path by path in the whole graph."""
    dense, gross = np.abs(whole.to_dense()), whole.nodes.gross
    dense[:, whole.nodes.kind == "bias"] = 0
    share = np.divide(dense, gross[:, None], out=np.zeros_like(dense), where=gross[:, None] > 0)
    share[untraced] = 0  # paths end there
    reached = np.linalg.solve(np.eye(len(share)) - share.T, whole.goal)
    return reached[untraced]


@pytest.mark.parametrize("options", [{"max_features": 9}, {"min_influence": 0.02}, {"min_influence": 0.005}])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_is_what_the_bound_says(family: str, kind: str, options: dict):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    whole = attribute(model, dictionary, PROMPT)

    part = attribute(model, dictionary, PROMPT, **options)

    said = part.provenance["expansion"]
    traced, every = units_of(part), units_of(whole)
    untraced = [row for place, row in every.items() if place not in traced]
    goal = whole.goal.sum()
    left = first_met(whole, untraced) / goal
    assert len(untraced) and part.provenance["traced"] == len(traced) == len(every) - len(untraced)
    np.testing.assert_allclose([said["left"], said["largest_left"]], [left.sum(), left.max()], rtol=1e-9)
    unselected = part.nodes.kind == "unselected"
    np.testing.assert_allclose(part.nodes.influence[unselected].sum() / goal, said["left"], rtol=1e-9)

    true = influence(whole)
    hidden = [true[every[place]] - part.nodes.influence[row] for place, row in traced.items()]
    assert hidden and min(hidden) >= -1e-12 and max(hidden) <= said["left"] * goal + 1e-12
    assert true[untraced].max() <= (said["largest_left"] + said["left"]) * goal + 1e-12
    if "min_influence" in options:
        assert said["largest_left"] < options["min_influence"]
        weakest = min(part.nodes.influence[row] for row in traced.values())
        assert weakest >= options["min_influence"] * goal


def test_everything_traced_leaves_nothing():
    model = model_of("llama")
    whole = attribute(model, dictionary_of(model, "per-layer"), PROMPT)
    assert whole.provenance["expansion"] == {"order": "all", "min_influence": None, "left": 0.0, "largest_left": 0.0}


def test_more_influence_asked_for_leaves_less_and_almost_none_leaves_nothing():
    model = model_of("gpt2")
    dictionary = dictionary_of(model, "neurons")
    parts = [attribute(model, dictionary, PROMPT, min_influence=each) for each in (0.1, 0.01, 0.001, 1e-12)]
    left = [part.provenance["expansion"]["left"] for part in parts]
    assert left == sorted(left, reverse=True) and left[-1] < 1e-9
    assert [part.provenance["traced"] for part in parts] == sorted(part.provenance["traced"] for part in parts)


@pytest.mark.parametrize("options", [{"max_features": 1}, {"max_features": 4, "round_size": 2}, {"min_influence": 0.3}])
def test_features_that_are_the_goal_are_traced_whatever_the_budget(options: dict):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    whole = attribute(model, dictionary, PROMPT)
    places = [each for each in units_of(whole) if each[0] in (1, 2)][:3:2]
    goals = [Feature(layer, unit, position) for layer, position, unit in places]

    part = attribute_directly(model, dictionary, PROMPT, [*goals, "red"], **options)

    traced = units_of(part)
    assert all(part.goal[traced[place]] > 0 for place in places)
    assert len(traced) == max(len(places), options.get("max_features", len(traced)))
    total = np.bincount(part.target, weights=part.weight, minlength=len(part.nodes))
    rows = np.flatnonzero(~np.isnan(part.nodes.value))
    np.testing.assert_allclose(total[rows], part.nodes.value[rows], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"min_influence": 0.0}, "above 0 and below 1"),
        ({"min_influence": 1.0}, "above 0 and below 1"),
        ({"min_influence": 0.1, "max_features": 3}, "give one of them"),
        ({"max_features": 0}, "at least 1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(options: dict, complaint: str):
    model = model_of("llama")
    with pytest.raises(BadOption, match=complaint):
        attribute(model, dictionary_of(model, "per-layer"), PROMPT, **options)
