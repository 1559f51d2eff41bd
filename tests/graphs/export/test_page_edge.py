"""An edge that is clicked says what runs along it, and what the assay measured beside what the graph predicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from graphs import draw
from graphs.assays import Assay, Between, Edges
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

    assert not faults
    assert "dallas → texas L0 @dallas" in first and "+3.000" in first and "+75.0% of the sizes" in first
    assert ("✗ not supported" in first and "25% of the target's input" in first) == (largest > 1e-4)
    assert ("Tested: the target moved by the weight" in first) == (largest < 1e-4)
    assert "the graph predicts −75.0% measured, attention live +25.0% measured, attention held −50.0%" in first
    assert wrong == ["+25.0%"]
    assert address == "#edge=1-2" and lit == ["n1", "n2"]
    assert "texas L0 @dallas → austin" in other and "✗" not in other and "value changes by" not in other
    assert again == "texas L0 @dallas → austin" and left == ""
