"""Texts to train on: how a file is parted into them, and what is said of one that holds none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from circuits.errors import BadTexts
from circuits.texts import Texts, fingerprint, read_texts, say_texts
from tests.circuits.worlds import model_of, native_of

FOX, DOG = "a red fox runs here", "the blue dog sleeps there now".replace("the ", "")


def rows_of(path: Path) -> list[list[int]]:
    texts = read_texts(model_of("llama"), path)
    return [row[:length].tolist() for row, length in zip(texts.tokens, texts.length.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("lines.txt", f"{FOX}\n{DOG}\n", [FOX, DOG]),
        ("blank.txt", f"a red fox\nruns here\n \n\n{DOG}", [FOX, DOG]),
        ("blank-at-the-end.txt", f"{FOX}\n{DOG}\n\n\n", [FOX, DOG]),
        ("windows.txt", f"a red fox\r\nruns here\r\n\r\n{DOG}\r\n", [FOX, DOG]),
        ("x.jsonl", f'{{"text": "a red fox\\nruns here", "id": 1}}\n\n{{"text": "{DOG}"}}\n', [FOX, DOG]),
        ("short.txt", f"{FOX}\na\nred\n{DOG}", [FOX, DOG]),
    ],
)
def test_a_file_is_parted_into_its_texts(name: str, content: str, texts: list[str], tmp_path: Path):
    (tmp_path / name).write_bytes(content.encode())
    assert rows_of(tmp_path / name) == [model_of("llama").tokenize(text).tolist() for text in texts]


def test_a_long_text_is_cut_into_rows_that_each_begin_as_prompts_do(tmp_path: Path):
    (tmp_path / "x.txt").write_text(" ".join([FOX] * 20))
    rows = rows_of(tmp_path / "x.txt")
    context = model_of("llama").context
    assert [len(row) for row in rows] == [context, context, context, 100 - 3 * (context - 1) + 1]
    assert all(row[0] == 1 for row in rows)
    assert [each for row in rows for each in row[1:]] == model_of("llama").tokenize(FOX).tolist()[1:] * 20


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.txt", b"", r"at least two texts of 4 tokens or more, found nothing"),
        ("x.txt", b" \n\n \n", "found nothing"),
        ("x.txt", FOX.encode(), "found 1 of that length"),
        ("x.txt", b"a\nred\nfox\n", "found 0 of that length"),
        ("x.txt", b"\xff\xfe\x00", r"should be text in UTF-8"),
        ("x.txt", b"all of this is something that it never heard\n" * 3, r"does not know \d+% of the words"),
        ("x.jsonl", b'{"text": "a red fox"}\n{"said": "a"}', r'line 2: \{"text": "…"\} is wanted, found'),
        ("x.jsonl", b"a red fox runs here\n", r"line 1: .* is wanted, found 'a red fox runs here'"),
        ("x.jsonl", b'{"text": 3}', "line 1"),
        ("none/x.txt", None, "No such file"),
        ("", None, "Is a directory"),
    ],
)
def test_a_file_without_texts_is_refused_with_the_reason(
    name: str, content: bytes | None, complaint: str, tmp_path: Path
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadTexts, match=complaint):
        read_texts(model_of("llama"), tmp_path / name)


def test_a_model_without_a_tokenizer_reads_no_file_but_says_its_own(tmp_path: Path):
    model = native_of("plain")
    (tmp_path / "x.txt").write_text(f"{FOX}\n{DOG}")
    with pytest.raises(BadTexts, match=r"came without a tokenizer.*--data self"):
        read_texts(model, tmp_path / "x.txt")
    said = say_texts(model, rows=5, seed=0, enough=lambda: False)
    assert tuple(said.tokens.shape) == (5, model.context)


def test_what_a_model_says_depends_on_the_seed_and_begins_as_its_prompts_do():
    model = model_of("llama")
    one, same, other = (say_texts(model, rows=3, seed=seed, enough=lambda: False).tokens for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert (one[:, 0] == 1).all()


def test_a_model_stops_saying_when_there_is_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("circuits.texts.AT_ONCE", 2)
    assert len(say_texts(model_of("llama"), rows=9, seed=0, enough=lambda: True)) == 2
    assert len(say_texts(model_of("llama"), rows=5, seed=0, enough=lambda: False)) == 5


def test_the_last_texts_are_kept_apart():
    texts = Texts(torch.arange(40)[:, None].repeat(1, 6), torch.full((40,), 6))
    learned, kept = texts.parted()
    assert (len(learned), len(kept)) == (38, 2)
    assert kept.tokens[:, 0].tolist() == [38, 39]


def test_a_fingerprint_changes_with_the_file(tmp_path: Path):
    path = tmp_path / "x.txt"
    path.write_text(FOX)
    before = fingerprint(path)
    path.write_text(DOG)
    assert fingerprint(path) != before
    with pytest.raises(BadTexts, match="cannot be read: No such file"):
        fingerprint(tmp_path / "none.txt")
