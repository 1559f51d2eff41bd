"""An edge that is clicked says what runs along it, and what the assay measured beside what the graph predicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from graphs import draw
from graphs.assays import Assay, Between, Edges
from graphs.heads import Heads
from tests.browser import CHROMIUM, new_page
from tests.graphs.export.test_page_driven import assayed, fact

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")


def measured_edges(largest: float) -> Assay:
    nan = float("nan")
    # dallas 1 moves texas 2 along an edge, against what is predicted where attention is live; austin 6 not by one.
    between = Between([1, 1], [2, 6], [1, 2], [0.75, 0.5], [-0.75, nan], [-0.75, -0.5], [0.25, -0.4], [-0.5, -0.3], 0)
    return replace(assayed(), edges=[Edges(5, 1, largest, 1, 2)], between=[between])


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("largest", [1e-6, 0.25])
def test_an_edge_that_is_clicked_tells_what_was_predicted_and_measured(largest: float, tmp_path: Path):
    with new_page(tmp_path) as page:
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(draw(fact(), tmp_path / "page.html", assay=measured_edges(largest)).as_uri())

        def asked(edge: str) -> str:
            page.locator(f"#e{edge} path").first.dispatch_event("click")
            return " ".join(page.locator("#panel").inner_text().split())

        first, address = asked("1-2"), page.evaluate("location.hash")
        lit = page.evaluate("() => [...svg.querySelectorAll('.node.on')].map((mark) => mark.id)")
        wrong = page.locator("#panel td.failed").all_inner_texts()
        other = asked("2-6")
        page.reload()
        again = page.locator("#panel h2").inner_text()
        page.keyboard.press("Escape")
        left = page.evaluate("location.hash")
        page.locator('.hit[data-row="2"]').click()
        page.get_by_role("button", name="+3.000").press("Enter")
        by_keys = page.evaluate("[location.hash, document.activeElement.id]")

    assert not faults
    assert "dallas → texas L0 @dallas" in first and "+3.000" in first and "+75.0% of the sizes" in first
    assert ("✗ not supported" in first and "25% of the target's input" in first) == (largest > 1e-4)
    assert ("Tested: the target moved by the weight" in first) == (largest < 1e-4)
    assert "the graph predicts −75.0% measured, attention live +25.0% measured, attention held −50.0%" in first
    assert wrong == ["+25.0%"]
    assert address == "#edge=1-2" and lit == ["n1", "n2"]
    assert "texas L0 @dallas → austin" in other and "✗" not in other and "value changes by" not in other
    assert again == "texas L0 @dallas → austin" and left == ""
    assert by_keys == ["#edge=1-2", "panel"]


@needs_chromium
@pytest.mark.slow
def test_a_page_from_disk_says_through_which_heads_an_edge_came(tmp_path: Path):
    #   dallas 1 --3--> texas 2 --2--> austin 6: of the 2, head 3 of layer 1 carried 2.5, and head 0 took off 0.4
    heads = Heads([2, 1], [6, 2], [[(1, 3, 2.5), (1, 0, -0.4), (1, 1, 0.01)], [(0, 2, 3.0)]], split=2, of=6)
    with new_page(tmp_path) as page:
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(draw(fact(), tmp_path / "page.html", heads=heads).as_uri())

        def panel(question: str) -> str:
            page.evaluate(question)
            return " ".join(page.locator("#panel").inner_text().split())

        edge = panel("pinEdge(edges.source.findIndex((s, e) => s === 2 && edges.target[e] === 6))")
        silent = panel("pinEdge(edges.source.findIndex((s, e) => s === 3 && edges.target[e] === 6))")
        texas = panel("pin(2)")
        inputs, outputs = texas.split("Outputs (1)")
        page.goto(draw(fact(), tmp_path / "other.html", heads="heads.json is damaged.").as_uri())
        unread = panel("pinEdge(edges.source.findIndex((s, e) => s === 2 && edges.target[e] === 6))"), panel("pin(2)")

    assert not faults
    assert all(said.count("Through which heads is not known: heads.json is damaged.") == 1 for said in unread)
    assert "head load of the weight a1.h3 +2.500 +125.0% a1.h0 −0.400 −20.0% Each layer" in edge and "a1.h1" not in edge
    assert "Through which heads" not in silent
    assert "dallas a0.h2 100% +3.000" in inputs
    assert "The strongest 2 of 6 edges were split over heads." in inputs
    assert "austin a1.h3 125% a1.h0 −20% +2.000" in outputs


@needs_chromium
@pytest.mark.slow
def test_a_click_a_few_pixels_beside_an_edge_means_it_and_one_further_off_none(tmp_path: Path):
    with new_page(tmp_path) as page:
        page.goto(draw(fact(), tmp_path / "page.html").as_uri())
        # The middle of <bos> -> texas on the screen, the direction across it there, and how wide it is.
        x, y, across, down, wide = page.evaluate(
            """() => {
              const path = document.querySelector("#e0-2 path");
              const at = (part) => path.getPointAtLength(path.getTotalLength() * part);
              const [middle, on] = [0.5, 0.51].map((part) => at(part).matrixTransform(path.getScreenCTM()));
              const long = Math.hypot(on.x - middle.x, on.y - middle.y);
              const wide = Number(path.closest("[stroke-width]").getAttribute("stroke-width"));
              const [across, down] = [(middle.y - on.y) / long, (on.x - middle.x) / long];
              return [middle.x, middle.y, across, down, wide * path.getScreenCTM().a];
            }"""
        )

        def asked(off: float) -> str:
            page.keyboard.press("Escape")
            page.mouse.move(x + off * across, y + off * down)
            page.evaluate("() => new Promise((done) => setTimeout(done, 150))")  # by its own clock, however late it is
            cursor = page.evaluate("svg.style.cursor")
            page.mouse.click(x + off * across, y + off * down)
            return cursor + page.evaluate("location.hash")

        found = {off: asked(off) for off in (wide / 2 + 3, -wide / 2 - 3, wide / 2 + 12)}

    assert list(found.values()) == ["pointer#edge=0-2", "pointer#edge=0-2", ""]
