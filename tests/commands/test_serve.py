"""`circuits serve` driven in Chromium: the store, a graph, a node ablated in the real model. Skipped without it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

import pytest
import uvicorn
from starlette.applications import Starlette

from circuits.__main__ import read
from circuits.commands.serve import EVERYWHERE, end, in_address, listen, names_of, run
from circuits.errors import BadOption
from circuits.serving.app import make_app
from graphs import Store, compare, prune
from tests.browser import CHROMIUM, new_page
from tests.circuits.test_serving import load, traced

FIRST_FEATURE = "pin(range(count).find((row) => nodes.kind[row] === 'feature'))"


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """A server of an application, and its address."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server over a store of one graph, and that graph's address."""
    store = Store(tmp_path / "store")
    id = store.save(traced())
    with serving(make_app(store, load)) as server:
        yield f"{server}/graphs/{id}"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page in Chromium, and what went wrong on it: `page.faults`."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: the served page was not driven")
    with new_page(tmp_path) as page:
        page.faults = []
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))
        yield page


def test_a_node_is_ablated_by_a_click_and_the_models_answer_stands_on_the_page(address: str, page: Any):
    page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
    page.goto(address)
    page.evaluate(FIRST_FEATURE)
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

    assert not page.faults
    assert "ablated" in said and "= 2.5" in said and "the graph predicts" in said


def test_what_was_chosen_stays_for_the_next_question_and_a_change_has_one_sign(address: str, page: Any):
    asked: list[Any] = []
    page.route("**/trials", lambda route: asked.append(route) or (len(asked) > 1 and route.continue_()))
    page.set_viewport_size({"width": 1400, "height": 500})
    page.goto(address)
    page.evaluate(FIRST_FEATURE)
    page.select_option("select", "frozen")
    page.fill(".amount", "2.5")
    page.click("#set")
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert len(asked) == 1  # what was asked before is late: the question waits, else the answer could stand twice
    asked[0].continue_()
    page.wait_for_selector("table.trial")
    assert (page.input_value(".amount"), page.input_value("select")) == ("2.5", "frozen")
    assert page.evaluate("document.activeElement.id") == "set"
    assert page.evaluate("document.querySelector('.trial').getBoundingClientRect().top < innerHeight")
    page.fill(".amount", "")  # nothing is no number, and not zero
    page.click("#set")
    page.click("#ablate")
    page.wait_for_selector("table.trial >> nth=1")
    assert len(page.query_selector_all("table.trial")) == 2
    said = page.inner_text("#panel")
    assert said.count("explained") == 2 and not re.search("[+−-][+−-]", said)
    assert not page.faults


def test_around_a_node_of_a_large_graph_the_node_is_asked_about_and_a_part_is_called_one(address: str, page: Any):
    page.goto(address)
    whole = page.evaluate("count")
    label, middle = page.evaluate(
        """() => { const row = range(count).filter((row) => nodes.kind[row] === 'feature')
          .reduce((a, b) => (nodes.influence[b] < nodes.influence[a] ? b : a)); return [names[row], row]; }"""
    )
    page.goto(f"{address}?around={middle}")
    assert page.inner_text("#panel h2") == label
    assert 0 < page.evaluate("count") < whole
    said = page.inner_text("#facts")
    assert "whole graph" not in said and f"of {whole} nodes" in said
    page.fill("#part input", "red")
    page.wait_for_selector("#found-in-whole a")
    assert "L-1" not in page.inner_text("#found-in-whole")
    assert not page.faults


