"""JSON against types: what fits comes out as meant, what does not is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from hypothesis import given, strategies

from graphs.errors import ForeignFolder
from graphs.reading import read


@dataclass(frozen=True)
class Stone:
    weight: float
    colour: str = "grey"


class Box(TypedDict, total=False):
    stones: Sequence[Stone]
    depth: float | None
    owner: str | list[int]


def test_what_fits_comes_out_as_meant():
    box = read({"stones": [{"weight": 2}, {"weight": None}], "depth": None, "owner": [7], "note": {"x": 1}}, Box)

    assert box["stones"][0] == Stone(2.0) and isinstance(box["stones"][0].weight, float)
    assert math.isnan(box["stones"][1].weight)  # JSON has no nan
    assert (box["depth"], box["owner"], box["note"]) == (None, [7], {"x": 1})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (["no box"], r"all of it should be an object, found \['no box'\]"),
        ({"stones": {}}, "stones should be a list"),
        ({"stones": [{"weight": 1}, {"colour": "red"}]}, r"stones\[1\].weight is missing"),
        ({"stones": [{"weight": "2"}]}, r"stones\[0\].weight should be a number, found '2'"),
        ({"stones": [{"weight": True}]}, "should be a number, found True"),
        ({"stones": [{"weight": 1e400}]}, "should be a number, found inf"),
        ({"stones": [{"weight": 10**400}]}, "should be a number, found 1000"),
        ({"stones": [{"weight": 1, "colour": "\ud800"}]}, "colour should be text"),
        ({"stones": [{"weight": 1, "smell": 1}]}, "smell is nothing that this program knows"),
        ({"owner": None}, "owner should be text or a list, found None"),
        ({"owner": [1.5]}, r"owner\[0\] should be a whole number"),
    ],
)
def test_what_does_not_fit_is_named(value, says):
    with pytest.raises(ForeignFolder, match=says):
        read(value, Box)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=8,
)


@given(JSON, strategies.sampled_from((Box, Stone, float, int, str, bool, list[Stone], Mapping[str, Box], Any)))
def test_anything_is_read_or_refused(value, kind):
    try:
        read(value, kind)
    except ForeignFolder as refused:
        assert str(refused).endswith(".")
