"""A model's tokens: a text as ids, ids as text, and which token a word of the user's is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from circuits.errors import BadPrompt, BadTarget
from circuits.hub.published import card_of
from circuits.spelling import nearest


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What a model reads and says.

    name: the model's, for messages. size: its ids run from 0 to size - 1.
    tokenizer: as transformers loads it; None where the model came without one, and everything is told in ids.
    """

    name: str
    size: int
    tokenizer: Any

    def read(self, text: str) -> list[int]:
        """The ids of a text, with the tokenizer's own BOS in front where it has one.

        Raises:
            BadPrompt: there is no tokenizer, nothing in the text, or a word that the tokenizer does not know.
        """
        if self.tokenizer is None:
            raise BadPrompt(f"{self.name} came without a tokenizer: give the prompt as token ids (--ids in the shell).")
        if not text.strip():
            raise BadPrompt("the prompt is empty: give at least one word.")
        if self._is_strange(text):
            raise BadPrompt(self._strange_words(text))
        bos, bare = self.tokenizer.bos_token_id, self._bare(text)
        if not bare:
            raise BadPrompt("the prompt is empty: its tokenizer makes no token of it.")
        # Who writes the BOS out, as a chat template does, means it once.
        ids = bare if bare[0] == bos else list(self.tokenizer(text).input_ids)
        if bos is not None and bos < self.size and ids[0] != bos:
            ids = [bos, *ids]
        return ids

    def read_chat(self, said: str | Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of what a user says to a chat model, up to where its answer begins: roles and marks are tokens too.

        said: one turn of the user's, or several, each with "role" and "content".

        Raises:
            BadPrompt: there is no tokenizer, no chat template, or turns that the template does not take.
        """
        if getattr(self.tokenizer, "chat_template", None) is None:
            raise BadPrompt(f"{self.name} has no chat template: give it plain text, without --chat.")
        turns = [{"role": "user", "content": said}] if isinstance(said, str) else [dict(turn) for turn in said]
        if not turns or any(not str(turn.get("content", "")).strip() or "role" not in turn for turn in turns):
            raise BadPrompt(f"a chat is text, or turns of role and content; found {said!r}.")
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as reason:  # a template is a program of the model's own
            raise BadPrompt(f"the chat template of {self.name} does not take this: {reason}") from reason
        if self._is_strange(text):
            raise BadPrompt(self._strange_words(text))
        return self._bare(text)

    def texts(self, ids: Iterable[int]) -> list[str]:
        r"""What each token says, one text per id, spaces kept. Half a letter is told by its bytes: `\xe2\x80`."""
        if self.tokenizer is None:
            return [str(int(i)) for i in ids]
        return [self._text(int(i)) for i in ids]

    def token(self, text: str, logits: Float[Tensor, "vocab"] | None = None) -> int:
        """The one token that says `text`, with or without a space in front.

        A space in front that the user wrote is kept to. Where both spellings are a token, the likelier by `logits` is
        taken; without them the one with the space, as words have it inside a text. A token's name in the vocabulary
        (`<0x0A>`) will do too. Without a tokenizer the text is the id.

        Raises:
            BadTarget: the text is several tokens, or none.
        """
        found = self._spellings(text)
        if not found:
            raise BadTarget(self._no_token(text))
        return found[0] if logits is None else max(found, key=lambda token: float(logits[token]))

    def _spellings(self, text: str) -> list[int]:
        """Every token that a person may mean by a word, one with a space in front before the others."""
        if self.tokenizer is None:
            return [int(text)] if text.strip().isdecimal() and int(text) < self.size else []
        spellings = (text,) if text[:1].isspace() else (f" {text}", text)
        found = [self._only_token(each) for each in spellings]
        found.append(self._pieces.get(text, self.size))
        return [token for token in dict.fromkeys(found) if token < self.size]

    def one_token(self, text: str) -> int | None:
        """The token that is just this text, with a space in front only if it has one; None where no single one is."""
        found = self.size if self.tokenizer is None else self._only_token(text)
        return found if found < self.size else None

    def _only_token(self, text: str) -> int:
        """The token that is this text, an impossible one if there is none."""
        ids = self._bare(text) if not self._is_strange(text) else []
        # Sentence-piece tokenizers put a space in front of every text; here it stands alone.
        if len(ids) == 2 and self.tokenizer.convert_ids_to_tokens(ids[0]) == "▁" and self._text(ids[1]) == text:
            ids = ids[1:]
        return ids[0] if len(ids) == 1 else self.size

    def _no_token(self, text: str) -> str:
        wanted = f"a target must be a single token of {self.name}"
        if self.tokenizer is None:
            return f"{wanted}, which came without a tokenizer: give an id from 0 to {self.size - 1}, found {text!r}."
        if self._is_strange(text):
            what, advice = "a word it does not know", "Give a word that it knows."
        else:
            pieces = min((self._bare(each) for each in (text, f" {text.lstrip()}")), key=len)
            what = f"{len(pieces)} tokens {self.texts(pieces)}" if len(pieces) > 1 else "none"
            advice = "Give one of its tokens."
        return f"{wanted}; {text!r} is {what}. {self._did_you_mean([text]) or advice}"

    # -- what the tokenizer says --------------------------------------------------------------------------------------

    def _bare(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    @cached_property
    def _pieces(self) -> dict[str, int]:
        return dict(self.tokenizer.get_vocab())

    @cached_property
    def _unknown(self) -> str | None:
        """The token that stands for what is not known; a tokenizer can have one without calling it by that name."""
        model = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "model", None)
        return self.tokenizer.unk_token or getattr(model, "unk_token", None)

    def _is_strange(self, text: str) -> bool:
        """Whether some part of a text is no token, or is dropped without a word."""
        if not self.tokenizer.is_fast:
            return self._unknown is not None and self._pieces.get(self._unknown) in self._bare(text)
        try:
            read = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        except (
            Exception
        ):  # of tokenizers, which has no class of its own: a word it has no token for, and no mark either
            return True
        if self._unknown is None:
            covered = {at for begin, end in read.offsets for at in range(begin, end)}
            return any(not letter.isspace() and at not in covered for at, letter in enumerate(text))
        # The mark itself may be a word like any other ("A" in a tokenizer of three letters).
        said = [text[begin:end].strip() for begin, end in read.offsets]
        return any(token == self._unknown and word != token for token, word in zip(read.tokens, said, strict=True))

    def _text(self, token: int) -> str:
        # Some models have more rows than their tokenizer has tokens.
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if not piece:
            return f"<id {token}>"
        if piece.startswith("▁"):  # a sentence-piece decoder drops the space in front of a first word
            return piece.replace("▁", " ")
        said = self.tokenizer.decode([token])
        raw = _bytes_of(piece) if "\ufffd" in said else None
        return said if raw is None else raw.decode("utf-8", "backslashreplace")

    # -- words nobody knows -------------------------------------------------------------------------------------------

    def _strange_words(self, text: str) -> str:
        words = [word for word in dict.fromkeys(text.split()) if self._is_strange(word)] or [text]
        card = card_of(self.name)
        learned = "" if card is None else f"; {card} says what it was trained on"
        advice = self._did_you_mean(words) or f"Use other words{learned}."
        return f"{self.name} does not know {', '.join(repr(word) for word in words)}. {advice}"

    def _did_you_mean(self, words: list[str]) -> str:
        """A question that offers the tokens next to each word, whatever their case; nothing where there is none."""
        special = {*self.tokenizer.all_special_tokens, self._unknown}
        known = {}
        for piece in self._pieces:
            word = piece.lstrip("▁Ġ")
            if piece not in special and word.isalnum():
                known[word.lower()] = word
        near = {word: nearest(word.strip().lower(), known) for word in words}
        said = [
            f"{' or '.join(found)}{f' for {word!r}' if len(words) > 1 else ''}" for word, found in near.items() if found
        ]
        return f"Did you mean {', '.join(said)}?" if said else ""


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder holds a tokenizer's file, in any of the forms that transformers reads."""
    patterns = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.tiktoken", "tekken.json")
    found = (each.name for pattern in patterns for each in folder.glob(pattern))
    return any(name != "tokenizer_config.json" for name in found)


def stand_in() -> Any:
    """A tokenizer without words, for a loader that insists on one."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))


def has_words(tokenizer: Any) -> bool:
    """Whether a tokenizer has more than special tokens, of which transformers makes one up where there is none."""
    return not set(tokenizer.get_vocab()) <= {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}


def words_of(tokenizer: Any) -> int:
    """How many ids a tokenizer's own words need: one more than the last.

    Without those added to it later: marks that a larger model of its family reads, as Gemma 3 has for images.
    """
    words = tokenizer.get_vocab()
    own = words.keys() - tokenizer.get_added_vocab().keys()
    return max((words[word] for word in own), default=-1) + 1


def _bytes_of(piece: str) -> bytes | None:
    """The bytes that a token stands for, by its name: `<0xE2>`, or letters in GPT-2's alphabet of bytes."""
    if piece.startswith("<0x") and len(piece) == 6:
        return bytes.fromhex(piece[3:5])
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in plain}
    letters |= {chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in plain)}
    return bytes(letters[letter] for letter in piece) if all(letter in letters for letter in piece) else None
