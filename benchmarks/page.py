"""How fast the page is, in headless Chromium: `python -m benchmarks.page`.

Two random graphs. One of 300 nodes and 5,000 edges, as a file: how long until it is there, and how long frames take
while a slider moves, the pointer wanders over nodes, and nodes are clicked. One of 5,000 nodes and 500,000 edges,
served: how long until its strongest part is there, a node of the whole is found, and what is next to it is shown.
Medians of RUNS. Results go to benchmarks/results/page.md.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import uvicorn
from playwright.sync_api import Page, sync_playwright

from circuits.serving.app import make_app
from graphs import Store, draw
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes
from graphs.paths import influence

RESULTS = Path(__file__).parent / "results"
RUNS = 5
LAYERS, POSITIONS = 26, 24  # as Gemma-2 2B has them
# While something is done, every frame's length in milliseconds is noted.
WATCH = """() => { window.frames_ = []; let last = performance.now(); window.watching = true;
  const tick = (now) => { window.frames_.push(now - last); last = now;
    if (window.watching) requestAnimationFrame(tick); };
  requestAnimationFrame(tick); }"""
STOP = "() => { window.watching = false; return window.frames_.slice(1); }"


def random_graph(nodes: int, edges: int, seed: int = 0) -> AttributionGraph:
    """Features of random layers and positions, each edge from an earlier layer and no later position."""
    random = np.random.default_rng(seed)
    inner = nodes - POSITIONS - 5
    place = np.sort(random.integers(0, LAYERS * POSITIONS, inner))
    layer = np.concatenate([np.full(POSITIONS, -1), place // POSITIONS, np.full(5, LAYERS)])
    position = np.concatenate([np.arange(POSITIONS), place % POSITIONS, np.full(5, POSITIONS - 1)])
    pairs = np.empty((0, 2), dtype=np.int64)
    while len(pairs) < edges:
        drawn = random.integers(0, nodes, (4 * edges, 2))
        source, target = drawn.T
        fits = (layer[source] < layer[target]) & (position[source] <= position[target])
        pairs = np.unique(np.concatenate([pairs, drawn[fits]]), axis=0)
    source, target = pairs[random.permutation(len(pairs))[:edges]].T
    weight = random.standard_normal(edges) ** 3
    kind = np.array(["token"] * POSITIONS + ["feature"] * inner + ["logit"] * 5)
    goal = np.zeros(nodes)
    goal[-5:] = 0.2
    columns = Nodes(
        kind=kind,
        layer=layer,
        position=position,
        feature=random.integers(0, 16384, nodes),
        activation=random.random(nodes),
        value=np.where(kind == "token", np.nan, np.bincount(target, weight, minlength=nodes)),
        gross=np.bincount(target, np.abs(weight), minlength=nodes),
        influence=np.zeros(nodes),
        label=np.array([f"feature {each}" for each in range(nodes)], dtype=object),
    )
    graph = AttributionGraph(
        nodes=columns,
        source=source,
        target=target,
        weight=weight,
        goal=goal,
        token_ids=tuple(range(POSITIONS)),
        tokens=tuple(f"word{each}" for each in range(POSITIONS)),
        provenance={"prompt": f"a random graph of {nodes} nodes", "model": "none", "transcoders": "none"},
    )
    return replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph)))


def seconds(do: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def frames(page: Page, do: Callable[[], object]) -> list[float]:
    """The length of every frame while something is done, in milliseconds."""
    page.evaluate(WATCH)
    do()
    return page.evaluate(STOP)


def wander(page: Page) -> None:
    """The pointer over forty nodes, one after another."""
    boxes = page.evaluate(
        "() => nodeMark.filter(Boolean).slice(0, 160).map((mark) => mark.getBoundingClientRect())"
        ".filter((box) => box.top > 200 && box.bottom < innerHeight).slice(0, 40).map((box) => [box.x + 3, box.y + 3])"
    )
    for x, y in boxes:
        page.mouse.move(x, y, steps=3)


def slide(page: Page) -> None:
    """The slider for edges, along its whole length."""
    for place in range(0, 101, 4):
        page.evaluate(
            "(at) => { const slider = document.getElementById('share'); slider.value = at;"
            " slider.dispatchEvent(new Event('input', { bubbles: true })); }",
            place,
        )
        page.wait_for_timeout(16)


def wait(page: Page) -> None:
    """Nothing."""
    page.wait_for_timeout(700)


def click(page: Page) -> None:
    """Twenty nodes pinned, one after another."""
    for row in range(30, 230, 10):
        page.evaluate("(row) => pin(row)", row)
        page.wait_for_timeout(16)


def measure_frames(page: Page, what: str) -> list[str]:
    """Lines of the table: how long frames last while the page is used."""
    lines = []
    for name, do in (
        ("nothing happens", wait),
        ("the pointer wanders", wander),
        ("a slider moves", slide),
        ("nodes are clicked", click),
    ):
        took = [frames(page, lambda do=do: do(page)) for _ in range(RUNS)]
        middle = statistics.median(statistics.median(each) for each in took)
        worst = statistics.median(float(np.quantile(each, 0.95)) for each in took)
        lines.append(f"| {what}, while {name}: frames, median and 95th percentile | {middle:.0f} and {worst:.0f} ms |")
        page.evaluate("() => { document.getElementById('share').value = 0; pin(null); }")
    return lines


def measure_file(page: Page, place: Path) -> list[str]:
    """A page as a file."""
    what, file = "300 nodes, 5,000 edges, from disk", place / "small.html"
    draw(random_graph(300, 5_000), file)
    opened = [seconds(lambda: page.goto(file.as_uri())) for _ in range(RUNS)]
    return [f"| {what}: open | {statistics.median(opened):.2f} s |", *measure_frames(page, what)]


def measure_served(page: Page, place: Path) -> list[str]:
    """A large graph, served."""
    what, store = "5,000 nodes, 500,000 edges, served", Store(place / "store")
    id = store.save(random_graph(5_000, 500_000))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(store, no_model), log_level="warning", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/graphs/{id}"
    first = seconds(lambda: page.goto(address))
    again = statistics.median(seconds(lambda: page.goto(address)) for _ in range(RUNS))

    def look_up() -> None:
        page.fill("#part input", "feature 4321")
        page.wait_for_selector("#found-in-whole a")

    lines = [
        f"| {what}: open, the first time and again | {first:.2f} and {again:.2f} s |",
        f"| {what}: a node of the whole found | {seconds(look_up):.2f} s |",
    ]
    beside = [seconds(lambda row=row: page.goto(f"{address}?around={row}")) for row in range(1000, 1000 + RUNS)]
    lines.append(f"| {what}: what is next to a node | {statistics.median(beside):.2f} s |")
    page.goto(address)
    lines += measure_frames(page, what)
    server.should_exit = True
    return lines


def no_model(*_: str) -> NoReturn:
    """Nothing is asked here."""
    raise OSError("there is no model")


def main() -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if chromium is None:
        raise SystemExit("Chromium is not installed: install it with the system's package manager and run this again.")
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            f"{place}/user",
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking"],
            viewport={"width": 1500, "height": 1000},
        )
        page = browser.new_page()
        lines = [*measure_file(page, Path(place)), *measure_served(page, Path(place))]
        browser.close()
    loads.append(os.getloadavg()[0])
    begin = [
        "# The page in Chromium",
        "",
        "`python -m benchmarks.page`: random graphs, headless Chromium without a GPU, medians of five. A frame of a",
        "60 Hz screen lasts 17 ms; what frames last while nothing happens is the machine's own, and other work makes",
        f"them longer: {os.cpu_count()} processors, load {loads[0]:.0f} before and {loads[1]:.0f} after.",
        "",
        "| | |",
        "|---|---|",
    ]
    text = "\n".join([*begin, *lines, ""])
    (RESULTS / "page.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
