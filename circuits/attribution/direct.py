"""Feature graphs: the direct effect of every unit, error, token and bias on every unit and logit, in the frozen model.

    weight(source -> target) = Σ_places ⟨what the source writes there, gradient of the target there⟩

and for every target  Σ weights = its value  (pre-activation, gated neuron's activation, demeaned logit): asserted.

Source: Ameisen et al. 2025, "Circuit Tracing"; METHODS sections 2.3, 2.4, 3.2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import BadOption, NotConserved
from circuits.goal import Goal, Target, choose_goal
from circuits.model import Model
from circuits.sweep import Targets, sweep_back
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary, written_within
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes
from graphs.paths import influence

CONSERVED = {torch.float32: 1e-5, torch.float64: 1e-12}  # |residual| / gross of any target: METHODS 2.4
CHUNK = 2**26  # numbers in one gradient state, 256 MB in float32
ROUNDS = 20  # under a budget, influence is estimated anew this many times

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class _Columns:
    """Which column of a score matrix each source has, -1 for those that are not scored.

    tokens [pos], units [active], errors [layer pos], constants [constant].
    """

    tokens: Int[np.ndarray, "pos"]
    units: Int[np.ndarray, "active"]
    errors: Int[np.ndarray, "layer pos"]
    constants: Int[np.ndarray, "constant"]


@dataclass(frozen=True, eq=False)
class _Table:
    """The nodes in reading order, and where the sources are among them.

    reading: the rows of biases that are read with a target (encoder, norm before the MLP, final norm, unembedding) and
        so have no vector of their own; by name and layer.
    """

    nodes: Nodes
    columns: _Columns
    reading: dict[tuple[str, int], int]


def attribute_directly(
    model: Model,
    dictionary: Dictionary,
    prompt: str | Sequence[int],
    targets: Sequence[Target] | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
    max_features: int | None = None,
    progress: Progress | None = None,
) -> AttributionGraph:
    """The whole feature graph of one prompt.

    targets, max_logits, logit_mass: see `choose_goal`.
    max_features: trace the inputs of at most this many units, the most influential; the others are summed into one
        `unselected` node per layer and position. None traces all.
    progress: called with (targets done, targets in all).

    Raises:
        NotConserved: some target's inputs do not add up to its value.
        BadPrompt, BadTarget, BadOption, UnfaithfulModel: see `trace` and `choose_goal`.
    """
    if max_features is not None and max_features < 1:
        raise BadOption(f"max_features must be at least 1 or left out, found {max_features}.")
    run = trace(model, dictionary, prompt)
    goal = choose_goal(model, run.logits[-1], targets, max_logits=max_logits, logit_mass=logit_mass)
    return attribute_trace(run, dictionary, goal, max_features=max_features, progress=progress)


@torch.no_grad()
def attribute_trace(
    run: Trace,
    dictionary: Dictionary,
    goal: Goal,
    *,
    max_features: int | None = None,
    progress: Progress | None = None,
) -> AttributionGraph:
    """`attribute_directly` for a prompt that is already traced."""
    table = _lay_out(run, dictionary, goal)
    unit_targets, unit_values = _unit_targets(run, dictionary)
    logit_targets, logit_values = _logit_targets(run, goal)
    count = len(run.layer)
    everything = count if max_features is None else min(max_features, count)
    total = everything + len(goal.right)
    done = 0

    def rows_of(which: Targets, values: _Values, at: np.ndarray) -> Iterator[_Rows]:
        nonlocal done
        for rows in _score(run, dictionary, table, which, values, at):
            done += len(rows.target)
            if progress is not None:
                progress(done, total)
            yield rows

    logit_at = np.arange(len(table.nodes))[-len(goal.right) :]
    logit_rows = list(rows_of(logit_targets, logit_values, logit_at))
    if everything == count:
        chosen = np.arange(count)[::-1].copy()
        traced = list(rows_of(_take(unit_targets, chosen), unit_values[chosen], table.columns.units[chosen]))
    else:
        traced = []
        for chosen in _by_influence(table, goal, logit_rows, traced, everything):
            traced += rows_of(_take(unit_targets, chosen), unit_values[chosen], table.columns.units[chosen])
    return _assemble(run, dictionary, goal, table, [*logit_rows, *traced])


# -- the nodes --------------------------------------------------------------------------------------------------------


def _lay_out(run: Trace, dictionary: Dictionary, goal: Goal) -> _Table:
    layers, length = run.frozen.layers, len(run.tokens)
    rows: list[tuple] = []

    def add(kind: str, layer: int, position: int, feature: int, activation: float, label: str) -> int:
        rows.append((kind, layer, position, feature, activation, label))
        return len(rows) - 1

    for position, (token, text) in enumerate(zip(run.tokens.tolist(), run.texts, strict=True)):
        add("token", -1, position, token, 1.0, text)
    constants = []
    for each in run.constants:
        where = "" if each.layer < 0 else f" L{each.layer}"
        at = f" @{run.texts[each.position]}" if each.position >= 0 else ""
        constants.append(add("bias", each.layer, each.position, -1, 1.0, f"{each.name}{where}{at}"))
    reading = {}
    for layer in range(layers):
        reading[("encoder", layer)] = add("bias", layer, -1, -1, 1.0, f"encoder bias L{layer}")
        if run.frozen.mlp_norm[layer].bias is not None:
            reading[("norm", layer)] = add("bias", layer, -1, -1, 1.0, f"norm bias before MLP L{layer}")
    if run.frozen.final_norm.bias is not None:
        reading[("norm", layers)] = add("bias", layers, -1, -1, 1.0, "final norm bias")
    reading[("encoder", layers)] = add("bias", layers, -1, -1, 1.0, "unembedding bias")

    units = np.empty(len(run.layer), dtype=np.int64)
    errors = np.full((layers, length), -1)
    columns = [each.tolist() for each in (run.layer, run.position, run.unit, run.activation)]
    at = 0
    for layer in range(layers):
        while at < len(columns[0]) and columns[0][at] == layer:
            position, unit, activation = columns[1][at], columns[2][at], columns[3][at]
            note = dictionary.notes.get(f"{layer}/{unit}", {})
            units[at] = add(dictionary.kind, layer, position, unit, activation, note.get("label") or f"L{layer}/{unit}")
            at += 1
        if run.errors is not None:
            for position in range(dictionary.silent_positions, length):
                errors[layer, position] = add("error", layer, position, -1, 1.0, f"error L{layer}")
    for token, probability, label in zip(goal.right, goal.probability, goal.labels, strict=True):
        add("logit", layers, length - 1, token, probability, label)

    kind, layer, position, feature, activation, label = (np.array(column) for column in zip(*rows, strict=True))
    unknown, nothing = np.full(len(rows), np.nan), np.zeros(len(rows))
    nodes = Nodes(kind, layer, position, feature, activation, unknown, nothing, nothing, label)
    columns = _Columns(np.arange(length), units, errors, np.array(constants, dtype=np.int64))
    return _Table(nodes, columns, reading)


# -- the targets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Values:
    """What each target's inputs must sum to, and the parts of it that are read rather than written. Each [target]

    gross: the sizes of what it reads, coordinate by coordinate. One source can cancel within itself (the only token a
    first-layer unit sees at position 0), so that Σ|weights| says nothing about how well its sum can be known.
    """

    value: Float[Tensor, "target"]
    gross: Float[Tensor, "target"]
    encoder: Float[Tensor, "target"]
    norm: Float[Tensor, "target"]

    def __getitem__(self, rows: np.ndarray) -> _Values:
        return _Values(self.value[rows], self.gross[rows], self.encoder[rows], self.norm[rows])


def _unit_targets(run: Trace, dictionary: Dictionary) -> tuple[Targets, _Values]:
    """Every active unit as a target, in reading order."""
    vectors, values, gross, encoder, norms = [], [], [], [], []
    for layer in range(run.frozen.layers):
        here = run.layer == layer
        position, unit = run.position[here], run.unit[here]
        x = run.inputs[layer][position]
        read, constant = dictionary.reading(layer, x, unit)
        vector, norm = run.frozen.read_residual(read, layer, position, dictionary.reads)
        vectors.append(vector)
        values.append((read * x).sum(-1) + constant)
        gross.append((read * x).abs().sum(-1) + constant.abs())
        encoder.append(constant)
        norms.append(norm)
    targets = Targets(run.layer, run.position, torch.cat(vectors))
    return targets, _Values(torch.cat(values), torch.cat(gross), torch.cat(encoder), torch.cat(norms))


def _logit_targets(run: Trace, goal: Goal) -> tuple[Targets, _Values]:
    """The goal's logits as targets at the last position."""
    frozen, last = run.frozen, len(run.tokens) - 1
    direction = goal.directions(frozen.unembedding)
    position = torch.full((len(direction),), last, device=direction.device)
    encoder = goal.directions(frozen.unembedding_bias[None])[:, 0]
    bias = frozen.final_norm.bias
    norm = torch.zeros_like(encoder) if bias is None else direction @ bias
    read = direction * frozen.final_norm.apply(run.residual)[last]
    value = read.sum(-1) + encoder + norm
    gross = read.abs().sum(-1) + encoder.abs() + norm.abs()
    vector = frozen.final_norm.transpose(direction, position)
    return Targets(torch.full_like(position, frozen.layers), position, vector), _Values(value, gross, encoder, norm)


