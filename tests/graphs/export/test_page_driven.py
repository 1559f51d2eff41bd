"""The page driven in Chromium: hovered, clicked, walked with keys, searched and sifted. Skipped where there is none."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from graphs.assays import Ablation, Assay, Subset, Verdict
from graphs.export.page import to_html
from graphs.paths import influence, signed_share
from graphs.pruning import prune
from graphs.scores import scores
from tests.worlds import graph_of, layered

NASTY = '</script><!--<script>alert("&amp;")</script>\u2028\x00\ud800<img src=x onerror=alert(1)>{{data}}'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")


def fact(label="texas", token="dallas", **parts):
    #   dallas 1 --3--> texas 2 --2--> austin 6;  dallas 1 --(-4)--> L1/3 3 --1--> austin 6
    #   <bos> 0 --1--> texas 2;  bias 4 --9--> austin 6;  error 5 --(-0.5)--> austin 6
    graph = graph_of(
        [(0, 2, 1), (1, 2, 3), (1, 3, -4), (2, 6, 2), (3, 6, 1), (4, 6, 9), (5, 6, -0.5)],
        "token token feature feature bias error logit",
    )
    nodes = graph.nodes.with_columns(
        position=np.array([0, 1, 1, 1, -1, 1, 1]),
        layer=np.array([-1, -1, 0, 1, 1, 1, 2]),
        influence=np.array([0.15, 0.71, 0.57, 0.29, 0.0, 0.14, 0.0]),
        label=np.array(["<bos>", token, label, "L1/3", "decoder bias L1", "error L1", "austin"], dtype=object),
    )
    notes = {
        "0/2": {"label": label, "fires_on": [token], "context": ["state"], "promotes": [label], "density": 0.01},
        "9/9": {"label": "of another prompt"},
    }
    made = {"prompt": f"the state of {token}", "model": "world", "feature_notes": notes}
    return replace(graph, nodes=nodes, token_ids=(1, 2), tokens=("<bos>", token), provenance=made, **parts)


def assayed(claim="signs are right"):
    nan = float("nan")
    return Assay(
        registration={"hash": "c0ffee", "metric": "logit of austin"},
        conservation=1e-7,
        ablations=[Ablation(2, 0.7, -2.5, -1.25, 0.1, -1.5, 0.2), Ablation(3, 0.3, 1.0, 0.5, 0.1, nan, nan)],
        statistics={"slope": 0.5, "sign_agreement": 1.0, "spearman_kl": nan},
        subsets=[Subset("mean", 0.75, 0.25, [0.1, 0.2, nan], [1.0, 1.1], 0.25, 0.5)],
        verdicts=[
            Verdict("inputs sum", "supported", 1e-7, "≤ 1e-5", "a law"),
            Verdict(claim, "not supported", 0.4, "80% of signs", "1000 shuffles"),
            Verdict("doses are right", "untested", nan, "slope", "none"),
        ],
    )


def test_every_colour_on_the_page_has_a_value_in_light_and_in_dark():
    document = to_html(fact(), assay=assayed())
    used = set(re.findall(r"var\((--\w+)\)", document))
    light, dark = document.split("@media (prefers-color-scheme: dark)", 1)

    assert used
    for name in used:
        assert f"{name}:" in light and f"{name}:" in dark, name


LISTEN = """
window.wrong = [];
addEventListener("error", (event) => wrong.push(event.message));
document.addEventListener("securitypolicyviolation", (event) => wrong.push(event.violatedDirective));
window.alert = () => wrong.push("a text ran as a script");
"""
TOOLS = """
const text = (where) => document.querySelector(where).textContent.replace(/\\s+/g, " ");
const key = (name) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const dot = (row) => document.querySelector(`.hit[data-row="${row}"]`);
const event = (element, kind) => element.dispatchEvent(new Event(kind, { bubbles: true }));
const enter = (id, words) => {
  document.getElementById(id).value = words;
  event(document.getElementById(id), "input");
};
"""
SAY = 'document.title = Array.from(new TextEncoder().encode(JSON.stringify({ found, wrong }))).join(" ");'


def drive(document, folder, script, address=""):
    """What a script returns that runs in the page after its own, in a browser of its own without a network."""
    first = LISTEN
    attempt = f"try {{ found = (() => {{ {script} }})(); }} catch (fault) {{ wrong.push(String(fault)); }}"
    last = f"{TOOLS} let found; {attempt} {SAY}"
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (first, last)]
    hashes = " ".join(f"'sha256-{each}'" for each in digests)
    document = document.replace("script-src ", f"script-src {hashes} ", 1)
    document = document.replace("<title>", f"<script>{first}</script><title>", 1)
    document = document.replace("</body>", f"<script>{last}</script></body>")
    (folder / "page.html").write_text(document, encoding="utf-8")
    flags = "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
    command = [CHROMIUM, *(f"--{flag}" for flag in flags.split()), "--disable-sync", "--window-size=1300,900"]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{folder}/page.html{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer = json.loads(bytes(map(int, re.search("<title>([0-9 ]+)</title>", done.stdout).group(1).split())))
    assert answer["wrong"] == []
    return answer["found"]


@needs_chromium
@pytest.mark.slow
def test_hovering_clicking_keys_search_and_address_work(tmp_path):
    found = drive(
        to_html(fact(), assay=assayed()),
        tmp_path,
        """
        const said = {};
        said.opened = [text("#panel h2"), location.hash];
        key("Escape");
        said.closed = location.hash;
        event(dot(2), "pointerover");
        said.lit = [...document.querySelectorAll(".lit .edge")].map((mark) => Number(mark.dataset.edge)).sort();
        event(document.querySelector("#picture svg"), "pointerleave");
        event(dot(6), "click");
        said.austin = [text("#panel h2"), text("#panel")];
        key("ArrowDown");
        said.down = text("#panel h2");
        said.spoken = text("#pinned");
        key("ArrowDown");
        said.below = text("#panel h2");
        key("ArrowUp");
        said.back = text("#panel h2");
        said.texas = text("#panel");
        key("Escape");
        enter("find", "BIAS");
        said.sought = text("#panel h2");
        document.querySelector("#panel li button").click();
        said.bias = text("#panel");
        said.claims = text("#assay");
        said.dots = document.querySelectorAll("#plots [data-about]").length;
        return said;
        """,
        address="#node=2",
    )

    assert found["opened"] == ["texas L0 @dallas", "#node=2"]
    assert found["closed"] == ""
    # Edges 0 and 1 come into texas, 3 goes out: sorted by target, then source.
    assert found["lit"] == [0, 1, 3]
    title, panel = found["austin"]
    assert title == "austin"
    for words in ("+2.000+57.1%", "+1.000+28.6%", "−0.500−14.3%", "+9.000constant", "value+11.500"):
        assert words in panel
    assert "pruned away" not in panel
    assert (found["down"], found["below"], found["back"]) == ("texas L0 @dallas", "dallas", "texas L0 @dallas")
    assert found["spoken"] == "feature texas L0 @dallas"
    for words in ("fires ondallas", "active on1.00% of tokens", "predicts−2.500", "live−1.250", "held−1.500"):
        assert words in found["texas"], words
    assert found["sought"] == "1 node with “BIAS”"
    assert "Not drawn" in found["bias"]
    assert "✗ not supportedsigns are right0.480% of signs" in found["claims"]
    # Two nodes with attention live, one with attention held: the other gave no number.
    assert found["dots"] == 3


@needs_chromium
@pytest.mark.slow
def test_a_dot_of_a_plot_points_out_its_node_and_a_node_its_dots(tmp_path):
    assay = replace(assayed(), skipped={"doses": NASTY}, seconds={"trace": 0.5, "ablations": 1.5})
    found = drive(
        to_html(fact(), assay=assay),
        tmp_path,
        """
        const said = {};
        const marks = (row) => [...document.querySelectorAll(`#plots [data-about="${row}"]`)];
        const lit = () => [...document.querySelectorAll("#plots .on")].map((mark) => mark.dataset.about);
        said.none = lit();
        event(marks(2)[0], "pointerover");
        said.hovered = [lit(), [...document.querySelectorAll(".lit .edge")].length, location.hash];
        event(document.querySelector("#plots"), "pointerleave");
        said.left = lit();
        event(marks(3)[0], "click");
        said.clicked = [text("#panel h2"), location.hash, lit()];
        event(document.querySelector("#plots svg"), "click");
        said.beside = location.hash;
        event(dot(2), "click");
        said.chosen = lit();
        said.words = marks(2).map((mark) => mark.getAttribute("aria-label"));
        let shown = null;
        Element.prototype.scrollIntoView = function () { shown = this; };
        const buttons = [...document.querySelectorAll("#panel button")];
        buttons.find((each) => each.textContent === "show in the plots").click();
        said.shown = shown === marks(2)[0];
        said.claims = text("#claims");
        said.costs = text("#costs");
        said.plots = text("#plots");
        said.figures = document.querySelectorAll("#plots figure").length;
        return said;
        """,
    )

    assert found["none"] == found["left"] == []
    assert found["hovered"] == [["2", "2"], 3, ""]
    assert found["clicked"] == ["L1/3 @dallas", "#node=3", ["3"]]
    assert found["beside"] == "#node=3"
    assert found["chosen"] == ["2", "2"] and found["shown"]
    assert "predicted −2.5, measured −1.25 logits, attention live" in found["words"][0]
    assert "measured −1.5 logits, attention held" in found["words"][1]
    assert "Registered and not runnodes halved and turned round </script>" in found["claims"]
    assert "– untesteddoses are right" in found["claims"]
    assert "What it cost: 2 s" in found["costs"] and "nodes ablated one by one1.50 s" in found["costs"]
    # Nodes one by one, and the whole graph against random sets; nothing else was measured.
    assert found["figures"] == 2 and "slope 0.5, signs right 100%" in found["plots"]


@needs_chromium
@pytest.mark.slow
def test_what_the_sliders_hide_counts_as_pruned(tmp_path):
    graph = layered(60, layers=4, positions=5)
    graph = replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph)))
    graph = prune(graph, nodes=0.9, edges=0.95)
    least, share = 0.05, 0.03
    found = drive(
        to_html(graph, most_edges=20),
        tmp_path,
        """
        const said = { sifted: text("#counts"), hash: location.hash };
        said.drawn = svg.querySelectorAll(".edges .edge:not(.gone)").length;
        enter("least", 0); enter("share", 0);
        said.all = text("#counts");
        const pruned = [...document.querySelectorAll(".hit")].map((hit) => {
            event(hit, "click");
            const rows = [...document.querySelectorAll("#panel tr")].map((row) => row.textContent);
            return rows.some((row) => row.startsWith("pruned away"));
        });
        said.pruned = pruned.filter(Boolean).length;
        return said;
        """,
        address=f"#least={least}&share={share}",
    )

    stay = np.flatnonzero(np.isin(graph.nodes.kind, ("token", "logit")) | (graph.nodes.influence >= least))
    rest = graph.select(stay, np.abs(signed_share(graph)) >= share)
    before, after = scores(graph).replacement, scores(rest).replacement
    assert len(rest.source) < len(graph.source) and len(stay) < len(graph.nodes)
    assert f"{len(stay)} of {len(graph.nodes)} nodes" in found["sifted"]
    assert f"{len(rest.source)} of {len(graph.source)} edges" in found["sifted"]
    assert f"replacement {before:.2f} → {after:.2f}" in found["sifted"]
    assert f"{found['drawn']} of them drawn" in found["sifted"] and found["drawn"] < 20
    assert found["all"].endswith(f"replacement {before:.2f}")
    assert found["hash"] == f"#least={least}&share={share}"
    lost = 1 - np.bincount(graph.target, np.abs(signed_share(graph)), minlength=len(graph.nodes))
    assert found["pruned"] == np.count_nonzero((lost > 1e-5) & (graph.nodes.gross > 0))


@needs_chromium
@pytest.mark.slow
def test_a_slider_that_moves_leaves_the_panel_and_the_address_until_it_rests(tmp_path):
    found = drive(
        to_html(fact()),
        tmp_path,
        """
        const said = {};
        pin(5);
        const first = panel.firstChild;
        enter("share", 95);
        said.moving = [panel.firstChild === first, location.hash, text("#counts")];
        event(document.getElementById("share"), "change");
        said.rested = location.hash;
        enter("least", 90);
        said.hidden = text("#panel");
        enter("least", 0);
        said.back = text("#panel");
        return said;
        """,
    )

    same, address, counts = found["moving"]
    assert same and address == "#node=5" and "what is hidden counted as pruned" in counts
    assert found["rested"].startswith("#node=5&share=0.")
    assert "Hidden by the slider" in found["hidden"] and "Hidden by the slider" not in found["back"]


@needs_chromium
@pytest.mark.slow
def test_what_a_graph_has_not_is_not_offered_and_what_is_quoted_is_not_quoted_again(tmp_path):
    graph = fact(label=" ", token=" ")
    labels = graph.nodes.label.copy()
    labels[0] = ","
    graph = replace(graph, nodes=graph.nodes.with_columns(label=labels))
    made = {name: each for name, each in graph.provenance.items() if name != "feature_notes"}
    found = drive(
        to_html(replace(graph, provenance=made)),
        tmp_path,
        """
        const said = { names: names.slice(0, 2) };
        said.dense = getComputedStyle(document.getElementById("dense-tool")).display;
        panel.style.maxHeight = "60px";
        panel.scrollTop = 40;
        said.scrolled = panel.scrollTop;
        enter("find", "L1");
        said.found = panel.scrollTop;
        return said;
        """,
    )

    assert found["dense"] == "none"  # no unit's density is known
    assert found["names"] == ['","', "' '"]
    assert found["scrolled"] == 40 and found["found"] == 0  # the first that was found is in sight


@needs_chromium
@pytest.mark.slow
def test_nothing_a_graph_says_runs_or_becomes_an_element(tmp_path):
    found = drive(
        to_html(fact(label=NASTY, token=NASTY), assay=assayed(claim=NASTY)),
        tmp_path,
        """
        enter("find", "script");
        for (const row of [1, 2, 3, 6]) { event(dot(row), "pointerover"); event(dot(row), "click"); }
        event(dot(2), "click");
        return [document.querySelectorAll("img, #panel script, #assay script").length, text("#panel"), text("#assay")];
        """,
    )

    elements, panel, claims = found
    assert elements == 0
    assert "<img src=x onerror=alert(1)>" in panel and "<img src=x onerror=alert(1)>" in claims


@needs_chromium
@pytest.mark.slow
def test_nodes_are_grouped_by_dragging_and_by_keys_renamed_undone_and_kept_in_the_address(tmp_path):
    #   dallas 0 --2--> texas 1 --1--> not 3 --1--> austin 4;  dallas 0 --2--> texas 2 --1--> austin 4
    graph = graph_of([(0, 1, 2), (0, 2, 2), (1, 3, 1), (3, 4, 1), (2, 4, 1)], "token feature feature feature logit")
    label = np.array(["dallas", "texas", NASTY, "not", "austin"], dtype=object)
    layer = np.array([-1, 0, 0, 1, 2])
    graph = replace(graph, nodes=graph.nodes.with_columns(label=label, layer=layer, influence=influence(graph)))
    found = drive(
        to_html(graph),
        tmp_path,
        """
        const said = {};
        const groups = () => JSON.parse(new URLSearchParams(location.hash.slice(1)).get("groups"));
        const move = (kind, row, target) => {
          const box = dot(row).getBoundingClientRect();
          const at = { bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
          (target ?? dot(row)).dispatchEvent(new PointerEvent(kind, at));
        };
        const drag = (from, to) => {
          move("pointerdown", from); move("pointermove", to); move("pointerup", to, window);
        };
        const click = (row) => {
          move("pointerdown", row); move("pointerup", row, window); event(dot(row), "click");
        };
        said.opened = groups();
        move("pointerdown", 2); move("pointermove", 1); move("pointercancel", 1, window); move("pointerup", 1, window);
        said.scrolled = groups();
        drag(2, 1);
        said.dragged = groups();
        said.boxes = [...document.querySelectorAll(".diagram g.go")].map((box) => box.getAttribute("aria-label"));
        said.carries = text("#groups .scroll + p");
        said.hulls = document.querySelectorAll(".hull").length;
        const name = document.querySelector("#groups input");
        name.focus({ preventScroll: true });
        name.value = "the state";
        event(name, "change");
        said.focus = [document.activeElement !== name, document.activeElement.value];
        document.activeElement.blur();
        said.renamed = groups();
        drag(0, 1);
        said.mixed = [groups(), text("#grouping.failed")];
        key("u"); key("u");
        said.undone = groups();
        click(1); key("g");
        said.waits = text("#grouping");
        key("Escape");
        said.gone = [text("#grouping"), waiting];
        key("g");
        click(4); key("g");
        said.logit = text("#grouping.failed");
        drag(1, 3); drag(2, 3);
        said.grown = groups();
        return said;
        """,
    )

    assert found["opened"] is None and found["scrolled"] is None
    assert [group[1:] for group in found["dragged"]] == [[1, 2]]
    assert found["boxes"] == ["dallas", "texas", "not L1 @dallas", "austin 100%"]
    assert "4 of 4 boxes and 4 of 4 edges, 100% of what they carry; 0% cancels" in found["carries"]
    assert found["hulls"] == 1
    assert found["renamed"] == [["the state", 1, 2]] and found["focus"] == [True, "the state"]
    assert "press g to group the two" in found["waits"] and found["gone"] == ["", None]
    groups, why = found["mixed"]
    assert groups == [["the state", 1, 2]] and "token and unit do not go together" in why
    assert found["undone"] is None
    assert "unit and logit do not go together" in found["logit"]
    assert found["grown"] == [["not", 1, 2, 3]]


@needs_chromium
@pytest.mark.slow
def test_groups_that_would_feed_each_other_are_refused_and_a_wrong_address_is_no_fault(tmp_path):
    #   token 0 -> feature 1 -> feature 2 -> feature 3 -> logit 4
    chain = graph_of([(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 4, 1)], "token feature feature feature logit")
    found = drive(
        to_html(chain),
        tmp_path,
        """
        const said = [state.groups.length];
        join(1, 3);
        said.push(state.groups.length, text("#grouping.failed"));
        location.hash = "#groups=nonsense"; readAddress();
        said.push(state.groups.length);
        return said;
        """,
        address='#groups=[["a",1,3],["b",2,99]]',
    )

    assert found == [0, 0, "Not grouped: the groups would feed each other in a circle.", 0]


@needs_chromium
@pytest.mark.slow
def test_what_is_shown_is_saved_and_set_beside_another_graph(tmp_path):
    other = fact(label=NASTY, token="houston")
    other = replace(other, nodes=other.nodes.with_columns(feature=np.array([0, 1, 2, 33, 4, 5, 6])))
    page = json.dumps(to_html(other)).replace("<", "\\u003c")
    found = drive(
        to_html(fact(label=NASTY), assay=assayed()),
        tmp_path,
        f"""
        const said = {{}};
        enter("dense", 100);
        event(document.getElementById("dense"), "change");
        said.hash = location.hash;
        enter("dense", 0);
        enter("least", 90);
        state.groups = [];
        said.svg = shownSvg();
        said.json = shownGraph();
        enter("least", 0);
        pin(2);
        document.title = "dallas ".repeat(60);
        said.pinned = shownSvg();
        pin(null);
        showBeside({page}, "page.html");
        said.beside = text("#beside");
        said.top = document.getElementById("beside").getBoundingClientRect().top - innerHeight;
        showBeside(JSON.stringify(shownGraph()), "x.json");
        said.itself = text("#beside");
        for (const made of [{{ model: "one" }}, {{ model: "one", model_hash: "1" }}, {{}}]) {{
          Object.assign(graph.made, {{ model: "two", model_hash: "1" }});
          showBeside(JSON.stringify({{ ...shownGraph(), made }}), "x.json");
          (said.made ??= []).push(document.querySelector("#beside .failed")?.textContent ?? null);
        }}
        for (const wrong of ["nonsense", "<p>", "{{}}", '{{"nodes":{{"kind":["x"]}}}}']) {{
          showBeside(wrong, "wrong.json");
          said[wrong] = text("#beside");
        }}
        said.elements = document.querySelectorAll("img, #beside script").length;
        return said;
        """,
    )

    root = ElementTree.fromstring(found["svg"])
    ids = {element.get("id") for element in root.iter()}
    assert "n2" in ids and "n5" not in ids  # texas carries much, the error little
    assert "var(" not in found["svg"] and "class=" not in found["svg"]
    words = " ".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "what is hidden counted as pruned" in words
    assert "1 not supported" in words and "1 bias nodes are listed, not drawn" in words
    drawn = ElementTree.fromstring(found["pinned"])
    ring = next(each for each in drawn.iter("{http://www.w3.org/2000/svg}circle") if each.get("stroke-width") == "1.6")
    assert ring.get("fill") == "none" and ring.get("stroke").startswith("#")
    long = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text") if "dallas dallas" in each.text]
    assert len(long) > 1 and sum(words.count("dallas") for words in long) == 60
    assert 2 in found["json"]["nodes"]["row"] and 5 not in found["json"]["nodes"]["row"]
    assert len(found["json"]["edges"]["source"]) == len(found["json"]["edges"]["weight"]) < 7
    assert found["top"] < 0
    assert "6 nodes in both 1 only here 1 only there" in found["beside"]
    assert "edges: 5 in both, 2 only here, 2 only there" in found["beside"]
    assert found["made"] == ["Made with another model, one: the same number is another unit there.", None, None]
    assert "7 nodes in both 0 only here 0 only there" in found["itself"] and "influence 1.00" in found["itself"]
    assert "circuits import" in found["{}"] and "Cannot read" not in found["{}"]
    for wrong in ("nonsense", "<p>", "{}", '{"nodes":{"kind":["x"]}}'):
        assert "could not be compared" in found[wrong]
    assert found["elements"] == 0
    assert "dense=0.01" in found["hash"]
