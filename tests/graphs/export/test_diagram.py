"""The supernode diagram: boxes apart, edges from box to box, in words what it leaves out and what was ablated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from graphs import draw, group, prune
from graphs.assays import Ablation, Arrow, Assay, Group, Verdict
from graphs.errors import BadOption, MissingProgram
from graphs.export.diagram import compose_diagram
from graphs.export.picture import _arrange, to_dot, to_svg
from graphs.export.scene.themes import THEMES
from graphs.paths import influence
from graphs.wording import claim_arrow
from tests.worlds import graph_of, layered

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
NASTY = '<script>alert("&amp;")</script>\\n ]]>'


def world(label="texas"):
    #   <bos> 0 --1--> texas 2;  dallas 1 --3--> texas 2, --3--> texas 3, --(-2)--> other 4
    #   texas 2, 3 --2--> austin 7;  other 4 --1--> austin 7;  error 5 --1--> austin 7;  bias 6 --9--> austin 7
    edges = [(0, 2, 1), (1, 2, 3), (1, 3, 3), (1, 4, -2), (2, 7, 2), (3, 7, 2), (4, 7, 1), (5, 7, 1), (6, 7, 9)]
    graph = graph_of(edges, "token token feature feature feature error bias logit")
    nodes = graph.nodes.with_columns(
        position=np.array([0, 1, 1, 1, 1, 1, -1, 1]),
        layer=np.array([-1, -1, 0, 1, 1, 1, 1, 2]),
        influence=influence(graph),
        label=np.array(["<bos>", "dallas", label, "texas", "other", "error", "bias", "austin"], dtype=object),
    )
    return replace(graph, nodes=nodes, token_ids=(1, 2), tokens=("<bos>", "dallas"))


TEXAS = {"texas": [2, 3]}
ARROW = {"source": 2, "target": 4, "weight": 1.0}  # one more edge, texas -> other


def composed(graph=None, groups=TEXAS, **options):
    return compose_diagram(graph or world(), _arrange, groups=groups, **options)


def words_of(scene):
    return " ".join(text.words for text in scene.texts)


def boxes_of(scene):
    return {shape.tip.split(":")[0]: shape for shape in scene.shapes if shape.row is not None}


@needs_graphviz
def test_groups_are_boxes_and_edges_run_from_box_to_box():
    scene = composed()
    boxes = boxes_of(scene)
    rows = {shape.row: name for name, shape in boxes.items()}
    curves = {(rows[curve.ends[0]], rows[curve.ends[1]]): curve for curve in scene.curves if curve.ends}

    assert set(boxes) == {"<bos>", "dallas", "texas", "other", "error", "austin"}
    assert set(curves) == {
        ("<bos>", "texas"), ("dallas", "texas"), ("dallas", "other"),
        ("texas", "austin"), ("other", "austin"), ("error", "austin"),
    }  # fmt: skip
    assert "2 nodes · L0–L1 · @dallas" in words_of(scene)
    assert curves["dallas", "other"].tee and not curves["texas", "austin"].tee
    assert curves["<bos>", "texas"].colour == THEMES["light"]["faint"]
    for (source, target), curve in curves.items():
        for name, (x, y) in ((source, curve.points[0]), (target, curve.points[-1])):
            box = boxes[name]
            assert abs(x - box.x) <= box.size[0] + 2 and abs(y - box.y) <= box.size[1] + 2


@needs_graphviz
@pytest.mark.parametrize("features", [10, 60, 300])
def test_boxes_stand_apart_with_their_words_inside_and_are_25_at_most(features):
    graph = layered(features, layers=6, positions=8)
    graph = prune(replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph))), nodes=0.6, edges=0.8)

    scene = compose_diagram(graph, _arrange)

    boxes = [shape for shape in scene.shapes if shape.row is not None]
    assert 3 < len(boxes) <= 25
    for i, one in enumerate(boxes):
        assert one.size[0] <= one.x <= scene.width - one.size[0]
        for other in boxes[:i]:
            gap = np.abs([one.x - other.x, one.y - other.y]) - np.add(one.size, other.size)
            assert gap.max() > 0
    for text in scene.texts:
        left, top, right, bottom = text.box
        assert 0 <= left and right <= scene.width and 0 <= top and bottom <= scene.height
        inside = [
            box for box in boxes
            if box.x - box.size[0] <= left and right <= box.x + box.size[0] and abs(text.y - box.y) < box.size[1]
        ]  # fmt: skip
        assert text.anchor != "middle" or len(inside) == 1


@needs_graphviz
def test_errors_and_the_opening_mark_are_boxes_unless_hidden():
    every, some = boxes_of(composed()), boxes_of(composed(errors="hide", bos="hide"))

    assert {"error", "<bos>"} <= set(every)
    assert set(some) == set(every) - {"error", "<bos>"}


@needs_graphviz
def test_what_is_not_drawn_is_counted():
    said = words_of(composed(most_inputs=1, errors="hide", bos="hide"))

    assert "kept 8 of 8 nodes and 9 of 9 edges, grouped into 7 and 7, carrying 100% of the influence" in said
    assert "drawn: 4 of 6 boxes and 3 of 6 edges" in said
    assert "biases are not drawn" in said
    assert "errors are not drawn: 17% of the influence ends there" in said  # 1 of 6
    assert "not drawn: what comes from <bos>" in said
    assert "not tested by ablation" in said


@needs_graphviz
def test_a_box_says_how_many_of_its_nodes_were_ablated_and_how_many_moved_the_other_way():
    ablations = [Ablation(2, 0.3, -2.0, 1.0, 0.1, 1.0, 0.1), Ablation(4, 0.2, -1.0, -1.0, 0.1, -1.0, 0.1)]
    assay = Assay({"hash": "c0ffee"}, 1e-7, ablations, {"clean": 10.0}, [], [])

    scene = composed(assay=assay)

    assert "1 of 2 ablated" in words_of(scene) and "1 moved the other way" in words_of(scene)
    assert "ablated alone" in words_of(scene)
    assert boxes_of(scene)["texas"].outline == THEMES["light"]["failed"] != boxes_of(scene)["other"].outline


@needs_graphviz
@pytest.mark.parametrize("verdict", ["supported", "not supported", "untested"])
def test_an_edge_between_groups_that_were_tested_looks_as_it_was_judged(verdict):
    graph = world()
    joined = np.lexsort((np.append(graph.source, 2), np.append(graph.target, 4)))
    columns = {name: np.append(getattr(graph, name), last)[joined] for name, last in ARROW.items()}
    graph = replace(graph, **columns)
    figures = dict.fromkeys("predicted measured kl measured_frozen kl_frozen left p".split(), 0.0)
    lists = {"singles": [0.0, 0.0], "random": [], "random_kl": [], "alike": "", "unmatched": ""}
    arrow = Arrow("other", *[0.0] * 4, [], 0.0)
    groups = [
        Group("texas", [2, 3], **figures, **lists, arrows=[arrow]),
        Group("other", [4], **figures, **{**lists, "singles": [0.0]}, arrows=[]),
    ]
    said = Verdict(claim_arrow("texas", "other"), verdict, 0.0, "", "")
    assay = Assay({"hash": "c0ffee"}, 1e-7, [], {"clean": 10.0}, [], [said], groups=groups)

    scene = composed(graph, assay=assay, most_inputs=9)

    at = {name: shape.row for name, shape in boxes_of(scene).items()}
    (edge,) = [curve for curve in scene.curves if curve.ends == (at["texas"], at["other"])]
    others = [curve for curve in scene.curves if curve.ends not in (None, edge.ends)]
    red = THEMES["light"]["failed"]
    assert (edge.colour == red, edge.dashed) == (verdict == "not supported", verdict == "untested")
    assert others and not any(curve.dashed or curve.colour == red for curve in others)
    assert ("not there in the real model" in words_of(scene)) == (verdict == "not supported")
    assert ("could not be judged" in words_of(scene)) == (verdict == "untested")


@needs_graphviz
def test_a_graph_that_was_grouped_before_is_drawn_with_its_groups():
    assert to_svg(compose_diagram(group(world(), TEXAS), _arrange)) == to_svg(composed())


@needs_graphviz
def test_the_same_graph_gives_the_same_bytes_in_another_process(tmp_path):
    code = (
        "from tests.graphs.export.test_diagram import world, TEXAS\nfrom graphs import draw\nimport sys\n"
        "draw(world(), sys.argv[1], picture='groups', groups=TEXAS)"
    )
    here = {**os.environ, "PYTHONHASHSEED": "11", "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "y.svg")], env=here, check=True)

    draw(world(), tmp_path / "x.svg", picture="groups", groups=TEXAS)

    assert (tmp_path / "x.svg").read_bytes() == (tmp_path / "y.svg").read_bytes()


@needs_graphviz
def test_any_words_are_escaped_and_graphviz_draws_what_the_svg_has():
    scene = composed(world(label=NASTY), groups={NASTY: [2, 3]})

    svg = to_svg(scene)
    assert "<script" not in svg and ElementTree.fromstring(svg) is not None
    drawn = subprocess.run(["neato", "-n2", "-Tsvg"], input=to_dot(scene).encode(), capture_output=True, check=True)
    assert not drawn.stderr.strip()
    titles = [each.text for each in ElementTree.fromstring(drawn.stdout).iter("{http://www.w3.org/2000/svg}title")]
    assert {f"n{shape.row}" for shape in scene.shapes if shape.row is not None} <= set(titles)
    assert {f"n{c.ends[0]}->n{c.ends[1]}" for c in scene.curves if c.ends} <= set(titles)


@needs_graphviz
def test_choices_that_make_no_sense_are_refused():
    for choice in ({"most_boxes": 0}, {"most_inputs": 0}, {"least_share": 2.0}, {"theme": "pink"}, {"font": "comic"}):
        with pytest.raises(BadOption):
            composed(**choice)
    with pytest.raises(BadOption, match="no choice 'biases'"):
        draw(world(), "x.svg", picture="groups", biases=True)
    with pytest.raises(BadOption, match="no choice 'colour'"):
        draw(world(), "x.svg", colour="red")
    with pytest.raises(BadOption, match="found 'tree'"):
        draw(world(), "x.svg", picture="tree")


def test_without_graphviz_the_diagram_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingProgram, match="diagram of groups needs Graphviz"):
        draw(world(), tmp_path / "x.svg", picture="groups")


def test_the_groups_a_person_named_are_in_json_as_viewers_save_them(tmp_path):
    assert json.loads(json.dumps(group(world(), TEXAS).provenance["groups"]))[0]["nodes"] == [2, 3]
