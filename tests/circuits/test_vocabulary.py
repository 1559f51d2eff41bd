"""Text, tokens and what lies between, on tokenizers made by hand: words, bytes, sentence pieces, and none at all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from circuits import load_model
from circuits.errors import BadPrompt, BadTarget
from circuits.vocabulary import Vocabulary, has_words
from tests.circuits.worlds import folder_of


def vocabulary_of(pieces: list[str], tokenizer: Tokenizer, **marks: Any) -> Vocabulary:
    return Vocabulary("a model", len(pieces), PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks))


def bytes_of(pieces: list[str]) -> Vocabulary:
    """Tokens over GPT-2's letters for bytes, `Ġ` for a space; each word is one token, or one per letter."""
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return vocabulary_of(pieces, tokenizer)


def words_of(pieces: list[str], unknown: str | None = None, **marks: Any) -> Vocabulary:
    model = models.WordLevel({p: i for i, p in enumerate(pieces)}, **({"unk_token": unknown} if unknown else {}))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return vocabulary_of(pieces, tokenizer, **marks)


def sentence_pieces_of(pieces: list[str]) -> Vocabulary:
    """Sentence pieces, `▁` for a space, one of them put in front of every text; what is unknown is spelled in bytes."""
    model = models.BPE({p: i for i, p in enumerate(pieces)}, [], byte_fallback=True, ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return vocabulary_of(pieces, tokenizer)


TEXAS = bytes_of(["Austin", "ĠAustin", "Paris", "ĠDallas", "Ċ", "âĢ", "Ġ"])


def test_of_two_spellings_the_one_is_taken_that_the_model_finds_likelier():
    likely = torch.zeros(7)
    likely[0] = 1.0
    assert TEXAS.texts([TEXAS.token("Austin", likely)]) == ["Austin"]
    likely[1] = 2.0
    assert TEXAS.texts([TEXAS.token("Austin", likely)]) == [" Austin"]


def test_without_logits_a_word_has_its_space_and_a_spelled_space_is_kept_to():
    assert [TEXAS.token(word) for word in ("Austin", " Austin", "Paris", "Dallas")] == [1, 1, 2, 3]
    assert TEXAS.token(" Austin", torch.tensor([9.0, 0, 0, 0, 0, 0, 0])) == 1
    with pytest.raises(BadTarget, match="single token"):
        TEXAS.token(" Paris")


def test_sentence_pieces_are_told_apart_by_their_space_too():
    model = sentence_pieces_of(["▁", "▁time", "ime", "<0x0A>", "<0xC3>", "t"])
    assert model.texts([model.token("time")]) == [" time"]
    assert model.token(" time") == 1
    assert model.texts([model.token("ime")]) == ["ime"]
    assert model.token("\n") == model.token("<0x0A>") == 3


def test_half_a_letter_is_told_by_its_bytes_and_a_row_without_a_token_by_its_number():
    assert TEXAS.texts([4, 5, 6]) == ["\n", r"\xe2\x80", " "]
    assert sentence_pieces_of(["▁", "<0xC3>"]).texts([1]) == [r"\xc3"]
    assert TEXAS.texts([11]) == ["<id 11>"]


def test_an_unknown_word_is_refused_even_where_the_mark_for_it_has_another_name():
    three = words_of(["A", "B", "C"], "A")
    assert three.tokenizer.unk_token is None
    assert three.read("A B A C") == [0, 1, 0, 2]
    with pytest.raises(BadPrompt, match="does not know 'X'"):
        three.read("A X B")
    with pytest.raises(BadTarget, match="does not know"):
        three.token("X")
    assert three.token("A") == 0


def test_an_unknown_word_is_refused_where_the_tokenizer_would_drop_or_fail_on_it():
    with pytest.raises(BadPrompt, match="does not know 'fox'"):
        words_of(["a", "red"]).read("a fox")
    letters = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    with pytest.raises(BadPrompt, match="does not know 'abc'"):
        vocabulary_of(["a", "b"], letters).read("abc")


def test_every_unknown_word_is_met_with_near_words_and_none_with_a_mark():
    pieces = "<unk> <bos> capital state dallas".split()
    known = words_of(pieces, "<unk>", unk_token="<unk>", bos_token="<bos>")
    with pytest.raises(BadPrompt) as said:
        known.read("the capitol of dalas")
    assert str(said.value).endswith("Did you mean capital for 'capitol', dallas for 'dalas'?")
    with pytest.raises(BadTarget) as said:
        known.token("unk")
    assert "<unk>" not in str(said.value)
    with pytest.raises(BadTarget, match="Give a word"):
        known.token("stationary")


def test_a_model_without_a_tokenizer_is_spoken_to_in_ids(tmp_path: Path):
    for name in ("config.json", "model.safetensors"):
        copyfile(folder_of("llama") / name, tmp_path / name)
    model = load_model(tmp_path, device="cpu")

    assert model.tokenize([1, 2, 3]).tolist() == [1, 2, 3]
    assert model.texts([4]) == ["4"]
    assert model.token("4") == 4
    for target in ("fox", "12", "-1"):
        with pytest.raises(BadTarget, match="without a tokenizer: give an id from 0 to 11"):
            model.token(target)
    with pytest.raises(BadPrompt, match="without a tokenizer"):
        model.tokenize("a fox")


def test_a_tokenizer_made_up_of_marks_is_none():
    marks = words_of(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    assert not has_words(marks.tokenizer)
    assert has_words(TEXAS.tokenizer)


def test_where_no_word_is_near_the_card_is_named_if_there_is_one(tmp_path: Path):
    known = words_of("<unk> <bos> capital state dallas".split(), "<unk>", unk_token="<unk>", bos_token="<bos>")
    here = replace(known, name=str(tmp_path))
    with pytest.raises(BadPrompt, match=r"Use other words\.$"):
        here.read("quux")
    (tmp_path / "README.md").write_text("of states")
    with pytest.raises(BadPrompt, match=rf"Use other words; {re.escape(str(tmp_path / 'README.md'))} says what"):
        here.read("quux")
    with pytest.raises(BadPrompt, match=r"world.MODEL_CARD\.md says what"):
        replace(known, name="world").read("quux")
