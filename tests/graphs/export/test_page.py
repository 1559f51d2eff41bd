"""The page: one file that asks the network for nothing, takes no word for markup, and whose ledgers close."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings

from graphs import draw, group
from graphs.assays import Ablation, Assay, Subset, Verdict
from graphs.export.page import contents, to_html
from graphs.pruning import prune
from graphs.scores import scores
from tests.worlds import graph_of, graphs

NASTY = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028\"'&\\"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def small(**parts):
    #   <bos> 0 --1--> texas 2 --2--> austin 5;  dallas 1 --3--> texas 2, --(-4)--> L1/3 3 --1--> austin 5
    #   bias 4 --9--> austin 5
    graph = graph_of(
        [(0, 2, 1), (1, 2, 3), (1, 3, -4), (2, 5, 2), (3, 5, 1), (4, 5, 9)], "token token feature feature bias logit"
    )
    nodes = graph.nodes.with_columns(
        position=np.array([0, 1, 1, 1, -1, 1]),
        layer=np.array([-1, -1, 0, 1, 1, 2]),
        influence=np.array([0.2, 0.9, 0.7, 0.3, 0.0, 0.0]),
        label=np.array(["<bos>", "dallas", "texas", "L1/3", "decoder bias L1", "austin"], dtype=object),
    )
    notes = {
        "0/2": {
            "label": "texas",
            "fires_on": ["houston"],
            "context": ["oil"],
            "promotes": ["longhorn"],
            "density": 0.5,
        },
        "9/9": {"label": "absent", "fires_on": [], "context": [], "promotes": [], "density": 0.1},
    }
    parts = {"token_ids": (1, 2), "tokens": ("<bos>", "dallas"), "provenance": {"feature_notes": notes}, **parts}
    return replace(graph, nodes=nodes, **parts)


def assayed():
    return Assay(
        registration={"hash": "c0ffee", "metric": "logit of 'austin'"},
        conservation=1e-7,
        ablations=[Ablation(2, 0.7, -2.0, -1.75, 0.125, -1.5, 0.0625)],
        statistics={"slope": 0.875, "slope_frozen": 0.75, "spearman_kl": float("nan")},
        subsets=[Subset("mean", 0.8, 0.1, [0.2, 0.3], [0.9, 0.8], 1 / 3, 1 / 3)],
        verdicts=[
            Verdict("inputs sum", "supported", 1e-7, "≤ 1e-5", "a law"),
            Verdict("signs are right", "not supported", 0.4, "80% of signs", "1000 shuffles"),
            Verdict("doses are right", "untested", float("nan"), "slope", "none"),
        ],
    )


class Page(HTMLParser):
    """What a browser would find: elements, comments, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.comments = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    def handle_comment(self, data):
        self.comments.append(data)


def data_of(text):
    data, _ = Page(text).scripts
    return json.loads(data)


