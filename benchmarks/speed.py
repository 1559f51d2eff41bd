"""How fast we are beside circuit-tracer, and how near the floor: `python -m benchmarks.speed [--resume] [part ...]`.

Both sides take turns in one run, on one thread each, the peer at its best batch size. What counts is CPU time: wall
time is given too, and means little on a busy machine. Results go to benchmarks/results/speed.json, and from there to
speed.md after every part; parts that are not run again keep what they had. With `--resume`, parts that were measured
at the present commit are not measured again. `--gpu` measures one graph of Gemma-2-2B's shape on a GPU, nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench.spending import begin, memory
from benchmarks.peers.cases import Case, Made, make
from benchmarks.peers.jobs import INSTALL, Peer, installed, write_attribution, write_graph
from benchmarks.peers.processes import Spent, medians
from benchmarks.speed_cases import ALONE, ATTRIBUTIONS, GEMMA, GPU_ROWS, GROWTH, PRUNINGS, TAKEN_APART
from benchmarks.speed_report import report
from benchmarks.stages import stages_of
from circuits import assay, attribute
from circuits.attribution.direct import attribute_directly, attribute_trace
from circuits.expansion import Expansion
from circuits.goal import choose_goal
from circuits.tracing import trace
from circuits.transcoders.neurons import Neurons
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes
from graphs.pruning import prune
from graphs.scores import scores

RESULTS = Path(__file__).parent / "results"
ROUND = 256  # features between two rankings, on both sides


# -- measuring --------------------------------------------------------------------------------------------------------


def spend(work: Callable[[], Any], *, fresh: bool = False) -> Spent:
    """What one run of ours takes. fresh: memory that was freed before goes back to the system first."""
    before = begin(fresh=fresh)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall, int(memory("VmHWM") - before))


def gemm_rate(device: str = "cpu") -> float:
    """FLOP per second of a plain float32 matrix product, now: the best of ten. On a CPU on one thread, by CPU time."""
    rows, width, clock = (1024, 768, time.process_time) if device == "cpu" else (8192, 4096, time.perf_counter)
    a, b = torch.randn(rows, width, device=device), torch.randn(width, width, device=device)
    best = float("inf")
    for _ in range(10):
        _wait(device)
        start = clock()
        for _ in range(10):
            a @ b
        _wait(device)
        best = min(best, (clock() - start) / 10)
    return 2 * rows * width * width / best


def _wait(device: str) -> None:
    """Until everything given to a device is done."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def floor_of(made: Made, graph: AttributionGraph) -> dict[str, float]:
    """The floating-point operations that the rows of a graph need at least, and those of the prompt's own pass."""
    run = trace(made.model, made.dictionary, made.tokens)
    width, attention = made.model.d_model, run.frozen.attention[0].weights
    paths = attention.out.shape[0] + attention.value.shape[1]
    nodes = graph.nodes
    targets = nodes.where("feature", "logit")
    layer, position = nodes.layer[targets].astype(float), nodes.position[targets].astype(float)
    # Every attention but a target's first and the lowest, row by row; but in its second a target is still a mixture of
    # one vector a head and its own, and these go through `out` where they are fewer than the rows.
    through = np.maximum(layer - 1, 0) * (position + 1)
    mixtures = (layer >= 2) * np.maximum(position + 1 - (attention.heads + 1), 0)
    units = np.zeros((made.model.layers + 1, len(made.tokens) + 1))
    np.add.at(units, (run.layer.cpu().numpy() + 1, run.position.cpu().numpy() + 1), 1)
    below = units.cumsum(0).cumsum(1)[nodes.layer[targets], nodes.position[targets] + 1]
    rows = through.sum() * 2 * width * paths - mixtures.sum() * 2 * width * attention.out.shape[0]
    rows += (through * (position + 2)).sum() * attention.out.shape[0]
    rows += 2 * width * below.sum() + ((position + 1) * (position + 2)).sum() * width
    weights = sum(weight.numel() for weight in _weights(made)) + sum(weight.numel() for weight in made.dictionary.W_enc)
    return {"rows": float(rows), "prompt": 2.0 * len(made.tokens) * weights}


