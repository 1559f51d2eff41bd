"""What patching did as files: pictures in every kind, path diagrams, tables, and a page that is driven in Chromium."""

import base64
import csv
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from graphs.errors import BadOption, CannotWrite, MissingProgram, UnknownPicture
from graphs.export import patching
from graphs.export.heatmap import HeatMap
from graphs.export.patching import WRITERS, Patching, compose_all, write_patching
from graphs.export.patching.page import to_html
from graphs.export.patching.paths import Paths, compose_paths
from graphs.export.picture import to_svg
from graphs.export.scene.edges import breadth
from graphs.export.scene.themes import THEMES

NASTY = '</script><script>alert("&amp;")</script>\u2028\x00 id="x" {{data}}'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")
needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed: nothing was drawn")

#   m0 --40%--> m1   m0 --(-10%)--> logits   a0.h1 --100%--> m1   a0.h1 --0--> logits
SHARES = np.array([[0.4, -0.1], [1.0, 0.0]])
SENDERS, RECEIVERS = ["m0", "a0.h1"], ["m1", "logits"]


def heat(shares=SHARES, direction="denoising", *, effect=None, rows=SENDERS, columns=RECEIVERS, **options):
    return HeatMap(
        effect=10 * shares if effect is None else effect,
        share=shares,
        rows=rows,
        columns=columns,
        places=[[f"{row} to {column}" for column in columns] for row in rows],
        title=f"{direction}, paths",
        direction=direction,
        unit="logits",
        kept="share of the difference brought back",
        **options,
    )


def both(prompt="the state of dallas", columns=RECEIVERS):
    maps = [heat(columns=columns), heat(-0.5 * SHARES, "noising", columns=columns)]
    paths = Paths(SENDERS, columns, np.arange(4).reshape(2, 2))
    return Patching(prompt, "the state of oakland", maps, {"over": "paths"}, paths)


@pytest.mark.parametrize("diagram", [False, True])
def test_a_picture_names_its_prompts_once_below_all(diagram):
    said = " ".join(text.words for text in compose_all(both(), diagram=diagram).texts)

    assert said.count("clean: the state of dallas; corrupted: the state of oakland") == 1


def test_a_path_is_as_wide_as_its_share_and_ends_in_a_tee_where_it_lowers():
    scene = compose_paths(both().paths, heat(), legend=False)

    strokes = {curve.ends: curve for curve in scene.curves}
    assert set(strokes) == {(0, 2), (0, 3), (1, 2)}  # what changes nothing is no path
    assert [ends for ends, curve in strokes.items() if curve.tee] == [(0, 3)]
    assert strokes[1, 2].width == breadth(1) > strokes[0, 2].width == breadth(0.4) > strokes[0, 3].width
    words = [text.words for text in scene.texts]
    assert {"+40.0%", "−10.0%", "+100.0%", *SENDERS, *RECEIVERS} <= set(words)
    places = {text.words: text for text in scene.texts}
    assert places["m0"].y > places["a0.h1"].y and places["m0"].x < places["m1"].x  # what comes first lies lower
    for one in scene.texts:
        assert one.box[0] >= 0 and one.box[2] <= scene.width and one.box[3] <= scene.height


def test_only_the_strongest_of_many_paths_are_drawn_and_the_picture_says_so():
    shares = np.arange(40.0)[:, None] / 40
    names = [f"m{row}" for row in range(40)]
    paths = Paths(names, ["logits"], np.arange(40)[:, None])

    scene = compose_paths(paths, heat(shares, rows=names, columns=["logits"]), legend=False)

    assert [curve.ends[0] for curve in scene.curves] == list(range(16, 40))
    assert "24 of 40 paths are drawn, the strongest" in scene.texts[-1].words

    few = heat(np.array([[1.0], [0.009], [-0.011]]), rows=names[:3], columns=["logits"])
    scene = compose_paths(Paths(names[:3], ["logits"], np.arange(3)[:, None]), few, legend=False)
    assert [curve.ends for curve in scene.curves] == [(0, 3), (2, 3)]  # too weak to be seen


def test_without_shares_widths_go_by_the_largest_effect():
    scene = compose_paths(both().paths, heat(np.full((2, 2), np.nan), effect=3 * SHARES), legend=False)

    assert max(curve.width for curve in scene.curves) == breadth(1)
    assert "+1.2" in [text.words for text in scene.texts]


@pytest.mark.parametrize("diagram", [False, True])
def test_both_directions_stand_one_below_the_other_and_no_mark_is_another(diagram):
    scene = compose_all(both(), diagram=diagram)

    first, second = (
        next(text for text in scene.texts if text.words.startswith(way)) for way in ("denoising", "noising")
    )
    assert second.y > first.y and scene.height > second.y
    ElementTree.fromstring(to_svg(scene))
    rows = [shape.row for shape in scene.shapes if shape.row is not None]
    assert len(set(rows)) == len(rows) == (8 if diagram else 0)
    assert all(set(curve.ends) <= set(rows) for curve in scene.curves if curve.ends)


@needs_graphviz
@pytest.mark.parametrize("diagram", [False, True])
@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<svg")])
def test_every_picture_has_the_same_bytes_every_time(suffix, begins, diagram, tmp_path):
    found = both(columns=["<script>", '"\\& <b>'])
    look = {"diagram": diagram, "theme": "print", "font": "serif", "width_cm": 8.5}

    one = write_patching(found, tmp_path / f"one{suffix}", **look).read_bytes()
    if suffix == ".pdf":
        time.sleep(1.1)  # Graphviz notes the second
    other = write_patching(found, tmp_path / f"other{suffix}", **look).read_bytes()

    assert one == other and one.startswith(begins)
    assert b"<script>" not in one
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one{suffix}", f"other{suffix}"]


