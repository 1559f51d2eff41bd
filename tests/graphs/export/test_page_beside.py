"""The diagram of groups stands below the picture or beside it, and each points out in the other what it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphs import draw
from tests.browser import CHROMIUM, new_page
from tests.graphs.export.test_page_driven import fact

FRAME = "document.querySelector('#groups .scroll')"  # around the diagram
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")


@needs_chromium
@pytest.mark.slow
def test_groups_stand_beside_the_picture_when_asked_and_where_there_is_room_and_the_address_says_so(tmp_path: Path):
    address = draw(fact(), tmp_path / "page.html").as_uri()
    with new_page(tmp_path) as page:

        def places():
            boxes = [page.locator(f"#{name}").bounding_box() for name in ("picture", "groups", "panel")]
            return [round(box["x"]) for box in boxes], boxes[1]["y"] > boxes[0]["y"]

        page.goto(address)
        below = places()
        on_top = page.evaluate(
            """() => { pin(2); document.getElementById("groups").scrollIntoView(); scrollBy(0, -200);
              const box = (id) => document.getElementById(id).getBoundingClientRect();
              const [over, under] = [box("groups"), box("panel")];
              const found = document.elementFromPoint(under.left + 40, over.top + 20).closest("#groups, #panel").id;
              pin(null); return [found, under.bottom > over.top + 20]; }"""
        )
        page.locator("#side").click()
        asked, hash = places(), page.evaluate("location.hash")
        page.goto("about:blank")
        page.goto(f"{address}#side=1")
        again = places()
        page.set_viewport_size({"width": 1800, "height": 900})
        page.goto("about:blank")
        page.goto(address)
        wide = places()
        page.locator("#side").click()
        put_below = places()
        page.set_viewport_size({"width": 1400, "height": 450})
        low = page.evaluate("getComputedStyle(document.getElementById('tools')).position")
        page.emulate_media(media="print")
        printed = [page.is_visible(name) for name in ("#counts", "#picture svg", "#find", "#groups button")]

    assert below[0][1] == 0 and below[1]
    assert on_top == ["groups", True]  # the panel is kept in sight, and goes under them
    assert hash == "#side=1" and again == asked
    for (picture, groups, panel), lower in (asked, wide):
        assert picture < groups < panel and not lower
    assert put_below[0][1] == 0 and put_below[1]
    assert low == "static" and printed == [True, True, False, False]


@needs_chromium
@pytest.mark.slow
def test_a_node_of_the_picture_points_out_its_box_and_a_box_its_node(tmp_path: Path):
    lit = "() => [...document.querySelectorAll('.diagram .on')].map((box) => box.getAttribute('aria-label'))"
    with new_page(tmp_path) as page:
        page.goto(draw(fact(), tmp_path / "page.html").as_uri())
        none = page.evaluate(lit)
        page.locator('.hit[data-row="2"]').hover()
        hovered = page.evaluate(lit)
        page.locator('.hit[data-row="3"]').click()
        page.mouse.move(1, 1)
        pinned = page.evaluate(lit)
        page.keyboard.press("Escape")
        page.locator(".diagram g[aria-label^='austin']").hover()
        found = page.evaluate("() => [...svg.querySelectorAll('.node.on')].map((mark) => mark.id)")
        page.locator(".diagram g[aria-label^='austin']").press("Enter")
        by_keys = page.evaluate("location.hash")
        page.set_viewport_size({"width": 360, "height": 800})
        page.reload()
        first = page.evaluate(f"[{FRAME}.scrollLeft, {FRAME}.scrollWidth - {FRAME}.clientWidth]")
        page.evaluate(f"() => {{ {FRAME}.scrollLeft = 7; regroup([]); }}")
        kept = page.evaluate(f"{FRAME}.scrollLeft")

    assert none == []
    assert hovered == ["texas L0 @dallas"] and pinned == ["L1/3 @dallas"]
    assert found == ["n6"] and by_keys == "#node=6"
    assert first[0] == pytest.approx(first[1], abs=1) and first[1] > 10 and kept == 7
