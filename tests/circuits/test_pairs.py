"""Pairs of prompts from a file, and the clear words for a file that holds none."""

import json

import pytest
import torch

from circuits.components.pairs import gather, read_records
from circuits.errors import BadPairs
from tests.circuits.worlds import model_of

PAIR = {"clean": "a red fox", "corrupted": "a blue fox", "right": "runs", "wrong": "sleeps"}


def written(folder, *lines):
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_pairs_are_read_and_those_of_equal_length_stand_together(tmp_path):
    model = model_of("llama")
    longer = {"clean": [1, 2, 3, 5, 7], "corrupted": [1, 2, 4, 5, 7], "right": 9, "wrong": "there", "position": 3}
    path = written(tmp_path, longer, PAIR, "", {**PAIR, "clean": "a red dog", "position": -2})

    short, long = gather(model, read_records(path))

    assert short.clean.tolist() == [[1, 2, 3, 5], [1, 2, 3, 6]]
    assert short.corrupted.tolist() == [[1, 2, 4, 5]] * 2
    assert model.texts(short.right.tolist() + short.wrong.tolist()) == ["runs", "runs", "sleeps", "sleeps"]
    assert short.position.tolist() == [3, 2]
    assert (long.right.tolist(), model.texts(long.wrong.tolist()), long.position.tolist()) == ([9], ["there"], [3])
    assert torch.equal(next(iter(short.split(1))).clean, short.clean[:1])


def test_a_file_of_another_editor_is_read_alike(tmp_path):
    model = model_of("llama")
    path = tmp_path / "pairs.jsonl"
    lines = [PAIR, {**PAIR, "clean": "a red\u2028dog"}]
    path.write_bytes("\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode("utf-8-sig"))

    (found,) = gather(model, read_records(path))

    assert found.clean.tolist() == [[1, 2, 3, 5], [1, 2, 3, 6]]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "is empty"),
        (["", "  "], "is empty"),
        ([PAIR, "{oops"], "line 2 is no JSON"),
        (["[" * 100_000], "line 1 is no JSON"),
        ([PAIR, "", [1]], "line 3 is no object"),
        ([{"clean": "a", "right": "b"}], "line 1 lacks corrupted, wrong"),
        ([{**PAIR, "corrupted": "a blue blue fox"}], "has 4 tokens .* has 5|4 tokens"),
        ([{**PAIR, "corrupted": "a red fox"}], "the same tokens"),
        ([{**PAIR, "right": "runs here"}], "line 1, right"),
        ([{**PAIR, "right": "sleeps"}], "the same token"),
        ([{**PAIR, "right": 10**30}], "run from 0 to 11"),
        ([{**PAIR, "right": None}], "one token, as text or id"),
        ([{**PAIR, "clean": 7}], "text or a list"),
        ([{**PAIR, "clean": [1, 99, 3, 4]}], "line 1, clean"),
        ([{**PAIR, "position": 4}], "position must be"),
        ([{**PAIR, "position": True}], "position must be"),
    ],
)
def test_what_is_no_pair_is_told_with_its_line(tmp_path, lines, complaint):
    with pytest.raises(BadPairs, match=complaint):
        gather(model_of("llama"), read_records(written(tmp_path, *lines)))


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(BadPairs, match="cannot be read"):
        read_records(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadPairs, match="no text"):
        read_records(tmp_path / "binary")