def test_a_graph_of_the_store_is_chosen_compared_and_stands_in_the_address(address: str, page: Any, tmp_path: Path):
    graph = traced()
    words = {"prompt": "<b>other</b>"}
    other = Store(tmp_path / "store").save(replace(prune(graph, nodes=0.5), provenance={**graph.provenance, **words}))
    expected = compare(graph, Store(tmp_path / "store").load(other))
    page.goto(address)
    page.fill("#stored", "other")
    page.wait_for_selector("#stored-found option", state="attached")
    offered = page.evaluate("[...document.querySelectorAll('#stored-found option')].map((each) => each.value)")
    page.press("#stored", "Enter")  # one graph has the word: its id need not be chosen
    page.wait_for_selector("#beside h2")
    said = page.inner_text("#beside")
    page.goto("about:blank")
    page.goto(f"{address}#beside={other}")  # as it stood in the address
    page.wait_for_selector("#beside h2")
    again, at, top = page.inner_text("#beside"), page.evaluate("location.hash"), page.evaluate("scrollY")
    page.evaluate("location.hash = ''")
    page.wait_for_selector("#beside", state="hidden")
    page.evaluate(f"location.hash = 'beside={other}'")
    page.wait_for_selector("#beside h2")
    page.click("#beside .close")
    closed = page.evaluate("location.hash"), page.is_visible("#beside")
    page.fill("#stored", "zebra")
    page.press("#stored", "Enter")
    page.wait_for_selector("#beside .failed")
    refused = page.inner_text("#beside")
    Store(tmp_path / "store").save(replace(prune(graph, nodes=0.6), provenance={**graph.provenance, **words}))
    page.fill("#stored", "other")
    page.press("#stored", "Enter")
    page.wait_for_selector("#beside li button")
    page.locator("#beside li button").last.click()
    page.wait_for_selector("#beside h2")

    assert offered == [other] and again == said and top == 0 and at == f"#beside={other}" and closed == ("", False)
    assert "Beside “<b>other</b>”" in said and page.query_selector("#beside b") is None
    assert f"{len(expected.both)} nodes in both" in said and f"{len(expected.only_a)} only here" in said
    assert f"edges: {len(expected.edges)} in both" in said and f"influence {expected.overlap:.2f}" in said
    assert "there is no such graph in this store" in refused
    assert page.inner_text("#beside").startswith(said[:40]) and page.input_value("#stored") == other
    assert not page.faults


def test_what_is_refused_is_said_at_its_node_and_a_server_that_is_gone_is_named(address: str, page: Any):
    page.goto(address)
    page.evaluate(FIRST_FEATURE)
    page.fill(".amount", "1e300")
    page.click("#set")
    page.wait_for_selector(".refused")
    assert "take a smaller one" in page.inner_text(".refused")
    page.evaluate("pin(range(count).findLast((row) => nodes.kind[row] === 'feature'))")
    assert page.query_selector(".refused") is None
    page.route("**/*", lambda route: route.abort())
    page.click("#ablate")
    page.wait_for_selector(".refused")
    assert "is circuits serve still running" in page.inner_text(".refused")
    page.evaluate("pin(range(count).find((row) => nodes.kind[row] === 'logit'))")
    page.click("#heads")
    page.wait_for_selector(".refused")
    page.unroute("**/*")
    page.route("**/heads*", lambda route: route.fulfill(json=[]))
    page.evaluate(
        "document.getElementById('heads').click(); window.meanwhile = document.getElementById('heads').innerText"
    )
    assert page.evaluate("meanwhile") == "asking…"
    page.wait_for_selector("text=none of its inputs owes")
    assert page.inner_text("#heads") == "through which heads"
    assert not page.faults


def test_what_is_typed_is_looked_up_once_it_rests(address: str, page: Any):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("?")[2]))
    page.goto(address)
    with page.expect_response("**/others?find=zeb"):
        page.evaluate(
            """() => { const box = document.getElementById("stored");
              for (const words of ["z", "ze", "zeb"]) { box.value = words; box.dispatchEvent(new Event("input")); } }"""
        )
    assert [each for each in asked if each] == ["find=zeb"]


def test_the_link_with_the_token_is_followed_from_a_page_of_another_site_and_tells_it_nothing(
    tmp_path: Path, page: Any
):
    with serving(make_app(Store(tmp_path / "store"), load, hosts=(), token="secret")) as server:
        link = f'<a id="first" href="{server}/?token=secret">x</a> <a id="next" href="{server}/?find=q">y</a>'
        page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body=link))
        for which, there in (("#first", f"{server}/"), ("#next", f"{server}/?find=q")):
            page.goto("http://elsewhere.example/")
            page.click(which)
            page.wait_for_selector("h1")
            assert page.url == there
        with page.expect_request(f"{server}/?find=") as asked:
            page.press("#tools input", "Control+a")
            page.press("#tools input", "Delete")
            page.press("#tools input", "Enter")
        page.wait_for_selector("h1")
        page.go_back()
        page.go_back()
    assert page.url == "http://elsewhere.example/"  # the address with the token is not among those of before
    assert "referer" not in asked.value.headers