def _weights(made: Made) -> list[torch.Tensor]:
    blocks = made.model.blocks
    attention = [weight for block in blocks for weight in (block.W_V, block.W_V, block.W_O, block.W_O)]
    mlp = [weight for block in blocks for weight in (block.W_gate, block.W_in, block.W_out) if weight is not None]
    return [*attention, *mlp, made.model.W_U]


# -- the parts --------------------------------------------------------------------------------------------------------


def compare_attribution(name: str) -> dict[str, Any]:
    case, rows, batches, repeats = ATTRIBUTIONS[name]
    made = make(case)

    def ours(rows: int | None = rows) -> AttributionGraph:
        return attribute_directly(made.model, made.dictionary, made.tokens, max_features=rows, round_size=ROUND)

    ours(1)  # numba compiles, or loads what it compiled
    first = spend(ours, fresh=True)
    graph = ours()
    with Peer(write_attribution(made.folder, made.dictionary, made.tokens)) as peer:

        def theirs(batch: int) -> Spent:
            budget = {} if rows is None else {"max_feature_nodes": rows, "update_interval": ROUND // batch}
            return peer.attribute(batch_size=batch, **budget)

        peak = theirs(batches[0]).peak
        tried = {batch: theirs(batch).cpu for batch in batches} if len(batches) > 1 else {batches[0]: 0.0}
        best = min(tried, key=lambda batch: tried[batch])
        pairs = [(theirs(best), spend(ours)) for _ in range(repeats)]
    peer_spent, our_spent = medians(pair[0] for pair in pairs), medians(pair[1] for pair in pairs)
    found: dict[str, Any] = {
        "case": case.name,
        "active": graph.provenance["active"],
        "rows": graph.provenance["traced"],
        "edges": len(graph.source),
        "repeats": repeats,
        "peer batch": best,
        "peer": asdict(peer_spent) | {"peak": peak},
        "ours": asdict(our_spent) | {"peak": first.peak},
        "ratio cpu": float(np.median([theirs.cpu / ours.cpu for theirs, ours in pairs])),
        "ratio wall": float(np.median([theirs.wall / ours.wall for theirs, ours in pairs])),
    }
    if case.kind == "per-layer":
        needed, rate = floor_of(made, graph), gemm_rate()
        found["floor"] = {**needed, "rate": rate, "seconds": sum(needed.values()) / rate}
        found["over floor"] = our_spent.cpu / found["floor"]["seconds"]
    return found


def measure_alone(name: str) -> dict[str, Any]:
    """Attribution over the model's own neurons."""
    case, rows, repeats = ALONE[name]
    made = make(case)
    neurons = Neurons(made.model)

    def ours(rows: int | None = rows) -> AttributionGraph:
        return attribute_directly(made.model, neurons, made.tokens, max_features=rows, round_size=ROUND)

    ours(1)
    first = spend(ours, fresh=True)
    graph = ours()
    return {
        "case": case.name.replace(case.kind, "neurons"),
        "active": graph.provenance["active"],
        "rows": graph.provenance["traced"],
        "edges": len(graph.source),
        "repeats": repeats,
        "ours": asdict(medians(spend(ours) for _ in range(repeats))) | {"peak": first.peak},
    }


def measure_stages(name: str) -> dict[str, Any]:
    """What each part of one attribution takes, and what its floor would."""
    case, rows, _, _ = ATTRIBUTIONS[name]
    made = make(case)

    def ours() -> AttributionGraph:
        return attribute_directly(made.model, made.dictionary, made.tokens, max_features=rows, round_size=ROUND)

    ours()
    needed, rate = floor_of(made, ours()), gemm_rate()
    floor = {part: operations / rate for part, operations in needed.items()}
    return {
        "case": case.name,
        "repeats": TAKEN_APART[name],
        "parts": stages_of(ours, TAKEN_APART[name]),
        "floor": floor,
    }


def measure_gpu(case: Case = GEMMA, rows: int = GPU_ROWS, device: str = "cuda", repeats: int = 5) -> dict[str, Any]:
    """One graph on a device: seconds of the prompt's pass and of the rest, and how near that is to plain products."""
    made = make(case, device=device)
    run = trace(made.model, made.dictionary, made.tokens)
    goal = choose_goal(made.model, made.dictionary, run)

    def seconds(work: Callable[[], Any]) -> float:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - start

    def ours() -> AttributionGraph:
        return attribute_trace(run, made.dictionary, goal, Expansion(max_features=rows))

    graph = ours()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    whole = float(np.median([seconds(ours) for _ in range(repeats)]))
    peak = spend(ours).peak if device == "cpu" else torch.cuda.max_memory_allocated(device) - before
    prompt = [seconds(lambda: trace(made.model, made.dictionary, made.tokens)) for _ in range(repeats)]
    needed, rate = floor_of(made, graph), gemm_rate(device)
    return {
        "case": case.name,
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "active": graph.provenance["active"],
        "rows": graph.provenance["traced"],
        "edges": len(graph.source),
        "prompt seconds": float(np.median(prompt)),
        "rows seconds": whole,
        "peak": peak,
        "floor": {**needed, "rate": rate, "seconds": needed["rows"] / rate},
        "over floor": whole * rate / needed["rows"],
    }


def compare_pruning(features: int) -> dict[str, Any]:
    graph = draw_graph(features)
    prune(graph, renormalise=True)  # numba compiles
    with Peer(write_graph(graph)[0]) as peer:
        pairs = [
            (peer.prune(0.8, 0.98), spend(lambda: prune(graph, renormalise=True))) for _ in range(PRUNINGS[features])
        ]
    peak = spend(lambda: prune(graph, renormalise=True), fresh=True).peak
    own = medians(spend(lambda: prune(graph)) for _ in range(PRUNINGS[features]))
    peer_spent, our_spent = medians(pair[0] for pair in pairs), medians(pair[1] for pair in pairs)
    return {
        "edges": len(graph.source),
        "repeats": PRUNINGS[features],
        "peer": asdict(peer_spent),
        "ours, the peer's rule": asdict(our_spent) | {"peak": peak},
        "ours, our rule": asdict(own),
        "ratio cpu": float(np.median([theirs.cpu / ours.cpu for theirs, ours in pairs])),
    }


def draw_graph(features: int, layers: int = 12, length: int = 32) -> AttributionGraph:
    """Features at random places; an edge wherever one can be, its size spread over decades."""
    numbers = np.random.default_rng(3)
    layer = np.concatenate(
        [np.full(length, -1), np.repeat(np.arange(layers), length - 1), numbers.integers(0, layers, features)]
    )
    position = np.concatenate(
        [np.arange(length), np.tile(np.arange(1, length), layers), numbers.integers(1, length, features)]
    )
    kind = np.array(["token"] * length + ["error"] * (layers * (length - 1)) + ["feature"] * features)
    order = np.lexsort((kind == "error", position, layer))
    layer, position = np.append(layer[order], [layers] * 10), np.append(position[order], [length - 1] * 10)
    kind = np.append(kind[order], ["logit"] * 10)
    count = len(kind)
    feature = np.where(kind == "feature", np.arange(count), -1)
    sources, lengths, gross = [], np.zeros(count, dtype=np.int64), np.zeros(count)
    weights = []
    for row in np.flatnonzero((kind == "feature") | (kind == "logit")):
        source = np.flatnonzero((layer[:row] < layer[row]) & (position[:row] <= position[row]))
        weight = numbers.standard_normal(len(source)) * np.exp(numbers.standard_normal(len(source)))
        sources.append(source.astype(np.int32))
        weights.append(weight.astype(np.float32))
        lengths[row], gross[row] = len(source), np.abs(weights[-1].astype(float)).sum()
    goal = np.where(kind == "logit", 0.09, 0.0)
    nothing = np.zeros(count)
    label = np.array([str(i) for i in range(count)], dtype=object)
    nodes = Nodes(kind, layer, position, feature, np.ones(count), nothing, gross, nothing, label)
    target = np.repeat(np.arange(count), lengths)
    prompt = tuple(range(length))
    return AttributionGraph(
        nodes, np.concatenate(sources), target, np.concatenate(weights), goal, prompt, tuple(map(str, prompt))
    )


def measure_growth(along: str) -> dict[str, Any]:
    """CPU seconds along one axis and the power that fits them: of everything, and of all but the prompt's pass."""
    found = []
    for case, rows in GROWTH[along]:
        made = make(case)

        def ours(rows: int = rows, made: Made = made) -> AttributionGraph:
            return attribute_directly(made.model, made.dictionary, made.tokens, max_features=rows, round_size=10**6)

        active = ours().provenance["active"]
        whole = min(spend(ours).cpu for _ in range(5))
        prompt = min(spend(lambda made=made: trace(made.model, made.dictionary, made.tokens)).cpu for _ in range(5))
        at = {"rows": rows, "tokens": case.tokens, "layers": case.layers, "features": active}[along]
        found.append({"at": at, "cpu": whole, "prompt": prompt})
    at = np.log([each["at"] for each in found])
    whole = np.log([each["cpu"] for each in found])
    beyond = np.log([max(each["cpu"] - each["prompt"], 1e-4) for each in found])
    powers = {
        "whole": float(np.polyfit(at, whole, 1)[0]),
        "beyond the prompt": float(np.polyfit(at, beyond, 1)[0]),
        "last step": float((beyond[-1] - beyond[-2]) / (at[-1] - at[-2])),
    }
    return {"points": found, "exponent": powers}


def measure_prompt() -> dict[str, Any]:
    """`world` on one prompt: everything but imports and loading, and the assay apart."""
    made = make(Case("world"))
    sentence = "the capital of the state containing dallas is"

    def whole() -> AttributionGraph:
        small = prune(attribute(made.model, made.dictionary, sentence))
        scores(small)
        return small

    small = whole()
    assay(made.model, made.dictionary, small)
    graph = medians(spend(whole) for _ in range(7))
    checked = medians(spend(lambda: assay(made.model, made.dictionary, small)) for _ in range(5))
    return {"attribute, prune, score": asdict(graph), "assay": asdict(checked)}


# -- the report -------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the numbers were taken on, and how busy it was."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "peer": "circuit-tracer 0.5.0, transformer-lens 3.2.1, torch 2.13.0",
    }


