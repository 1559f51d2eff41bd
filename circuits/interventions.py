"""Changing things in the real model: what is to change is a value, many are run in one batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attending import OFFSET
from circuits.changes import COMPONENT, ERROR, Change, Intervention, Patch, flatten
from circuits.clean_runs import Clean, Start, clean_run, together
from circuits.errors import BadIntervention, BadOption
from circuits.holding import Settings, hold_attended, hold_attention, hold_mlps
from circuits.model import SITES, Edit, Model, Site
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary, written_within
from circuits.transcoders.with_attention import attention_of
from graphs.nodes import OF_ATTENTION, Nodes

ATTENTION = ("live", "frozen")
NORMS = ("live", "frozen")
MLPS = ("frozen", "rebuilt", "live")
ROWS = 2**25  # numbers in one [row pos vocab] output, the largest tensor of a batch for most models

Active = Mapping[tuple[int, int, int], float]


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
    active = _active_units(run)
    plans = [_plan(model, transcoders, run, active, window, chosen) for chosen in runs]
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
            patches.append(_look_up(model, 1, replace(each, position=0)))
        else:
            was = float(transcoders.activations(each.layer, inputs[each.layer])[0, each.unit])
            units.append((each.layer, 0, each.unit, each.factor * was if each.value is None else each.value, was))
    counts = {layer for unit in units for layer in _within(transcoders, unit[0], window)}
    counts |= set(window if isinstance(window, range) else ())
    plan = _Plan(units, added=[], attended=[], patches=patches, counts=frozenset(counts), first=[])
    edits = _edits(transcoders, inputs, written, [plan], (0, 0), mlps, window)
    return model.run(tokens, edit=edits, past=past)[0][0, -1]


def default_window(transcoders: Dictionary) -> int:
    """How many layers past its own a unit's intervention is held: see `intervene`."""
    writes_on = any(len(transcoders.written_layers(layer)) > 1 for layer in range(transcoders.layers))
    return 2 if writes_on else 0


