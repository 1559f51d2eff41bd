"""A graph's page in a notebook: the widget, its frame, and the questions that pass through it."""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path

import pytest

from graphs.errors import BadOption, MissingProgram
from graphs.widget import SCRIPT, make_widget, reply
from tests.browser import CHROMIUM, new_page
from tests.graphs.export.test_page_driven import fact

ANSWER = {
    "changes": [{"factor": 0.0, "value": None}],
    "nodes": [2],
    "attention": "live",
    "before": [{"token": "austin", "probability": 0.9}],
    "after": [{"token": "sacramento", "probability": 0.8}],
    "clean": 5.0,
    "changed": 1.5,
    "predicted": -3.0,
    "seconds": 0.01,
}
# A notebook's side of a widget: what `model` gives and takes.
NOTEBOOK = """<div id="here"></div><script type="module">
const said = %(page)s, answer = %(answer)s, heard = [];
const model = { get: (name) => said[name], on: (_, listener) => heard.push(listener), off: () => {},
  send: (message) => { window.asked = message; heard.forEach((each) => each({ number: message.number, answer })); } };
const { default: widget } = await import(URL.createObjectURL(new Blob([%(script)s], { type: "text/javascript" })));
window.close_it = widget.render({ model, el: document.getElementById("here") });
</script>"""


def test_a_widget_has_the_page_and_asks_whoever_answers():
    pytest.importorskip("anywidget", reason="anywidget is not installed: no widget was made")
    asked = []

    def answer(question):
        asked.append(question)
        return ANSWER

    assert "default-src" in fact().widget().page and "In the real model" not in fact().widget().page
    widget = make_widget(fact(), answer=answer, high="400px")

    assert "In the real model" in widget.page and widget.high == "400px"
    assert reply(answer, {"number": 3, "question": {"changes": []}}) == {"number": 3, "answer": ANSWER}
    assert asked == [{"changes": []}]


def test_what_goes_wrong_is_told_on_the_page():
    def refuse(question):
        raise BadOption("this makes no sense.")

    assert reply(refuse, {"number": 1, "question": {}}) == {"number": 1, "error": "this makes no sense."}
    assert reply(refuse, "nonsense")["error"].startswith("TypeError")


def test_without_anywidget_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingProgram, match="pip install anywidget"):
        fact().widget()


def notebook_of(widget, folder: Path) -> Path:
    parts = {"page": {"page": widget.page, "high": widget.high}, "answer": ANSWER, "script": SCRIPT}
    said = {name: json.dumps(part).replace("<", "\\u003c") for name, part in parts.items()}
    notebook = folder / "notebook.html"
    notebook.write_text(NOTEBOOK % said, encoding="utf-8")
    return notebook


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the widget was not driven")
def test_the_page_is_as_dark_as_the_notebook_and_hears_nothing_once_it_is_closed(tmp_path: Path):
    pytest.importorskip("anywidget", reason="anywidget is not installed: no widget was made")
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    notebook = notebook_of(make_widget(fact(), answer=lambda _: ANSWER, high="321px"), tmp_path)
    with new_page(tmp_path) as page:
        page.emulate_media(color_scheme="null")  # else the driver says what the frame prefers
        page.goto(notebook.as_uri())
        page.evaluate("document.body.style.background = 'white'")
        page.frame_locator("iframe").locator("#panel button").first.wait_for()
        frame = page.frames[1]
        was = page.evaluate(dark), frame.evaluate(dark), page.locator("iframe").bounding_box()["height"]
        page.evaluate("document.body.style.background = '#111'")
        frame.wait_for_function(dark)  # though the system is light
        page.evaluate("close_it()")
        frame.locator("#panel button", has_text="texas L0 @dallas").last.click()
        frame.locator("#ablate").click()
        page.wait_for_timeout(200)
        asked = page.evaluate("window.asked")

    assert was == (False, False, 321)
    assert asked is None


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the widget was not driven")
def test_a_click_in_the_frame_reaches_python_and_the_answer_comes_back(tmp_path: Path):
    pytest.importorskip("anywidget", reason="anywidget is not installed: no widget was made")
    widget = make_widget(fact(), answer=lambda _: ANSWER)
    notebook = notebook_of(widget, tmp_path)
    with new_page(tmp_path) as page:
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(notebook.as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("#panel button", has_text="texas L0 @dallas").last.click()
        frame.locator("#ablate").click()
        frame.locator("table.trial").wait_for()
        told = frame.locator("#panel").inner_text()
        asked = page.evaluate("window.asked")

    assert not faults
    assert asked["question"] == {"changes": [{"node": 2, "factor": 0}], "attention": "live"}
    assert "sacramento" in told and "the graph predicts" in told
    assert html.unescape(told).count("ablated") == 1
