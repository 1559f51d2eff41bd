"""Pairs of prompts that differ in what decides the answer: what component circuits are found on.

A file holds one JSON object a line:

    {"clean": "the capital of texas is", "corrupted": "the capital of ohio is", "right": "austin", "wrong": "columbus"}

`clean` and `corrupted` are text or lists of token ids, equally long; `right` is the answer to the clean one, `wrong`
an answer that the corrupted one makes likely: one token each, as text or id. `position`, where given, is where the
answer is read; by default after the last token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.errors import BadPairs, BadPrompt, BadTarget
from circuits.model import Model

FIELDS = ("clean", "corrupted", "right", "wrong")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Some pairs of one length.

    clean, corrupted: token ids [pair pos]. right, wrong: answers [pair]. position: where they are read [pair].
    """

    clean: Int[Tensor, "pair pos"]
    corrupted: Int[Tensor, "pair pos"]
    right: Int[Tensor, "pair"]
    wrong: Int[Tensor, "pair"]
    position: Int[Tensor, "pair"]

    def __len__(self) -> int:
        return len(self.clean)

    def swapped(self) -> Pairs:
        """Corrupted as clean and clean as corrupted: right and wrong stay, so a metric keeps its sign."""
        return Pairs(self.corrupted, self.clean, self.right, self.wrong, self.position)

    def split(self, size: int) -> Iterator[Pairs]:
        """At most `size` of them at a time."""
        columns = (self.clean, self.corrupted, self.right, self.wrong, self.position)
        for parts in zip(*(column.split(size) for column in columns), strict=True):
            yield Pairs(*parts)


Records = Sequence[tuple[str, Any]]  # as a file holds them, each with the name by which an error calls it


def read_records(path: str | Path) -> Records:
    """What the lines of a JSONL file hold; what can be told without the model.

    Raises:
        BadPairs: the file cannot be read, is empty, or a line is no JSON.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")  # JSON may hold the other ends of lines
    except OSError as reason:
        raise BadPairs(f"{path} cannot be read: {reason.strerror}. A file of prompt pairs is wanted.") from reason
    except UnicodeDecodeError as reason:
        raise BadPairs(f"{path} is no text: UTF-8 is wanted, one JSON object a line.") from reason
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append((f"{path}, line {number}", json.loads(line)))
        except (ValueError, RecursionError) as reason:
            short = str(reason).splitlines()[0]
            raise BadPairs(f"{path}, line {number} is no JSON: {short}. One object a line is wanted.") from reason
    if not records:
        raise BadPairs(f"{path} is empty: at least one line with {', '.join(FIELDS)} is wanted.")
    return records


def gather(model: Model, records: Records) -> list[Pairs]:
    """The pairs of records, those of equal length together, shortest first.

    Raises:
        BadPairs: a record is no pair; the message has its name.
    """
    by_length: dict[int, list[tuple[list[int], list[int], int, int, int]]] = {}
    for name, record in records:
        pair = _read(model, record, name)
        by_length.setdefault(len(pair[0]), []).append(pair)
    return [
        Pairs(*(torch.tensor(column, device=model.device) for column in zip(*pairs, strict=True)))
        for _, pairs in sorted(by_length.items())
    ]


def _read(model: Model, record: Any, name: str) -> tuple[list[int], list[int], int, int, int]:
    if not isinstance(record, Mapping):
        raise BadPairs(f"{name} is no object: {', '.join(FIELDS)} are wanted, found {record!r:.60}.")
    missing = [field for field in FIELDS if field not in record]
    if missing:
        raise BadPairs(f"{name} lacks {', '.join(missing)}: each pair has {', '.join(FIELDS)}.")
    clean, corrupted = (_tokens(model, record[field], f"{name}, {field}") for field in FIELDS[:2])
    if len(clean) != len(corrupted):
        said = [f"{' '.join(text.strip() for text in model.texts(ids))!r}" for ids in (clean, corrupted)]
        raise BadPairs(
            f"{name}: the clean prompt has {len(clean)} tokens ({said[0]}), the corrupted one {len(corrupted)} "
            f"({said[1]}); token by token one takes the place of the other, so both must be equally long."
        )
    if clean == corrupted:
        raise BadPairs(f"{name}: clean and corrupted are the same tokens, so nothing would change.")
    right, wrong = (_answer(model, record[field], f"{name}, {field}") for field in FIELDS[2:])
    if right == wrong:
        raise BadPairs(f"{name}: right and wrong are the same token, {model.texts([right])[0]!r}.")
    position = record.get("position", len(clean) - 1)
    if not isinstance(position, int) or isinstance(position, bool) or not -len(clean) <= position < len(clean):
        raise BadPairs(f"{name}: position must be a whole number below {len(clean)}, found {position!r}.")
    return clean, corrupted, right, wrong, position % len(clean)


def _tokens(model: Model, given: Any, name: str) -> list[int]:
    if not isinstance(given, str | list):
        raise BadPairs(f"{name} should be text or a list of token ids, found {given!r:.60}.")
    try:
        return model.tokenize(given).tolist()
    except BadPrompt as reason:
        raise BadPairs(f"{name}: {reason}") from reason


def _answer(model: Model, given: Any, name: str) -> int:
    if isinstance(given, int) and not isinstance(given, bool):
        if not 0 <= given < model.vocabulary:
            raise BadPairs(f"{name}: token ids of {model.name} run from 0 to {model.vocabulary - 1}, found {given}.")
        return given
    if not isinstance(given, str):
        raise BadPairs(f"{name} should be one token, as text or id, found {given!r:.60}.")
    try:
        return model.token(given)
    except BadTarget as reason:
        raise BadPairs(f"{name}: {reason}") from reason
