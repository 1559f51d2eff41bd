"""The picture: every node on it, nothing on top of anything, and in words what it leaves out and what was tested."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from graphs import draw
from graphs.assays import Ablation, Assay, Verdict
from graphs.errors import BadOption, MissingProgram
from graphs.export import picture
from graphs.export.picture import to_dot, to_svg
from graphs.export.scene import compose
from graphs.export.scene.themes import THEMES
from graphs.paths import edge_influence
from graphs.pruning import prune
from tests.worlds import graph_of, graphs, layered

NASTY = '<script>alert("&amp;")</script>\\n\\l \x00\x1b\ud800\ufffe\n]]>'
needs_graphviz = pytest.mark.skipif(shutil.which("neato") is None, reason="Graphviz is not installed")


def small(**parts):
    #   <bos> 0 --1--> feature 2 --2--> logit 5;  dallas 1 --3--> feature 2, --(-4)--> feature 3 --1--> logit 5
    #   bias 4 --9--> logit 5
    graph = graph_of(
        [(0, 2, 1), (1, 2, 3), (1, 3, -4), (2, 5, 2), (3, 5, 1), (4, 5, 9)], "token token feature neuron bias logit"
    )
    nodes = graph.nodes.with_columns(
        position=np.array([0, 1, 1, 1, -1, 1]),
        layer=np.array([-1, -1, 0, 1, 1, 2]),
        influence=np.array([0.2, 0.9, 0.7, 0.3, 0.0, 0.0]),
        label=np.array(["<bos>", "dallas", "texas", "L1/3", "decoder bias L1", "austin"], dtype=object),
    )
    return replace(graph, **{"nodes": nodes, "token_ids": (1, 2), "tokens": ("<bos>", "dallas"), **parts})


def assayed(graph):
    return Assay(
        registration={"hash": "c0ffee"},
        conservation=1e-7,
        ablations=[Ablation(2, 0.7, 1.0, 0.9, 0.1, 0.9, 0.1)],
        statistics={},
        subsets=[],
        verdicts=[
            Verdict("inputs sum", "supported", 1e-7, "≤ 1e-5", "a law"),
            Verdict("signs are right", "not supported", 0.4, "80% of signs", "1000 shuffles"),
            Verdict("doses are right", "untested", float("nan"), "slope", "none"),
        ],
    )


@strategies.composite
def labelled(draw):
    """Any small graph over several columns and layers, with labels of every length."""
    graph = draw(graphs(most_inner=40))
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32 - 1)))
    count, columns = len(graph.nodes), draw(strategies.integers(1, 12))
    inner = np.where(graph.nodes.kind == "logit", 5, rng.integers(0, 5, count))
    words = ["", "L0/3", "x", "say a word", "Wi" * 30, "東京タワー", "a label of some length"]
    nodes = graph.nodes.with_columns(
        position=rng.integers(0, columns, count),
        layer=np.where(graph.nodes.kind == "token", -1, inner),
        influence=rng.random(count),
        label=np.array([words[i] for i in rng.integers(0, len(words), count)], dtype=object),
    )
    tokens = tuple(words[i] for i in rng.integers(0, len(words), columns))
    return replace(graph, nodes=nodes, token_ids=tuple(range(columns)), tokens=tokens)


def words_of(scene):
    return " ".join(text.words for text in scene.texts)


def overlap(one, other):
    return (
        one[0] < other[2] - 1e-6 and other[0] < one[2] - 1e-6 and one[1] < other[3] - 1e-6 and other[1] < one[3] - 1e-6
    )


@settings(deadline=None, max_examples=40)
@given(labelled())
def test_every_node_is_on_the_picture_and_no_words_lie_on_words_or_nodes(graph):
    scene = compose(graph)

    drawn = [shape.row for shape in scene.shapes if shape.row is not None]
    assert sorted(drawn) == np.flatnonzero(graph.nodes.kind != "bias").tolist()
    boxes = [text.box for text in scene.texts]
    for i, box in enumerate(boxes):
        assert not any(overlap(box, other) for other in boxes[:i])
        assert 0 <= box[0] and box[2] <= scene.width and 0 <= box[1] and box[3] <= scene.height
        for shape in scene.shapes:
            r = shape.radius
            assert not overlap(box, (shape.x - r, shape.y - r, shape.x + r, shape.y + r)), scene.texts[i]
    for i, one in enumerate(scene.shapes):
        for other in scene.shapes[:i]:
            assert np.hypot(one.x - other.x, one.y - other.y) >= one.radius + other.radius


def test_logits_and_what_has_a_name_are_labelled_before_what_has_a_number():
    texts = {text.row: text for text in compose(small()).texts if text.row is not None}

    assert [texts[row].words for row in (5, 2, 3)] == ["austin 100%", "texas", "L1/3"]
    assert texts[3].size < texts[2].size


def test_a_large_graph_is_drawn_with_its_most_influential_labels():
    graph = layered(400, layers=8, positions=12)
    names = np.array([f"feature number {i}" for i in range(len(graph.nodes))], dtype=object)
    influence = np.random.default_rng(0).random(len(names))
    graph = replace(graph, nodes=graph.nodes.with_columns(label=names, influence=influence))

    labelled = [text.row for text in compose(graph, most_edges=50).texts if text.row is not None]

    assert set(graph.nodes.where("logit")) <= set(labelled)
    features = [row for row in graph.nodes.where("feature") if row in set(labelled)]
    assert 8 <= len(features) < 200
    # The named nodes that can have a label; the fifteen first have one in any case.
    order = sorted(graph.nodes.where("feature"), key=lambda row: -influence[row])
    assert set(order[:15]) <= set(features) <= set(order[:200])


def test_a_name_goes_before_numbers_of_more_influence():
    graph = layered(90, layers=4, positions=6)
    named = int(graph.nodes.where("feature")[-1])
    label = np.array(["paris" if row == named else "" for row in range(len(graph.nodes))], dtype=object)
    influence = np.linspace(1.0, 0.1, len(label))

    scene = compose(replace(graph, nodes=graph.nodes.with_columns(label=label, influence=influence)))

    assert "paris" in {text.words for text in scene.texts if text.row == named}


def test_in_a_crowd_of_units_without_names_only_those_are_numbered_that_have_room_beside_them():
    scene = compose(layered(120, layers=4, positions=6))

    labels = [text for text in scene.texts if text.row is not None and text.words.startswith("L")]
    assert 0 < len(labels) < 60
    for i, text in enumerate(labels):
        assert not any(overlap(text.box, other.box) for other in labels[:i])
        for shape in scene.shapes:
            r = shape.radius
            assert not overlap(text.box, (shape.x - r, shape.y - r, shape.x + r, shape.y + r))


def test_the_same_graph_gives_the_same_bytes_in_another_process(tmp_path):
    code = (
        "from tests.graphs.export.test_picture import small, assayed\n"
        "from graphs.export.picture import to_svg\nfrom graphs.export.scene import compose\nimport sys\n"
        "sys.stdout.buffer.write(to_svg(compose(small(), assay=assayed(small()))).encode())"
    )
    here = {**os.environ, "PYTHONHASHSEED": "11", "PYTHONPATH": os.getcwd()}

    other = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, check=True).stdout

    assert draw(small(), tmp_path / "x.svg", assayed(small())).read_bytes() == other


@pytest.mark.parametrize("theme", THEMES)
def test_any_words_are_escaped_and_the_file_reaches_for_nothing(tmp_path, theme):
    nodes = small().nodes
    graph = small(
        nodes=nodes.with_columns(label=np.array([NASTY] * len(nodes), dtype=object)),
        tokens=("<script>", NASTY),
        provenance={"prompt": NASTY, "model": NASTY},
    )

    svg = draw(graph, tmp_path / "x.svg", theme=theme).read_text(encoding="utf-8")

    root = ElementTree.fromstring(svg)
    inside = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<script>" in inside
    assert "<script" not in svg
    assert any("↵" in words for words in inside)
    tags = {element.tag.split("}")[1] for element in root.iter()}
    assert tags <= {"svg", "g", "title", "rect", "path", "circle", "polygon", "text"}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not any("href" in name or name.startswith("on") for name in attributes)
    assert svg.count("http") == 1 and "url(" not in svg


def test_shapes_say_what_kind_a_node_is():
    graph = graph_of([(0, 3, 1), (1, 3, 1), (2, 3, 1), (3, 4, 1)], "token error unselected feature logit")

    shapes = {shape.row: shape for shape in compose(graph).shapes if shape.row is not None}

    assert [shapes[row].shape for row in range(5)] == ["square", "diamond", "box", "circle", "square"]
    assert shapes[1].fill == shapes[2].fill == THEMES["light"]["error"] != shapes[3].fill


def test_only_the_strongest_edges_are_drawn_weakest_first_and_the_caption_counts_them():
    graph = prune(layered(60, layers=4, positions=4), nodes=0.9)
    carried = edge_influence(graph)

    scene = compose(graph, most_edges=25)

    drawn = [curve.ends for curve in scene.curves if curve.ends]
    pairs = list(zip(graph.source.tolist(), graph.target.tolist(), strict=True))
    strength = [carried[pairs.index(ends)] for ends in drawn]
    assert len(drawn) == 25
    assert strength == sorted(strength)
    assert min(strength) >= np.sort(carried)[-25]
    share = np.sort(carried)[-25:].sum() / carried.sum()
    assert f"the 25 strongest of {len(pairs):,} edges, {share:.0%} of what they carry" in words_of(scene)


def test_an_edge_shows_its_share_by_width_its_sign_by_colour_and_head_and_ends_at_its_nodes():
    scene = compose(small())
    curves = {curve.ends: curve for curve in scene.curves if curve.ends}
    places = {shape.row: shape for shape in scene.shapes}

    assert curves[1, 3].tee and curves[1, 3].colour == THEMES["light"]["lower"]
    assert not curves[2, 5].tee and curves[2, 5].colour == THEMES["light"]["raise"]
    # One third of what arrives at the logit, two thirds, all of what arrives at feature 3.
    assert curves[3, 5].width < curves[2, 5].width <= curves[1, 3].width
    for (source, target), curve in curves.items():
        (x0, y0), (x1, y1) = curve.points[0], curve.points[-1]
        assert (x0, x1) == (places[source].x, places[target].x)
        assert np.isclose(y0, places[source].y - places[source].radius)
        assert np.isclose(y1, places[target].y + places[target].radius)


def test_an_edge_goes_around_a_node_that_stands_in_its_way():
    #   token 0 ---> feature 1 ---> logit 2, all in one column, and token 0 ---> logit 2 around it
    graph = graph_of([(0, 1, 1), (0, 2, 1), (1, 2, 1)], "token feature logit")
    scene = compose(replace(graph, nodes=graph.nodes.with_columns(layer=np.array([-1, 0, 1]))))
    curves = {curve.ends: curve for curve in scene.curves if curve.ends}
    feature = next(shape for shape in scene.shapes if shape.row == 1)
    start, first, second, end, _ = (np.array(point) for point in curves[0, 2].points)

    nearest = min(
        np.hypot(*((1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3 * end
                 - (feature.x, feature.y)))
        for t in np.linspace(0, 1, 200)
    )  # fmt: skip

    assert nearest > feature.radius
    assert {point[0] for point in curves[0, 1].points} == {feature.x}


def test_biases_are_counted_not_drawn_and_the_fan_of_the_opening_mark_is_grey():
    scene = compose(small())
    curves = {curve.ends: curve for curve in scene.curves if curve.ends}

    assert (4, 5) not in curves and len(curves) == 5
    assert "1 bias node is not drawn" in words_of(scene)
    assert curves[0, 2].colour == THEMES["light"]["faint"]
    # Of the goal, 2/3 comes through feature 2 and 1/4 of that from <bos>; all else from dallas.
    assert "grey: what comes from <bos>, 17% of what ends in tokens" in words_of(scene)
    assert "grey" not in words_of(compose(small(tokens=("the", "dallas"))))


def test_the_caption_says_what_was_pruned_and_what_that_costs():
    graph = layered(60, layers=4, positions=4)
    pruned = prune(graph, nodes=0.7)
    kept = pruned.kept

    words = words_of(compose(pruned))

    assert f"kept {len(pruned.nodes):,} of {len(graph.nodes):,} nodes" in words
    assert f"of {len(graph.source):,} edges" in words
    assert f"replacement {kept['replacement_before']:.2f} ({kept['replacement_after']:.2f} after pruning)" in words
    assert f"completeness {kept['completeness_before']:.2f} ({kept['completeness_after']:.2f} after pruning)" in words


def test_what_was_tested_is_told_from_what_was_not():
    graph = small()
    scene = compose(graph, assay=assayed(graph))
    shapes = {shape.row: shape for shape in scene.shapes if shape.row is not None}
    colours = {text.words: text.colour for text in scene.texts}

    assert shapes[2].dot and not shapes[3].dot
    assert "assay: 1 supported, 1 not supported, 1 untested, on this prompt; registered as c0ffee" in colours
    assert colours["not supported: signs are right: 0.4, wanted 80% of signs"] == THEMES["light"]["failed"]
    assert colours["untested: doses are right: wanted slope"] == THEMES["light"]["quiet"]
    assert "not ablated alone" in colours


def test_of_many_claims_that_failed_the_first_are_told_and_the_others_counted():
    many = [Verdict(f"claim {number}", "not supported", 0.1, "more", "none") for number in range(9)]
    words = words_of(compose(small(), assay=Assay({}, 1e-7, [], {}, [], many)))
    assert words.count("not supported: claim") == 6 and "not supported: 3 more" in words
    assert "0 supported, 9 not supported" in words


def test_figures_are_as_their_bars_are_and_a_circuit_says_what_it_keeps():
    graph = small()
    verdict = Verdict("needed", "not supported", 0.274, "≤ 20% of the difference survives", "none")
    assert "not supported: needed: 27.4%, wanted ≤ 20% of the difference survives" in words_of(
        compose(graph, assay=replace(assayed(graph), verdicts=[verdict]))
    )
    made = {"circuit": {"m0->logits": 1.0}, "options": {"metric": "kl", "ablation": "zero"}, "pairs": 1}
    made["metric"] = {"clean": 3.0, "corrupted": -1.0, "circuit": 2.0}
    said = words_of(compose(replace(graph, provenance=graph.provenance | made)))
    assert "75.0% of the difference kept" in said and "not tested by ablation" not in said


def test_a_graph_that_was_not_tested_says_so():
    scene = compose(small())

    assert "not tested by ablation" in words_of(scene)
    assert not any(shape.dot for shape in scene.shapes)


def test_a_theme_or_a_number_of_edges_that_makes_no_sense_is_refused():
    with pytest.raises(BadOption, match="light, dark, print"):
        compose(small(), theme="pink")
    with pytest.raises(BadOption, match="0 or more"):
        compose(small(), most_edges=-1)


def test_a_title_takes_the_place_of_the_prompt():
    assert compose(small(), title="Figure 1").texts[0].words == "Figure 1"
    assert compose(small(provenance={"prompt": "<bos>dallas"})).texts[0].words == "dallas"
    assert compose(small()).texts[0].words == "dallas"


def test_a_model_from_a_folder_is_called_by_the_last_name_of_its_path():
    words = compose(
        small(provenance={"model": "/home/someone/models/tiny/", "transcoders": "world/cross-layer"})
    ).texts[1]

    assert words.words.endswith("model tiny · transcoders world/cross-layer")


def test_without_graphviz_the_user_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingProgram, match="apt install graphviz"):
        draw(small(), tmp_path / "x.png")
    assert draw(small(), tmp_path / "x.svg").exists()
    assert draw(small(), tmp_path / "x.dot").exists()


@needs_graphviz
@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_graphviz_draws_the_kinds_that_need_it(tmp_path, suffix, begins):
    assert draw(small(), tmp_path / f"x{suffix}", assayed(small())).read_bytes().startswith(begins)


@needs_graphviz
def test_graphviz_puts_the_same_marks_where_the_svg_has_them():
    nodes = small().nodes
    odd = 'a "quoted" \\n &lt; <b> label'
    graph = small(nodes=nodes.with_columns(label=np.array([*nodes.label[:2], odd, *nodes.label[3:]], dtype=object)))
    scene = compose(graph, assay=assayed(graph))

    drawn = subprocess.run(
        ["neato", "-n2", "-Tsvg"], input=to_dot(scene).encode(), capture_output=True, check=True
    )  # fmt: skip

    assert not drawn.stderr.strip()
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(drawn.stdout)
    width, height = (float(value) for value in root.get("viewBox").split()[2:])
    assert abs(width - scene.width) < 2 and abs(height - scene.height) < 2
    words = [element.text.replace("\u00a0", " ") for element in root.iter(f"{space}text")]
    assert sorted(words) == sorted(text.words for text in scene.texts)
    found = {
        group.find(f"{space}title").text: group
        for group in root.iter(f"{space}g")
        if group.get("class") in ("node", "edge")
    }
    for shape in scene.shapes:
        if shape.row is not None and shape.shape == "circle":
            ellipse = next(found[f"n{shape.row}"].iter(f"{space}ellipse"))
            assert abs(float(ellipse.get("cx")) - shape.x) < 1
            assert abs(float(ellipse.get("cy")) + scene.height - shape.y) < 1
            assert ellipse.get("fill") == shape.fill
    assert {f"n{c.ends[0]}->n{c.ends[1]}" for c in scene.curves if c.ends} <= set(found)


def test_the_svg_names_nodes_and_edges_by_their_rows():
    root = ElementTree.fromstring(to_svg(compose(small())))

    names = {element.get("id") for element in root.iter()} - {None}

    assert {name for name in names if name[0] in "ne"} == {
        "n0",
        "n1",
        "n2",
        "n3",
        "n5",
        "e0-2",
        "e1-2",
        "e1-3",
        "e2-5",
        "e3-5",
    }


def test_a_notebook_shows_a_graph_and_says_of_a_large_one_what_to_do(monkeypatch):
    graph = small(tokens=("<bos>", "<script>"), provenance={"prompt": "<script>alert(1)</script>"})

    assert graph._repr_svg_() == to_svg(compose(graph))
    assert graph._repr_svg_() in graph._repr_html_() and "<script" not in graph._repr_html_()

    monkeypatch.setattr(picture, "MOST_SHOWN", 3)
    assert graph._repr_svg_() is None
    assert "prune(graph)" in graph._repr_html_() and "<script" not in graph._repr_html_()


def test_the_heading_names_the_feature_that_a_graph_explains():
    graph = graph_of([(0, 2, 1), (1, 2, 3)], "token token feature", goal=[0, 0, 1])
    nodes = graph.nodes.with_columns(
        position=np.array([0, 1, 1]),
        layer=np.array([-1, -1, 0]),
        label=np.array(["a", "dallas", "texas"], dtype=object),
    )

    svg = to_svg(compose(replace(graph, nodes=nodes, token_ids=(1, 2), tokens=("a", "dallas"))))

    assert "→ texas @dallas" in svg


def test_a_contrast_is_told_by_its_lead_and_not_by_a_probability():
    graph = small(provenance={"against": [9]})

    svg = to_svg(compose(graph))

    assert f"austin {graph.nodes.value[5]:+.1f} logits" in svg
    assert "austin 100%" not in svg and "austin 100%" in to_svg(compose(small()))
