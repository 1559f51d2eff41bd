"""Feature graphs: the direct effect of every unit, error, token and bias on every unit and logit, in the frozen model.

    weight(source -> target) = Σ_places ⟨what the source writes there, gradient of the target there⟩

and for every target  Σ weights = its value  (pre-activation, gated neuron's activation, demeaned logit): asserted.

Source: Ameisen et al. 2025, "Circuit Tracing"; METHODS sections 2.3, 2.4, 3.2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import BadOption, NotConserved
from circuits.goal import Goal, Target, choose_goal
from circuits.laying_out import Table, lay_out
from circuits.model import Model
from circuits.packing import Rows, carry, pack, stack
from circuits.sources import Columns, Sources
from circuits.sweep import Targets, sweep_back
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes

CONSERVED = {torch.float32: 1e-5, torch.float64: 1e-12}  # |residual| / gross of any target: METHODS 2.4
CHUNK = {"cpu": 2**22, "cuda": 2**29}  # numbers in one gradient; 16 MB on the CPU, which malloc hands out again
ROUND = 2048  # under a budget, units traced before influence is estimated anew; the peer's four batches of 512

Progress = Callable[[int, int], None]


def attribute_directly(
    model: Model,
    dictionary: Dictionary,
    prompt: str | Sequence[int],
    targets: Sequence[Target] | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
    max_features: int | None = None,
    round_size: int = ROUND,
    progress: Progress | None = None,
) -> AttributionGraph:
    """The whole feature graph of one prompt.

    targets, max_logits, logit_mass: see `choose_goal`.
    max_features: trace the inputs of at most this many units, the most influential; the others are summed into one
        `unselected` node per layer and position. None traces all.
    round_size: under such a budget, how many are traced before influence is estimated anew.
    progress: called with (targets done, targets in all).

    Raises:
        NotConserved: some target's inputs do not add up to its value.
        BadPrompt, BadTarget, BadOption, UnfaithfulModel: see `trace` and `choose_goal`.
    """
    if max_features is not None and max_features < 1:
        raise BadOption(f"max_features must be at least 1 or left out, found {max_features}.")
    if round_size < 1:
        raise BadOption(f"round_size must be at least 1, found {round_size}.")
    run = trace(model, dictionary, prompt)
    goal = choose_goal(model, run.logits[-1], targets, max_logits=max_logits, logit_mass=logit_mass)
    return attribute_trace(run, dictionary, goal, max_features=max_features, round_size=round_size, progress=progress)


@torch.no_grad()
def attribute_trace(
    run: Trace,
    dictionary: Dictionary,
    goal: Goal,
    *,
    max_features: int | None = None,
    round_size: int = ROUND,
    progress: Progress | None = None,
) -> AttributionGraph:
    """`attribute_directly` for a prompt that is already traced."""
    table = lay_out(run, dictionary, goal)
    sources = Sources(run, dictionary, table.columns)
    units, logits = _read_units(run, dictionary), _read_logits(run, goal)
    count = len(run.layer)
    budget = count if max_features is None else min(max_features, count)
    at_logits = len(table.nodes) - len(goal.right) + np.arange(len(goal.right))
    found: list[Rows] = []
    value = np.full(len(table.nodes), np.nan)
    worst, done = 0.0, 0
    for reading, at in _in_order(table, goal, units, logits, at_logits, found, budget, round_size):
        value[at] = reading.value.double().cpu().numpy()
        for rows, missing in _score(run, dictionary, table, sources, reading, at):
            found.append(rows)
            worst, done = max(worst, missing), done + len(rows.target)
            if progress is not None:
                progress(done, budget + len(at_logits))
    provenance = {
        "method": "direct",
        "conservation": worst,
        "active": count,
        "traced": budget,
        "against": goal.wrong,
        "dtype": str(run.residual.dtype).removeprefix("torch."),
        "device": run.residual.device.type,
    }
    return _assemble(run, goal, table, found, value, provenance)


# -- the targets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reading:
    """Targets with what they read. Each but `targets` is [target].

    value: what a target's inputs must sum to. encoder, norm: the parts of it that are read rather than written.
    gross: the sizes of what it reads, coordinate by coordinate. One source can cancel within itself (the only token a
        first-layer unit sees at position 0), so that Σ|weights| says nothing about how well its sum can be known.
    """

    targets: Targets
    value: Float[Tensor, "target"]
    gross: Float[Tensor, "target"]
    encoder: Float[Tensor, "target"]
    norm: Float[Tensor, "target"]

    def take(self, rows: Int[np.ndarray, "_"] | slice) -> Reading:
        """Some of them, in this order."""
        at = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.value.device)
        parts = (self.value, self.gross, self.encoder, self.norm)
        return Reading(self.targets.take(rows), *(part[at] for part in parts))


def _read_units(run: Trace, dictionary: Dictionary) -> Reading:
    """Every active unit as a target, in reading order."""
    vectors, values, gross, encoder, norms = [], [], [], [], []
    begin = torch.searchsorted(run.layer, torch.arange(run.frozen.layers + 1, device=run.layer.device)).tolist()
    for layer in range(run.frozen.layers):
        here = slice(begin[layer], begin[layer + 1])
        position = run.position[here]
        x = run.inputs[layer][position]
        read, constant = dictionary.reading(layer, x, run.unit[here])
        vector, norm = run.frozen.read_residual(read, layer, position, dictionary.reads)
        products = read * x
        vectors.append(vector)
        values.append(products.sum(-1) + constant)
        gross.append(products.abs_().sum(-1) + constant.abs())
        encoder.append(constant)
        norms.append(norm)
    targets = Targets(run.layer.cpu().numpy(), run.position.cpu().numpy(), torch.cat(vectors))
    return Reading(targets, torch.cat(values), torch.cat(gross), torch.cat(encoder), torch.cat(norms))


def _read_logits(run: Trace, goal: Goal) -> Reading:
    """The goal's logits as targets at the last position."""
    frozen, last = run.frozen, len(run.tokens) - 1
    direction = goal.directions(frozen.unembedding)
    encoder = goal.directions(frozen.unembedding_bias[None])[:, 0]
    bias = frozen.final_norm.bias
    norm = torch.zeros_like(encoder) if bias is None else direction @ bias
    read = direction * frozen.final_norm.apply(run.residual)[last]
    value = read.sum(-1) + encoder + norm
    gross = read.abs().sum(-1) + encoder.abs() + norm.abs()
    layer, position = np.full(len(direction), frozen.layers), np.full(len(direction), last)
    vector = frozen.final_norm.transpose(direction, torch.from_numpy(position).to(direction.device))
    return Reading(Targets(layer, position, vector), value, gross, encoder, norm)


