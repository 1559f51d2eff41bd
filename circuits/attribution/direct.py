"""Feature graphs: the direct effect of every unit, error, token and bias on every unit and logit, in the frozen model.

    weight(source -> target) = Σ_places ⟨what the source writes there, gradient of the target there⟩

and for every target  Σ weights = its value  (pre-activation, gated neuron's activation, demeaned logit): asserted.

Source: Ameisen et al. 2025, "Circuit Tracing"; METHODS sections 2.3, 2.4, 3.2 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attending import places_of
from circuits.errors import NotConserved
from circuits.expansion import ROUND, Expansion, carried_by, expand
from circuits.goal import Goal, choose_goal
from circuits.laying_out import Table, lay_out
from circuits.model import Model
from circuits.packing import BIASES, IN_MEMORY, Rows, Runs, Sheet, Stretches, pack, runs_of, stack
from circuits.progress import Count
from circuits.reading import Reading, read_logits, read_units, written_at
from circuits.sources import Columns, Sources
from circuits.sweep import Targets, join_targets, sweep_back
from circuits.targets import Target
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary
from circuits.upstream import keep_upstream
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes

CONSERVED = {torch.float32: 1e-5, torch.float64: 1e-12}  # |residual| / gross of any target: METHODS 2.4
# Numbers in one gradient, at least and at most, and how many targets are worth to be together when the prompt is long.
ROOM = {"cpu": (2**22, 2**26), "cuda": (2**29, 2**29)}
TOGETHER = 128

UNITS = ("feature", "attention", "neuron")
OTHERS = ("direction", "error")  # what a goal may hold that is neither a unit nor a logit


def attribute_directly(
    model: Model,
    dictionary: Dictionary,
    prompt: str | Sequence[int],
    targets: Sequence[Target] | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
    max_features: int | None = None,
    min_influence: float | None = None,
    round_size: int = ROUND,
    progress: Count | None = None,
) -> AttributionGraph:
    """The feature graph of one prompt: everything that can have fed its targets.

    targets, max_logits, logit_mass: see `choose_goal`.
    max_features, min_influence, round_size: which units' own inputs are traced, see `Expansion`; the other units are
        summed into one `unselected` node per layer and position. By default all are traced.
    progress: called with (targets done, targets in all).

    The provenance says what was left: `expansion`, with its order, `left` and `largest_left`, shares of the goal.

    Raises:
        NotConserved: some target's inputs do not add up to its value.
        BadPrompt, BadTarget, BadOption, UnfaithfulModel: see `trace`, `choose_goal` and `Expansion`.
    """
    wanted = Expansion(max_features, min_influence, round_size)
    run = trace(model, dictionary, prompt)
    goal = choose_goal(model, dictionary, run, targets, max_logits=max_logits, logit_mass=logit_mass)
    return attribute_trace(run, dictionary, goal, wanted, progress=progress)


@torch.no_grad()
def attribute_trace(
    run: Trace,
    dictionary: Dictionary,
    goal: Goal,
    wanted: Expansion | None = None,
    *,
    progress: Count | None = None,
) -> AttributionGraph:
    """`attribute_directly` for a prompt that is already traced."""
    wanted = wanted or Expansion()
    active, others = len(run.layer), goal.read(run)
    run, goal, reach = keep_upstream(run, dictionary, goal, others)
    table = lay_out(run, dictionary, goal, others, reach)
    sources, units = Sources(run, dictionary, table.columns), read_units(run, dictionary)
    at_others = np.arange(table.sources, len(table.nodes))
    goal_of = np.zeros(len(table.nodes))
    goal_of[at_others] = goal.weight
    goal_of[table.columns.units[goal.units]] = goal.unit_weight
    found: list[Rows] = []
    value = np.full(len(table.nodes), np.nan)
    worst, done, total = 0.0, 0, min(wanted.max_features or len(run.layer), len(run.layer)) + len(at_others)
    parts = expand(wanted, units, table.columns.units, goal.units, others, at_others, goal_of, found)
    for reading, at in parts:
        value[at] = reading.value.double().cpu().numpy()
        for sort in reading.targets.sorts():
            for rows, missing in _score(run, dictionary, table, sources, reading.take(sort), at[sort], found):
                found.append(rows)
                worst, done = max(worst, missing), done + len(rows.target)
                if progress is not None:
                    progress(done, total)
    if progress is not None and done < total:
        progress(done, done)
    provenance = {
        "method": "direct",
        "conservation": worst,
        "active": active,
        "traced": done - len(at_others),
        "against": goal.wrong,
        "read": None if goal.others is None else _keep(goal.others.targets),
        "dtype": str(run.residual.dtype).removeprefix("torch."),
        "device": run.residual.device.type,
    }
    return _assemble(run, table, found, value, goal_of, wanted, provenance)


# -- the edges --------------------------------------------------------------------------------------------------------


def _score(
    run: Trace,
    dictionary: Dictionary,
    table: Table,
    sources: Sources,
    reading: Reading,
    at: Int[np.ndarray, "_"],
    found: Sequence[Rows],
) -> Iterator[tuple[Rows, float]]:
    """The rows of these targets, some at a time, each held to conservation; and the largest violation among them.

    found: all rows so far; if these fill the memory that edges may have, new ones go to a file.
    """
    stretches, targets = table.columns.stretches, reading.targets
    gradients = np.cumsum((targets.position + 1) * run.residual.shape[1])
    sees = targets.layer.astype(float)
    if reading.along is not None:  # an error has what units write at its own place among its inputs
        sees[reading.along.any(1).cpu().numpy()] += 0.5
    edges = np.cumsum(stretches.widths(sees, targets.position))
    start = 0
    while start < len(at):
        end = min(_fits(gradients, start, _room(run)), _fits(edges, start, _room(run)))
        chunk = reading.take(slice(start, end))
        sheet = Sheet(stretches, sees[start:end], chunk.targets.position, chunk.value)
        for place, layer, gradient in sweep_back(run.frozen, dictionary, chunk.targets, stop_early=sources.pushed):
            sources.score(sheet, place, layer, gradient)
        for (name, layer), column in table.reading.items():
            read_here = np.flatnonzero(chunk.targets.layer == layer)
            only = Runs(np.array([column]), np.array([BIASES]), np.array([0, 1]))
            sheet.add(torch.from_numpy(read_here), getattr(chunk, name)[read_here, None], only)
        if chunk.along is not None:
            _take_off(run, dictionary, table, chunk.targets, chunk.along, sheet)
        held = sum(rows.source.nbytes + rows.weight.nbytes for rows in found)
        rows = pack(at[start:end], sheet, stretches, in_file=held > IN_MEMORY)
        yield rows, _check_conservation(table, rows, chunk, run.residual.dtype)
        start = end


def _room(run: Trace) -> int:
    """How many numbers one gradient may have, and one sheet: enough for many targets at a time, but not for all."""
    least, most = ROOM.get(run.residual.device.type, ROOM["cpu"])
    return min(max(TOGETHER * run.residual.numel(), least), most)


def _fits(ends: Int[np.ndarray, "target"], start: int, room: int) -> int:
    """Up to which target one can go from `start` on within some room, at least by one."""
    before = ends[start - 1] if start else 0
    return max(start + 1, int(np.searchsorted(ends, before + room, side="right")))


def _take_off(
    run: Trace,
    dictionary: Dictionary,
    table: Table,
    targets: Targets,
    along: Float[Tensor, "target d_model"],
    sheet: Sheet,
) -> None:
    """What units write at an error's own place, against it."""
    columns = table.columns
    for row in torch.nonzero(along.any(1))[:, 0].tolist():
        units, vectors = written_at(run, dictionary, int(targets.layer[row]), int(targets.position[row]))
        if len(units):
            runs = runs_of(columns.units[units.cpu().numpy()], columns.stretches)
            sheet.add(torch.tensor([row]), -(vectors @ along[row])[None], runs)


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
    whole = Stretches(np.zeros(1, dtype=np.int64), np.full((1, len(run.tokens)), len(sources)))
    scored = Columns(nowhere, units, errors, errors, np.full(len(run.constants), -1), whole)
    written = Sources(run, dictionary, scored, window=window)
    every, order = read_targets(run, dictionary, graph, targets)
    found = np.empty((len(targets), len(sources)))
    for sort in every.sorts():
        chunk = every.take(sort)
        sheet = Sheet(whole, chunk.layer, chunk.position, chunk.vector)
        for place, layer, gradient in sweep_back(run.frozen, dictionary, chunk, stop_early=written.pushed):
            written.score(sheet, place, layer, gradient)
        found[order[sort]] = sheet.weight.view(len(chunk), len(sources)).double().cpu().numpy()
    return found


