"""Our graphs on circuit-tracer's own page, served by its own server, driven in Chromium. Skipped where it is not."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.processes import environment, is_installed
from circuits.__main__ import main
from graphs import Store
from graphs.export.page_folder import write_page_folder
from graphs.graph import AttributionGraph
from graphs.identifiers import identify
from graphs.importing import import_graph
from graphs.importing.saved_groups import read_groups_saved_there
from graphs.naming import name_of
from tests.browser import CHROMIUM, new_page
from tests.graphs.foreign import written
from tests.worlds import graph_of

PEER = "circuit_tracer"
SCRIPTS = environment(PEER) / "page" / "node_modules"
missing = next(
    (
        what
        for there, what in (
            (is_installed(PEER), "circuit-tracer is not there: benchmarks/peers/circuit_tracer/install"),
            (SCRIPTS.exists(), "the scripts of its page are not there: benchmarks/peers/circuit_tracer/install_page"),
            (CHROMIUM is not None, "Chromium is not installed"),
        )
        if not there
    ),
    None,
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing is not None, reason=missing or "")]

# Its own `serve` listens to the whole network; this one to this machine, and says at which port.
SERVE = """
import functools, sys
from circuit_tracer.frontend import local_server as local
handler = functools.partial(local.CircuitGraphHandler, frontend_dir=local.DEFAULT_FRONTEND_DIR, data_dir=sys.argv[1])
with local.ReusableTCPServer(("127.0.0.1", 0), handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
# Its page takes scripts from elsewhere. d3-jetpack is a fork there, whose plots can draw their axes.
BEFORE = "(() => { const exports = {}, module = {}, require = () => d3;"
AFTER = """
  Object.assign(d3, exports);
  const plain = d3.conventions;
  d3.conventions = (options) => {
    const plot = plain(options);
    plot.drawAxis = (layer) => {
      layer.append("g.x").translate([0, plot.height]).call(plot.xAxis);
      layer.append("g.y").call(plot.yAxis);
    };
    return plot;
  };
})();
"""
COUNT_STROKES = """
window.strokes = 0;
const stroke = CanvasRenderingContext2D.prototype.stroke;
CanvasRenderingContext2D.prototype.stroke = function () { window.strokes += 1; return stroke.call(this); };
"""
ROWS = """
(side) => [...document.querySelectorAll(`.features.${side} .feature-row`)]
  .map((row) => [row.__data__.node_id, row.querySelector(".weight").textContent.replace("\u2212", "-")])
"""


def scripts() -> dict[str, str]:
    """What its page takes from elsewhere: the end of the address -> the script."""

    def text(path: str) -> str:
        return (SCRIPTS / path).read_text(encoding="utf-8")

    nests = text("d3-collection/dist/d3-collection.js").replace("typeof exports === 'object'", "false", 1)
    return {
        "/lib/d3.js": text("d3/dist/d3.js"),
        "/lib/jetpack_2024-07-20.js": f"{nests}{BEFORE}{text('d3-jetpack/build/d3-jetpack.cjs')}{AFTER}",
        "/lib/hotserver-client-ws.js": "",
        "/lib/npy_v0.js": "",
        "/dagre.min.js": text("dagre/dist/dagre.min.js"),
        "/pako.min.js": text("pako/dist/pako.min.js"),
    }


@contextmanager
def served(folder: Path, scratch: Path) -> Iterator[Any]:
    """`open(address)` gives the page of a folder; at the end it must have said nothing wrong and asked nobody else."""
    command = [environment(PEER) / "bin/python", "-c", SERVE, str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wrong: list[str] = []
    try:
        assert server.stdout is not None
        home = f"http://127.0.0.1:{int(server.stdout.readline())}"
        known = scripts()

        def answer(route: Any) -> None:
            found = next((each for end, each in known.items() if route.request.url.endswith(end)), None)
            if found is None:
                wrong.append(f"asked for {route.request.url}")
            route.fulfill(body=found or "", content_type="text/javascript")

        with new_page(scratch) as page:
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("response", lambda got: wrong.append(f"{got.status} {got.url}") if got.status >= 400 else None)
            page.route(lambda url: not url.startswith(home), answer)
            page.add_init_script(COUNT_STROKES)

            def open_at(address: str) -> Any:
                page.goto(f"{home}/index.html{address}")
                page.wait_for_selector(".link-graph text.node")
                return page

            yield SimpleNamespace(open=open_at, home=home)
        assert wrong == [] or wrong == [f"404 {home}/favicon.ico"]
    finally:
        server.kill()
        server.wait()


def mixed() -> AttributionGraph:
    """Three tokens, two logits and a unit of most kinds in three layers; one label and one token are markup."""
    kinds = "token token token feature error neuron attention feature bias head mlp logit logit"
    edges = [
        *[(0, 3, 2.0), (1, 3, -1.0), (1, 5, 0.5), (2, 6, 0.25), (3, 7, 3.0), (4, 7, -0.125), (5, 9, 1.5), (6, 9, 1.0)],
        *[(7, 10, -2.0), (8, 11, 9.0), (9, 11, 0.75), (10, 11, 4.0), (7, 12, -0.5), (2, 12, 0.07)],
    ]
    graph = graph_of(edges, kinds, goal=[0.0] * 11 + [0.6, 0.3])
    names = ["a", " b", "<i>c</i>", "L0/5", "error L0", "L1/9", "seen", "<b>texas</b>", "b", "a2.h1", "m2", "x", "y"]
    notes = {
        "1/5": {
            "promotes": ["austin", "\n"],
            "suppresses": ["oakland"],
            "density": 0.125,
            "act_max": 4.0,
            "histogram": {"edges": [0.0, 4.0], "counts": [5, 3, 1]},
            "examples": [{"tokens": ["in", " texas", "<u>!</u>"], "activations": [0.0, 4.0, 0.5], "peak": 1}],
        }
    }
    nodes = graph.nodes.with_columns(
        layer=np.array([-1, -1, -1, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3]),
        position=np.array([0, 1, 2, 1, 2, 1, 2, 2, -1, 2, 2, 2, 2]),
        feature=np.array([5, 6, 7, 5, -1, 9, 3, 5, -1, 1, -1, 11, 12]),
        activation=np.array([1, 1, 1, 2.5, 1, 0.5, 1.5, 2.0, 1, 1, 1, 0.6, 0.3]),
        label=np.array(names, dtype=object),
    )
    made = {"model": "toy", "transcoders": "set", "prompt": "a b <i>c</i>", "feature_notes": notes}
    return replace(graph, nodes=nodes, token_ids=(5, 6, 7), tokens=("a", " b", "<i>c</i>"), provenance=made)


def click(page: Any, id: str) -> None:
    """Click the node of an id in the picture of links."""
    at = page.evaluate(
        "(id) => { const mark = [...document.querySelectorAll('.link-graph text.node')]"
        ".find((each) => each.__data__.node_id === id); const box = mark.getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; }",
        id,
    )
    page.mouse.click(*at)


def links_of(graph: AttributionGraph, row: int) -> tuple[Counter, Counter]:
    """What flows into a node and out of it, as the page writes it; biases stand aside."""
    ids = identify(graph.nodes)
    shown = graph.nodes.kind != "bias"
    edges = zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    known = [(source, target, f"{weight:+.3f}") for source, target, weight in edges if shown[source]]
    inputs = Counter((ids[source], weight) for source, target, weight in known if target == row)
    return inputs, Counter((ids[target], weight) for source, target, weight in known if source == row)


def test_every_node_is_drawn_and_shows_its_inputs_and_outputs(tmp_path):
    graph = mixed()
    (file,) = write_page_folder([graph], tmp_path / "there")
    drawn = [row for row in range(len(graph.nodes)) if graph.nodes.kind[row] != "bias"]

    with served(tmp_path / "there", tmp_path) as there:
        page = there.open(f"?slug={file.stem}")
        assert page.locator(".link-graph text.node").count() == len(drawn)
        assert sorted(page.locator(".link-graph text.node").all_text_contents()) == sorted("■■■●◆●●●●●■■")
        assert page.locator("b, i, u").count() == 0  # no label became markup
        for row in drawn:
            before = page.evaluate("window.strokes")
            click(page, identify(graph.nodes)[row])
            inputs, outputs = links_of(graph, row)
            assert Counter(map(tuple, page.evaluate(ROWS, "input"))) == inputs
            assert Counter(map(tuple, page.evaluate(ROWS, "output"))) == outputs
            # Each is drawn twice, in black below and in its colour above.
            assert page.evaluate("window.strokes") - before == 2 * (inputs + outputs).total()


def test_a_click_shows_what_is_known_of_the_feature(tmp_path):
    (file,) = write_page_folder([mixed()], tmp_path / "there")

    with served(tmp_path / "there", tmp_path) as there:
        page = there.open(f"?slug={file.stem}")
        click(page, "1_5_2")
        page.wait_for_selector(".feature-example-list .token")
        title = page.locator(".feature-detail .feature-title").inner_text()
        assert "L1/5" in title and "Act: 2.00" in title and "Freq: 12.500%" in title
        assert page.locator(".feature-detail .pp-clerp").inner_text() == "<b>texas</b>"
        assert page.locator(".feature-example-logits .token").all_inner_texts() == ["austin", "⏎", "oakland"]
        assert page.locator(".feature-example-list .token").all_text_contents() == ["in", " texas", "<u>!</u>"]
        assert page.locator(".feature-example-list .train_token_ind").all_text_contents() == [" texas"]
        assert page.locator(".histogram-placeholder rect.bar").count() == 3
        click(page, "0_5_1")  # of which nothing is known
        page.wait_for_function("document.querySelector('.feature-detail .feature-title').textContent.includes('L0/5')")
        page.wait_for_function("!document.querySelector('.feature-example-list .token')")


def test_groups_made_there_come_back(tmp_path, monkeypatch, capsys):
    graph = mixed()
    (file,) = write_page_folder([graph], tmp_path / "there")
    groups = json.dumps([["both", "0_5_1", "1_5_2"]])

    with served(tmp_path / "there", tmp_path) as there:
        page = there.open(f"?slug={file.stem}&supernodes={groups}&pinnedIds=0_5_1,1_5_2")
        assert page.locator(".supernode-container").all_inner_texts() == ["both"]
        page.keyboard.down("Control")
        click(page, "4_11_2")
        page.keyboard.up("Control")
        page.wait_for_function("document.querySelectorAll('.supernode-container').length === 2")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Saved!").wait_for()

    names = [name_of(graph, row) for row in (3, 7)]
    assert read_groups_saved_there(file, import_graph(file)) == {"both": names}
    assert json.loads(file.read_bytes())["qParams"]["pinnedIds"] == "0_5_1,1_5_2,4_11_2"
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(file)]) == 0
    assert "1 group" in capsys.readouterr().out
    (kept,) = (tmp_path / "circuits-store").glob("*/groups.json")
    assert json.loads(kept.read_bytes()) == {"both": names}


