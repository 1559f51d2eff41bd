"""How a model reads a filled phrasing: which of its tokens every word became."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.tasks.task import BadTask, Filling, Pool
from circuits.errors import BadPrompt
from circuits.model import Model

_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Pair:
    """A filled phrasing that the model reads. right, wrong: text, or an id where text would mean another token."""

    clean: str
    corrupted: str
    right: str | int
    wrong: str | int


class Reader:
    """One model's eye: a word that is no single token is refused, with the reason.

    Raises:
        BadTask: the model has no tokenizer, or one that does not tell which letters a token covers.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._tokenizer = model, model.words.tokenizer
        if self._tokenizer is None:
            raise BadTask(f"{model.name} came without a tokenizer: give pairs of token ids in a file of your own.")
        if not self._tokenizer.is_fast:
            raise BadTask(
                f"the tokenizer of {model.name} does not tell which letters a token covers, so prompts cannot be "
                f"aligned: give it a tokenizer.json, or pairs in a file of your own."
            )

    def kept(self, pool: Pool) -> list[object]:
        """The rows of a pool whose every word is one token, with a space in front or without."""
        return [row for row in pool if all(self._has(word) for cell in _cells(row) for word in cell.split())]

    def read(self, phrasing: str, filling: Filling) -> Pair:
        """The pair, token by token one beside the other.

        Raises:
            BadPrompt: a word is unknown or several tokens, the two are not aligned, or an answer is no token there.
        """
        clean, at = self._places(phrasing, filling.clean)
        corrupted, also_at = self._places(phrasing, filling.corrupted)
        if at != also_at:
            raise BadPrompt(f"{clean!r} and {corrupted!r} are not equally long in tokens of {self._model.name}.")
        answers = [self._answer(phrasing, clean, answer) for answer in (filling.right, filling.wrong)]
        return Pair(clean, corrupted, *answers)

    def _has(self, word: str) -> bool:
        return any(self._model.words.one_token(text) is not None for text in (f" {word}", word))

    def _places(self, phrasing: str, words: Mapping[str, str]) -> tuple[str, list[int]]:
        """The prompt; and which token each word in its places is, then how many tokens there are."""
        text, found = _filled(phrasing, words)
        self._model.tokenize(text)  # refuses what it does not know, or is too long
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        return text, [*(self._token_at(text, spans, *word) for word in found), len(spans)]

    def _token_at(self, text: str, spans: list[tuple[int, int]], begin: int, end: int) -> int:
        over = [token for token, (left, right) in enumerate(spans) if left < end and begin < right]
        if len(over) != 1 or text[slice(*spans[over[0]])].strip() != text[begin:end]:
            raise BadPrompt(f"{text[begin:end]!r} is not one token of {self._model.name} in {text!r}.")
        return over[0]

    def _answer(self, phrasing: str, prompt: str, answer: str) -> str | int:
        space = " " if phrasing.endswith(" {answer}") else ""
        alone, whole = self._bare(prompt), self._bare(f"{prompt}{space}{answer}")
        if whole[:-1] != alone:
            raise BadPrompt(f"{answer!r} is not one token of {self._model.name} after {prompt!r}.")
        meant = (self._model.words.one_token(text) for text in (f" {answer}", answer))
        return answer if whole[-1] == next((each for each in meant if each is not None), None) else whole[-1]

    def _bare(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


def prompt_of(phrasing: str, words: Mapping[str, str]) -> str:
    """The prompt that a phrasing becomes: what stands before the answer, without a space at its end."""
    return _filled(phrasing, words)[0]


def _filled(phrasing: str, words: Mapping[str, str]) -> tuple[str, list[tuple[int, int]]]:
    """The prompt, and where in it every word lies that fills a place."""
    text, found, end = "", [], 0
    for place in _PLACE.finditer(phrasing):
        text += phrasing[end : place.start()]
        end = place.end()
        if place[1] == "answer":
            break
        found += [(len(text) + word.start(), len(text) + word.end()) for word in re.finditer(r"\S+", words[place[1]])]
        text += words[place[1]]
    return text.rstrip(" "), found


def _cells(row: object) -> tuple[str, ...]:
    return (row,) if isinstance(row, str) else tuple(row)  # type: ignore[arg-type]
