"""What is known of each unit of a set, counted over texts: where it fires, how strongly, and what it makes likelier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.model import Model
from circuits.progress import Progress
from circuits.texts import Texts
from circuits.transcoders.firing import AT_ONCE, Firing, Survey, first_of_equals, run_over
from circuits.transcoders.transcoders import Transcoders

WORDS = 5  # that a unit fires on, raises and lowers, at most
EXAMPLES = 4  # texts of a unit, at most
TOKENS = 2**16  # counted over, unless asked otherwise
AUDIBLE = 0.75  # logits: what raises none by so much at its mean strength is not said to say anything
SURE = 0.8  # the share of its strongest places that makes one token the name of a unit
LONGEST = 30  # letters of a label, as many as a picture has room for


def make_notes(
    model: Model, transcoders: Transcoders, texts: Texts, *, examples: int = EXAMPLES, progress: Progress | None = None
) -> dict[str, dict[str, Any]]:
    """A note on every unit, by `layer/unit`, as `labels.json` has them and a feature's card shows them.

    density: the share of tokens on which the unit is active. act_max: its largest activation.
    histogram: `edges`, the two ends of BINS bins that are equally wide, and `counts`, of active tokens in each.
    examples: the texts in which it is strongest, each another; around its strongest place the `tokens`, their
        `activations`, and which of them is the `peak`.
    fires_on: the tokens at the strongest places of TRIED texts, the weightiest first.
    promotes, suppresses: the tokens whose logits it raises and lowers most; see `logits_of`.
    label: `fires on → say "promotes"` in LONGEST letters, either side only where it is plain.

    A unit that is never active has a density of 0, and of the rest what it would promote. All that is counted is
    counted exactly, on all the texts, which are run twice: nothing but counts is kept of the first time.
    """
    surveys = [Survey(transcoders.units, model.device) for _ in range(transcoders.layers)]
    rows = [row[:length] for row, length in zip(texts.tokens.tolist(), texts.length.tolist(), strict=True)]
    fresh = first_of_equals(rows)
    tokens, done = 0, _Count(texts, progress)
    for block in run_over(model, transcoders, texts):
        here = fresh[block.first : block.first + len(block.counted)].to(model.device)
        surveys[block.layer].add(block, here)
        if block.layer == 0:
            tokens += int(block.counted.sum())
            done(len(block.counted))
    found = [Firing(survey, rows, examples) for survey in surveys]
    for block in run_over(model, transcoders, texts):
        found[block.layer].add(block)
        if block.layer == 0:
            done(len(block.counted))
    notes: dict[str, dict[str, Any]] = {}
    words = _Texts(model)
    for layer, firing in enumerate(found):
        for unit, written in enumerate(_written(model, transcoders, layer)):
            notes[f"{transcoders.of_layers[layer]}/{unit}"] = _note(firing, unit, written, words, tokens)
    return notes


@torch.no_grad()
def logits_of(model: Model, transcoders: Transcoders, layer: int, unit: Int[Tensor, "n"]) -> Float[Tensor, "n vocab"]:
    """What one of activation of each unit adds to the logits directly, times what the final norm divides by.

    All layers that it writes to together, through the final norm; less the mean over the vocabulary. Where a set writes
    what a norm behind the MLP still has to pass, that norm's gain is applied, and not what it divides by either: that
    is another at every token.
    """
    written = torch.zeros(len(unit), model.d_model, device=model.device, dtype=model.dtype)
    for to in transcoders.written_layers(layer):
        post = model.blocks[transcoders.of_layers[to]].mlp_post_norm if transcoders.writes == "mlp_raw" else None
        rows = transcoders.writing(layer, unit, to)
        written += rows if post is None else rows * post.gain
    if model.final_norm is not None:
        centre = written.mean(-1, keepdim=True) if model.family.norm == "layer" else 0
        written = (written - centre) * model.final_norm.gain
    logits = written @ model.W_U
    return logits - logits.mean(-1, keepdim=True)


def join_label(reads: str, says: str) -> str:
    """`reads → says`, no longer than a picture has room for."""
    both = " → ".join(part for part in (reads, says) if part)
    if len(both) <= LONGEST:
        return both
    room = LONGEST - len(says) - 4 if says else LONGEST - 1
    return f"{reads[:room]}… → {says}" if says and room >= 4 else both[: LONGEST - 1] + "…"


def short(number: float) -> float | int:
    """Three digits of it."""
    rounded = float(f"{number:.3g}")
    return int(rounded) if rounded == int(rounded) else rounded


class _Texts:
    """What tokens say, each looked up once."""

    def __init__(self, model: Model) -> None:
        self._model, self._known = model, {}

    def __call__(self, ids: list[int]) -> list[str]:
        unknown = [id for id in dict.fromkeys(ids) if id not in self._known]
        self._known.update(zip(unknown, self._model.texts(unknown), strict=True))
        return [self._known[id] for id in ids]


class _Count:
    """Tells a bar how much of two rounds over texts is done."""

    def __init__(self, texts: Texts, progress: Progress | None) -> None:
        self._done, self._all, self._progress = 0, 2 * len(texts), progress

    def __call__(self, texts: int) -> None:
        self._done += texts
        if self._progress is not None:
            self._progress("noting what features fire on", self._done, self._all)


@dataclass(frozen=True)
class _Written:
    """raised, lowered: token ids. says: the token that stands out of all that are raised, -1 for none.

    most: by how much the first is raised; see `logits_of`.
    """

    raised: list[int]
    lowered: list[int]
    says: int
    most: float


def _written(model: Model, transcoders: Transcoders, layer: int) -> Iterator[_Written]:
    """Of every unit of a layer, what it does to the logits."""
    for units in torch.arange(transcoders.units).split(max(1, AT_ONCE // model.vocabulary)):
        logits = logits_of(model, transcoders, layer, units.to(model.device))
        words = min(WORDS, model.vocabulary)
        high, low = logits.topk(words), logits.topk(words, largest=False)
        spread = logits.std(-1)
        second = high.values[:, min(1, words - 1)]
        plain = (high.values[:, 0] >= 3 * spread) & (high.values[:, 0] >= 1.5 * second)
        columns = (high.indices, low.indices, plain, high.values[:, 0])
        for raised, lowered, is_plain, most in zip(*(each.tolist() for each in columns), strict=True):
            yield _Written(raised, lowered, raised[0] if is_plain else -1, most)


def _note(firing: Firing, unit: int, written: _Written, words: _Texts, tokens: int) -> dict[str, Any]:
    fired = firing.fired[unit]
    effects = {"promotes": words(written.raised), "suppresses": words(written.lowered)}
    if not fired:
        return {**effects, "density": 0}
    weights: dict[int, float] = defaultdict(float)
    for token, amount in firing.peaks[unit]:
        weights[token] += amount
    strongest = sorted(weights.items(), key=lambda each: -each[1])
    audible = firing.heard[unit] / fired * written.most >= AUDIBLE
    says = f'say "{_plain(words([written.says])[0])}"' if written.says >= 0 and audible else ""
    return {
        "label": join_label(_reads(strongest, words), says),
        "fires_on": words([token for token, _ in strongest[:WORDS]]),
        **effects,
        "density": float(f"{fired / tokens:.5g}"),
        "act_max": short(firing.most[unit]),
        "histogram": {"edges": [short(end) for end in firing.ends[unit]], "counts": firing.counts[unit].tolist()},
        "examples": [
            {"tokens": words(ids), "activations": [short(each) for each in activations], "peak": peak}
            for ids, activations, peak in firing.shown[unit]
        ],
    }


def _reads(strongest: Sequence[tuple[int, float]], words: _Texts) -> str:
    """One token, if it has the greatest part of the strongest places; else the three that have most."""
    if not strongest:
        return ""
    if strongest[0][1] >= SURE * sum(amount for _, amount in strongest):
        return f'"{_plain(words([strongest[0][0]])[0])}"'
    return "/".join(_plain(word) for word in words([token for token, _ in strongest[:3]]))


def _plain(word: str) -> str:
    """A token without the spaces around it, if there is more to it."""
    return word.strip() or word
