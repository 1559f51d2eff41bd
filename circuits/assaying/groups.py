"""Groups of units that were named as a hypothesis: each ablated as one, against what the graph says and random ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.between import read_values
from circuits.assaying.sets import draw_controls
from circuits.assaying.survival import Survival, p_value
from circuits.attribution.direct import effects_on
from circuits.changes import Intervention
from circuits.interventions import ATTENTION, default_window, read_under
from circuits.sites import Site
from circuits.transcoders.base import Dictionary
from graphs.assays import Arrow, Group
from graphs.graph import AttributionGraph
from graphs.wording import name_node

AT_ONCE = 16  # ablations between two reports of progress
MEASURED = ("feature", "neuron")
# What random groups are drawn to be alike in, the closest likeness first: see `draw_controls`.
LIKENESS = ("layer, position and activation", "layer and position", "layer and activation", "layer")

Units = Int[np.ndarray, "_ 3"]  # rows of (layer, position, unit)


@dataclass(frozen=True, eq=False)
class _Claim:
    """What the graph says of a group. rows: its members. changes, direct: of every node's value, see `predict_group`.

    joined: the groups that an edge leads to from it, with the members of each that can answer.
    """

    rows: Int[np.ndarray, "member"]
    changes: Float[np.ndarray, "node"]
    direct: Float[np.ndarray, "node"]
    joined: Mapping[str, Int[np.ndarray, "answering"]]


@torch.no_grad()
def test_groups(bench: Bench) -> list[Group]:
    """Ablate each registered group at once, its members alone, and as many random units in its place.

    Units that write one layer are set to zero in the live model, whatever feeds them by then: what one member does
    through another is counted once. Cross-layer ones are ablated as anywhere, all MLP outputs from the group's first
    layer to the end of its last window held, so that what reads in between does not answer.

    Random groups are different from one another, and hold no member of any group. Where too few such groups exist,
    they are drawn less alike.

    Source: METHODS section 10, on testing a group, with predictor P0 of 7.1 and control 1 of 7.3.
    """
    named = {name: np.asarray(rows, dtype=np.int64) for name, rows in bench.groups.items()}
    why = {name: why_unmeasured(bench, rows) for name, rows in named.items()}
    claims = {name: _claim(bench, rows, named, why) for name, rows in named.items() if not why[name]}
    wanted = max(bench.controls, fewest_controls(len(claims), _count_sizeable(bench, claims)))
    drawn = {name: draw_groups(bench, claim.rows, wanted) for name, claim in claims.items()}
    runs = sum(len(claim.rows) + len(ATTENTION) + len(drawn[name][0]) for name, claim in claims.items())
    count = bench.count("ablating groups, and random ones", runs)
    left = _left(bench, [claim.rows for claim in claims.values()])
    found = {
        name: _test(bench, name, claim, *drawn[name], left[place], count)
        for place, (name, claim) in enumerate(claims.items())
    }
    return [found.get(name) or leave_untested(name, rows.tolist(), why[name]) for name, rows in named.items()]


def why_unmeasured(bench: Bench, rows: Sequence[int] | np.ndarray) -> str:
    """Why a group cannot be ablated, empty when it can."""
    for row in np.asarray(rows).tolist():
        kind = str(bench.graph.nodes.kind[row])
        if kind not in MEASURED:
            return f"it holds {name_node(bench.graph, row)}, of kind {kind}: features and neurons are ablated"
        if row in bench.metric.rows:
            return f"it holds {name_node(bench.graph, row)}, which is what the graph explains"
    return ""


def leave_untested(name: str, rows: Sequence[int], why: str) -> Group:
    """A group of which nothing was measured."""
    nothing = dict.fromkeys("predicted measured kl measured_frozen kl_frozen left p".split(), math.nan)
    lists: dict[str, Any] = {"random": [], "random_kl": [], "arrows": []}
    singles = [math.nan] * len(rows)
    return Group(name, list(rows), **nothing, **lists, singles=singles, alike="", unmatched=why, untested=why)


def fewest_controls(groups: int, arrows: int) -> int:
    """As many random groups as let a p stand after Holm's correction over the groups, and over the arrows."""
    return math.ceil(max(groups, arrows) / thresholds.SIGNIFICANT)


