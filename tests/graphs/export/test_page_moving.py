"""While a slider moves the page paints its edges on a canvas: the same to the eye, and as they were once it rests."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from graphs import draw
from graphs.paths import influence
from graphs.pruning import prune
from tests.browser import CHROMIUM, new_page
from tests.worlds import layered

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")
# How far two screenshots are apart, in levels of 0 to 255: the mean over all dots, and the part that 32 or more are.
APART = """async (shots) => {
  const [one, other] = await Promise.all(shots.map(async (shot) => {
    const image = await createImageBitmap(await (await fetch("data:image/png;base64," + shot)).blob());
    const pen = new OffscreenCanvas(image.width, image.height).getContext("2d");
    pen.drawImage(image, 0, 0);
    return pen.getImageData(0, 0, image.width, image.height).data;
  }));
  let [sum, far] = [0, 0];
  for (let i = 0; i < one.length; i += 4) {
    const most = Math.max(...[0, 1, 2].map((j) => Math.abs(one[i + j] - other[i + j])));
    sum += most;
    far += most >= 32;
  }
  return [(4 * sum) / one.length, (4 * far) / one.length];
}"""


def page_of(folder: Path) -> str:
    graph = layered(400, layers=8, positions=8)
    graph = replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph)))
    return draw(prune(graph, nodes=0.8, edges=0.9), folder / "page.html").as_uri()


def shot(page) -> str:
    return base64.b64encode(page.locator("#picture").screenshot()).decode()


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("slider", "at"), [("share", 0), ("share", 55), ("least", 70)])
def test_what_is_painted_while_a_slider_moves_looks_as_what_stands_there_once_it_rests(slider, at, tmp_path: Path):
    with new_page(tmp_path) as page:
        page.goto(page_of(tmp_path))
        whole = shot(page)
        page.evaluate("([name, at]) => { slide(name, at); clearTimeout(resting); }", [slider, at])
        curves, moving = page.locator("#picture .edge").count(), shot(page)
        page.evaluate("rest()")
        still = shot(page)
        elsewhere = page.context.new_page()
        mean, far = elsewhere.evaluate(APART, [moving, still])
        changed, _ = elsewhere.evaluate(APART, [moving, whole])

    assert curves == 0  # they were painted, not drawn
    assert mean < 1 and far < 0.0005
    assert at == 0 or changed > 3 * mean


@needs_chromium
@pytest.mark.slow
def test_once_a_slider_rests_the_curves_stand_where_they_were_and_what_is_saved_has_them_all_along(tmp_path: Path):
    with new_page(tmp_path) as page:
        page.goto(page_of(tmp_path))
        before = page.evaluate("svg.outerHTML")
        page.evaluate("slide('share', 40)")
        page.locator("#picture .edge").first.wait_for(state="attached")
        left = page.locator("#picture .edge:not(.gone)").count()
        kept = page.evaluate("shownSvg()")
        page.evaluate("() => { slide('share', 60); slide('share', 40); }")
        saved = page.evaluate("shownSvg()")
        page.evaluate("() => { slide('least', 30); slide('least', 0); slide('share', 0); scrollBy(0, 5); }")
        page.locator("#picture .edge").first.wait_for(state="attached")
        after = page.evaluate("svg.outerHTML")

    assert 0 < left < before.count('data-edge="')
    assert saved == kept
    assert after == before