def test_the_table_holds_every_place_that_was_measured():
    missing = SHARES.copy()
    missing[1, 0] = np.nan
    found = Patching("a", "b", [heat(missing, columns=["x,y", '"z"\n'])], {"share": [[1.0, None]]})

    lines = list(csv.DictReader(io.StringIO(WRITERS[".csv"](found, False, {}).decode())))

    assert [(line["row"], line["column"]) for line in lines] == [("m0", "x,y"), ("m0", '"z"\n'), ("a0.h1", '"z"\n')]
    assert float(lines[0]["effect"]) == 4.0 and float(lines[0]["share"]) == 0.4
    assert json.loads(WRITERS[".json"](found, False, {})) == {"share": [[1.0, None]]}


@pytest.mark.parametrize(
    ("name", "options", "error", "complaint"),
    [
        ("x.bmp", {}, UnknownPicture, r"\.svg, \.png, .* found"),
        ("x", {}, UnknownPicture, "html"),
        ("x.csv", {"theme": "dark"}, BadOption, "x.csv is no picture, and takes no choice of its theme"),
        ("x.html", {"diagram": True}, BadOption, "no choice of its diagram"),
        ("x.svg", {"theme": "pink"}, BadOption, "theme"),
        ("none/x.svg", {}, CannotWrite, "there is no folder"),
    ],
)
def test_what_cannot_be_written_is_told(name, options, error, complaint, tmp_path):
    with pytest.raises(error, match=complaint):
        write_patching(both(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_diagram_is_of_paths_and_a_missing_program_is_told_before_anything_runs(tmp_path, monkeypatch):
    with pytest.raises(BadOption, match="a diagram is of paths"):
        patching.check_choices(tmp_path / "x.svg", paths=False, diagram=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgram, match="Install it"):
        patching.check_choices(tmp_path / "x.png", paths=False, diagram=False)
    patching.check_choices(tmp_path / "x.svg", paths=False, diagram=False)


def test_the_page_loads_nothing_and_holds_every_text_as_text():
    page = to_html(both(NASTY, columns=[NASTY, "logits"]))

    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1 and policy.startswith("default-src 'none'")
    assert base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode() in policy
    assert "<script>alert" not in page and "{{data}}" in page
    assert not re.search(r'(?:src|href)="|url\(|@import', page)
    held = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    assert held["maps"][0]["places"][0].endswith("{{data}}") and held["paths"]["3"] == "e1-3"
    assert all(f"--{role}:{colour}" in page for colours in THEMES.values() for role, colour in colours.items())


def drive(page, folder, steps, address=""):
    """The texts that steps leave in `said`, when the page is open in Chromium."""
    told = f"<script>{steps}; document.title = JSON.stringify(said);</script></body>"
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", told)
    (folder / "page.html").write_text(open_page, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{folder}/page.html{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]))


@needs_chromium
def test_the_page_answers_what_is_pointed_at_clicked_and_switched(tmp_path):
    steps = """
    const said = [];
    const seen = () => figures.filter((f) => !f.hidden).map((f) => `${f.dataset.direction} ${f.dataset.view}`).join();
    const words = () => document.getElementById("about").innerText.replace(/\\s+/g, " ").trim();
    const square = (at) => document.querySelector(`figure:not([hidden]) [data-about="${at}"]`);
    said.push(seen(), words());
    square(1).dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    said.push(words());
    document.querySelector('button[value="paths"]').click();
    document.querySelector('button[value="noising"]').click();
    said.push(seen());
    panel.querySelector('tr[data-row="2"]').click();
    said.push(words(), document.querySelectorAll("figure:not([hidden]) .path").length);
    said.push(document.querySelector("figure:not([hidden]) .path.on").dataset.name, location.hash);
    said.push(panel.querySelectorAll("tr.go").length, panel.querySelector("tr.go.chosen").innerText.includes("−50.0%"));
    said.push(document.getElementById("fault").hidden);
    """
    found = drive(to_html(both()), tmp_path, steps)

    assert found[:2] == ["denoising map", "Point at a square or a path, or click one."]
    assert found[2] == "m0 to logits denoising −10.0%, −1 logits noising 5.0%, +0.5 logits"
    assert found[3] == "noising paths"
    assert found[4] == "a0.h1 to m1 denoising 100.0%, +10 logits noising −50.0%, −5 logits"
    assert found[5:7] == [3, "e1-2"] and found[7] == "#direction=noising&view=paths&at=2"
    assert found[8:] == [4, True, True]


@needs_chromium
def test_the_page_opens_where_its_address_says_whatever_its_texts(tmp_path):
    steps = """
    const said = [figures.find((f) => !f.hidden).dataset.direction, document.querySelector("#about h2").textContent];
    said.push(document.getElementById("fault").hidden);
    """
    page = to_html(both(NASTY, columns=[NASTY, "logits"]))

    found = drive(page, tmp_path, steps, "#direction=noising&view=nonsense&at=0")

    assert found[0] == "noising" and found[1].startswith("m0 to </script><script>alert(") and found[2] is True