def predict_group(
    bench: Bench, rows: Int[np.ndarray, "member"]
) -> tuple[Float[np.ndarray, "node"], Float[np.ndarray, "node"]]:
    """What the graph says every node's value changes by when all members are ablated at once.

    By the edges from members alone; and by all paths, units changing with their value. A member is at zero whatever
    feeds it, and passes nothing on: the sum over members alone would count twice what one does through another.
    """
    graph, nodes = bench.graph, bench.graph.nodes
    count, value = len(nodes), np.nan_to_num(nodes.value)
    is_unit = np.isin(nodes.kind, MEASURED)
    passes = is_unit & (value != 0)
    passes[rows] = False
    weight = sparse.csr_array((graph.weight, (graph.target, graph.source)), shape=(count, count))
    held = _held(bench.transcoders, nodes.layer[rows])
    if held is None:
        first = -weight[:, rows].toarray().sum(1)
    else:
        targets = np.flatnonzero((is_unit | (nodes.kind == "logit")) & (nodes.layer >= held.stop))
        first = np.zeros(count)
        for layer in np.unique(nodes.layer[rows]):
            here, window = rows[nodes.layer[rows] == layer], held.stop - 1 - int(layer)
            effects = effects_on(bench.run, bench.transcoders, graph, targets, here, window=window)
            first[targets] -= effects.sum(1)
    per_value = np.divide(1.0, value, out=np.zeros(count), where=passes)
    passed_on = sparse.identity(count, format="csr") - weight.multiply(per_value[None, :]).tocsr()
    changes = sparse.linalg.spsolve_triangular(passed_on, first[:, None], lower=True, unit_diagonal=True)[:, 0]
    return first, changes


def draw_groups(bench: Bench, rows: Int[np.ndarray, "member"], wanted: int) -> tuple[list[Units], str]:
    """So many different groups of active units as large as this one, or as many as there are; and in what alike."""
    ours = bench.places(rows).cpu().numpy()
    members = np.concatenate([np.asarray(each, dtype=np.int64) for each in bench.groups.values()])
    units = members[np.isin(bench.graph.nodes.kind[members], MEASURED)]
    but, active = bench.places(units).cpu().numpy(), bench.active.cpu().numpy()
    activation = bench.run.activation.double().cpu().numpy()
    found: list[Units] = []
    alike = LIKENESS[0]
    for loosely in range(len(LIKENESS)):
        some = draw_controls(active, activation, ours, 2 * wanted, bench.seed, but=but, loosely=loosely)
        different = {frozenset(map(tuple, each.tolist())): each for each in some}
        if len(different) > len(found):
            found, alike = list(different.values())[:wanted], LIKENESS[loosely]
        if len(found) == wanted:
            break
    return found, alike


def _claim(
    bench: Bench, rows: Int[np.ndarray, "member"], named: Mapping[str, np.ndarray], why: Mapping[str, str]
) -> _Claim:
    graph, layer = bench.graph, bench.graph.nodes.layer
    direct, changes = predict_group(bench, rows)
    reached = graph.target[np.isin(graph.source, rows)]
    held = _held(bench.transcoders, layer[rows])
    first = 0 if held is None else held.stop
    joined = {
        name: other[layer[other] >= first]
        for name, other in named.items()
        if other is not rows and not why[name] and np.isin(other, reached).any()
    }
    return _Claim(rows, changes, direct, joined)


def _count_sizeable(bench: Bench, claims: Mapping[str, _Claim]) -> int:
    """How many arrows the graph says enough of to be judged."""
    said = [
        _share(bench.graph, claim.changes, other)
        for claim in claims.values()
        for other in claim.joined.values()
        if len(other)
    ]
    return sum(abs(each) >= thresholds.SIZEABLE for each in said)


def _share(graph: AttributionGraph, changes: Float[np.ndarray, "node"], rows: Int[np.ndarray, "member"]) -> float:
    return float(_of_value(np.nan_to_num(graph.nodes.value)[rows], changes[rows][:, None])[0])


def _of_value(clean: Float[np.ndarray, "member"], change: Float[np.ndarray, "member run"]) -> Float[np.ndarray, "run"]:
    """The change of a group's value, as a share of it: every member counts in its own direction, by its size."""
    size = float(np.abs(clean).sum())
    return np.sign(clean) @ change / size if size else np.full(change.shape[1], math.nan)


def _left(bench: Bench, groups: Sequence[Int[np.ndarray, "_"]]) -> list[float]:
    """What survives without each group."""
    if not groups:
        return []
    survival = Survival(bench, "zero")
    if survival.untested:
        return [math.nan] * len(groups)
    return survival.without([bench.places(rows) for rows in groups]).tolist()


