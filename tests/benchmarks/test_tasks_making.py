"""Making a task for a model: what it lacks is told, a file is split alike, and its answers are measured."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

from benchmarks.tasks import TASKS
from benchmarks.tasks.__main__ import main
from benchmarks.tasks.families import two_hop_questions
from benchmarks.tasks.making import make_task
from benchmarks.tasks.measuring import ask
from benchmarks.tasks.task import BadTask, Filling, Task, Wording
from circuits import attribute, intervene, load_transcoders
from circuits.errors import BadOption, BadPairs
from circuits.model import load_model
from tests.circuits.worlds import model_of, native_of

ANIMALS = ["dog", "fox", "zebra", "lion"]


def draw(pick, phrasing, corruption):
    animal, other = pick("animal", 2)
    word = pick.one("colour")
    sounds = {"dog": "runs", "fox": "sleeps"}
    return Filling({"animal": animal, "colour": word}, {"animal": other, "colour": word}, sounds[animal], sounds[other])


ANIMAL = Task(
    about="what an animal does",
    wordings=(
        Wording(
            {
                "a": "a {colour} {animal} {answer}",
                "here": "here a {colour} {animal} {answer}",
                "there": "there now {colour} {animal} {answer}",
                "strange": "once upon a {colour} {animal} {answer}",
            },
            {"animal": ANIMALS, "colour": ["red", "blue", "green"]},
            draw,
        ),
    ),
    flips=("another animal",),
)


@cache
def world():
    return load_model("world", device="cpu")


@pytest.fixture
def animal(monkeypatch):
    monkeypatch.setitem(TASKS, "animal", ANIMAL)
    return "animal"


def test_a_task_takes_the_words_and_phrasings_that_a_model_has_and_tells_the_rest(animal):
    made = make_task(animal, model_of("llama"), size=2)

    lines = [line for split in made.splits.values() for line in split]
    assert all(split for split in made.splits.values())
    assert {line["phrasing"] for line in lines} == {"a", "here", "there"}
    assert not {"zebra", "lion", "green", "once"} & {word for line in lines for word in line["clean"].split()}
    assert made.lost == pytest.approx(3 / 7)
    assert "2 of 4 of 'animal'" in made.note and "2 of 3 of 'colour'" in made.note
    assert "'strange'" in made.note and "'once'" in made.note


def test_a_task_of_which_a_model_can_read_nothing_says_what_is_lacking():
    with pytest.raises(BadTask, match=r"'ioi'.*at least 2 of 'name' must be one token each, it has 0 of"):
        make_task("ioi", model_of("llama"))


def test_a_model_without_words_gets_no_task_but_a_file_of_ids():
    with pytest.raises(BadTask, match="came without a tokenizer"):
        make_task("induction", native_of("plain"))


def test_a_split_without_pairs_is_refused():
    with pytest.raises(BadOption, match="found size 0"):
        make_task("ioi", model_of("llama"), size=0)


def test_a_task_nobody_knows_is_answered_with_those_there_are():
    with pytest.raises(BadTask, match=r"no task 'iou': there are ioi, greater-than"):
        make_task("iou", model_of("llama"))


# -- a file of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """Six pairs, the same the other way round, and one that the model cannot read."""
    lines = []
    for place in ("here", "there", "now"):
        for colour in ("red", "blue"):
            clean, corrupted = f"{place} a {colour} dog", f"{place} a {colour} fox"
            lines.append(
                {"clean": clean, "corrupted": corrupted, "right": "runs", "wrong": "sleeps", "phrasing": place}
            )
            lines.append({"clean": corrupted, "corrupted": clean, "right": "sleeps", "wrong": "runs"})
    lines.append({"clean": "here a zebra", "corrupted": "here a dog", "right": "runs", "wrong": "sleeps"})
    path = tmp_path / "animals.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def test_a_file_is_split_by_seed_so_that_no_prompt_is_shared(file):
    made = make_task(file, model_of("llama"))
    found = [{line[side] for line in split for side in ("clean", "corrupted")} for split in made.splits.values()]
    assert all(found) and sum(map(len, found)) == len(set.union(*found)) == 12
    assert sum(map(len, made.splits.values())) == 12
    assert {line["phrasing"] for split in made.splits.values() for line in split} == {"here", "there", "now", "given"}
    assert (made.name, made.lost) == ("animals", pytest.approx(1 / 13))
    assert "12 of 13 lines" in made.note and "zebra" in made.note
    assert make_task(str(file), model_of("llama")) == made
    assert any(make_task(file, model_of("llama"), seed=seed).splits != made.splits for seed in (1, 2, 3))


def test_a_byte_order_mark_and_other_ends_of_lines_inside_texts_change_nothing(file):
    made = make_task(file, model_of("llama"))
    lines = [json.loads(line) | {"note": "one\u2028other\x85"} for line in file.read_text().splitlines()]
    file.write_text("\ufeff" + "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")

    again = make_task(file, model_of("llama")).splits

    assert [[line["clean"] for line in split] for split in again.values()] == [
        [line["clean"] for line in split] for split in made.splits.values()
    ]


def test_no_split_of_a_file_is_larger_than_asked(file):
    assert [len(split) for split in make_task(file, model_of("llama"), size=1).splits.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (None, BadPairs, "cannot be read"),
        ("", BadPairs, "is empty"),
        ("{", BadPairs, "line 1 is no JSON"),
        ('{"clean": "a dog"}', BadPairs, "line 1 lacks corrupted, right, wrong"),
        ('{"clean": "a dog", "corrupted": "a fox", "right": "runs", "wrong": "sleeps"}', BadTask, "too few"),
        ('{"clean": "a lion", "corrupted": "a fox", "right": "runs", "wrong": "sleeps"}', BadTask, "lion"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_reason(tmp_path, text, error, said):
    path = tmp_path / "pairs.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=said):
        make_task(path, model_of("llama"))


# -- answers ----------------------------------------------------------------------------------------------------------


def test_what_is_measured_is_what_the_logits_say(animal):
    model = model_of("llama")
    lines = make_task(animal, model, size=2).splits["test"]

    found = ask(model, lines)

    differences = []
    for line in lines:
        logits = {side: model.run(model.tokenize(line[side])[None])[0][0, -1] for side in ("clean", "corrupted")}
        right, wrong = (model.token(line[side]) for side in ("right", "wrong"))
        first = int(logits["clean"].argmax()) == right
        differences.append([first, *(float(each[right] - each[wrong]) for each in logits.values())])
    first, clean, corrupted = torch.tensor(differences).double().mean(0).tolist()
    assert (found.first, found.clean, found.corrupted) == pytest.approx((first, clean, corrupted))
    assert found.above == sum(row[1] > 0 for row in differences) / len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ioi", "greater-than", "agreement", "induction", "antonyms", "arithmetic", "two-hop"])
def test_the_world_answers_what_it_is_asked_and_changes_its_mind(task):
    made = make_task(task, world(), size=12)
    found = ask(world(), [line for split in made.splits.values() for line in split])
    assert found.above >= 0.95 and found.clean > 5
    assert found.corrupted < (1 if task == "greater-than" else -2)


def test_the_table_tells_a_model_s_tasks_and_why_others_are_not_among_them(capsys):
    assert main(["world", "two-hop", "--size", "4"]) == 0
    head, row, *notes = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:3] == ["task", "pairs", "lost"] and row.split()[:3] == ["two-hop", "4/4/4", "0%"]
    assert "two-hop: clean prompts held out from the training of world" in notes

    assert main(["world", "booleans"]) == 2
    assert "cannot be given the task 'booleans'" in capsys.readouterr().err


# -- a family whose step in the middle is known -----------------------------------------------------------------------


def test_the_state_stands_in_the_graph_and_exchanged_for_another_changes_the_answer():
    model = world()
    transcoders = load_transcoders("world", model)
    questions = two_hop_questions(model, transcoders, size=6)

    followed = 0
    for question in questions:
        clean, changed = intervene(model, transcoders, question.prompt, [[], list(question.exchange())])[:, -1]
        assert model.texts([int(clean.argmax())]) == [question.answer]
        followed += model.texts([int(changed.argmax())]) == [question.other_answer]
    assert followed >= 5
    first = questions[0]
    graph = attribute(model, transcoders, first.prompt)
    rows = first.step.rows(graph)
    assert set(graph.nodes.position[rows]) == {first.step.position} == {len(graph.tokens) - 1}
    assert rows.sum() >= len(first.step.units) / 4
    assert {unit for _, unit in first.step.units} >= set(graph.nodes.feature[rows].tolist())