def missed(transcoders: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the dictionary misses of a layer's MLP output, at the site where it writes; 0 where it leaves that alone."""
    skip = transcoders.skip(layer)
    rebuilt = written_by_units(transcoders, run, layer) + transcoders.bias(layer)
    rebuilt = rebuilt if skip is None else rebuilt + run.inputs[layer] @ skip.T
    covered = torch.arange(len(run.tokens), device=run.tokens.device) >= transcoders.at(layer).silent_positions
    return (run.written[layer] - rebuilt) * covered[:, None]


def written_by_units(transcoders: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the clean run's active units write to a layer: the rest of that MLP output is bias, skip and error."""
    out = torch.zeros_like(run.written[layer])
    for source in range(layer + 1):
        if layer in transcoders.written_layers(source):
            here = run.units_at("mlp", source)
            vectors = run.activation[here, None] * transcoders.writing(source, run.unit[here], layer)
            out.index_add_(0, run.position[here], vectors)
    return out


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


@dataclass(frozen=True, eq=False)
class _Plan:
    """One set, looked up: units and what they become, vectors added to MLP outputs, and components with what they take.

    units: (layer, position, unit, target, activation in the clean run). added: (layer, position, vector). attended: the
    same, to what replaced attentions put out.
    patches: (patch, site, head or None, what takes its place or None). counts: layers whose MLP outputs are changed or
    held. first: (layer, position) of each, and whether it only adds to the end of its layer.
    """

    units: list[tuple[int, int, int, float, float]]
    added: list[tuple[int, int, Tensor]]
    attended: list[tuple[int, int, Tensor]]
    patches: list[tuple[Patch, Site, int | None, Tensor | None]]
    counts: frozenset[int]
    first: list[tuple[int, int, bool]]


def _plan(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    active: Active,
    window: int | range,
    chosen: Sequence[Change],
) -> _Plan:
    units, added, attended, patches = [], [], [], []
    counts, first = set(window if isinstance(window, range) and chosen else ()), []
    spread = [one for change in flatten(chosen) for one in _spread(change, run, transcoders, active)]
    _check_twice(spread)
    for each in spread:
        if isinstance(each, Patch):
            patches.append(_look_up(model, len(run.tokens), each))
            first.append((patches[-1][1][1], each.position or 0, False))
            continue
        _check(each, run, transcoders, active)
        if each.attention:
            attended.append((each.layer, each.position, _more_attended(model, transcoders, run, active, each)))
            first.append((each.layer, each.position, False))
            continue
        if each.unit == ERROR:
            vector = (each.factor - 1) * missed(transcoders, run, each.layer)[each.position]
            added.append((each.layer, each.position, vector))
            inside = [layer for layer in (each.layer,) if not isinstance(window, range) or layer in window]
        else:
            was = active.get((each.layer, each.position, each.unit), 0.0)
            target = each.factor * was if each.value is None else each.value
            if each.prompts:
                target = _activation_on(model, transcoders, each)
            units.append((each.layer, each.position, each.unit, target, was))
            inside = list(_within(transcoders, each.layer, window))
        if not inside and isinstance(window, range):
            raise BadIntervention(f"{each}: it writes to no layer of the window, {window.start} to {window.stop - 1}.")
        counts |= set(inside)
        first.append((inside[0], each.position, transcoders.at(inside[0]).writes == "mlp_output"))
    return _Plan(units, added, attended, patches, frozenset(counts), first)


def _more_attended(
    model: Model, transcoders: Dictionary, run: Trace, active: Active, wanted: Intervention
) -> Float[Tensor, "d_model"]:
    """What a change of a unit, or of the error, of a replaced attention adds to what that attention puts out."""
    attention = attention_of(transcoders)
    assert attention is not None
    if wanted.unit == ERROR:
        return (wanted.factor - 1) * run.attended[wanted.layer].missed[wanted.position]
    was = active.get(_place(wanted), 0.0)
    target = wanted.factor * was if wanted.value is None else wanted.value
    if wanted.prompts:
        site = (attention.reads, wanted.layer)
        seen = [model.run(model.tokenize(each)[None], read=[site])[1][site][0] for each in wanted.prompts]
        short = min(map(len, seen))
        if short <= wanted.position:
            raise BadIntervention(f"{wanted}: that prompt has positions 0 to {short - 1}.")
        found = [attention.activations(wanted.layer, x)[wanted.position, wanted.unit] for x in seen]
        target = float(torch.stack(found).mean())
    unit = torch.tensor([wanted.unit], device=run.tokens.device)
    return (target - was) * attention.writing(wanted.layer, unit)[0]


def _spread(
    change: Intervention | Patch, run: Trace, transcoders: Dictionary, active: Active
) -> Iterator[Intervention | Patch]:
    """A change that goes on, as one at every position of the prompt that it reaches."""
    if not change.onward:
        yield change
        return
    _check_onward(change)
    if isinstance(change, Patch):
        for position in range(change.position or 0, len(run.tokens)):
            yield replace(change, position=position, onward=False)
        return
    _check_place(change, run)
    for position in range(change.position, len(run.tokens)):
        if change.value is None:
            reached = (change.layer, position, change.unit) in active
        else:
            reached = position >= transcoders.at(change.layer).silent_positions
        if reached:
            yield replace(change, position=position, onward=False)


def _look_up(model: Model, length: int, patch: Patch) -> tuple[Patch, Site, int | None, Tensor | None]:
    """Where a component is in the model, and what takes its place."""
    found = COMPONENT.fullmatch(patch.component)
    layer = next((int(found[name]) for name in ("attention", "mlp", "stream") if found[name]), 0) if found else 0
    head = int(found["head"]) if found and found["head"] else None
    if found is None or not 0 <= layer < model.layers or not 0 <= (head or 0) < model.heads:
        raise BadIntervention(
            f"{patch}: there is no {patch.component!r}; components are input, a0.h0 to a{model.layers - 1}."
            f"h{model.heads - 1}, m0 to m{model.layers - 1}, and resid0 to resid{model.layers - 1}."
        )
    if found["mlp"] and model.family.mlp == "none":
        raise BadIntervention(f"{patch}: {model.name} has no MLPs.")
    if patch.position is not None and not 0 <= patch.position < length:
        raise BadIntervention(f"{patch}: the prompt has positions 0 to {length - 1}.")
    width = model.blocks[layer].W_O.shape[1] if head is not None else model.d_model
    if patch.direction and len(patch.direction) != width:
        raise BadIntervention(f"{patch}: it has {width} dimensions, the direction {len(patch.direction)}.")
    if not all(map(math.isfinite, patch.direction or [patch.factor])):
        what = "the direction must hold finite numbers" if patch.direction else "the factor must be a finite number"
        raise BadIntervention(f"{patch}: {what}.")
    if patch.direction and patch.prompts:
        raise BadIntervention(f"{patch}: prompts or a direction, not both.")
    kinds = {"input": "token_embedding", "attention": "mixed", "mlp": "mlp_output", "stream": "residual_pre"}
    site = (next(name for kind, name in kinds.items() if found[kind]), layer)
    given = model.W_U.new_tensor(patch.direction) if patch.direction else None
    if patch.prompts:
        seen = [_on(model, prompt, site, patch, patch.position, length) for prompt in patch.prompts]
        given = torch.stack(seen).mean(0)
        given = given if head is None else given[..., head, :]
    return patch, site, head, given


def _on(
    model: Model, prompt: Sequence[int], site: Site, change: Change, position: int | None, length: int
) -> Float[Tensor, "pos ..."]:
    """What passes a site on another prompt, at one position or at all."""
    tokens = model.tokenize(prompt)
    if position is None and len(tokens) != length:
        raise BadIntervention(f"{change}: that prompt has {len(tokens)} tokens, this one {length}: give a position.")
    if position is not None and len(tokens) <= position:
        raise BadIntervention(f"{change}: that prompt has positions 0 to {len(tokens) - 1}.")
    seen = model.run(tokens[None], read=[site])[1][site][0]
    return seen if position is None else seen[position : position + 1]


def _activation_on(model: Model, transcoders: Dictionary, wanted: Intervention) -> float:
    """A unit's mean activation on other prompts."""
    site = (transcoders.at(wanted.layer).reads, wanted.layer)
    seen = torch.cat([_on(model, prompt, site, wanted, wanted.position, 0) for prompt in wanted.prompts])
    return float(transcoders.activations(wanted.layer, seen)[:, wanted.unit].mean())


def _within(transcoders: Dictionary, layer: int, window: int | range) -> range:
    """The layers in which the writes of a layer's units count."""
    if not isinstance(window, range):
        return written_within(transcoders, layer, window)
    written = transcoders.written_layers(layer)
    return range(max(written.start, window.start), min(written.stop, window.stop))


def _start(plan: _Plan, model: Model, last: int, *, whole: bool, inside: bool) -> Start:
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
    plans: Sequence[_Plan],
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
        window=lambda source: _within(transcoders, source, window),
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
    transcoders: Dictionary, run: Trace, plans: Sequence[_Plan], start: Start, mlps: str
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


def _active_units(run: Trace) -> dict[tuple[int, int, int], float]:
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    return dict(zip(places, run.activation.tolist(), strict=True))


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


def _check_onward(change: Intervention | Patch) -> None:
    what = "an error" if isinstance(change, Intervention) and change.unit == ERROR else ""
    what = what or ("other prompts" if change.prompts else "")
    what = what or ("a unit of attention" if isinstance(change, Intervention) and change.attention else "")
    if what:
        raise BadIntervention(f"{change}: {what} cannot be gone on with: name the positions one by one.")
    amounts = [change.factor, *(change.direction if isinstance(change, Patch) else [change.value or 0.0])]
    if not all(map(math.isfinite, amounts)):
        raise BadIntervention(f"{change}: it must be a finite number.")


def _check_place(wanted: Intervention, run: Trace) -> None:
    if not 0 <= wanted.layer < run.frozen.layers or not 0 <= wanted.position < len(run.tokens):
        raise BadIntervention(
            f"{wanted}: the model has layers 0 to {run.frozen.layers - 1}, the prompt positions 0 to "
            f"{len(run.tokens) - 1}."
        )


def _check(wanted: Intervention, run: Trace, transcoders: Dictionary, active: Active) -> None:
    if not math.isfinite(wanted.factor if wanted.value is None else wanted.value):
        raise BadIntervention(f"{wanted}: the {'factor' if wanted.value is None else 'value'} must be a finite number.")
    _check_place(wanted, run)
    if wanted.attention:
        _check_attention(wanted, run, transcoders, active)
        return
    if wanted.unit == ERROR:
        if wanted.value is not None or wanted.prompts:
            raise BadIntervention(f"{wanted}: an error is a vector, no single value: give a factor.")
        if run.errors is None or not run.errors[wanted.layer, wanted.position].any():
            raise BadIntervention(f"{wanted}: there is no error there: the dictionary is exact, or leaves it alone.")
    elif wanted.value is not None or wanted.prompts:
        here = transcoders.at(wanted.layer)
        if not 0 <= wanted.unit < here.units or wanted.position < here.silent_positions:
            raise BadIntervention(
                f"{wanted}: {transcoders.name} has units 0 to {here.units - 1} in that layer, from position "
                f"{here.silent_positions} on."
            )
    elif (wanted.layer, wanted.position, wanted.unit) not in active:
        others = [unit for layer, at, unit in active if (layer, at) == _place(wanted)[:2] and unit < OFFSET]
        known = ", ".join(map(str, others[:8])) + (" …" if len(others) > 8 else "") or "none"
        raise BadIntervention(f"{wanted}: that unit is not active there; active at this place: {known}.")


def _check_attention(wanted: Intervention, run: Trace, transcoders: Dictionary, active: Active) -> None:
    attention = attention_of(transcoders)
    if attention is None or wanted.layer not in run.attended:
        where = ", ".join(map(str, sorted(run.attended)))
        replaced = f"replaced in layers {where} alone" if where else "the model's own in all layers"
        raise BadIntervention(f"{wanted}: attention is {replaced}, so it has no such unit.")
    if wanted.unit == ERROR:
        if wanted.value is not None or wanted.prompts:
            raise BadIntervention(f"{wanted}: an error is a vector, no single value: give a factor.")
    elif wanted.value is not None or wanted.prompts:
        if not 0 <= wanted.unit < attention.units:
            raise BadIntervention(f"{wanted}: {attention.name} has units 0 to {attention.units - 1} in each layer.")
    elif _place(wanted) not in active:
        here = [unit - OFFSET for layer, at, unit in active if (layer, at) == _place(wanted)[:2] and unit >= OFFSET]
        known = ", ".join(map(str, here[:8])) + (" …" if len(here) > 8 else "") or "none"
        raise BadIntervention(f"{wanted}: that unit is not active there; active at this place: {known}.")


def _place(wanted: Intervention) -> tuple[int, int, int]:
    """Layer, position and unit, numbered as in a trace."""
    return wanted.layer, wanted.position, wanted.unit + OFFSET * wanted.attention


def _check_twice(chosen: Sequence[Intervention | Patch]) -> None:
    named: dict[tuple, Intervention | Patch] = {}
    for each in chosen:
        patch = isinstance(each, Patch)
        place = (each.component, each.position) if patch else _place(each)
        before = named.setdefault(place, each)
        if before is not each:
            what = "component" if patch else "unit"
            raise BadIntervention(
                f"one set changes the same {what} twice: {before} and {each}. Give one factor for it, or two sets."
            )