def _in_order(
    table: Table,
    goal: Goal,
    units: Reading,
    logits: Reading,
    at_logits: Int[np.ndarray, "logit"],
    found: list[Rows],
    budget: int,
    round_size: int,
) -> Iterator[tuple[Reading, Int[np.ndarray, "_"]]]:
    """What to trace next, with the node rows of it: all at once, or under a budget the logits and then by influence.

    Influence is estimated from the rows found so far; what is not traced yet is where paths end.
    """
    count = len(table.columns.units)
    if budget == count:
        both = [
            torch.cat(pair)
            for pair in zip(_parts(logits), _parts(units.take(np.arange(count)[::-1].copy())), strict=True)
        ]
        layer = np.concatenate([logits.targets.layer, units.targets.layer[::-1]])
        position = np.concatenate([logits.targets.position, units.targets.position[::-1]])
        targets = Targets(layer, position, both[0])
        yield Reading(targets, *both[1:]), np.concatenate([at_logits, table.columns.units[::-1]])
        return
    yield logits, at_logits
    seen = np.zeros(count, dtype=bool)
    left = budget
    while left > 0:
        reached = np.zeros(len(table.nodes))
        reached[at_logits] = goal.weight
        rows = stack(found)
        carry(rows, reached, rows.size - rows.bias)
        estimate = np.where(seen, -1.0, reached[table.columns.units])
        size = min(left, round_size)
        chosen = np.sort(np.argsort(-estimate, kind="stable")[:size])[::-1].copy()
        seen[chosen] = True
        left -= size
        yield units.take(chosen), table.columns.units[chosen]


