"""Changing things in the real model: what is to change is a value, many are run in one batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.changes import ERROR, Change, Intervention, Patch
from circuits.clean_runs import Clean, Start, clean_run, together
from circuits.errors import BadOption
from circuits.holding import Settings, hold_attended, hold_attention, hold_mlps
from circuits.model import Model
from circuits.planning import Plan, active_units, look_up, make_plan, within
from circuits.sites import SITES, Edit, Site
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.with_attention import attention_of
from graphs.nodes import OF_ATTENTION, Nodes

ATTENTION = ("live", "frozen")
NORMS = ("live", "frozen")
MLPS = ("frozen", "rebuilt", "live")
ROWS = 2**25  # numbers in one [row pos vocab] output, the largest tensor of a batch for most models


@torch.no_grad()
def intervene(
    model: Model,
    transcoders: Dictionary,
    prompt: str | Sequence[int] | Trace,
    runs: Sequence[Sequence[Change]],
    *,
    attention: str = "live",
    norms: str = "live",
    mlps: str = "frozen",
    window: int | range | None = None,
    past: Any = None,
    read: Site = ("logits", 0),
) -> Float[Tensor, "run pos ..."]:
    """The real model's logits, before any soft cap, under each set of changes.

    Units change the MLP outputs they write to, by `(factor - 1) * activation * write vector` or `(value - activation)`
    of it. Within a window these outputs are held; what comes later runs live. Errors that no set names stay as they
    are; one that is named writes to its own layer. What is below a set's first change, or before it, is not run again.
    Units of replaced attention change what their layer's attention puts out, which is held too.

    attention: "live", or "frozen": every pattern held as it was in the clean run, so that nothing looks elsewhere.
    norms: "live", or "frozen": every denominator held as it was.
    mlps: in the window. "frozen": the clean output and the change (constrained patching). "rebuilt": also what the
        other units, encoded anew, write otherwise than in the clean run (iterative patching). "live": the real MLP's
        output and the change, against what the units are by then. A skip path is no unit, and live in all three.
    window: how many layers past its own a unit's writes count and MLP outputs are held; or a range of layers, in which
        all writes count and all MLP outputs are held. By default 0 for units that write one layer and 2 for cross-layer
        ones, whose later writes would otherwise count twice: once written, once made by the later MLPs themselves.
    past: for one set: where to leave its keys and values, so that `Model.run` can go on from there.
    read: the site that is read in place of the logits.

    Raises:
        BadIntervention: a unit that is not active there, a place outside the prompt, a factor that is no number, or one
            thing twice in a set: two factors for one activation say nothing.
        BadOption: a window outside the model, or something else than the words above.

    Source: METHODS section 6.1. All held in a window of all layers is what circuit-tracer's `feature_intervention` does
    with its `constrained_layers`; `mlps="live"` in the same window what it does without.
    """
    run = prompt if isinstance(prompt, Trace) else trace(model, transcoders, prompt)
    options = {"attention": attention, "norms": norms, "mlps": mlps, "window": window, "past": past}
    return read_under(model, transcoders, run, runs, [read], **options)[read]


@torch.no_grad()
def read_under(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    runs: Sequence[Sequence[Change]],
    read: Sequence[Site],
    *,
    attention: str = "live",
    norms: str = "live",
    mlps: str = "frozen",
    window: int | range | None = None,
    past: Any = None,
) -> dict[Site, Float[Tensor, "run pos ..."]]:
    """What stands at several sites under each set of changes; for all else see `intervene`."""
    _check_options(model, attention=attention, norms=norms, mlps=mlps, window=window)
    window = default_window(transcoders) if window is None else window
    active = active_units(run)
    plans = [make_plan(model, transcoders, run, active, window, chosen) for chosen in runs]
    outputs = any(name in ("mlp_output", "mlp_raw") for name, _ in read)
    last = model.layers if model.scales(()) and not outputs else model.layers - 1
    held = [("value", layer) for layer in range(model.layers)] if attention == "frozen" else []
    held += model.scales() if norms == "frozen" else []
    clean = clean_run(model, run, [*read, *held])
    out = {site: clean.seen[site].repeat(len(runs), *[1] * (clean.seen[site].ndim - 1)) for site in read}
    whole = past is not None or any(name == "pattern" for name, _ in read)  # whose second axis is not positions
    starts = [(0, 0) if past is not None else _start(plan, model, last, whole=whole, inside=outputs) for plan in plans]
    changed = [row for row, plan in enumerate(plans) if plan.first or past is not None]
    most = max(1, ROWS // _numbers(model, transcoders, run, rebuilt=mlps == "rebuilt"))
    for start, some in together([starts[row] for row in changed], model.layers, len(run.tokens), most):
        rows = [changed[at] for at in some]
        wanted = [site for site in read if site[0] not in SITES or site[1] >= start[0]]  # below, nothing changes
        frozen = _hold_clean(model, run, clean, start, attention=attention, norms=norms)
        frozen |= _attended_edits(transcoders, run, [plans[row] for row in rows], start, mlps)
        begin = (max(start[0] - 1, 0), start[1])
        edits = _edits(transcoders, run.inputs, run.written, [plans[row] for row in rows], begin, mlps, window)
        moved = _moved_before(transcoders, run, edits, start, len(rows))
        seen = _go_on(model, run, clean, start, moved, _both(frozen, edits), wanted, past)
        for site in wanted:
            out[site][rows, start[1] :] = seen[site]
    return out


@torch.no_grad()
def go_on(
    model: Model,
    transcoders: Dictionary,
    token: int,
    past: Any,
    onward: Sequence[Intervention | Patch],
    *,
    mlps: str = "frozen",
    window: int | range | None = None,
) -> Float[Tensor, "vocab"]:
    """The logits after one more token, under the changes that go on; all else as in `intervene`, attention live.

    What is clean is this token's own run after the past as it is, so that of earlier changes it keeps what they did.

    past: what `intervene` left, or this; the token is added to it.
    """
    tokens = torch.tensor([[token]], device=model.device)
    if not onward:
        return model.run(tokens, past=past)[0][0, -1]
    window = default_window(transcoders) if window is None else window
    here = [transcoders.at(layer) for layer in range(model.layers)]
    sites = [(name, layer) for layer, each in enumerate(here) for name in (each.reads, each.writes)]
    length = past.get_seq_length() if model.remembers else 0
    before = model.recall(past, length) if model.remembers else list(past)
    seen = model.run(tokens, read=sites, past=before)[1]
    inputs, written = (
        [seen[(getattr(each, name), at)][0] for at, each in enumerate(here)] for name in ("reads", "writes")
    )
    units, patches = [], []
    for each in onward:
        if isinstance(each, Patch):
            patches.append(look_up(model, 1, replace(each, position=0)))
        else:
            was = float(transcoders.activations(each.layer, inputs[each.layer])[0, each.unit])
            units.append((each.layer, 0, each.unit, each.factor * was if each.value is None else each.value, was))
    counts = {layer for unit in units for layer in within(transcoders, unit[0], window)}
    counts |= set(window if isinstance(window, range) else ())
    plan = Plan(units, added=[], attended=[], patches=patches, counts=frozenset(counts), first=[])
    edits = _edits(transcoders, inputs, written, [plan], (0, 0), mlps, window)
    return model.run(tokens, edit=edits, past=past)[0][0, -1]


def default_window(transcoders: Dictionary) -> int:
    """How many layers past its own a unit's intervention is held: see `intervene`."""
    writes_on = any(len(transcoders.written_layers(layer)) > 1 for layer in range(transcoders.layers))
    return 2 if writes_on else 0


