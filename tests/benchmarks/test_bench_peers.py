"""Peers beside us in the benchmark: what they answer through files is held to ours, and what they cannot is told."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.bench.cells import Cell, row_of
from benchmarks.bench.comparing import compare
from benchmarks.bench.curves import Course, run_circuits
from benchmarks.bench.documents import to_markdown
from benchmarks.bench.levels import LEVELS
from benchmarks.bench.measures import SIZES
from benchmarks.bench.methods import METHODS, Job
from benchmarks.bench.peer_edges import measure_edge_peer
from benchmarks.bench.peer_graphs import measure_graph_peer
from benchmarks.bench.plans import plan
from benchmarks.bench.presets import PRESETS
from benchmarks.bench.reporting import write_report
from benchmarks.bench.rows import UNTESTED
from benchmarks.bench.running import run_plan
from benchmarks.bench.side_by_side import BESIDE, COSTS, EDGE_PEERS, REPEATS
from benchmarks.bench.situations import MEASURED, prepare
from benchmarks.peers import component_jobs, jobs, processes
from benchmarks.peers.cases import Case
from benchmarks.peers.component_jobs import Peer, make_work, write_job
from benchmarks.peers.hooked_models import NotTranslated, folder_of, write_hooked
from benchmarks.peers.jobs import peer_order, write_attribution
from benchmarks.peers.processes import PeerFailed, is_installed
from circuits.attribution.direct import attribute_directly
from circuits.attribution.eap_ig_activations import score_between_activations
from circuits.components.edge_scores import components_of
from circuits.components.metrics import logit_difference
from circuits.components.opening import transformer_of
from circuits.components.pairs import gather
from circuits.errors import BadOption
from graphs.paths import influence
from graphs.pruning import prune
from graphs.scores import scores
from tests.circuits.worlds import dictionary_of, model_of
from tests.circuits.worlds import folder_of as folder_of_family

SMALL = replace(
    PRESETS["quick"],
    **{"pairs": 6, "draws": 40, "controls": 2, "parts": 2, "resamples": 2, "removed": 3, "graphs": 2},
)
MADE = {"command": "circuits bench", "preset": "quick", "versions": {}}
CELL = Cell("tiny", "tiny", "peer:eap", "resample", 0)
# Its integration over activations loses gradients where no learned positions are added: see `peer_tables`.
CASES = [("llama", [each for each in EDGE_PEERS if "activations" not in each]), ("gpt_neox", ["peer:eap"])]
FAKE = """
import json, sys
from pathlib import Path
here = Path(__file__).parent
print("words that are no answer", flush=True)
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    given = [order["edges"]] if order["do"] == "evaluate" else order.get("tokens", [])
    name = "-".join(map(str, [order["do"], *given]))
    if not (here / f"{name}.npz").exists():
        sys.exit(f"there is no {name}")
    if order["save"]:
        Path(order["save"]).write_bytes((here / f"{name}.npz").read_bytes())
    print(json.dumps({"cpu": 200.0, "wall": 300.0, "peak": 4096}), flush=True)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a peer which gives back files, and returns the folder for these."""
    monkeypatch.setattr(processes, "HERE", tmp_path / "benchmarks/peers")

    def make(name):
        there, here = tmp_path / ".peers" / name, tmp_path / "benchmarks/peers" / name
        (there / "bin").mkdir(parents=True)
        here.mkdir(parents=True)
        (there / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (there / "bin/python").chmod(0o755)
        (there / "complete").touch()
        (here / "run.py").write_text(FAKE)
        return here

    return make


@pytest.fixture(scope="module")
def model():
    return model_of("gpt2")


@pytest.fixture(scope="module")
def records(model):
    """Eighteen pairs of two lengths, the right answer being the one that the corrupted prompt lowers most."""
    numbers, found = np.random.default_rng(0), []
    for at in range(18):
        clean, corrupted = (numbers.integers(0, model.vocabulary, size=4 + at % 2).tolist() for _ in range(2))
        logits = [model.run(torch.tensor([each]))[0][0, -1] for each in (clean, corrupted)]
        fall = logits[0] - logits[1]
        found.append({"clean": clean, "corrupted": corrupted, "right": int(fall.argmax()), "wrong": int(fall.argmin())})
    return found


@pytest.fixture(scope="module")
def situation(model, records):
    splits = {name: records[at::3] for at, name in enumerate(("train", *MEASURED))}
    given = {"level": "edges", "dictionary": lambda: None, "features": 8, "parts": 2, "draws": 40}
    return prepare(model, transformer_of(model), splits, "resample", **given)


@pytest.fixture
def task(records, tmp_path):
    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return str(path)


def score(situation):
    """Our scores of every edge, means over the pairs."""
    level = LEVELS["edges"](situation.transformer)
    job = Job(situation.transformer, situation.metric, situation.ablate, level, 0)
    return level, METHODS["eap"].score(job, situation.train) / sum(map(len, situation.train))


def answer(here, situation, level, found):
    """Files for a peer that has these scores, and runs its circuits as we do."""
    np.savez(here / "score.npz", found=found)
    course = Course(situation.transformer, situation.train, situation.metric, situation.ablate)
    for size in SIZES:
        if count := int(size * level.total):
            chosen = level.at(size, found)
            kept = run_circuits(course, [chosen], level.carry).metric[0]
            np.savez(here / f"evaluate-{count}.npz", chosen=chosen, kept=kept)


def rows_by_metric(rows):
    return {name: [row for row in rows if row.metric == name] for name in dict.fromkeys(row.metric for row in rows)}


def test_a_peer_with_our_scores_is_told_to_agree_and_its_circuits_are_run_like_ours(model, situation, install):
    level, ours = score(situation)
    answer(install(component_jobs.PEER), situation, level, ours)

    found = measure_edge_peer(CELL, model, situation, SMALL)

    beside = rows_by_metric([row for row in found.rows if row.level == BESIDE])
    assert beside["scores apart"][0].value == 0.0
    assert beside["rank correlation with ours"][0].value == pytest.approx(1.0)
    assert {row.value for row in beside["circuits alike"]} == {1.0}
    assert max(row.value for row in beside["metric apart"]) < 1e-12
    assert [row.size for row in beside["metric apart"]] == [size for size in SIZES if int(size * level.total)]
    own = [row for row in found.rows if row.level == "edges"]
    curve = {row.size: row.value for row in own if (row.metric, row.split) == ("completeness", "test")}
    assert set(curve) == set(SIZES) and curve[1.0] == pytest.approx(1.0)
    assert {row.seconds for row in found.rows} == {200.0}
    np.testing.assert_array_equal(found.arrays["scores"], ours[level.units])


def test_how_far_a_peer_is_off_is_told(model, situation, install):
    level, ours = score(situation)
    theirs, largest = ours.copy(), np.unravel_index(np.abs(ours).argmax(), ours.shape)
    theirs[largest] *= 2
    here = install(component_jobs.PEER)
    answer(here, situation, level, theirs)
    least = min(here.glob("evaluate-*.npz"), key=lambda path: int(path.stem.split("-")[1]))
    kept = dict(np.load(least))
    np.savez(least, chosen=np.zeros_like(kept["chosen"]), kept=kept["kept"] + 1)

    found = rows_by_metric(measure_edge_peer(CELL, model, situation, SMALL).rows)

    assert found["scores apart"][0].value == pytest.approx(0.5)
    assert found["metric apart"][0].value > 1e-3 > found["metric apart"][1].value
    whole = next(row for row in found["circuits alike"] if row.size == 1.0)
    assert (whole.value, whole.says) == (1.0, "0 edges that only one side chose")


def test_turns_are_medians_of_five_with_the_least_and_the_largest(model, situation, install):
    level, ours = score(situation)
    answer(install(component_jobs.PEER), situation, level, ours)

    rows = measure_edge_peer(CELL, model, situation, SMALL).rows
    found = {name: rows_by_metric(rows)[name][0] for name in COSTS}

    assert REPEATS >= 5
    assert (found["peer's seconds"].value, found["peer's memory"].value) == (200.0, 4096.0)
    fast, mine = found["times as fast"], found["our seconds"]
    assert fast.value == pytest.approx(200.0 / mine.value) and fast.low == pytest.approx(200.0 / mine.high)
    assert mine.low <= mine.value <= mine.high
    told = to_markdown(write_report(rows, MADE))
    assert "## Beside the peers" in told and f"{fast.value:.1f}" in told
    slower = [replace(row, value=row.value * 3) if row.metric in COSTS else row for row in rows]
    assert not compare(rows, slower).changed  # what it costs is no claim of a run


def test_a_peer_that_is_not_installed_or_ends_is_a_row_that_says_why(model, task, install, tmp_path):
    asked = replace(plan([task], ["tiny"], methods=["eap"], peers=True), preset=SMALL)

    def told():
        found = run_plan(asked, tmp_path / "run", lambda name: model)
        rows = [row for cell, result in found for row in result.rows if cell.method == "peer:eap"]
        assert {row.metric for row in rows} == {UNTESTED}
        report = to_markdown(write_report([row for _, result in found for row in result.rows], MADE))
        assert (
            report.count(rows[0].says.replace("_", "\\_")) == 2
        )  # beside the peers, and with all that was not measured
        return rows[0].says

    assert "run benchmarks/peers/eap_ig/install" in told()
    install(component_jobs.PEER)
    assert told() == "eap_ig ended with exit code 1; its last words: there is no score"


def test_a_peer_that_ends_at_once_has_last_words(install, tmp_path):
    (install(component_jobs.PEER) / "run.py").write_text("import sys\nsys.exit('one head is too few')\n")

    with pytest.raises(PeerFailed, match="exit code 1; its last words: one head is too few"):
        component_jobs.Peer(tmp_path)


def test_what_peers_have_is_run_beside_the_methods_asked_for(model, task, install, tmp_path):
    asked, said = plan([task], ["tiny"], methods=["eap"], ablations=["resample", "zero"], peers=True), []

    found = run_plan(replace(asked, preset=SMALL), tmp_path / "run", lambda name: model, tell=said.append)

    assert len(said) == asked.cells == len(found) == 8  # the model, eap, random, peer:eap, under two ablations
    whole = plan([task], methods=["eap", "exact", "direct"], peers=True)
    assert whole.methods == ("eap", "exact", "direct", "random", "peer:eap", "peer:direct")
    assert plan([task], methods=["peer:eap-ig"]).methods == ("peer:eap-ig",)
    assert not set(plan([task], methods=["eap"]).methods) & {*EDGE_PEERS}


def test_methods_without_a_peer_are_named_with_the_reason():
    asked = replace(row_of(CELL, "edges"), says="not installed")
    ours = [replace(asked, method=name, level="edges") for name in ("eap", "exact", "relp", "random")]

    told = to_markdown(write_report([asked, *ours], MADE)).split("no peer stands beside")[1].split("##")[0]

    assert "| exact | EAP-IG has it, at one run of a whole circuit for each edge" in told
    assert "| relp | neither program has it |" in told
    assert "| eap |" not in told and "random" not in told


def test_a_peer_is_run_under_the_ablation_alone_that_it_is_driven_with(model, situation, install):
    install(component_jobs.PEER)

    with pytest.raises(BadOption, match="resample ablation alone"):
        measure_edge_peer(replace(CELL, ablation="mean"), model, situation, SMALL)


def test_a_job_has_the_pairs_of_every_length_in_order(model, records):
    groups = gather(model, [(str(at), each) for at, each in enumerate(records)])

    folder = write_job(folder_of(model), groups, model.dtype)

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    assert [len(group["clean"][0]) for group in job["prompts"]] == [4, 5]
    assert [each for group in job["prompts"] for each in group["corrupted"]] == [
        each["corrupted"] for length in (4, 5) for each in records if len(each["clean"]) == length
    ]
    assert job["position"] == [3] * 9 + [4] * 9
    assert (job["dtype"], job["model"]["n_layers"]) == ("float64", model.layers)


def test_models_and_units_that_peers_are_not_handed_say_so(model, tmp_path):
    with pytest.raises(NotTranslated, match="weights of gpt_neo are not translated"):
        write_hooked(folder_of_family("gpt_neo"), tmp_path, torch.float32)
    with pytest.raises(NotTranslated, match="transcoders alone"):
        write_attribution(folder_of(model), dictionary_of(model, "neurons"), [1, 2])
    with pytest.raises(NotTranslated, match="silent"):
        write_attribution(folder_of(model), dictionary_of(model, "per-layer", silent=3), [1, 2])


def test_graphs_of_a_peer_with_our_edges_agree_and_others_do_not(model, records, install):
    pairs = gather(model, [("", records[0])])
    dictionary, here, tokens = dictionary_of(model, "per-layer"), install(jobs.PEER), records[0]["clean"]
    graph = attribute_directly(model, dictionary, tokens)
    order, nodes = peer_order(graph), graph.nodes
    features = nodes.where("feature")
    active = np.stack([nodes.layer[features], nodes.position[features], nodes.feature[features]], 1)
    none = {"nodes": np.zeros(len(order), bool), "edges": np.zeros((len(order), len(order)), bool)}
    figures, carried = scores(graph), np.pad(influence(graph), (0, 1))[order]
    np.savez(here / "prune.npz", **none)
    told = {"replacement": figures.replacement + 1, "completeness": figures.completeness}
    np.savez(here / "score.npz", influence=carried, **told)
    cell, preset = replace(CELL, method="peer:direct", ablation=""), replace(SMALL, features=10_000)

    def hold(times, selected):
        adjacency = np.pad(graph.to_dense(), (0, 1))[np.ix_(order, order)]
        adjacency[-1] *= times  # what the last logit receives
        name = "-".join(map(str, ["attribute", *tokens]))
        np.savez(here / f"{name}.npz", adjacency=adjacency, active=active, selected=selected)
        return rows_by_metric(measure_graph_peer(cell, model, dictionary, pairs, preset).rows)

    same, more, other = (hold(1.0, np.arange(len(active))), hold(1.1, np.arange(len(active))), hold(1.0, [0]))

    assert same["prompts with the same features"][0].value == more["prompts with the same features"][0].value == 1
    assert same["edges apart"][0].value == 0.0
    assert more["edges apart"][0].value == pytest.approx(0.1 / 1.1)
    assert same["graph scores apart"][0].value == pytest.approx(1.0)
    assert same["influence apart"][0].value == 0.0
    kept = prune(graph, nodes=0.8, edges=0.98, renormalise=True)
    assert same["nodes kept by one side"][0].value == sum(kind != "bias" for kind in kept.nodes.kind)
    assert same["peer's seconds"][0].value == 200.0
    assert other["prompts with the same features"][0].value == 0 and np.isnan(other["edges apart"][0].value)
    assert "circuit-tracer" in to_markdown(write_report([row for rows in same.values() for row in rows], MADE))


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(component_jobs.PEER), reason=component_jobs.INSTALL)
@pytest.mark.parametrize(("family", "methods"), CASES)
def test_eap_ig_agrees_on_a_task(family, methods, tmp_path):
    model, numbers = model_of(family), np.random.default_rng(0)
    drawn = numbers.integers(0, model.vocabulary, size=(6, 2, 5)).tolist()
    lines = [{"clean": clean, "corrupted": other, "right": 3, "wrong": 4} for clean, other in drawn]
    (tmp_path / "tiny.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    asked = plan([str(tmp_path / "tiny.jsonl")], ["tiny"], methods=methods)

    found = run_plan(replace(asked, preset=SMALL), tmp_path / "run", lambda name: model)

    for cell, result in found[1:]:
        rows = rows_by_metric([row for row in result.rows if row.level == BESIDE])
        assert rows, result.rows[0].says
        assert rows["scores apart"][0].value < 1e-6, cell  # it keeps scores in float32
        assert max(row.value for row in rows["metric apart"]) < 1e-6, cell  # norms are in float32


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(component_jobs.PEER), reason=component_jobs.INSTALL)
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_where_embeddings_ask_for_gradients_eap_ig_agrees_between_activations_too(family):
    work = make_work(Case(family, layers=2, width=32, heads=4, tokens=6, units=8), 4, "float64")
    components = components_of(work.transformer)
    with Peer(work.folder) as peer:
        found = {}
        for asking in (False, True):
            peer.score("eap-ig-activations", steps=3, asking=asking, save=work.folder / "found.npz")
            found[asking] = np.load(work.folder / "found.npz")["found"] * len(work.pairs)
    ours = score_between_activations(work.transformer, work.pairs, logit_difference, steps=3).numpy()

    far = {asking: np.abs(ours - theirs) / np.abs(ours).max() for asking, theirs in found.items()}
    assert far[True].max() < 1e-6  # it keeps scores in float32
    lost = [components.readers[reader] for source, reader in np.argwhere(far[False] > 1e-6) if source == 0]
    assert len(lost) == (far[False] > 1e-6).sum() and far[False].max() > 0.01
    assert all(name.startswith("a0.") or (work.transformer.parallel and name == "m0") for name in lost), lost


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(jobs.PEER), reason=jobs.INSTALL)
def test_circuit_tracer_agrees_on_prompts_of_a_task(model, records):
    pairs = gather(model, [(str(at), each) for at, each in enumerate(records)])
    cell = replace(CELL, method="peer:direct", ablation="")

    rows = rows_by_metric(measure_graph_peer(cell, model, dictionary_of(model, "per-layer"), pairs, SMALL).rows)

    assert rows["prompts with the same features"][0].value == SMALL.graphs
    assert rows["edges apart"][0].value < 1e-5
    assert rows["graph scores apart"][0].value < 1e-5