def test_no_word_from_the_graph_becomes_markup():
    graph = small(tokens=(NASTY, NASTY), provenance={"feature_notes": {"0/2": {"label": NASTY, "fires_on": [NASTY]}}})
    graph = replace(graph, nodes=graph.nodes.with_columns(label=np.full(6, NASTY, dtype=object)))
    nasty = assayed()
    nasty = replace(nasty, verdicts=[replace(each, claim=NASTY) for each in nasty.verdicts])

    page, plain = Page(to_html(graph, assay=nasty)), Page(to_html(small(), assay=assayed()))

    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert not page.comments and len(page.scripts) == 2
    assert "<" not in page.scripts[0] and "\u2028" not in page.scripts[0]
    assert page.scripts[1] == plain.scripts[1]
    assert json.loads(page.scripts[0])["nodes"]["label"] == [NASTY] * 6
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_page_refers_to_nothing_outside_itself_and_forbids_what_it_does_not_bring():
    text = to_html(small(), assay=assayed())
    page = Page(text)

    assert not [each for each in page.elements if {"src", "href", "srcset", "action", "data"} & set(each[1])]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|WebSocket|sendBeacon|innerHTML|eval\(|https://", text)
    assert set(re.findall(r"http://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    policy = next(each["content"] for tag, each in page.elements if each.get("http-equiv"))
    digest = b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


@given(graph=graphs())
@settings(max_examples=25)
def test_what_is_listed_and_what_was_pruned_sum_to_every_targets_value(graph):
    small = prune(graph, nodes=0.6, edges=0.8)

    data = data_of(to_html(small))

    whole_of = {label: row for row, label in enumerate(graph.nodes.label)}
    nodes, edges = data["nodes"], data["edges"]
    for row in small.nodes.where("feature", "logit"):
        weights = [w for t, w in zip(edges["target"], edges["weight"], strict=True) if t == row]
        shares = [s for t, s in zip(edges["target"], edges["share"], strict=True) if t == row]
        label = nodes["label"][row]
        # What pruning took from this target, counted in the whole graph instead of by difference.
        before = graph.weight[graph.target == whole_of[label]].sum()
        lost = before - small.weight[small.target == row].sum()
        assert sum(weights) + lost == pytest.approx(nodes["value"][row], abs=1e-5 * (1 + nodes["gross"][row]))
        assert sum(map(abs, shares)) <= 1 + 1e-5


def test_the_data_are_json_without_nan_and_hold_the_notes_of_the_features_that_are_there():
    data = data_of(to_html(small(), assay=assayed()))

    assert data["notes"].keys() == {"0/2"}
    assert data["nodes"]["value"][0] is None
    assert data["assay"]["verdicts"][2]["number"] is None
    assert data["assay"]["ablations"][0]["measured"] == -1.75
    assert data["scores"]["replacement"] == pytest.approx(scores(small()).replacement)
    assert data["paths"][0]["nodes"] == [1, 2, 5]
    assert contents(small())["assay"] is None


def test_a_prompt_that_came_as_token_ids_is_told_in_words():
    page = to_html(small(provenance={"prompt": [1, 2]}))

    assert "<title>dallas</title>" in page and "[1, 2]" not in page
    assert contents(small(provenance={"prompt": [1, 2]}))["prompt"] == "dallas"


def test_a_page_of_an_imported_graph_does_not_call_it_whole():
    said = {"format": "neuronpedia", "metadata": {"node_threshold": 0.8}}

    assert contents(small())["size"] == "whole graph: 6 nodes, 6 edges"
    assert contents(small(provenance={"imported": said}))["size"].startswith("imported, pruned before to 80%")
    grouped = contents(group(small(provenance={"imported": said})))["size"]
    assert grouped.startswith("imported, pruned before to 80%") and "6 nodes, 6 edges, grouped into" in grouped


def test_a_page_is_the_same_bytes_twice(tmp_path):
    one, two = (draw(small(), tmp_path / name, assay=assayed()).read_bytes() for name in ("one.html", "two.html"))
    assert one == two


def opened(path, place, fresh):
    """The words of each element with an id, once Chromium has run the page at this place."""
    # A whole machine may be building beside this; virtual time makes the page's own waiting take none.
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={fresh}", "--virtual-time-budget=3000", "--dump-dom", f"{path.as_uri()}#{place}"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    def words(id):
        found = re.search(rf'<(\w+)[^>]* id="{id}".*?</\1>', text, re.DOTALL) or re.search(
            rf'<(\w+) id="{id}".*?</\1>', text, re.DOTALL
        )
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found[0])).split())

    return words


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: nobody looked at the page")
def test_in_a_browser_the_page_shows_the_node_that_its_address_names(tmp_path):
    path = draw(small(), tmp_path / "page.html", assay=assayed())

    words = opened(path, "node=2", tmp_path / "fresh")

    assert words("fault") == ""
    assert words("facts").startswith(
        "→ austin 100.0% whole graph: 6 nodes, 6 edges; replacement 1.00; completeness 1.00;"
    )
    assert "assay on this prompt: 1 supported, 1 not supported , 1 untested" in words("facts")
    # Two thirds of what moves the logit come through texas, a quarter of that from <bos>.
    assert "grey: from <bos>, 17% of what ends in tokens" in words("facts")
    panel = words("panel")
    assert panel.startswith("× texas L0 @dallas")
    assert "fires on houston" in panel and "promotes longhorn" in panel and "50.00% of tokens" in panel
    assert "dallas +3.000 +75.0%" in panel and "<bos> +1.000 +25.0%" in panel and "value +4.000" in panel
    assert "measured, attention live −1.750 0.125" in panel
    assert "austin +2.000" in panel
    assert "✗ not supported signs are right 0.4" in words("assay")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: nobody looked at the page")
def test_in_a_browser_sliders_count_what_they_hide_the_ledger_closes_and_a_missing_assay_is_named(tmp_path):
    graph = small().select(np.arange(6), edges=np.array([False, True, True, True, True, True]))  # <bos> -> texas pruned
    graph = replace(graph, nodes=graph.nodes.with_columns(label=np.array([NASTY] * 6, dtype=object)))
    path = draw(graph, tmp_path / "page.html")

    words = opened(path, "node=2&least=0.5", tmp_path / "fresh")

    assert words("fault") == ""
    assert "+3.000 +75.0%" in words("panel") and "pruned away, 25.0% of the sizes +1.000 value +4.000" in words("panel")
    # Feature 3 carries 0.3 and goes with its two edges, a third of the logit's input. Of the rest texas lost a quarter.
    assert words("counts").startswith("4 of 5 nodes, 86% of what they carry · 2 of 4 edges")
    assert "replacement 0.83 → 0.50" in words("counts")
    assert "not tested" in words("assay").lower() and "circuits check" in words("assay")


def test_the_page_brings_suggested_groups_and_takes_a_graph_that_was_grouped():
    #   token 0 --1--> feature 1 --1--> logit 3, token 0 --1--> feature 2 --1--> logit 3
    twins = graph_of([(0, 1, 1), (0, 2, 1), (1, 3, 1), (2, 3, 1)], "token feature feature logit")

    assert data_of(to_html(twins))["suggested"] == {"feature 1": [1, 2]}
    constants = graph_of([(0, 2, 1), (1, 2, 1)], "bias bias logit")
    assert data_of(to_html(constants))["suggested"] == {}
    found = data_of(to_html(group(twins)))
    assert found["nodes"]["kind"] == ["token", "supernode", "logit"]
    assert found["made"]["groups"][0]["nodes"] == [1, 2]
