"""A task made for a model: pairs of prompts that it can read, in train, validation and test."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.tasks import TASKS
from benchmarks.tasks.reading import Reader, prompt_of
from benchmarks.tasks.splitting import SPLITS, Splits
from benchmarks.tasks.task import BadTask, Lacking, Pick, Task, Wording
from benchmarks.tasks.unseen import is_trained
from circuits.components.pairs import FIELDS, gather
from circuits.errors import BadOption, BadPairs, BadPrompt
from circuits.model import Model

SIZE = 100  # pairs in each split
TRIES = 400  # draws before a phrasing with its corruption is given up
MISREAD = 10  # fillings that the model cannot read, before the phrasing is dropped


@dataclass(frozen=True)
class Made:
    """A task as one model can read it.

    splits: train, validation and test, pairs as lines of a JSONL file hold them, each with its phrasing and corruption.
    lost: the share of the words, or of a file's lines, that the model cannot take. note: the same in words, and which
        phrasings were dropped for what reason.
    """

    name: str
    splits: dict[str, list[dict[str, Any]]]
    lost: float
    note: str


def make_task(task: str | Path, model: Model, *, seed: int = 0, size: int = SIZE) -> Made:
    """A task of the table, or a file of one's own, as pairs that the model reads.

    No prompt stands in two splits, be it clean or corrupted, and of the table's tasks no clean prompt twice in one.
    Phrasings and corruptions have equal shares as far as there are enough. seed: of the draw, and of a file's split.
    size: pairs in each split, fewer where there are no more.

    Raises:
        BadTask: there is no such task, or nothing in it that the model can read. BadOption: a size below 1.
        BadPairs: a file cannot be read, or a line is no pair.
    """
    if size < 1:
        raise BadOption(f"each split has at least 1 pair, found size {size}.")
    if task in TASKS:
        return _make(str(task), TASKS[str(task)], model, seed, size)
    if Path(task).suffix or Path(task).exists():
        return _read(Path(task), model, seed, size)
    raise BadTask(f"there is no task {str(task)!r}: there are {', '.join(TASKS)}, or give a JSONL file of pairs.")


def tasks_for(model: Model) -> list[str]:
    """Those of the table that a model can be given."""
    found = []
    for name in TASKS:
        with suppress(BadTask):
            found.append(make_task(name, model, size=1).name)
    return found


# -- tasks of the table -----------------------------------------------------------------------------------------------


def _make(name: str, task: Task, model: Model, seed: int, size: int) -> Made:
    reader, readable, reasons = Reader(model), [], []
    for wording in task.wordings:
        filler = _Filler(task, wording, reader, seed)
        readable += [filler] if filler.share else []
        reasons.append(filler.shortest_reason)
        if filler.share >= 0.5:
            break
    # One phrasing that happens to be readable ("1 + 1 =") says less than a wording that the model knows.
    for filler in sorted(readable, key=lambda each: each.share < 0.5):
        splits = filler.fill(size)
        if all(splits.values()):
            return Made(name, splits, filler.lost, filler.note)
        reasons.append("too few prompts for three splits.")
    raise BadTask(f"{model.name} cannot be given the task {name!r}: {' '.join(dict.fromkeys(reasons))}")


class _Filler:
    """One wording at work for one model. lost, note: see `Made`."""

    def __init__(self, task: Task, wording: Wording, reader: Reader, seed: int) -> None:
        self._task, self._wording, self._reader = task, wording, reader
        pools = wording.words() if callable(wording.words) else wording.words
        kept = {name: reader.kept(pool) for name, pool in pools.items()}
        counts = {name: f"{len(kept[name])} of {len(pool)}" for name, pool in pools.items()}
        self._pick = Pick(kept, counts, random.Random(seed))
        self._dropped: dict[str, str] = {}
        self._seen: set[str] = set()
        self._splits = Splits()
        self._held_out = {name: self._try(name) for name in wording.phrasings}
        total = sum(map(len, pools.values()))
        self.lost = 1 - sum(map(len, kept.values())) / total
        self.note = self._say({name: text for name, text in counts.items() if len(kept[name]) < len(pools[name])})

    def fill(self, size: int) -> dict[str, list[dict[str, Any]]]:
        """So many pairs for each split, a pair for each in turn."""
        ways = [way for way in product(self._wording.phrasings, self._task.corruptions) if way[0] not in self._dropped]
        self._pick.random.shuffle(ways)
        found: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        # Each begins elsewhere: where prompts are few, no split takes all of one phrasing before another's turn.
        starts = [len(ways) * number // len(SPLITS) for number in range(len(SPLITS))]
        left = {split: ways[at:] + ways[:at] for split, at in zip(SPLITS, starts, strict=True)}
        while any(left.values()):
            for split in SPLITS:
                if left[split]:
                    way = left[split].pop(0)
                    pair = self._pair(split, *way)
                    if pair is not None:
                        found[split].append(pair)
                        left[split].append(way)
                    if len(found[split]) == size:
                        left[split].clear()
        return found

    def _pair(self, split: str, phrasing: str, corruption: str) -> dict[str, Any] | None:
        text = self._wording.phrasings[phrasing]
        for _ in range(TRIES):
            try:
                filling = self._wording.draw(self._pick, phrasing, corruption)
            except Lacking:
                return None
            if filling is None:
                continue
            prompts = prompt_of(text, filling.clean), prompt_of(text, filling.corrupted)
            if prompts[0] in self._seen or split not in self._splits.allowed(*prompts):
                continue
            if self._held_out[phrasing] and is_trained(self._wording.trained, prompts[0]):
                continue
            try:
                pair = self._reader.read(text, filling)
            except BadPrompt:
                continue
            self._seen.add(prompts[0])
            self._splits.settle(split, *prompts)
            return {**vars(pair), "phrasing": phrasing, "corruption": corruption}
        return None

    def _try(self, phrasing: str) -> bool:
        """Drop a phrasing that the model cannot read; else whether some of its prompts were held out from training."""
        text, family, reads = self._wording.phrasings[phrasing], self._wording.trained, False
        why = ["nothing fits"]
        for corruption in self._task.corruptions * TRIES:
            if len(why) > MISREAD:
                break
            try:
                filling = self._wording.draw(self._pick, phrasing, corruption)
                if filling is None:
                    continue
                if not reads:
                    self._reader.read(text, filling)
                    reads = True
            except (BadPrompt, Lacking) as reason:
                why.append(str(reason))
                continue
            if not family or not is_trained(family, prompt_of(text, filling.clean)):
                return bool(family)
        if not reads:
            self._dropped[phrasing] = why[-1].partition(" Did you mean")[0].rstrip(".")
        return False

    @property
    def share(self) -> float:
        """Of the phrasings, those that the model reads."""
        return 1 - len(self._dropped) / len(self._wording.phrasings)

    @property
    def shortest_reason(self) -> str:
        """Why nothing is left, as one phrasing has it."""
        return f"{next(iter(self._dropped.values()), 'too few prompts')}."

    def _say(self, lost: Mapping[str, str]) -> str:
        said = [f"one token each: {', '.join(f'{count} of {name!r}' for name, count in lost.items())}"] if lost else []
        reasons: dict[str, list[str]] = {}
        for name, why in self._dropped.items():
            reasons.setdefault(why, []).append(name)
        said += [f"dropped {', '.join(map(repr, names))}: {why}" for why, names in reasons.items()]
        held_out = [repr(name) for name, is_so in self._held_out.items() if is_so]
        if held_out:
            of = "" if len(held_out) == len(self._held_out) else f" of {', '.join(held_out)}"
            said.append(f"clean prompts{of} held out from the training of world")
        return "; ".join(said)


# -- a file of one's own ----------------------------------------------------------------------------------------------


def _read(path: Path, model: Model, seed: int, size: int) -> Made:
    lines, why = _lines(path), ""
    good = []
    for name, line in lines:
        try:
            gather(model, [(name, line)])
            good.append(line)
        except BadPairs as reason:
            if not isinstance(line, Mapping) or any(each not in line for each in FIELDS):
                raise
            why = why or str(reason)
    random.Random(seed).shuffle(good)
    places, found = Splits(), {split: [] for split in SPLITS}
    for line in good:
        prompts = json.dumps(line["clean"]), json.dumps(line["corrupted"])
        open_to = [split for split in places.allowed(*prompts) if len(found[split]) < size]
        if open_to:
            split = min(open_to, key=lambda each: len(found[each]))
            places.settle(split, *prompts)
            found[split].append({"phrasing": "given", "corruption": "given", **line})
    if not all(found.values()):
        raise BadTask(
            f"{path} holds {len(good)} pairs that {model.name} reads, of {len(lines)}: too few for three splits that "
            f"share no prompt. {why}"
        )
    note = f"{len(good)} of {len(lines)} lines can be read. {why}".strip()
    return Made(path.stem, found, 1 - len(good) / len(lines), note)


def _lines(path: Path) -> list[tuple[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # JSON may hold the other ends of lines
    except (OSError, UnicodeDecodeError) as reason:
        raise BadPairs(f"{path} cannot be read: {reason}. A file of prompt pairs is wanted, one a line.") from reason
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append((f"{path}, line {number}", json.loads(line)))
            except (ValueError, RecursionError) as reason:
                raise BadPairs(f"{path}, line {number} is no JSON: {reason}. One object a line is wanted.") from reason
    if not found:
        raise BadPairs(f"{path} is empty: at least three lines with {', '.join(FIELDS)} are wanted.")
    return found
