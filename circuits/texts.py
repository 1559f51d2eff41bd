"""Texts to train on, as rows of token ids: from a file of the user's, or said by the model itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.errors import BadTexts
from circuits.model import Model
from circuits.progress import Progress
from circuits.sampling import sample_prompts

LENGTH = 128  # tokens of a row, at most
MOST = 2**25  # tokens read of a file, at most
SAID = 2**19  # tokens that the model says itself, at most
SHORTEST = 4  # tokens of a row, at least: the first is not trained on
APART = 20  # one row in so many is kept for measuring, at most TESTED
TESTED = 64
AT_ONCE = 128  # texts given to the tokenizer, or said, together
LOOKED_AT = 2**20  # letters of a file from which it is told how its texts are parted
STRANGE = 0.2  # the share of unknown words from which a file is refused


@dataclass(frozen=True, eq=False)
class Texts:
    """Rows of token ids, zeros behind the end of each. tokens: [row pos]  length: of each row. [row]"""

    tokens: Int[Tensor, "row pos"]
    length: Int[Tensor, "row"]

    def __len__(self) -> int:
        return len(self.length)

    @property
    def count(self) -> int:
        """How many tokens there are in all."""
        return int(self.length.sum())

    def take(self, rows: Int[Tensor, "_"] | slice) -> Texts:
        """Some of the rows, cut to the longest of them."""
        length = self.length[rows]
        return Texts(self.tokens[rows, : int(length.max())], length)

    def spread(self, tokens: int) -> Texts:
        """Rows from beginning to end, all if they have at most so many tokens, else about so many; one at least."""
        rows = max(1, min(len(self), len(self) * tokens // max(self.count, 1)))
        return self.take(torch.arange(rows) * len(self) // rows)

    def parted(self) -> tuple[Texts, Texts]:
        """Those to train on, and the last few, which are kept for measuring."""
        kept = min(TESTED, max(1, len(self) // APART))
        return self.take(slice(0, len(self) - kept)), self.take(slice(len(self) - kept, None))


def read_texts(model: Model, path: Path, *, progress: Progress | None = None) -> Texts:
    """The texts of a file, cut into rows that each begin as the model's prompts do, up to 2^25 tokens.

    A `.jsonl` file holds one JSON object a line, its text under "text". In any other file blank lines part the texts,
    and where there are none, each line is one.

    Raises:
        BadTexts: it cannot be read, is empty, is in no language that the model knows, or its texts are too short.
    """
    if model.words.tokenizer is None:
        raise BadTexts(f"{model.name} came without a tokenizer, so it cannot read {path}: give --data self.")
    bos = model.words.tokenizer.bos_token_id
    opening = [bos] if bos is not None and bos < model.vocabulary else []
    longest = min(LENGTH, model.context)
    rows: list[list[int]] = []
    size, done, known = path.stat().st_size if path.is_file() else 0, 0, _Known(model, path)
    texts = _parted(path)
    step = longest - len(opening)
    while known.count < MOST and (some := list(islice(texts, AT_ONCE))):
        for ids in known.read([text for text, _ in some]):
            rows += [opening + ids[at : at + step] for at in range(0, len(ids), step)]
        done += sum(read for _, read in some)
        if progress is not None and size:
            progress(f"reading {path.name}", min(done, size), size)
    if progress is not None:
        progress(f"reading {path.name}", size, size)
    known.judge()
    rows = [row for row in rows if len(row) >= SHORTEST]
    if len(rows) < 2:
        found = "nothing" if not done else f"{len(rows)} of that length"
        raise BadTexts(
            f"{path} should hold at least two texts of {SHORTEST} tokens or more, found {found}: give more text, or "
            "--data self."
        )
    return _stack(rows)


def say_texts(
    model: Model, *, rows: int, seed: int, enough: Callable[[], bool], progress: Progress | None = None
) -> Texts:
    """Texts that the model says itself at temperature 1, each from its first token on.

    rows: how many, at most what 2^19 tokens come to. enough: asked now and then; there are fewer if it says so.
    """
    length = min(LENGTH, model.context)
    rows = min(rows, -(-SAID // length))
    tokenizer = model.words.tokenizer
    ids = [getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id")]
    first = next((id for id in ids if id is not None and id < model.vocabulary), 0)
    parts: list[Tensor] = []
    done = 0
    while done < rows and not (done > 1 and enough()):
        count = min(AT_ONCE, rows - done)
        chance = (seed + len(parts)) % 2**63
        parts.append(sample_prompts(model, first, count=count, length=length, seed=chance))
        done += count
        if progress is not None:
            progress("the model says texts of its own", done, rows)
    if progress is not None:
        progress("the model says texts of its own", rows, rows)
    tokens = torch.cat(parts).cpu()
    return Texts(tokens, torch.full((len(tokens),), length))


def fingerprint(path: Path) -> str:
    """Twelve hex digits that change when the file does.

    Raises:
        BadTexts: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as reason:
        raise BadTexts(f"the texts in {path} cannot be read: {reason.strerror}.") from reason
    return digest.hexdigest()[:12]


