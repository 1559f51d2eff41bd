"""What is to be explained: the likeliest tokens, or targets of the user's choice, resolved on one trace."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attending import OFFSET
from circuits.errors import BadOption, BadTarget
from circuits.model import Model
from circuits.numbers import is_number, is_whole
from circuits.reading import Reading, join_readings, read_direction, read_error, read_logits
from circuits.targets import Direction, Error, Feature, Span, Target
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.wording import visible


@dataclass(frozen=True, eq=False)
class Goal:
    """What is explained and how much each part counts: first what is a target only, then units of the trace.

    right: the token each logit is for. wrong: the token it is held against, -1 for the mean of all. [logit]
    position: where it is read. probability: what the model gives `right` there. [logit]
    kind, labels: of the targets that are no units: "logit", "direction" or "error", and what a person reads. [target]
    weight: the share of each in what is explained. [target]
    others: what directions and errors read, in their order after the logits.
    units: rows among the trace's active units. unit_weight: the share of each. [unit]
    """

    right: list[int]
    wrong: list[int]
    position: list[int]
    probability: list[float]
    kind: list[str]
    labels: list[str]
    weight: list[float]
    others: Reading | None = None
    units: list[int] = field(default_factory=list)
    unit_weight: list[float] = field(default_factory=list)

    def read(self, run: Trace) -> Reading | None:
        """What the targets that are no units read, in their order; None where all are units."""
        logits = [read_logits(run, self.right, self.wrong, self.position)] if self.right else []
        others = [] if self.others is None else [self.others]
        return join_readings([*logits, *others]) if logits or others else None


@torch.no_grad()
def choose_goal(
    model: Model,
    dictionary: Dictionary,
    run: Trace,
    targets: Sequence[Target] | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
) -> Goal:
    """The goal for a traced prompt.

    targets: None for the likeliest next tokens, as many as reach `logit_mass` of the probability, `max_logits` at most;
        else any of: a token (text or id); a pair (right, wrong), the logit of right minus the logit of wrong; and the
        values of `circuits.targets`: a feature, an error, a direction, a span.

    Tokens chosen by the model count by their probability, targets chosen by the user count the same; a span counts as
    one, shared evenly among its tokens.

    Raises:
        BadTarget: a target is not there, is not one token, or is given twice. BadOption: a number out of range.
    """
    if targets is None:
        return _likeliest(model, run, max_logits, logit_mass)
    if not isinstance(targets, list | tuple) or not targets:
        raise BadTarget(f"targets must be a list of tokens, of (right, wrong) pairs or of others, found {targets!r}.")
    share = 1 / len(targets)
    parts = [_resolve(model, dictionary, run, target, share) for target in targets]
    names = [name for _, found in parts for name in found]
    if len(set(names)) < len(names):
        raise BadTarget(f"a target is given twice in {[str(each) for each in targets]}: name each once.")
    return _join([part for part, _ in parts])


def _join(parts: Sequence[Goal]) -> Goal:
    """Several goals in one, logits first."""
    parts = sorted(parts, key=lambda part: not part.right)

    def every(name: str) -> list[Any]:
        return [each for part in parts for each in getattr(part, name)]

    others = [part.others for part in parts if part.others is not None]
    columns = {each.name: every(each.name) for each in fields(Goal) if each.name != "others"}
    return Goal(**columns, others=join_readings(others) if others else None)


def _likeliest(model: Model, run: Trace, max_logits: int, logit_mass: float) -> Goal:
    if not is_whole(max_logits) or max_logits < 1 or not is_number(logit_mass) or not 0 < logit_mass <= 1:
        raise BadOption(f"max_logits ≥ 1 and 0 < logit_mass ≤ 1 are wanted, found {max_logits} and {logit_mass}.")
    probabilities = model.probabilities(run.logits[-1])
    best = torch.topk(probabilities, min(max_logits, len(probabilities)))
    before = best.values.cumsum(0) - best.values
    count = int((before < logit_mass).sum())
    right = best.indices[:count].tolist()
    goal = _logits(model, run, right, [-1] * count, [len(run.tokens) - 1] * count, 1.0)
    return replace(goal, weight=goal.probability)


def _resolve(
    model: Model, dictionary: Dictionary, run: Trace, target: Target, share: float
) -> tuple[Goal, list[Hashable]]:
    """A goal of this target alone, and what it is made of, to tell whether something is there twice."""
    if isinstance(target, Feature):
        layer, position = _place(run, target.layer, target.position, target)
        at = _find_unit(run, replace(target, position=position))
        return Goal([], [], [], [], [], [], [], units=[at], unit_weight=[share]), [("unit", at)]
    if isinstance(target, Error):
        layer, position = _place(run, target.layer, target.position, target)
        if run.errors is None or not bool(run.errors[layer, position].any()):
            exact = dictionary.at(layer).exact
            why = "its units rebuild the MLPs exactly" if exact else "the set leaves that position alone"
            raise BadTarget(f"{target}: {dictionary.name} has no error there: {why}.")
        reading = read_error(model, run, dictionary, layer, position)
        return _other("error", f"error L{layer}", reading, share), [("error", layer, position)]
    if isinstance(target, Direction):
        layer, position = _place(run, target.layer, target.position, target)
        if target.site == "residual_pre" and layer == 0:
            raise BadTarget(f"{target}: nothing has been written yet where layer 0 is entered, but the embedding.")
        vector = _vector(model, run, target)
        reading = read_direction(
            run, dictionary, vector, target.site, None if target.layer is None else layer, position
        )
        return _other("direction", target.name, reading, share), [("direction", id(target))]
    if isinstance(target, Span):
        return _span(model, run, target, share)
    right, wrong = _pair(model, run, target)
    last = len(run.tokens) - 1
    return _logits(model, run, [right], [wrong], [last], share), [(right, wrong, last)]


def _logits(model: Model, run: Trace, right: list[int], wrong: list[int], position: list[int], share: float) -> Goal:
    """Logits that together count for `share`."""
    labels, against = model.texts(right), model.texts([max(token, 0) for token in wrong])
    return Goal(
        right,
        wrong,
        position,
        [float(model.probabilities(run.logits[at])[token]) for at, token in zip(position, right, strict=True)],
        ["logit"] * len(right),
        [r if w < 0 else f"{visible(r)} − {visible(a)}" for r, w, a in zip(labels, wrong, against, strict=True)],
        [share / len(right)] * len(right),
    )


def _other(kind: str, label: str, reading: Reading, share: float) -> Goal:
    return Goal([], [], [], [], [kind], [label], [share], others=reading)


def _span(model: Model, run: Trace, span: Span, share: float) -> tuple[Goal, list[Hashable]]:
    length = len(run.tokens)
    first, stop, _ = slice(span.first, span.stop).indices(length)
    if not 1 <= first < stop or not -length <= span.first < length or (span.stop or 0) > length:
        raise BadTarget(
            f"the span {span} must hold at least one token, and not the first, which nothing comes before: the "
            f"prompt has positions 0 to {length - 1}."
        )
    right, position = run.tokens[first:stop].tolist(), list(range(first - 1, stop - 1))
    names: list[Hashable] = [(token, -1, at) for token, at in zip(right, position, strict=True)]
    return _logits(model, run, right, [-1] * len(right), position, share), names


def _place(run: Trace, layer: int | None, position: int, target: object) -> tuple[int, int]:
    layers, length = run.frozen.layers, len(run.tokens)
    if not is_whole(layer or 0) or not is_whole(position):
        raise BadTarget(f"{target}: layer and position must be whole numbers.")
    if not 0 <= (layer or 0) < layers or not -length <= position < length:
        raise BadTarget(
            f"{target}: the model has layers 0 to {layers - 1}, the prompt positions 0 to {length - 1} "
            "(or -1, the last, and so on down)."
        )
    return layer or 0, position % length


def _find_unit(run: Trace, wanted: Feature) -> int:
    there = (run.layer == wanted.layer) & (run.position == wanted.position)
    found = torch.nonzero(there & (run.unit == wanted.unit + OFFSET * wanted.attention))
    if not len(found):
        here = [each % OFFSET for each in run.unit[there].tolist() if (each >= OFFSET) == wanted.attention]
        known = ", ".join(map(str, here[:8])) + (" …" if len(here) > 8 else "") or "none"
        raise BadTarget(f"{wanted}: that unit is not active there; active at this place: {known}.")
    return int(found[0, 0])


def _vector(model: Model, run: Trace, target: Direction) -> Float[Tensor, "d_model"]:
    vector = torch.as_tensor(target.vector).detach().to(run.residual)
    if vector.shape != (model.d_model,) or not bool(vector.isfinite().all()) or not bool(vector.any()):
        raise BadTarget(
            f"{target}: the vector must be {model.d_model} finite numbers, not all zero; "
            f"found {tuple(vector.shape)}{'' if vector.numel() != model.d_model else ', zero or not finite'}."
        )
    return vector


def _pair(model: Model, run: Trace, target: str | int | tuple[str | int, str | int]) -> tuple[int, int]:
    if isinstance(target, tuple):
        if len(target) != 2:
            raise BadTarget(f"a contrast is a pair (right, wrong), found {target!r}.")
        right, wrong = (_token(model, run, each) for each in target)
        if right == wrong:
            raise BadTarget(f"both sides of the contrast {target!r} are the same token.")
        return right, wrong
    return _token(model, run, target), -1


def _token(model: Model, run: Trace, target: str | int) -> int:
    if isinstance(target, str):
        return model.token(target, run.logits[-1])
    if not is_whole(target):
        raise BadTarget(
            "a target is a token's text or id, a tuple (right, wrong) of two, or one of `circuits.targets`; "
            f"found {target!r}."
        )
    if not 0 <= target < model.vocabulary:
        raise BadTarget(f"token ids of {model.name} run from 0 to {model.vocabulary - 1}, found {target}.")
    return int(target)