PROMPT = "the capital of the state containing {} is"
ASKED = {
    "dallas": ["trace", PROMPT.format("dallas")],
    "oakland": ["trace", PROMPT.format("oakland"), "-t", "world/cross-layer"],
    "miami": ["trace", PROMPT.format("miami"), "-t", "neurons"],
}


def test_graphs_of_the_shipped_world_open_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ASKED.values():
        assert main([*words, "--no-assay", "-q"]) == 0
    pairs = {"clean": PROMPT.format("dallas"), "corrupted": PROMPT.format("oakland")}
    written(tmp_path / "pairs.jsonl", {**pairs, "right": "austin", "wrong": "sacramento"})
    assert main(["find", "pairs.jsonl", "-m", "world", "--edges", "30", "-q"]) == 0
    store = Store("circuits-store")
    graphs = [store.load(entry.id) for entry in store.list()]
    assert {"feature", "neuron", "head"} <= set(np.concatenate([graph.nodes.kind for graph in graphs]))
    files = write_page_folder(graphs, tmp_path / "there")

    with served(tmp_path / "there", tmp_path) as there:
        for graph, file in zip(graphs, files, strict=True):
            page = there.open(f"?slug={file.stem}")
            ids, shown = identify(graph.nodes), graph.nodes.kind != "bias"
            assert page.locator(".link-graph text.node").count() == shown.sum()
            target = int(np.argmax(graph.goal))
            click(page, ids[target])
            assert Counter(map(tuple, page.evaluate(ROWS, "input"))) == links_of(graph, target)[0]
            called = page.locator(".features.input .feature-row .label").all_text_contents()
            heads = Counter(label for label in called if label.startswith("a"))
            assert set(heads.values()) <= {1}  # as if all heads of a layer were one, they were called the same
            known = graph.nodes.where("feature")
            if len(known):
                click(page, ids[known[-1]])
                page.wait_for_selector(".feature-example-logits .token")