def test_ctrl_c_ends_it_at_once_and_quietly_while_a_model_is_loaded(tmp_path: Path):
    store = tmp_path / "store"
    id = Store(store).save(traced())
    slow = (
        "import sys, time\n"
        "from circuits.serving import lab\n"
        "lab.is_here = lambda *names: True\n"
        "lab.load_by_name = lambda *names, **choices: lambda *key: time.sleep(100)\n"
        "from circuits.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", slow, "serve", "--store", str(store), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        address = server.stdout.readline().split()[-1]
        there = f"{address}graphs/{id}"
        with build_opener(ProxyHandler({})).open(there, timeout=60) as page:  # the moment the address is told
            assert page.status == 200 and page.read()
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(60) == 0
        finally:
            server.kill()
        assert server.stderr.read() == ""


def test_a_port_that_is_taken_and_one_that_is_none_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = read(["serve", "--store", str(tmp_path), "--port", str(taken.getsockname()[1])])
        with pytest.raises(BadOption, match="0 for any that is free"):
            run(arguments)
    with pytest.raises(SystemExit):
        read(["serve", "--port", "65536"])
    assert "from 0 to 65535" in capsys.readouterr().err


def test_what_is_told_is_what_one_needs_to_get_in_and_ctrl_c_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    ended: list[Any] = []

    class Interrupted:
        def __init__(self, config: uvicorn.Config) -> None:
            self.handle_exit: Any = None

        def run(self, sockets: list[socket.socket]) -> None:
            ended.append((self.handle_exit, sockets[0]))
            raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn, "Server", Interrupted)

    def told(*words: str) -> tuple[list[str], str]:
        assert run(read(["serve", "--store", str(tmp_path), "--port", "0", *words])) == 0
        said = capsys.readouterr()
        return said.out.splitlines(), said.err

    (where, how), warned = told()
    assert where.startswith(f"0 graphs of {tmp_path} at http://127.0.0.1:") and "token" not in where
    assert how == "Ctrl-C ends it" and not warned
    assert told("--quiet") == ([], "")
    (where, *_), warned = told("--host", "0.0.0.0")
    assert "?token=" in where and "can read the store and ask the model" in warned
    (address,), warned = told("--host", "0.0.0.0", "--quiet")  # without it nobody gets in
    assert re.fullmatch(r"http://localhost:\d+/\?token=.{20,}", address) and not warned
    assert all(how is end and listening.fileno() == -1 for how, listening in ended) and len(ended) == 4


def said_by(store: Path, *words: str) -> tuple[list[str], subprocess.Popen[str]]:
    """The lines until the server says how it ends, and the server."""
    command = [sys.executable, "-m", "circuits", "serve", "--store", str(store), "--port", "0", *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    lines = []
    for line in server.stdout:
        lines.append(line.strip())
        if "Ctrl-C" in line:
            break
    return lines, server


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_where_it_listens_everywhere_addresses_are_told_that_a_browser_can_open(tmp_path: Path, host: str):
    try:
        listen(host, 0).close()
    except BadOption:
        pytest.skip(f"this machine cannot listen at {host}: the addresses told for it were not tried")
    lines, server = said_by(tmp_path, "--host", host)
    try:
        addresses = [line.split()[-1] for line in lines[:-1]]
        assert addresses[0].startswith("http://localhost:")
        assert not any(name in address for address in addresses for name in ("0.0.0.0", "[::]"))
        assert all("?token=" in address for address in addresses)
        for address in [*addresses, addresses[0].replace("localhost", "127.0.0.1")]:
            with build_opener(ProxyHandler({}), HTTPCookieProcessor()).open(address, timeout=60) as page:
                assert page.status == 200 and b"none yet" in page.read()
    finally:
        server.kill()
        server.communicate()


def test_what_this_machine_is_called_is_served_there():
    assert names_of("10.1.2.3") == ["10.1.2.3"] and in_address("fe80::1") == "[fe80::1]"
    for host in EVERYWHERE:
        assert names_of(host)[0] == "localhost" and not set(names_of(host)) & set(EVERYWHERE)
    with pytest.raises(BadOption, match="another --host"):
        listen("192.0.2.1", 0)
    with pytest.raises(BadOption, match="another --host"):
        listen("no.such.host.invalid", 0)


def test_an_address_of_this_machine_alone_is_its_own_name(tmp_path: Path):
    lines, server = said_by(tmp_path, "--host", "127.0.0.5")
    try:
        with build_opener(ProxyHandler({})).open(lines[0].split()[-1], timeout=60) as page:
            assert page.status == 200
    finally:
        server.kill()
        server.communicate()
