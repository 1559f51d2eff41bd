"""Pictures of a given width: letters that can be read, all nodes on the paper, files as wide as was asked."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from graphs import draw
from graphs.assays import Ablation, Assay
from graphs.export.diagram import compose_diagram
from graphs.export.heatmap import compose_heatmap
from graphs.export.layout import PAGE, TALLEST, place_nodes
from graphs.export.lettering import kept_apart, width_of
from graphs.export.picture import _arrange, render, to_dot
from graphs.export.plots import compose_plots
from graphs.export.scene import compose
from graphs.export.scene.options import READABLE
from graphs.paths import influence
from tests.graphs.export.test_heatmap import heat
from tests.graphs.export.test_layout import scattered
from tests.graphs.export.test_picture_choices import rows_of, words_of, world
from tests.worlds import graph_of, layered

WIDTHS = [8.5, 17.0]
needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def crowd(tokens=12, features=240, layers=24):
    graph = layered(features, layers=layers, positions=tokens)
    return replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph)))


def least_letter(scene):
    """In points, on paper."""
    return min(text.size for text in scene.texts) * scene.width_cm / 2.54 * 72 / scene.width


@pytest.mark.parametrize("width_cm", WIDTHS)
@pytest.mark.parametrize("graph", [world(), crowd()], ids=["few", "many"])
def test_letters_are_as_large_on_paper_as_can_be_read_and_every_node_is_there(graph, width_cm):
    scene = compose(graph, width_cm=width_cm)

    assert least_letter(scene) >= READABLE - 1e-6
    assert rows_of(scene) == rows_of(compose(graph))
    assert scene.height < 2.6 * scene.width
    for shape in scene.shapes:
        assert shape.radius <= shape.x <= scene.width - shape.radius
    boxes = [text.box for text in scene.texts]
    for at, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and right <= scene.width and bottom <= scene.height
        assert not any(left < c and a < right and top < d and b < bottom for a, b, c, d in boxes[:at])


@pytest.mark.parametrize("prompt", ["首都" * 60, "family 👨\u200d👩\u200d👧" * 12, "a" * 100])
def test_a_prompt_without_spaces_is_broken_into_lines_that_fit(prompt):
    scene = compose(replace(world(), provenance={"prompt": prompt}), width_cm=8.5)
    title = [text.words for text in scene.texts if text.bold]

    assert least_letter(scene) >= READABLE - 1e-6
    assert len(title) > 1 and prompt.replace(" ", "").startswith("".join(title).replace(" ", "").rstrip("…"))
    assert not any("\u200d" in (line[0], line[-1]) for line in title)


def test_of_many_tokens_those_are_named_that_have_room_the_most_influential_first():
    graph = replace(crowd(tokens=120, features=30, layers=4), tokens=tuple(f" word{at}" for at in range(120)))
    scene = compose(graph, width_cm=8.5)
    boxes = [text.box for text in scene.texts]
    best = graph.nodes.where("token")[np.argmax(graph.nodes.influence[graph.nodes.where("token")])]

    assert "of 120 tokens are named" in words_of(scene)
    assert graph.tokens[graph.nodes.position[best]].strip() in [text.words for text in scene.texts]
    for at, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and right <= scene.width
        assert not any(left < c and a < right and top < d and b < bottom for a, b, c, d in boxes[:at])


def test_without_a_width_a_crowd_is_as_wide_as_it_needs():
    assert compose(crowd()).width > 2 * compose(crowd(), width_cm=8.5).width


@settings(deadline=None, max_examples=30)
@given(scattered(), strategies.sampled_from([150.0, 400.0]))
def test_a_layout_fits_its_width_with_nodes_apart_and_in_order(graph_and_room, widest):
    graph, room = graph_and_room
    layout = place_nodes(graph, room=room, widest=widest)

    assert layout.width <= widest + 1e-6
    assert layout.height <= min(TALLEST * widest, PAGE) + 1e-6
    assert (layout.x >= 0).all() and (layout.x <= layout.width).all() and (layout.y <= layout.height).all()
    assert (np.diff(layout.column_x) > 0).all()
    places = set(zip(layout.x.round(6).tolist(), layout.y.round(6).tolist(), strict=True))
    assert len(places) == len(graph.nodes)


def test_nodes_and_edges_that_are_squeezed_are_smaller_and_thinner():
    wide, narrow = compose(crowd()), compose(crowd(), width_cm=8.5)

    radius = [max(shape.radius for shape in scene.shapes if shape.row is not None) for scene in (wide, narrow)]
    width = [max(curve.width for curve in scene.curves if curve.ends) for scene in (wide, narrow)]
    assert radius[1] / radius[0] == pytest.approx(width[1] / width[0])
    assert 0.4 <= radius[1] / radius[0] < 0.9


def test_edges_between_squeezed_layers_stay_between_them():
    scene = compose(crowd(), width_cm=8.5)
    layer = crowd().nodes.layer

    for curve in scene.curves:
        if curve.ends and layer[curve.ends[0]] < layer[curve.ends[1]]:
            heights = [y for _, y in curve.points]
            assert max(heights) <= heights[0] + 1e-6 and min(heights) >= heights[-1] - 1e-6


def test_where_rows_are_squeezed_no_label_lies_on_another():
    #   token 0 ---> feature 1 ---> feature 2 ---> … ---> logit 71, each a layer above the other
    graph = graph_of([(row, row + 1, 1) for row in range(71)], " ".join(["token", *["feature"] * 70, "logit"]))
    named = np.array([f"number {row}" for row in range(72)], dtype=object)
    nodes = graph.nodes.with_columns(label=named, layer=np.arange(-1, 71), position=np.zeros(72, dtype=int))
    scene = compose(replace(graph, nodes=nodes, token_ids=(1,), tokens=("dallas",)), width_cm=12.0)

    boxes = [text.box for text in scene.texts if text.row is not None]
    assert boxes
    for at, (left, top, right, bottom) in enumerate(boxes):
        assert not any(left < c and a < right and top < d and b < bottom for a, b, c, d in boxes[:at])


def test_of_many_layers_those_are_named_that_have_room():
    scene = compose(crowd(layers=40, features=200), width_cm=8.5)

    named = [text for text in scene.texts if re.fullmatch(r"L\d+|tokens|logits", text.words) and text.x < 30]
    assert 10 < len(named) < 42
    heights = sorted(text.y for text in named)
    assert min(np.diff(heights)) >= 10


@needs_graphviz
def test_of_a_narrow_diagram_fewer_boxes_are_drawn_and_counted():
    narrow, wide = (compose_diagram(crowd(), _arrange, width_cm=width) for width in (8.5, 40.0))

    assert least_letter(narrow) >= READABLE - 1e-6
    assert 4 <= len(rows_of(narrow)) < len(rows_of(wide)) <= 25
    assert f"drawn: {len(rows_of(narrow))} of " in words_of(narrow)


def test_charts_stand_below_each_other_where_they_have_no_room_side_by_side():
    tried = [Ablation(3, 0.5, -2.5, -0.1, 0.1, -2.5, 0.1)]
    assay = Assay({}, 1e-7, tried, {}, [], [])
    narrow, wide = (compose_plots(world(), ["predictions"], assay=assay, width_cm=width) for width in (8.5, 30.0))

    for scene, apart in ((narrow, False), (wide, True)):
        live, held = (
            next(each for each in scene.texts if each.words == f"attention {how}") for how in ("live", "held")
        )
        assert (live.y == held.y) == apart and (live.x < held.x) == apart
        assert least_letter(scene) >= READABLE - 1e-6


def test_a_heat_map_without_room_for_numbers_has_none_and_a_ranked_one_fewer_columns():
    values = np.linspace(-1, 1, 12 * 20).reshape(12, 20)
    names = [f"t{column}" for column in range(20)]
    map_of = {ranked: heat(values, columns=names, ranked=ranked, across="neurons") for ranked in (False, True)}

    wide, narrow = (compose_heatmap(map_of[False], width_cm=width) for width in (30.0, 8.5))
    assert ".99" in words_of(wide) and ".99" not in words_of(narrow) and "−" in words_of(narrow)
    assert len(wide.shapes) == len(narrow.shapes)
    ranked = compose_heatmap(map_of[True], width_cm=8.5)
    drawn = sum(shape.about is not None for shape in ranked.shapes) // 12
    assert 3 < drawn < 20 and f"of each row the {drawn} strongest of 20 are drawn" in words_of(ranked)
    assert 7.0 * 8.5 / 2.54 * 72 / ranked.width >= READABLE


@needs_graphviz
@pytest.mark.parametrize("zone", ["UTC0", "EST5", "<+14>-14"])
def test_a_pdf_does_not_say_when_or_where_it_was_made(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    pdf = render(compose(world()), ".pdf")

    assert re.findall(rb"/CreationDate *\(([^)]*)\)", pdf) == [b"D:20000101000000Z"]
    (at,) = re.findall(rb"startxref\s+(\d+)", pdf)  # the places that a PDF tells of its own parts are right
    assert re.match(rb"xref|\d+ \d+ obj", pdf[int(at) :])


@needs_graphviz
def test_a_pdf_is_as_wide_as_was_asked_and_a_png_has_300_dots_to_the_inch(tmp_path):
    pdf = draw(world(), tmp_path / "x.pdf", width_cm=8.5).read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    png = draw(world(), tmp_path / "x.png", width_cm=8.5).read_bytes()

    assert box is not None and abs(float(box[1]) - 8.5 / 2.54 * 72) < 2
    assert abs(int.from_bytes(png[16:20]) - 8.5 / 2.54 * 300) < 4
    assert b"/CreationDate (D:20000101000000Z)" in pdf
    bare = compose(world())
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", render(bare, ".pdf"))
    assert box is not None and abs(float(box[1]) - bare.width) < 2


def test_in_dot_strong_edges_are_solid_and_faint_ones_let_others_through():
    scene = compose(world())
    for curve in scene.curves:
        if curve.ends:
            begins = f"n{curve.ends[0]} -> n{curve.ends[1]} "
            (line,) = (line for line in to_dot(scene).splitlines() if line.startswith(begins))
            assert (f'color="{curve.colour}{round(255 * curve.opacity):02x}"' in line) == (curve.opacity < 0.5)
    assert {curve.opacity >= 0.5 for curve in scene.curves} == {False, True}


def test_components_stand_at_no_token_so_the_prompt_takes_no_columns():
    #   input 0 --1--> m0 1 --2--> answer 2, which alone stands at a token, the last
    graph = graph_of([(0, 1, 1), (1, 2, 2)], "token mlp logit")
    nodes = graph.nodes.with_columns(
        position=np.array([-1, -1, 2]),
        layer=np.array([-1, 0, 1]),
        label=np.array(["input", "m0", "austin"], dtype=object),
    )
    graph = replace(
        graph,
        nodes=nodes,
        token_ids=(1, 2, 3),
        tokens=("<bos>", "dallas", "is"),
        provenance={"prompt": "<bos> dallas is", "model": "world", "transcoders": ""},
    )
    scene = compose(graph)
    words = [text.words for text in scene.texts]

    assert words[:2] == ["dallas is", "→ austin 100% · model world"]
    assert not {"<bos>", "dallas", "is"} & set(words) and {"input", "m0"} <= set(words)
    assert len({shape.x for shape in scene.shapes if shape.row is not None}) == 1


def test_a_long_prompt_gives_its_columns_less_room():
    long, short = (compose(layered(40, layers=3, positions=count)).width for count in (160, 40))

    assert long < 2.5 * short


def test_words_from_right_to_left_keep_their_figure_beside_them():
    assert kept_apart("باريس").strip("\u200e\u2068\u2069") == "باريس" != kept_apart("باريس")
    assert kept_apart("paris") == "paris"
    nodes = world().nodes
    label = np.where(nodes.kind == "logit", "باريس", nodes.label.astype(str)).astype(object)
    scene = compose(replace(world(), nodes=nodes.with_columns(label=label)))

    assert [text.words for text in scene.texts if text.row == 6] == ["\u200e\u2068باريس\u2069 100%"]
    assert "\ufffd" not in words_of(scene)


def test_marks_that_take_no_room_are_not_counted():
    assert width_of("a\u200d\u2068\u0301b\ufe0f", 10) == width_of("ab", 10)


def test_a_logit_that_is_a_blank_is_shown_as_one():
    nodes = world().nodes
    for label, said in ((" ", '"␣" 100%'), ("", f"token {nodes.feature[6]} 100%")):
        named = nodes.with_columns(label=np.where(nodes.kind == "logit", label, nodes.label.astype(str)).astype(object))
        scene = compose(replace(world(), nodes=named))
        assert [text.words for text in scene.texts if text.row == 6] == [said]


def test_answers_that_differ_by_a_space_only_are_quoted_so_that_it_shows():
    two = graph_of([(0, 1, 2), (0, 2, 1), (0, 3, 1)], "token logit logit logit")
    labels = np.array(["a", "grand", " grand", " grandly"], dtype=object)
    scene = compose(replace(two, nodes=two.nodes.with_columns(label=labels, activation=np.array([1, 0.83, 0.03, 0.5]))))

    told = {text.row: text.words for text in scene.texts if text.row in (1, 2, 3)}
    assert told == {1: '"grand" 83%', 2: '" grand" 3%', 3: "grandly 50%"}