def _parts(reading: Reading) -> list[Tensor]:
    return [reading.targets.vector, reading.value, reading.gross, reading.encoder, reading.norm]


# -- the edges --------------------------------------------------------------------------------------------------------


def _score(
    run: Trace, dictionary: Dictionary, table: Table, sources: Sources, reading: Reading, at: Int[np.ndarray, "_"]
) -> Iterator[tuple[Rows, float]]:
    """The rows of these targets, some at a time, each held to conservation; and the largest violation among them."""
    columns = int((table.nodes.kind != "logit").sum())
    is_bias = table.nodes.kind[:columns] == "bias"
    limit = CHUNK.get(run.residual.device.type, CHUNK["cpu"])
    numbers = np.cumsum(np.maximum((reading.targets.position + 1) * run.residual.shape[1], columns))
    start = 0
    while start < len(at):
        before = numbers[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(numbers, before + limit, side="right")))
        chunk = reading.take(slice(start, end))
        weight = chunk.value.new_zeros(len(chunk.value), columns)
        for place, layer, gradient in sweep_back(run.frozen, dictionary, chunk.targets, stop_early=sources.pushed):
            sources.score(weight, place, layer, gradient)
        for (name, layer), column in table.reading.items():
            read_here = np.flatnonzero(chunk.targets.layer == layer)
            if len(read_here):
                first, last = int(read_here[0]), int(read_here[-1]) + 1
                weight[first:last, column] = getattr(chunk, name)[first:last]
        rows = pack(at[start:end], weight.cpu().numpy(), is_bias)
        yield rows, _check_conservation(table, rows, chunk, run.residual.dtype)
        start = end


def _check_conservation(table: Table, rows: Rows, chunk: Reading, dtype: torch.dtype) -> float:
    value = chunk.value.double().cpu().numpy()
    gross = np.maximum(rows.size, chunk.gross.double().cpu().numpy())
    missing = np.abs(rows.total - value) / np.where(gross == 0, 1, gross)
    bad = np.flatnonzero(~(missing <= CONSERVED[dtype]))
    if len(bad):
        row, nodes = rows.target[bad[0]], table.nodes
        raise NotConserved(
            f"the inputs of {nodes.kind[row]} {nodes.label[row]!r} (layer {nodes.layer[row]}, position "
            f"{nodes.position[row]}) sum to {rows.total[bad[0]]:.6g}, its value is {value[bad[0]]:.6g}: off by "
            f"{missing[bad[0]]:.1e} of the gross input, {CONSERVED[dtype]:.0e} is allowed. {len(bad)} targets are off. "
            "Try dtype='float64'; if it stays, please report the model and the prompt."
        )
    return float(missing.max())


@torch.no_grad()
def effects_on(
    run: Trace,
    dictionary: Dictionary,
    graph: AttributionGraph,
    targets: Int[np.ndarray, "target"],
    sources: Int[np.ndarray, "source"],
    *,
    window: int | None = None,
) -> Float[np.ndarray, "target source"]:
    """Direct effects of some unit nodes of a graph on some of its units and logits, in float64.

    targets, sources: rows of the graph's node table.
    window: count a unit's writes only up to so many layers past its own; None counts all, and gives the edges.
    """
    at = _find_units(run, graph, sources)
    units = np.full(len(run.layer), -1)
    units[at] = np.arange(len(sources))
    nowhere = np.full(len(run.tokens), -1)
    errors = np.full((run.frozen.layers, len(run.tokens)), -1)
    scored = Columns(nowhere, units, errors, np.full(len(run.constants), -1))
    written = Sources(run, dictionary, scored, window=window)
    order = np.argsort(-targets, kind="stable")
    chunk = read_targets(run, dictionary, graph, targets[order])
    weight = chunk.vector.new_zeros(len(targets), len(sources))
    for place, layer, gradient in sweep_back(run.frozen, dictionary, chunk, stop_early=written.pushed):
        written.score(weight, place, layer, gradient)
    found = np.empty((len(targets), len(sources)))
    found[order] = weight.double().cpu().numpy()
    return found