def change_node(nodes: Nodes, row: int, factor: float) -> Intervention:
    """A unit or an error of a graph times a factor."""
    layer, position, unit = int(nodes.layer[row]), int(nodes.position[row]), int(nodes.feature[row])
    if nodes.kind[row] == "error":
        return Intervention(layer, position, ERROR, factor, attention=unit == OF_ATTENTION)
    return Intervention(layer, position, unit, factor, attention=bool(nodes.kind[row] == "attention"))


def batches(items: Sequence, run: Trace, *, per_row: int | None = None) -> Iterator[Sequence]:
    """The items, as many at a time as one batch of the model may hold.

    per_row: numbers that one item needs at once; by default its logits.
    """
    size = max(1, ROWS // max(per_row or 0, run.logits.numel()))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _start(plan: Plan, model: Model, last: int, *, whole: bool, inside: bool) -> Start:
    """The layer and the position where a set's run begins.

    What is added to the end of a layer can be added to the stream before the next, `last` at most, unless something
    inside the layer is to be read. Positions before the first need keys and values, which not every model keeps.
    """
    if not plan.first:
        return last, 0
    layer = min(min(layer + (at_end and not inside), last) for layer, _, at_end in plan.first)
    return layer, 0 if whole or not model.remembers else min(position for _, position, _ in plan.first)


def _moved_before(
    transcoders: Dictionary, run: Trace, edits: dict[Site, Edit], start: Start, rows: int
) -> Float[Tensor, "row pos d_model"]:
    """What the layer below the first adds otherwise than in the clean run; its edits are made here, and taken out."""
    layer, position = start[0] - 1, start[1]
    clean = run.frozen.embedding[position:].expand(rows, -1, -1)
    moved = torch.zeros_like(clean)
    if layer < 0:
        return moved
    here = transcoders.at(layer)
    read, write = edits.pop((here.reads, layer), None), edits.pop((here.writes, layer), None)
    if read is not None:
        read(run.inputs[layer][position:].expand(rows, -1, -1))
    if write is None or here.writes != "mlp_output":
        return moved
    written = run.written[layer][position:].expand(rows, -1, -1)
    return write(written) - written


def _hold_clean(
    model: Model, run: Trace, clean: Clean, start: Start, *, attention: str, norms: str
) -> dict[Site, Edit]:
    """What is held whatever the sets are, from where a batch begins."""
    layer, position = start
    edits: dict[Site, Edit] = {}
    if attention == "frozen":
        values = {at: clean.seen[("value", at)] for at in range(layer, model.layers)}
        edits |= hold_attention(run, layer=layer, position=position, values=values)
    if norms == "frozen":
        scales = model.scales(range(layer, model.layers))
        edits |= {site: _hold(clean.seen[site][:, position:]) for site in scales}
    return edits


def _go_on(
    model: Model,
    run: Trace,
    clean: Clean,
    start: Start,
    moved: Float[Tensor, "row pos d_model"],
    edits: dict[Site, Edit],
    read: Sequence[Site],
    past: Any,
) -> dict[Site, Tensor]:
    """The clean run gone on with from a layer and a position, the stream there moved, with edits."""
    layer, position = start
    rows = len(moved)
    site = ("residual_pre", layer) if layer < model.layers else ("residual_end", 0)
    stream = clean.seen[site][:, position:] + moved
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")  # that is what is wanted
        _, seen = model.run(
            run.tokens[position:].expand(rows, -1),
            edit=edits,
            read=read,
            past=model.recall(clean.memory, position, rows) if position else past,
            enter=(layer, stream) if layer else None,
        )
    return seen


def _numbers(model: Model, transcoders: Dictionary, run: Trace, *, rebuilt: bool) -> int:
    """How many numbers one row of a batch needs at once."""
    length = len(run.tokens)
    units = sum(transcoders.at(layer).units for layer in range(model.layers)) if rebuilt else 0
    return length * max(model.vocabulary, 4 * model.d_model, model.heads * length, units)


def _edits(
    transcoders: Dictionary,
    inputs: Sequence[Tensor],
    written: Sequence[Tensor] | Tensor,
    plans: Sequence[Plan],
    start: Start,
    mlps: str,
    window: int | range,
) -> dict[Site, Edit]:
    """What the sets of one batch do, each in its row."""
    units = [(row, *unit) for row, plan in enumerate(plans) for unit in plan.units]
    row, layer, position, unit, target, was = zip(*units, strict=True) if units else [()] * 6
    added = [(row, *each) for row, plan in enumerate(plans) for each in plan.added]
    settings = Settings(row, layer, position, unit, target, was, added, [plan.counts for plan in plans])
    edits = hold_mlps(
        transcoders,
        inputs,
        list(written),
        settings,
        mlps=mlps,
        window=lambda source: within(transcoders, source, window),
        layer=start[0],
        position=start[1],
    )
    patches: dict[Site, list[tuple[int, Patch, int | None, Tensor | None]]] = {}
    for row, plan in enumerate(plans):
        for patch, site, head, given in plan.patches:
            patches.setdefault(site, []).append((row, patch, head, given))
    for site, some in patches.items():
        edits[site] = _one_after_another(edits.get(site), _put(some, start[1]))
    return edits


def _attended_edits(
    transcoders: Dictionary, run: Trace, plans: Sequence[Plan], start: Start, mlps: str
) -> dict[Site, Edit]:
    """What the sets of one batch do to replaced attentions."""
    attention = attention_of(transcoders)
    if attention is None:
        return {}
    added = [(row, *each) for row, plan in enumerate(plans) for each in plan.attended]
    written = {layer: each.written for layer, each in run.attended.items()}
    held = hold_attended(written, added, len(plans), live=mlps == "live", position=start[1])
    return {(attention.writes, layer): edit for layer, edit in held.items()}


def _put(patches: Sequence[tuple[int, Patch, int | None, Tensor | None]], offset: int) -> Edit:
    """Components made something else, each in its row."""

    def edit(now: Tensor) -> Tensor:
        out = now.clone()
        for row, patch, head, given in patches:
            where = (
                slice(None) if patch.position is None else slice(patch.position - offset, patch.position - offset + 1)
            )
            place = (row, where) if head is None else (row, where, head)
            out[place] = patch.factor * now[place] if given is None else given + (now[place] if patch.direction else 0)
        return out

    return edit


def _both(first: dict[Site, Edit], then: dict[Site, Edit]) -> dict[Site, Edit]:
    return {site: _one_after_another(first.get(site), then.get(site)) for site in first | then}


def _one_after_another(*edits: Edit | None) -> Edit:
    given = [edit for edit in edits if edit is not None]

    def edit(tensor: Tensor) -> Tensor:
        for each in given:
            tensor = each(tensor)
        return tensor

    return edit


def _hold(clean: Tensor) -> Edit:
    return lambda now: clean.expand_as(now)


def _check_options(model: Model, *, attention: str, norms: str, mlps: str, window: int | range | None) -> None:
    words = (("attention", attention, ATTENTION), ("norms", norms, NORMS), ("mlps", mlps, MLPS))
    for name, given, allowed in words:
        if given not in allowed:
            raise BadOption(f"{name} must be one of {', '.join(allowed)}, found {given!r}.")
    last = model.layers - 1
    if isinstance(window, range):
        if window.step != 1 or not window or window.start < 0 or window.stop > model.layers:
            raise BadOption(f"a window is a range of layers from 0 to {last}, one after the other; found {window}.")
    elif window is not None and not 0 <= window <= last:
        raise BadOption(f"window must be 0 or more layers, at most {last} in {model.name}; found {window}.")
