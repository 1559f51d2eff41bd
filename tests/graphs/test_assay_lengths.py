"""An assay whose lists do not go together is refused by file and place, before anybody reads it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from circuits.__main__ import main
from graphs import Assay, Store
from graphs.assays import (
    Ablation,
    Between,
    Contributions,
    Curve,
    Disturbance,
    Edges,
    Examples,
    Prunings,
    Subset,
)
from graphs.errors import ForeignFolder
from tests.worlds import graph_of

GRAPH = graph_of([(0, 1, 3), (1, 3, -1), (2, 3, 1)], "token feature error logit")
WHOLE = Assay(
    registration={},
    conservation=1e-7,
    ablations=[],
    statistics={},
    subsets=[Subset("mean", 0.9, 0.1, [0.2, 0.3], [0.8, 0.9], 0.3, 0.3)],
    verdicts=[],
    edges=[Edges(3, 0, 0.1, 0, 1), Edges(0, 0, math.nan, -1, -1)],
    doses=[Ablation(1, 0.5, -3.0, -2.0, 0.1, -2.5, 0.2, 0.5)],
    curves=[
        Curve("zero", "kept", [0, 2, 9], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [[0.0, 0.5]], 0.5, [0.1], 0.5),
        Curve("mean", "kept", [], [], [], [], math.nan, [], math.nan, "nothing is active"),
    ],
    contributions=[Contributions([1], [0.5], [0.01, 0.02])],
    between=[Between([1, 1], [3, 3], [1, 1], [0.5] * 2, [0.5] * 2, [0.5] * 2, [0.5] * 2, [0.5] * 2, 0)],
    disturbances=[Disturbance("a random direction", "live", [1, 2], [9, 4], *[[0.5, 0.5]] * 4)],
    prunings=[Prunings([[0.7, 0.9]], [1.0] * 4, [1.0] * 3), Prunings([], [], [], "the prompt is not known")],
    examples=[Examples(["a", "b"], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2]), Examples([], [], [], [], "too few")],
)


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path)
    found.keep_assay(found.save(GRAPH, name="one"), WHOLE)
    return found


def test_what_goes_together_is_read(store):
    found = store.assay("one")

    assert found is not None and len(found.curves) == 2


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("subsets 0 random_complement", [0.8], r"assay\.subsets\[0\] should have lists of one length"),
        ("curves 0 complement", [1.0], r"assay\.curves\[0\] should have lists of one length"),
        ("curves 1 kept", [1], r"assay\.curves\[1\]\.random_faithfulness|lists of one length"),
        ("curves 0 random_faithfulness 0", [0.0], r"assay\.curves\[0\]\.random_faithfulness"),
        ("curves 0 random_area", [0.1, 0.2], r"assay\.curves\[0\]\.random_faithfulness"),
        ("contributions 0 lost", [], r"assay\.contributions\[0\] should have lists of one length"),
        ("contributions 0 node", [4], r"assay\.contributions\[0\]\.node should be a row of 4 nodes, found 4"),
        ("between 0 measured", [0.5], r"assay\.between\[0\] should have lists of one length"),
        ("between 0 source", [1, 9], r"assay\.between\[0\]\.source should be a row of 4 nodes, found 9"),
        ("disturbances 0 stream", [0.5] * 3, r"assay\.disturbances\[0\] should have lists of one length"),
        ("examples 0 model", [0.1], r"assay\.examples\[0\] should have lists of one length"),
        ("prunings 0 node", [1.0], r"assay\.prunings\[0\] should say something of 4 nodes and 3 edges, found 1 and 3"),
        ("prunings 0 settings 0", [0.7], r"assay\.prunings\[0\]\.settings should be pairs"),
        ("edges 0 target", 4, r"assay\.edges\[0\]\.target should be a row of 4 nodes, found 4"),
        ("doses 0 node", -1, r"assay\.doses\[0\]\.node should be a row of 4 nodes, found -1"),
    ],
)
def test_lists_of_unlike_lengths_are_refused_by_file_and_place(store, capsys, at, value, said):
    path = store.find("one") / "assay.json"
    record = json.loads(path.read_text())
    inner, *places = record, *(int(each) if each.isdecimal() else each for each in at.split())
    for place in places[:-1]:
        inner = inner[place]
    inner[places[-1]] = value
    path.write_text(json.dumps(record))

    with pytest.raises(ForeignFolder, match=said) as refusal:
        store.assay("one")
    assert str(path) in str(refusal.value)
    assert main(["draw", "one", "--store", str(store.folder), "--plot", "assay", "-o", f"{store.folder}/x.svg"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_assay_that_a_graph_was_saved_with_is_held_to_the_same(tmp_path):
    store = Store(tmp_path)
    broken = replace(WHOLE, contributions=[Contributions([1, 2], [0.5], [])])
    store.save(GRAPH, assay=broken)

    with pytest.raises(ForeignFolder, match=r"contributions\[0\]"):
        store.assay(store.list()[0].id)
