"""A feature's card on the page: what it shows of a note, of one that lacks most, and of one that is nonsense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import draw
from tests.browser import CHROMIUM, new_page
from tests.worlds import graph_of

NASTY = "<img src=x onerror=alert(1)>"
WHOLE = {
    "label": "texas",
    "fires_on": [" houston"],
    "context": ["oil"],
    "promotes": [" austin", "\n", NASTY],
    "suppresses": [" boston"],
    "density": 0.005,
    "act_max": 8,
    "histogram": {"edges": [0, 8], "counts": [0, 90, 9, 1]},
    "examples": [
        {"tokens": ["<bos>", " in", " houston", NASTY], "activations": [0, 0.5, 8, 0], "peak": 2},
        {"tokens": [" dallas", "\n"], "activations": [5, 0], "peak": 0},
    ],
}
OLD = {"label": "texas", "fires_on": ["houston"], "density": 0.5}
NONSENSE = {
    "label": 3,
    "fires_on": "houston",
    "promotes": {"a": 1},
    "density": "often",
    "act_max": "NaN",
    "histogram": {"edges": [1], "counts": "many"},
    "examples": [None, 3, {"tokens": ["a"]}, {"tokens": ["a", "b"], "activations": [1, "x"]}, {"tokens": 1}],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):
    """token dallas --2--> three features --1--> logit austin, each with another note; a page of it in Chromium."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: nobody looked at the page")
    edges = [(0, 1, 2), (0, 2, 2), (0, 3, 2), (0, 4, 2), (1, 5, 1), (2, 5, 1), (3, 5, 1), (4, 5, 1)]
    notes = {"0/1": WHOLE, "0/2": OLD, "0/3": NONSENSE}
    graph = graph_of(
        edges, "token feature feature feature feature logit",
        token_ids=(7,), tokens=("dallas",), provenance={"feature_notes": notes},
    )  # fmt: skip
    nodes = graph.nodes.with_columns(
        layer=np.array([-1, 0, 0, 0, 0, 1]),
        activation=np.array([1, 5, 2, 2, 2, 0.5]),
        label=np.array(["dallas", "L0/1", "texas", "L0/3", "L0/4", "austin"], dtype=object),
    )
    path = draw(replace(graph, nodes=nodes), tmp_path_factory.mktemp("page") / "page.html")
    with new_page(tmp_path_factory.mktemp("browser")) as found:
        faults: list[str] = []
        found.on("pageerror", lambda error: faults.append(str(error)))
        found.on("dialog", lambda dialog: faults.append(dialog.message))
        yield lambda row: look(found, f"{path.as_uri()}#node={row}", faults)


def look(page, address: str, faults: list[str]):
    page.goto(address)
    page.reload()
    assert not faults and page.locator("#fault").inner_text() == ""
    return page.locator("#panel")


@pytest.mark.slow
def test_a_card_shows_all_that_its_note_tells(page):
    panel = page(1)
    facts = dict(zip(*(panel.locator(f"dl.facts {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True))
    assert facts["label"] == "texas" and facts["active on"] == "0.50% of tokens" and facts["at most"] == "8"
    assert facts["fires on"] == "houston" and facts["seen among"] == "oil"

    bars = panel.locator(".bins rect").all()
    assert [bar.locator("title").text_content() for bar in bars] == [
        "2 to 4: 90 of 100 tokens", "4 to 6: 9 of 100 tokens", "6 to 8: 1 of 100 tokens",
    ]  # fmt: skip
    heights = [float(bar.get_attribute("height")) for bar in bars]
    assert heights[1] / heights[0] == pytest.approx(np.log1p(9) / np.log1p(90))
    mark = panel.locator(".bins .here")
    assert float(mark.get_attribute("x1")) == pytest.approx(320 * 5 / 8)
    # Of the 9 in its own bin none is known to be weaker.
    assert panel.locator(".bins figcaption").inner_text().split("\n") == ["0", "here 5, above 90% of 100 tokens", "8"]

    first, second = panel.locator(".examples li").all()
    assert first.text_content() == f"<bos> in houston{NASTY}" and second.text_content() == " dallas↵"
    assert first.locator("strong").all_inner_texts() == [" houston"] and first.locator(".shaded").count() == 2
    shades = [each.get_attribute("style") for each in first.locator(".shaded").all()]
    assert "--raise) 15%" in shades[0] and "--raise) 60%" in shades[1]
    assert panel.locator(".effects div").all_inner_texts() == [f"promotes\naustin\n↵\n{NASTY}", "suppresses\nboston"]
    assert panel.locator("img").count() == 0


@pytest.mark.slow
def test_a_card_of_an_old_note_shows_what_there_is(page):
    words = page(2).inner_text()
    assert "50.00% of tokens" in words and "houston" in words
    assert page(2).locator(".bins, .examples, .effects").count() == 0
    assert "label" not in page(2).locator("dl.facts dt").all_inner_texts()  # it is the node's name already


@pytest.mark.slow
def test_a_note_that_is_nonsense_harms_nothing(page):
    assert page(3).locator(".bins, .examples, .effects").count() == 0
    assert "What it does elsewhere" not in page(4).inner_text()


@pytest.mark.slow
def test_on_a_narrow_window_nothing_of_the_card_stands_out_of_it(page):
    panel = page(1)
    panel.page.set_viewport_size({"width": 320, "height": 700})
    edge = panel.bounding_box()["width"]
    for each in panel.locator(".bins svg, .bins figcaption, .examples li, .effects li").all():
        box = each.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= edge + 1
