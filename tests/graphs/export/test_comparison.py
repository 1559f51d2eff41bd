"""The picture of two graphs: every node once, at its aligned place, told apart by more than colour."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from graphs.comparing import compare
from graphs.errors import BadOption, CannotWrite, UnknownPicture
from graphs.export.comparison import draw_comparison
from graphs.export.comparison.composing import compose_comparison
from graphs.export.comparison.union import unite
from graphs.export.scene.marks import Curve
from graphs.export.scene.themes import THEMES
from tests.graphs.test_comparing import DALLAS, OAKLAND
from tests.worlds import graph_of

COLOURS = THEMES["light"]


def by_label(scene):
    """The mark of each node, by its label in the union."""
    graph = unite(DALLAS, OAKLAND, compare(DALLAS, OAKLAND)).graph
    return {str(graph.nodes.label[shape.row]): shape for shape in scene.shapes if shape.row is not None}


def test_every_node_of_either_is_there_once_and_says_in_which_it_is():
    marks = by_label(compose_comparison(DALLAS, OAKLAND))

    assert len(marks) == 4 + 3 + 4
    for label in ("in", "is", "L0/6", "L0/7"):
        assert marks[label].fill == COLOURS["high"] and marks[label].dot is None
    for label in ("dallas", "L0/5", "austin"):
        assert marks[label].fill == COLOURS["paper"] and marks[label].dot == marks[label].outline == COLOURS["raise"]
    for label in ("so", "oakland", "L0/8", "sacramento"):
        assert marks[label].fill == COLOURS["paper"] and marks[label].dot is None
        assert marks[label].outline == COLOURS["lower"]
    assert "A: L0/6 @is, 30.0%" in marks["L0/6"].tip and "B: L0/6 @is, 10.0%" in marks["L0/6"].tip


def test_the_same_places_from_the_end_share_a_column_and_the_longer_prompt_begins_before():
    scene = compose_comparison(DALLAS, OAKLAND)
    words = {text.words: text for text in scene.texts}
    marks = by_label(scene)

    assert words["so"].x < words["in"].x < words["dallas"].x < words["is"].x
    assert marks["so"].x < marks["in"].x < min(marks["dallas"].x, marks["oakland"].x) < marks["is"].x
    assert words["oakland"].y > words["dallas"].y + 10 and words["in"].y == words["is"].y == words["dallas"].y
    assert sum(text.words == "is" for text in scene.texts) == 1
    assert (words["dallas"].colour, words["oakland"].colour) == (COLOURS["raise"], COLOURS["lower"])


def test_an_edge_of_both_is_drawn_once_and_those_of_one_are_solid_or_dashed():
    scene = compose_comparison(DALLAS, OAKLAND)
    marks = by_label(scene)
    found: dict[object, Curve] = {curve.ends: curve for curve in scene.curves if curve.ends is not None}

    def edge(source, target):
        return found[marks[source].row, marks[target].row]

    assert len(found) == len([curve for curve in scene.curves if curve.ends is not None]) == 2 + 4 + 4
    assert edge("is", "L0/6").colour == COLOURS["quiet"] and not edge("is", "L0/6").dashed
    assert edge("dallas", "L0/5").colour == COLOURS["raise"] and not edge("dallas", "L0/5").dashed
    assert edge("oakland", "L0/8").colour == COLOURS["lower"] and edge("oakland", "L0/8").dashed
    assert edge("L0/6", "austin").tee and edge("L0/6", "sacramento").tee and not edge("L0/7", "austin").tee


def test_the_words_around_it_say_what_was_counted_drawn_and_left_out():
    said = [text.words for text in compose_comparison(DALLAS, OAKLAND, most_edges=2, title="Two cities").texts]

    assert said[:2] == ["Two cities", "A: in dallas is"] and "B: so in oakland is" in said
    assert "nodes: 4 in both, 3 only in A, 4 only in B; edges: 2 in both, 4 only in A, 4 only in B" in said
    assert any(words.startswith("overlap of influence 0.25") for words in said)
    assert any(words.startswith("drawn: 2 of A's 6 edges that come from no bias") for words in said)


def test_the_same_two_graphs_give_the_same_bytes_and_ids_are_there_once(tmp_path):
    files = [draw_comparison(DALLAS, OAKLAND, tmp_path / name, width_cm=8.5) for name in ("x.svg", "y.svg")]

    first, second = (file.read_bytes() for file in files)
    assert first == second and b'width="8.5cm"' in first
    ids = [element.get("id") for element in ElementTree.fromstring(first).iter() if element.get("id")]
    assert len(ids) == len(set(ids)) and "n0" in ids


def test_components_without_tokens_stand_beside_features():
    heads = graph_of([(0, 1, 1), (1, 2, 1)], "token head logit", provenance={"model": "toy"})
    nowhere = replace(heads, nodes=heads.nodes.with_columns(position=np.array([-1, -1, 0])))

    marks = [shape for shape in compose_comparison(DALLAS, nowhere).shapes if shape.row is not None]
    assert len(marks) == len(DALLAS.nodes) + 3
    assert len([s for s in compose_comparison(nowhere, nowhere).shapes if s.row is not None]) == 3


@pytest.mark.parametrize(
    ("name", "look", "error", "said"),
    [
        ("x.html", {}, UnknownPicture, "svg, .png, .pdf, .dot; found"),
        ("x.svg", {"theme": "pink"}, BadOption, "light, dark, print; found 'pink'"),
        ("x.svg", {"most_edges": -1}, BadOption, "0 or more, not -1"),
        ("no/x.svg", {}, CannotWrite, "could not be written: there is no folder"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_no_file_is_left(tmp_path, name, look, error, said):
    with pytest.raises(error, match=said):
        draw_comparison(DALLAS, OAKLAND, tmp_path / name, **look)
    assert not list(tmp_path.iterdir())