def read_targets(
    run: Trace, dictionary: Dictionary, graph: AttributionGraph, rows: Int[np.ndarray, "target"]
) -> Targets:
    """What a sweep needs to start from these units and logits of a graph, the latest node first.

    run: the trace of the graph's own prompt. rows: of the graph's node table, descending.
    """
    nodes = graph.nodes
    logits = nodes.where("logit")
    tokens = nodes.feature[logits].tolist()
    goal = Goal(tokens, list(graph.provenance["against"]), [1.0] * len(tokens), [1.0] * len(tokens), [""] * len(tokens))
    is_logit = nodes.kind[rows] == "logit"
    above = _read_logits(run, goal).targets.take(np.searchsorted(logits, rows[is_logit]))
    below = _read_units(run, dictionary).targets.take(_find_units(run, graph, rows[~is_logit]))
    return Targets(
        np.concatenate([above.layer, below.layer]),
        np.concatenate([above.position, below.position]),
        torch.cat([above.vector, below.vector]),
    )


def _find_units(run: Trace, graph: AttributionGraph, rows: Int[np.ndarray, "unit"]) -> Int[np.ndarray, "unit"]:
    """Where the units of a graph stand among a trace's active ones."""
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    at = {place: i for i, place in enumerate(places)}
    columns = (getattr(graph.nodes, name)[rows].tolist() for name in ("layer", "position", "feature"))
    return np.array([at[place] for place in zip(*columns, strict=True)], dtype=np.int64)


# -- the graph --------------------------------------------------------------------------------------------------------


def _assemble(
    run: Trace,
    goal: Goal,
    table: Table,
    found: Sequence[Rows],
    value: Float[np.ndarray, "node"],
    provenance: dict[str, object],
) -> AttributionGraph:
    nodes = table.nodes
    gross = np.zeros(len(nodes))
    for rows in found:
        gross[rows.target] = rows.size - rows.bias
    nodes = nodes.with_columns(value=value, gross=gross)
    untraced = np.isnan(value) & np.isin(nodes.kind, ("feature", "neuron"))
    place = None
    if untraced.any():
        nodes, place = _merge_untraced(nodes, untraced)
    rows = stack(found, place)
    goal_of = np.zeros(len(nodes))
    goal_of[-len(goal.weight) :] = goal.weight
    # The same as `graphs.influence`, before there is a graph: making one copies and checks every edge.
    carried = goal_of.copy()
    carry(rows, carried, rows.size - rows.bias)
    carried[np.isin(nodes.kind, ("bias", "logit"))] = 0
    return AttributionGraph(
        nodes=nodes.with_columns(influence=carried),
        source=rows.source,
        target=np.repeat(rows.target, np.diff(rows.start)),
        weight=rows.weight,
        goal=goal_of,
        token_ids=tuple(run.tokens.tolist()),
        tokens=tuple(run.texts),
        provenance=provenance,
    )


def _merge_untraced(nodes: Nodes, untraced: np.ndarray) -> tuple[Nodes, np.ndarray]:
    """One `unselected` node per layer and position in place of the untraced units there; where each old row went."""
    cell = nodes.layer.astype(np.int64) * (nodes.position.max() + 1) + nodes.position
    cells, first, count = np.unique(cell[untraced], return_index=True, return_counts=True)
    representative = np.flatnonzero(untraced)[first]
    stays = ~untraced
    stays[representative] = True
    place = np.cumsum(stays) - 1
    place[untraced] = place[representative][np.searchsorted(cells, cell[untraced])]
    kind, feature, label = np.array(nodes.kind), np.array(nodes.feature), np.array(nodes.label)
    activation = np.array(nodes.activation)
    kind[representative], feature[representative], activation[representative] = "unselected", -1, 1.0
    label[representative] = [f"{n} untraced" for n in count]
    changed = nodes.with_columns(kind=kind, feature=feature, label=label, activation=activation)
    return changed.take(np.flatnonzero(stays)), place