def _take(targets: Targets, rows: np.ndarray) -> Targets:
    return Targets(targets.layer[rows], targets.position[rows], targets.vector[rows])


# -- the edges --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Scored targets, latest first: the weight of every node that is not a logit on each of them.

    target: their node rows [row]; weight [row node]; value, and gross without biases, in float64 [row].
    missing: what the weights lack of the value, as a share of the gross input. [row]
    """

    target: Int[np.ndarray, "row"]
    weight: Float[np.ndarray, "row node"]
    value: Float[np.ndarray, "row"]
    gross: Float[np.ndarray, "row"]
    missing: Float[np.ndarray, "row"]


def _score(
    run: Trace,
    dictionary: Dictionary,
    table: _Table,
    targets: Targets,
    values: _Values,
    at: Int[np.ndarray, "target"],
) -> Iterator[_Rows]:
    """The rows of these targets (in reverse reading order), checked for conservation, some at a time."""
    sources = int((table.nodes.kind != "logit").sum())
    is_bias = table.nodes.kind[:sources] == "bias"
    size = max(1, CHUNK // max(len(run.tokens) * run.residual.shape[1], sources))
    for start in range(0, len(targets.layer), size):
        part = slice(start, start + size)
        chunk = Targets(targets.layer[part], targets.position[part], targets.vector[part])
        weight = chunk.vector.new_zeros(len(chunk.layer), sources)
        for place, layer, g in sweep_back(run.frozen, dictionary, chunk):
            _score_place(run, dictionary, table.columns, weight[: len(g)], place, layer, g)
        for (name, layer), column in table.reading.items():
            reads_here = chunk.layer == layer
            constant = getattr(values, name)[part]
            weight[:, column] = torch.where(reads_here, constant, 0)
        rows = at[part]
        value = values.value[part].double().cpu().numpy()
        weight = weight.cpu().numpy()
        size_of = np.abs(weight)
        gross = np.maximum(size_of.sum(1, dtype=np.float64), values.gross[part].double().cpu().numpy())
        total = weight.sum(1, dtype=np.float64)
        missing = np.abs(total - value) / np.where(gross == 0, 1, gross)
        _check_conservation(table, rows, total, value, missing, run.residual.dtype)
        yield _Rows(rows, weight, value, size_of[:, ~is_bias].sum(1, dtype=np.float64), missing)


def _score_place(
    run: Trace,
    dictionary: Dictionary,
    columns: _Columns,
    weight: Tensor,
    place: str,
    layer: int,
    g: Tensor,
    window: int | None = None,
) -> None:
    """Add to each row what every source written at this place gives, by the gradient there."""
    length = g.shape[1]
    for column, constant in zip(columns.constants, run.constants, strict=True):
        if column >= 0 and (constant.place, constant.layer) == (place, layer):
            weight[:, column] += torch.tensordot(g, constant.vectors[:length], 2)
    if place == "embedding":
        scored = np.flatnonzero(columns.tokens[:length] >= 0)
        weight[:, columns.tokens[scored]] += (g[:, scored] * run.frozen.embedding[scored]).sum(-1)
    if place != "mlp":
        return
    column_of = torch.from_numpy(columns.units).to(run.unit.device)
    for position in range(length):
        here = g[:, position]
        for source in range(layer + 1):
            if layer not in written_within(dictionary, source, window):
                continue
            units = torch.nonzero((run.layer == source) & (run.position == position) & (column_of >= 0))[:, 0]
            if len(units):
                vectors = run.activation[units, None] * dictionary.writing(source, run.unit[units], layer)
                vectors = run.frozen.written(vectors, layer, run.position[units], dictionary.writes)
                weight[:, column_of[units]] += here @ vectors.T
        if run.errors is not None and columns.errors[layer, position] >= 0:
            weight[:, columns.errors[layer, position]] += here @ run.errors[layer, position]


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
    nodes = graph.nodes
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    at = {place: i for i, place in enumerate(places)}

    def active(rows: np.ndarray) -> np.ndarray:
        columns = (nodes.layer[rows].tolist(), nodes.position[rows].tolist(), nodes.feature[rows].tolist())
        return np.array([at[place] for place in zip(*columns, strict=True)], dtype=np.int64)

    units = np.full(len(run.layer), -1)
    units[active(sources)] = np.arange(len(sources))
    scored = _Columns(
        tokens=np.full(len(run.tokens), -1),
        units=units,
        errors=np.full((run.frozen.layers, len(run.tokens)), -1),
        constants=np.full(len(run.constants), -1),
    )
    is_logit = nodes.kind[targets] == "logit"
    logits = nodes.where("logit")
    against = graph.provenance["against"]
    tokens = nodes.feature[logits].tolist()
    goal = Goal(tokens, list(against), [1.0] * len(tokens), [1.0] * len(tokens), [""] * len(tokens))
    found = np.zeros((len(targets), len(sources)))
    all_units, _ = _unit_targets(run, dictionary)
    for part, of in (
        (np.flatnonzero(~is_logit)[::-1], lambda rows: _take(all_units, active(rows))),
        (np.flatnonzero(is_logit), lambda rows: _take(_logit_targets(run, goal)[0], np.searchsorted(logits, rows))),
    ):
        if not len(part):
            continue
        chunk = of(targets[part])
        weight = chunk.vector.new_zeros(len(part), len(sources))
        for place, layer, g in sweep_back(run.frozen, dictionary, chunk):
            _score_place(run, dictionary, scored, weight[: len(g)], place, layer, g, window)
        found[part] = weight.double().cpu().numpy()
    return found


def _check_conservation(
    table: _Table, rows: np.ndarray, total: np.ndarray, value: np.ndarray, missing: np.ndarray, dtype: torch.dtype
) -> None:
    bad = np.flatnonzero(~(missing <= CONSERVED[dtype]))
    if len(bad):
        row, nodes = rows[bad[0]], table.nodes
        raise NotConserved(
            f"the inputs of {nodes.kind[row]} {nodes.label[row]!r} (layer {nodes.layer[row]}, position "
            f"{nodes.position[row]}) sum to {total[bad[0]]:.6g}, its value is {value[bad[0]]:.6g}: off by "
            f"{missing[bad[0]]:.1e} of the gross input, {CONSERVED[dtype]:.0e} is allowed. {len(bad)} targets are off. "
            "Try dtype='float64'; if it stays, please report the model and the prompt."
        )


# -- under a budget ---------------------------------------------------------------------------------------------------


def _by_influence(
    table: _Table, goal: Goal, logit_rows: list[_Rows], traced: list[_Rows], budget: int
) -> Iterator[np.ndarray]:
    """The most influential units not yet traced, a round at a time, as indices among the active, latest first.

    Influence is estimated from the rows traced so far; what is not traced yet is where paths end.
    """
    index_of = np.full(len(table.nodes), -1)
    index_of[table.columns.units] = np.arange(len(table.columns.units))
    seen = np.zeros(len(table.columns.units), dtype=bool)
    left = budget
    while left > 0:
        reached = np.zeros(len(table.nodes))
        reached[-len(goal.weight) :] = goal.weight
        rows = [(int(t), each, i) for each in [*logit_rows, *traced] for i, t in enumerate(each.target)]
        for target, each, i in sorted(rows, key=lambda row: -row[0]):
            if reached[target] and each.gross[i]:
                reached[: each.weight.shape[1]] += np.abs(each.weight[i]) * (reached[target] / each.gross[i])
        estimate = np.where(seen, -1.0, reached[table.columns.units])
        count = min(left, max(1, -(-budget // ROUNDS)))
        chosen = np.sort(np.argsort(-estimate, kind="stable")[:count])[::-1].copy()
        seen[chosen] = True
        left -= count
        yield chosen


# -- the graph --------------------------------------------------------------------------------------------------------


def _assemble(run: Trace, dictionary: Dictionary, goal: Goal, table: _Table, scored: list[_Rows]) -> AttributionGraph:
    nodes = table.nodes
    value, gross = np.array(nodes.value), np.array(nodes.gross)
    worst = 0.0
    for rows in scored:
        value[rows.target], gross[rows.target] = rows.value, rows.gross
        worst = max(worst, float(rows.missing.max()))
    nodes = nodes.with_columns(value=value, gross=gross)

    untraced = np.isnan(value) & np.isin(nodes.kind, ("feature", "neuron"))
    nodes, place = (nodes, np.arange(len(nodes))) if not untraced.any() else _merge_untraced(nodes, untraced)
    source, target, weight = [], [], []
    for rows in scored:
        row, column = np.nonzero(rows.weight)
        source.append(place[column])
        target.append(place[rows.target[row]])
        weight.append(rows.weight[row, column].astype(np.float64))
    source, target, weight = np.concatenate(source), np.concatenate(target), np.concatenate(weight)
    if untraced.any():
        pair, inverse = np.unique(target * len(nodes) + source, return_inverse=True)
        target, source = np.divmod(pair, len(nodes))
        weight = np.bincount(inverse, weights=weight)
    goal_of = np.zeros(len(nodes))
    goal_of[-len(goal.weight) :] = goal.weight
    graph = AttributionGraph(
        nodes=nodes,
        source=source,
        target=target,
        weight=weight,
        goal=goal_of,
        token_ids=tuple(run.tokens.tolist()),
        tokens=tuple(run.texts),
        provenance={
            "method": "direct",
            "conservation": worst,
            "active": len(run.layer),
            "traced": int((~np.isnan(value)).sum()) - len(goal.weight),
            "against": goal.wrong,
            "dtype": str(run.residual.dtype).removeprefix("torch."),
            "device": run.residual.device.type,
        },
    )
    return replace(graph, nodes=nodes.with_columns(influence=influence(graph)))


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
