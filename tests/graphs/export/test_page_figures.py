"""What a page says of an assay is worked out before it is written; what it works out live is what Python would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphs import draw, group
from graphs.assays import Ablation, Edges, Verdict
from graphs.export.page import contents
from graphs.graph import AttributionGraph
from graphs.paths import influence, signed_share
from graphs.scores import scores
from graphs.suggesting import suggest_groups
from graphs.wording import assay_in_words
from tests.browser import CHROMIUM, new_page
from tests.graphs.export.test_page_driven import assayed, fact
from tests.worlds import graph_of, layered

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")


@pytest.mark.parametrize("bar", ["≥ 80% of it", "≥80% of it", "more survives than of theirs", "at least 0.8", "≤ 1e-3"])
def test_a_figure_reads_on_the_page_as_in_the_terminal(bar: str):
    assay = replace(assayed(), verdicts=[Verdict("it does", "supported", 0.875, bar, "100 sets")])

    figure = contents(fact(), assay)["assay"]["verdicts"][0]["figure"]

    assert f" {figure} (wanted: {bar}); 100 sets" in "\n".join(assay_in_words(assay))
    assert figure == ("0.875" if bar in ("at least 0.8", "≤ 1e-3") else "87.5%")


def test_a_page_is_told_which_edges_no_experiment_tries_and_why():
    #   token 0 -> feature 4;  encoder bias 1 -> feature 4;  decoder bias 2 -> feature 4;  unselected 3 -> logit 6
    #   feature 4 -> head 5 -> logit 6
    edges = [(0, 4, 1), (1, 4, 1), (2, 4, 1), (3, 6, 1), (4, 5, 1), (5, 6, 1)]
    graph = graph_of(edges, "token bias bias unselected feature head logit")
    label = ["dallas", "encoder bias L0", "decoder bias L0", "rest", "texas", "head", "austin"]
    graph = replace(graph, nodes=graph.nodes.with_columns(label=np.array(label, dtype=object)))
    tried = replace(assayed(), ablations=[], subsets=[], edges=[Edges(6, 0, 1e-7, 0, 4)])

    told = contents(graph, tried)["assay"]

    untried = {(int(graph.source[int(at)]), int(graph.target[int(at)])): why for at, why in told["untried"].items()}
    assert untried == {(1, 4): "source", (3, 6): "source", (4, 5): "target"} and told["failed"] is None
    assert contents(graph, replace(tried, edges=[Edges(6, 0, 0.5, 0, 4)]))["assay"]["failed"] == [0, 4]
    assert contents(graph, replace(tried, edges=[]))["assay"]["untried"] == {}


def test_a_page_is_told_which_nodes_moved_the_target_against_a_prediction_that_counts():
    nan = float("nan")
    measured = [
        Ablation(2, 0.7, -2.5, -1.25, 0.1, 1.5, 0.2),  # held, the other way
        Ablation(3, 0.3, 1.0, -0.5, 0.1, nan, nan),  # live, the other way
        Ablation(5, 0.1, 0.1, -0.5, 0.1, -0.5, 0.1),  # both, but too little was predicted
    ]
    assay = replace(assayed(), ablations=measured, statistics={"clean": 4.0})

    assert contents(fact(), assay)["assay"]["opposed"] == {"live": [3], "held": [2]}


def test_a_mark_alone_is_no_name_and_a_contrast_is_known_by_what_it_is_held_against():
    graph = graph_of([(0, 1, 1), (0, 2, 1)], "token logit logit", tokens=("dallas",))
    label = np.array([",", "austin", " ,"], dtype=object)
    graph = replace(graph, nodes=graph.nodes.with_columns(label=label), provenance={"against": [5, -1]})

    told = contents(graph)

    assert told["names"] == ['","', "austin", '","'] and told["answers"] == {"1": "austin", "2": '","'}
    assert told["against"] == {"1": 5}


def mixed(seed: int) -> AttributionGraph:
    """Tokens, errors, constants and what was not traced; some inputs of every node were pruned."""
    rng = np.random.default_rng(seed)
    graph = layered(40, layers=3, positions=4, seed=seed)
    others = graph.nodes.where("error")
    kind = graph.nodes.kind.copy()
    kind[others] = rng.choice(["error", "unselected", "bias"], len(others))
    counted = kind[graph.source] != "bias"
    sizes = np.abs(graph.weight) * counted
    gross = np.bincount(graph.target, sizes, minlength=len(kind)) * rng.uniform(1, 1.5, len(kind))
    graph = replace(graph, nodes=graph.nodes.with_columns(kind=kind, gross=gross))
    return replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph)))


@needs_chromium
@pytest.mark.slow
def test_while_sliders_move_the_score_is_that_of_what_they_leave(tmp_path: Path):
    at = [(0.0, 0.0), (0.02, 0.0), (0.0, 0.05), (0.05, 0.02), (1.0, 0.0)]
    with new_page(tmp_path) as page:
        for seed in range(3):
            graph = mixed(seed)
            page.goto(draw(graph, tmp_path / f"{seed}.html").as_uri())
            found = page.evaluate(
                f"""() => {json.dumps(at)}.map(([least, share]) => {{
                  Object.assign(state, {{ least, share }});
                  sift();
                  return replacement(edgeShown);
                }})"""
            )
            for (least, share), score in zip(at, found, strict=True):
                always = np.isin(graph.nodes.kind, ("token", "logit", "bias"))
                stay = np.flatnonzero(always | (graph.nodes.influence >= least))
                left = graph.select(stay, np.abs(signed_share(graph)) >= share)
                assert score == pytest.approx(scores(left).replacement, abs=1e-6), (seed, least, share)


@needs_chromium
@pytest.mark.slow
def test_what_runs_between_groups_on_the_page_is_what_runs_between_them_grouped(tmp_path: Path):
    with new_page(tmp_path) as page:
        for seed in range(2):
            graph = mixed(seed)
            names = np.array([f"n{row}" for row in range(len(graph.nodes))], dtype=object)
            graph = replace(graph, nodes=graph.nodes.with_columns(label=names))
            groups = {f"group {n}": rows for n, rows in enumerate(suggest_groups(graph, distance=0.8).values())}
            page.goto(draw(graph, tmp_path / f"{seed}.html").as_uri())
            found = page.evaluate(
                f"""() => {{
                  state.groups = Object.entries({json.dumps(groups)}).map(([name, rows]) => ({{ name, rows }}));
                  const {{ boxes, flows }} = quotient();
                  const name = (at) => (boxes[at].rows.length > 1 ? boxes[at].name : nodes.label[boxes[at].rows[0]]);
                  return flows.map((flow) => [name(flow.source), name(flow.target), flow.share]);
                }}"""
            )
            grouped = group(graph, groups)
            ends = zip(grouped.nodes.label[grouped.source], grouped.nodes.label[grouped.target], strict=True)
            shares = dict(zip(ends, signed_share(grouped).tolist(), strict=True))
            flows = {pair: share for pair, share in shares.items() if share}

            assert any(name.startswith("group") for pair in flows for name in pair)
            assert {(source, target): share for source, target, share in found if share} == pytest.approx(
                flows, abs=1e-6
            )
