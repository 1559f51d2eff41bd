"""`circuits serve` driven in Chromium: the store, a graph, a node ablated in the real model. Skipped without it."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from circuits.__main__ import read
from circuits.commands.serve import run
from circuits.errors import BadOption
from circuits.serving.app import make_app
from graphs import Store
from tests.circuits.test_serving import load, traced

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server over a store of one graph, and that graph's address."""
    store = Store(tmp_path / "store")
    id = store.save(traced())
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(store, load), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/graphs/{id}"
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the served page was not driven")
def test_a_node_is_ablated_by_a_click_and_the_models_answer_stands_on_the_page(address: str, tmp_path: Path):
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: the page was not driven")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path / "user"),
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking"],
            viewport={"width": 1400, "height": 900},
        )
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(address)
        page.evaluate("pin(range(count).find((row) => nodes.kind[row] === 'feature'))")
        page.click("#ablate")
        page.wait_for_selector("table.trial")
        page.fill(".amount", "2.5")
        page.click("#set")
        page.wait_for_selector("table.trial >> nth=1")
        said = page.inner_text("#panel")
        page.evaluate("pin(range(count).find((row) => nodes.kind[row] === 'logit'))")
        assert page.query_selector("#ablate") is None  # what is explained is not changed
        page.goto(address)  # and the answers are there when it is opened again
        page.wait_for_selector("table.trial >> nth=1")
        assert len(page.query_selector_all("table.trial")) == 2
        page.click("text=all graphs")
        assert "1 graph" in page.inner_text("#counts")
        browser.close()

    assert not faults
    assert "ablated" in said and "= 2.5" in said and "the graph predicts" in said


def test_a_port_that_is_taken_and_one_that_is_none_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = read(["serve", "--store", str(tmp_path), "--port", str(taken.getsockname()[1])])
        with pytest.raises(BadOption, match="0 for any that is free"):
            run(arguments)
    with pytest.raises(SystemExit):
        read(["serve", "--port", "70000"])
    assert "from 0 to 65535" in capsys.readouterr().err