def read_targets(
    run: Trace, dictionary: Dictionary, graph: AttributionGraph, rows: Int[np.ndarray, "target"]
) -> tuple[Targets, Int[np.ndarray, "target"]]:
    """What a sweep needs to start from these targets of a graph, in the sweep's order; and which of `rows` each is.

    run: the trace of the graph's own prompt. rows: of the graph's node table: units, and targets of its goal.
    """
    nodes = graph.nodes
    logits, others = nodes.where("logit"), np.flatnonzero((graph.goal != 0) & np.isin(nodes.kind, OTHERS))
    is_unit, is_logit, is_other = (np.isin(rows, each) for each in (nodes.where(*UNITS), logits, others))
    against = list(graph.provenance["against"])
    read = [
        read_units(run, dictionary).targets.take(_find_units(run, graph, rows[is_unit])),
        read_logits(run, nodes.feature[logits].tolist(), against, nodes.position[logits].tolist()).targets.take(
            np.searchsorted(logits, rows[is_logit])
        ),
    ]
    if is_other.any():
        read.append(_kept(graph, run).take(np.searchsorted(others, rows[is_other])))
    targets = join_targets(read)
    order = np.lexsort((-targets.position, -targets.layer))
    return targets.take(order), np.concatenate([np.flatnonzero(each) for each in (is_unit, is_logit, is_other)])[order]