class _Known:
    """A tokenizer that counts its tokens, and those that stand for what it does not know. count: tokens so far."""

    def __init__(self, model: Model, path: Path) -> None:
        self._model, self._path = model, path
        self.count = self._strange = 0

    def read(self, texts: list[str]) -> list[list[int]]:
        tokenizer = self._model.words.tokenizer
        try:
            found = tokenizer(texts, add_special_tokens=False).input_ids
        except Exception as reason:  # of tokenizers, which has no class of its own: a word it has no token for
            raise BadTexts(self._complaint("some", str(reason).splitlines()[0])) from reason
        largest = max((id for ids in found for id in ids), default=0)
        if largest >= self._model.vocabulary:
            raise BadTexts(
                f"{self._path} makes a token with id {largest}, but ids of {self._model.name} run from 0 to "
                f"{self._model.vocabulary - 1}: its tokenizer is another model's. Give --data self."
            )
        self.count += sum(map(len, found))
        self._strange += sum(ids.count(tokenizer.unk_token_id) for ids in found)
        return found

    def judge(self) -> None:
        if self._strange > STRANGE * self.count:
            raise BadTexts(self._complaint(f"{self._strange / self.count:.0%}"))

    def _complaint(self, share: str, reason: str = "") -> str:
        why = f" ({reason})" if reason else ""
        return (
            f"{self._model.name} does not know {share} of the words in {self._path}{why}: give text like what it was "
            "trained on, or --data self."
        )


def _parted(path: Path) -> Iterator[tuple[str, int]]:
    """Each text of a file, and how many bytes, about, it took."""
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix.lower() == ".jsonl":
                yield from (_from_json(path, number, line) for number, line in enumerate(file, 1) if line.strip())
                return
            blank = re.search(r"\S[^\n]*\n[^\S\n]*\n\s*\S", file.read(LOOKED_AT))
            file.seek(0)
            lines: list[str] = []
            for line in file:
                if line.strip():
                    lines.append(line)
                if lines and (blank is None or not line.strip()):
                    yield _joined(lines)
                    lines = []
            if lines:
                yield _joined(lines)
    except OSError as reason:
        raise BadTexts(f"the texts in {path} cannot be read: {reason.strerror}.") from reason
    except UnicodeDecodeError as reason:
        raise BadTexts(f"{path} should be text in UTF-8; {reason.reason} in it: give a text or .jsonl file.") from None


def _joined(lines: list[str]) -> tuple[str, int]:
    text = "".join(lines)
    return text.strip(), len(text.encode())


def _from_json(path: Path, number: int, line: str) -> tuple[str, int]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        short = line.strip()[:40]
        raise BadTexts(f'{path}, line {number}: {{"text": "…"}} is wanted, found {short!r}.')
    return found["text"], len(line.encode())


def _stack(rows: list[list[int]]) -> Texts:
    length = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(length.max()), dtype=torch.int32)
    for at, row in enumerate(rows):
        tokens[at, : len(row)] = torch.tensor(row, dtype=torch.int32)
    return Texts(tokens, length)