def _test(
    bench: Bench, name: str, claim: _Claim, random: list[Units], alike: str, left: float, count: Callable[[int], None]
) -> Group:
    metric, value = bench.metric, np.nan_to_num(bench.graph.nodes.value)
    ours = bench.places(claim.rows).cpu().numpy()
    held = _held(bench.transcoders, ours[:, 0])
    answer = {to: answering for to, answering in claim.joined.items() if len(answering)}
    measure = _Measure(bench, held, answer, count)
    joint = {mode: measure([ours], mode) for mode in ATTENTION}
    singles = measure([each[None] for each in ours], "live", others=False)
    others = measure(random, "live")
    (live,), (frozen,) = joint["live"].change, joint["frozen"].change
    unmatched = _why_unmatched(ours, random)
    rows = metric.rows

    def p_of(reached: float, null: np.ndarray) -> float:
        return math.nan if unmatched else p_value(np.abs(null) >= abs(reached))

    arrows = []
    for to, answering in claim.joined.items():
        if not len(answering):
            nothing = dict.fromkeys("direct predicted measured measured_frozen p".split(), math.nan)
            why = "its members read within the layers that the ablation holds"
            arrows.append(Arrow(to, **nothing, random=[], untested=why))
            continue
        moved, null = float(joint["live"].moved[to][0]), others.moved[to]
        arrows.append(
            Arrow(
                to=to,
                direct=_share(bench.graph, claim.direct, answering),
                predicted=_share(bench.graph, claim.changes, answering),
                measured=moved,
                measured_frozen=float(joint["frozen"].moved[to][0]),
                random=null.tolist(),
                p=p_of(moved, null),
            )
        )
    return Group(
        name=name,
        node=claim.rows.tolist(),
        predicted=float(metric.worth[rows] @ np.where(value[rows] == 0, 0, claim.changes[rows] / value[rows])),
        measured=float(live),
        kl=float(joint["live"].kl[0]),
        measured_frozen=float(frozen),
        kl_frozen=float(joint["frozen"].kl[0]),
        left=left,
        singles=singles.change.tolist(),
        random=others.change.tolist(),
        random_kl=others.kl.tolist(),
        alike=alike,
        p=p_of(float(live), others.change),
        unmatched=unmatched,
        arrows=arrows,
    )


@dataclass(frozen=True, eq=False)
class _Measured:
    """change, kl: of the target. [set] moved: of other groups' values, as shares of them, by name. [set]"""

    change: Float[np.ndarray, "set"]
    kl: Float[np.ndarray, "set"]
    moved: Mapping[str, Float[np.ndarray, "set"]]


class _Measure:
    """Ablates sets of units in the real model, reading the target and other groups.

    held: see `_held`. others: rows of groups that are read. count: told how many runs are done.
    """

    def __init__(
        self,
        bench: Bench,
        held: range | None,
        others: Mapping[str, Int[np.ndarray, "_"]],
        count: Callable[[int], None],
    ) -> None:
        self._bench, self._others, self._count = bench, others, count
        self._options: dict[str, Any] = {"mlps": "live"} if held is None else {"mlps": "frozen", "window": held}

    def __call__(self, sets: Sequence[Units], attention: str, *, others: bool = True) -> _Measured:
        bench, metric = self._bench, self._bench.metric
        read = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(self._others.values() if others else ())]))
        layers = sorted(set(bench.graph.nodes.layer[read].tolist()))
        sites: dict[int, Site] = {layer: (bench.transcoders.at(layer).reads, layer) for layer in layers}
        clean = read_values(bench, read, {layer: bench.run.inputs[layer][None] for layer in layers})
        change, kl, values = [], [], [np.empty((len(read), 0))]
        for start in range(0, len(sets), AT_ONCE):
            some = [[Intervention(*place) for place in each.tolist()] for each in sets[start : start + AT_ONCE]]
            wanted = list(dict.fromkeys([metric.site, *sites.values()]))
            options = {"attention": attention, **self._options}
            seen = read_under(bench.model, bench.transcoders, bench.run, some, wanted, **options)
            change += (metric.explained(seen[metric.site]) - metric.clean).tolist()
            kl += metric.moved(seen[metric.site]).tolist()
            if len(read):
                values.append(read_values(bench, read, {layer: seen[site] for layer, site in sites.items()}))
            self._count(len(some))
        now = np.concatenate(values, axis=1)
        moved = {}
        for name, rows in self._others.items() if others else ():
            at = np.searchsorted(read, rows)
            moved[name] = _of_value(clean[at, 0], now[at] - clean[at])
        return _Measured(np.array(change, dtype=np.float64), np.array(kl, dtype=np.float64), moved)


def _held(transcoders: Dictionary, layers: Int[np.ndarray, "member"]) -> range | None:
    """The layers whose MLP outputs are held while a group of these layers is ablated; None: all answer."""
    window = default_window(transcoders)
    if not window:
        return None
    return range(int(layers.min()), min(int(layers.max()) + window + 1, transcoders.layers))


def _why_unmatched(ours: Units, random: Sequence[Units]) -> str:
    """Why random groups say nothing of this one, empty when they do."""
    members = {tuple(unit) for unit in ours.tolist()}
    shared = float(np.mean([np.mean([tuple(unit) in members for unit in each.tolist()]) for each in random]))
    if shared > 0.5:
        return f"random groups share {shared:.0%} of its members: too few others are active"
    few = 1 / (1 + len(random)) > thresholds.SIGNIFICANT
    return f"only {len(random)} random groups as large can be drawn there" if few else ""