def _keep(targets: Targets) -> dict[str, object]:
    """Targets that are neither units nor logits, so that a stored graph's edges can be taken apart again."""
    return {
        "layer": targets.layer.tolist(),
        "position": targets.position.tolist(),
        "vector": targets.vector.tolist(),
    }


def _kept(graph: AttributionGraph, run: Trace) -> Targets:
    read = graph.provenance["read"]
    vector = torch.tensor(read["vector"], dtype=run.residual.dtype, device=run.residual.device)
    return Targets(np.array(read["layer"]), np.array(read["position"]), vector)


def _find_units(run: Trace, graph: AttributionGraph, rows: Int[np.ndarray, "unit"]) -> Int[np.ndarray, "unit"]:
    """Where the units of a graph stand among a trace's active ones."""
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    at = {place: i for i, place in enumerate(places)}
    return np.array([at[place] for place in map(tuple, places_of(graph.nodes, rows).tolist())], dtype=np.int64)


# -- the graph --------------------------------------------------------------------------------------------------------


def _assemble(
    run: Trace,
    table: Table,
    found: Sequence[Rows],
    value: Float[np.ndarray, "node"],
    goal: Float[np.ndarray, "node"],
    wanted: Expansion,
    provenance: dict[str, object],
) -> AttributionGraph:
    nodes = table.nodes
    gross = np.zeros(len(nodes))
    rows = stack(found)
    gross[rows.target] = rows.size - rows.bias
    # The same as `graphs.influence`, before there is a graph: making one copies and checks every edge.
    carried = carried_by(rows, goal)
    carried[nodes.kind == "bias"] = 0
    nodes = nodes.with_columns(value=value, gross=gross, influence=carried)
    untraced = np.isnan(value) & np.isin(nodes.kind, UNITS)
    left = carried[untraced] / goal.sum()
    expansion = {
        "order": wanted.order,
        "min_influence": wanted.min_influence,
        "left": float(left.sum()),
        "largest_left": float(left.max(initial=0.0)),
    }
    if untraced.any():
        nodes, place = _merge_untraced(nodes, untraced)
        goal = np.bincount(place, goal, minlength=len(nodes))
        rows = stack(found, place)
    source, target, weight = rows.edges()
    return AttributionGraph(
        nodes=nodes,
        source=source,
        target=target,
        weight=weight,
        goal=goal,
        token_ids=tuple(run.tokens.tolist()),
        tokens=tuple(run.texts),
        provenance={**provenance, "expansion": expansion},
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
    # Of an untraced unit the size counts, not the sum with its neighbours in which it may cancel.
    influence = np.bincount(place, nodes.influence, minlength=int(stays.sum()))
    kind[representative], feature[representative], activation[representative] = "unselected", -1, 1.0
    label[representative] = [f"{n} untraced" for n in count]
    changed = nodes.with_columns(kind=kind, feature=feature, label=label, activation=activation)
    return changed.take(np.flatnonzero(stays)).with_columns(influence=influence), place