def main(arguments: Sequence[str]) -> int:
    """Run the parts asked for, or all; keep what was measured of the others."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {"prompt": measure_prompt}
    parts |= {name: lambda name=name: compare_attribution(name) for name in ATTRIBUTIONS}
    parts |= {name: lambda name=name: measure_alone(name) for name in ALONE}
    parts |= {f"prune-{size}": lambda size=size: compare_pruning(size) for size in PRUNINGS}
    parts |= {f"stages-{name}": lambda name=name: measure_stages(name) for name in TAKEN_APART}
    parts |= {f"growth-{along}": lambda along=along: measure_growth(along) for along in GROWTH}
    options = {each for each in arguments if each.startswith("--")}
    asked = [each for each in arguments if each not in options]
    strange = [*sorted(options - {"--resume", "--gpu"}), *(each for each in asked if each not in parts)]
    if strange:
        print(f"there is no part {strange[0]!r}; there are {', '.join(parts)}; --resume, --gpu.", file=sys.stderr)
        return 2
    if "--gpu" in options:
        parts, asked = {"gpu": lambda: measure_gpu()}, ["gpu"]
        if not torch.cuda.is_available():
            print("torch finds no CUDA device: --gpu needs one.", file=sys.stderr)
            return 2
    elif not installed():
        print(INSTALL, file=sys.stderr)
        return 2
    else:
        torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    file, commit = RESULTS / "speed.json", _commit()
    for name in asked or parts:
        results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if "--resume" in options and results.get(name, {}).get("commit") == commit:
            print(f"{name}: measured at {commit[:7]} already", flush=True)
            continue
        start = time.perf_counter()
        found = {**parts[name](), "machine": machine(), "commit": commit, "took": time.perf_counter() - start}
        results[name] = found
        file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (RESULTS / "speed.md").write_text(report(results), encoding="utf-8")
        print(name, json.dumps(found), flush=True)
    return 0


def _commit() -> str:
    """The commit that is checked out."""
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True, check=True)
    return told.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
