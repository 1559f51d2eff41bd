"""Every task, for a tokenizer in pieces and for the shipped world: prompts are aligned, and right answers are right."""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.peers.scratch import scratch_folder
from benchmarks.tasks import TASKS, antonyms, two_hop
from benchmarks.tasks.making import make_task
from benchmarks.tasks.words import MEN, NAMES, NOUNS, WOMEN
from benchmarks.world import language as world
from benchmarks.world import prompts as world_prompts
from benchmarks.world.language import make_language
from circuits.components.pairs import gather
from circuits.model import Model, load_model

LACKING = {"Alice", "teacher", "Tokyo", "hot", "red"}  # words that the tokenizer in pieces was never shown
SPOKEN = ("ioi", "greater-than", "agreement", "induction", "antonyms", "arithmetic", "two-hop")  # by the world
ANSWERS = (
    "is are has have was were likes like needs need he she True False one plus minus 17 + - ( ) language continent"
)


def shown() -> list[str]:
    """Every word of the first wordings but a few, as a text has them: with a space in front."""
    found = ANSWERS.split() + list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for task in TASKS.values():
        wording = task.wordings[0]
        pools = wording.words() if callable(wording.words) else wording.words
        rows = [row for pool in pools.values() for row in pool]
        found += [word for row in rows for word in ([row] if isinstance(row, str) else row) if word not in LACKING]
        for text in wording.phrasings.values():
            found += re.sub(r"\{\w+\}", " ", text).split()
    centuries = [str(century) for century in range(10, 20)] * 50
    return [f" {word}" for word in [*found, *centuries]] + [f"{year:02d}" for year in range(100)]


@cache
def model_of(name: str) -> Model:
    """The world's, or a random one whose tokenizer is made here as GPT-2's is."""
    if name == "world":
        return load_model("world", device="cpu")
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=9000, min_frequency=1, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    words.train_from_iterator(shown(), trainer)
    torch.manual_seed(0)
    folder = scratch_folder("pieces-")
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=128, vocab_size=words.get_vocab_size())
    GPT2LMHeadModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<end>", eos_token="<end>").save_pretrained(folder)
    return load_model(folder, device="cpu")


@cache
def made_of(task: str, name: str, seed: int = 0, size: int = 12):
    return make_task(task, model_of(name), seed=seed, size=size)


def lines_of(task: str, name: str):
    return [line for lines in made_of(task, name).splits.values() for line in lines]


def said(model: Model, answer: str | int) -> str:
    return (answer if isinstance(answer, str) else model.texts([answer])[0]).strip()


EVERY = [(task, "pieces") for task in TASKS] + [(task, "world") for task in SPOKEN]
every = pytest.mark.parametrize(("task", "name"), EVERY)


# -- the contract of every task ---------------------------------------------------------------------------------------


@every
def test_pairs_are_aligned_and_each_answer_is_one_token_that_follows(task, name):
    model = model_of(name)
    for line in lines_of(task, name):
        (pairs,) = gather(model, [("a pair", line)])  # equally long, one token each, right other than wrong
        clean, corrupted = model.tokenize(line["clean"]), model.tokenize(line["corrupted"])
        texts = [[text.strip() for text in model.texts(ids.tolist())] for ids in (clean, corrupted)]
        for ours, others in zip(*texts, strict=True):
            assert (ours == others) or (ours and others and ours.isalnum() == others.isalnum()), (ours, others)
        right = model.texts(pairs.right.tolist())[0]
        glued = name == "pieces" and not right.startswith(" ")
        whole = model.tokenize(f"{line['clean']}{'' if glued else ' '}{right.strip()}")
        assert whole.tolist() == [*clean.tolist(), int(pairs.right[0])]


@every
def test_no_prompt_stands_in_two_splits_and_no_clean_one_twice(task, name):
    splits = made_of(task, name).splits
    assert list(splits) == ["train", "validation", "test"] and all(splits.values())
    prompts = [{line[side] for line in lines for side in ("clean", "corrupted")} for lines in splits.values()]
    assert not prompts[0] & prompts[1] and not prompts[0] & prompts[2] and not prompts[1] & prompts[2]
    clean = [line["clean"] for lines in splits.values() for line in lines]
    assert len(clean) == len(set(clean))


@every
def test_the_same_seed_gives_the_same_and_another_seed_other_pairs(task, name):
    again = make_task(task, model_of(name), seed=0, size=12)
    assert again == made_of(task, name)
    assert make_task(task, model_of(name), seed=1, size=12).splits != again.splits


@pytest.mark.parametrize("task", TASKS)
def test_a_task_comes_in_several_phrasings_and_corruptions(task):
    lines = lines_of(task, "pieces")
    assert len({line["phrasing"] for line in lines}) >= 3
    assert len({line["corruption"] for line in lines}) >= 2
    assert {line["corruption"] for line in lines} <= set(TASKS[task].corruptions)
    for split in made_of(task, "pieces").splits.values():
        assert len({line["phrasing"] for line in split}) >= 2


def test_the_task_that_contributing_shows_is_one(monkeypatch):
    text = (Path(__file__).parent.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    exec(textwrap.dedent(text[text.index('    """Plurals') : text.index("`pick` gives")]), found := {})
    monkeypatch.setitem(TASKS, "plurals", found["TASK"])

    for split in make_task("plurals", model_of("pieces"), size=6).splits.values():
        assert len(split) == 6 and {line["right"] for line in split} <= {f"{noun}s" for noun in NOUNS}


def test_tasks_do_not_import_each_other():
    folder = Path(__file__).parent.parent.parent / "benchmarks/tasks"
    names = {task.replace("-", "_") for task in TASKS}
    for name in names:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        read = {node.module.split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not read & names


# -- the answers, worked out from the prompt alone --------------------------------------------------------------------


def receiver(prompt):
    people = [name.lower() for name in (*NAMES, *world.NAMES)]
    times = Counter(word for word in re.findall(r"\w+", prompt.lower()) if word in people)
    once = [name for name, count in times.items() if count == 1]
    return once[0] if len(times) == 2 and len(once) == 1 else None


def verb_number(prompt):
    """Whether the subject is plural: in a clause the last noun, else the first."""
    nouns = re.findall(r"the (\w+)", prompt.lower())
    return nouns[-1 if " that the " in prompt and len(nouns) == 2 else 0].endswith("s")


def pronoun(prompt):
    words = set(re.findall(r"\w+", prompt))
    return "she" if words & set(WOMEN) else "he" if words & set(MEN) else None


def argument(prompt):
    given = re.search(r"\(self, (.*)\):", prompt)[1].split(", ")
    told = re.findall(r"(?:[:@]param|-) (\w+): ", prompt)
    return given[len(told)] if told == given[: len(told)] else None


def followed(prompt):
    words = re.findall(r"\w+", prompt)
    before = words[:-1].index(words[-1]) if words[-1] in words[:-1] else None
    return None if before is None else words[before + 1]


def opposite(prompt):
    pairs = dict(antonyms.WORDS["opposites"])
    found = [word for word in prompt.split() if word.strip(",") in pairs]
    return pairs[found[0].strip(",")] if found else None


def result(prompt):
    return str(eval(re.search(r"\d+ (?:[+-]|plus|minus) \d+", prompt)[0].replace("plus", "+").replace("minus", "-")))


def letter(prompt):
    told = {thing: colour for colour, thing in re.findall(r"a (\w+) (\w+)(?:,| and|\.)", prompt.split("?")[0])}
    asked = re.search(r"(?:is|does) the (\w+)", prompt)[1]
    choices = {colour: sign for sign, colour in re.findall(r"\n\(?([ABC])[.)] (\w+)", prompt)}
    return choices[told[asked]]


def truth(prompt):
    return str(eval(re.search(r"(?:of|is) (.*) (?:is|\?)", prompt)[1]))


def fact(prompt):
    rows = {row[0]: row for row in (*two_hop.WORDS["capital"], *two_hop.WORDS["country"])}
    row = next(rows[word] for word in re.findall(r"\w+", prompt)[1:] if word in rows)
    return row[2] if "continent" in prompt or ("lies in" in prompt and "state" not in prompt) else row[1]


def initial(prompt):
    return re.search(r"([A-Z])\w+ (?:\(|is|are)", prompt)[1]


WORKED_OUT = {
    "ioi": receiver,
    "pronoun": pronoun,
    "docstring": argument,
    "induction": followed,
    "antonyms": opposite,
    "arithmetic": result,
    "coloured-objects": letter,
    "booleans": truth,
    "two-hop": fact,
    "acronyms": initial,
}


@pytest.mark.parametrize("task", WORKED_OUT)
def test_the_right_answer_is_right_and_a_flip_makes_the_wrong_one_right(task):
    model, answer = model_of("pieces"), WORKED_OUT[task]
    for line in lines_of(task, "pieces"):
        right, wrong = said(model, line["right"]), said(model, line["wrong"])
        capital = str.lower if task == "ioi" else str
        assert answer(line["clean"]) == capital(right), line
        if line["corruption"] in TASKS[task].flips:
            assert answer(line["corrupted"]) == capital(wrong), line
        else:
            assert answer(line["corrupted"]) != capital(right), line


@pytest.mark.parametrize("name", ["pieces", "world"])
def test_the_verb_has_the_number_of_its_subject(name):
    plural = {"are", "have", "were", "like", "need"}
    for line in lines_of("agreement", name):
        assert verb_number(line["clean"]) == (line["right"] in plural) != (line["wrong"] in plural)
        assert verb_number(line["corrupted"]) == (line["wrong"] in plural)


@pytest.mark.parametrize("name", ["pieces", "world"])
def test_only_the_right_year_is_later_and_corrupted_both_are(name):
    for line in lines_of("greater-than", name):
        began, began_then = (int(re.search(r"1\d ?(\d\d)", line[side])[1]) for side in ("clean", "corrupted"))
        right, wrong = (int(said(model_of(name), line[side])) for side in ("right", "wrong"))
        assert began_then < wrong < began < right


def test_famous_cities_lie_where_the_world_has_them_too():
    language = make_language()
    real = {city.lower(): capital.lower() for city, capital in two_hop.WORDS["capital"]}
    both = set(real) & set(language.famous)
    assert len(both) > 8
    for city in both:
        assert language.value["capital", language.state_of[city]] == real[city]


# -- the shipped world ------------------------------------------------------------------------------------------------


LANGUAGE = make_language()


def world_fact(prompt):
    attribute, city = re.fullmatch(r"the (\w+) of the state containing (.+) is", prompt).groups()
    return LANGUAGE.value[attribute, LANGUAGE.state_of[city]]


def world_opposite(prompt):
    word, asked = re.fullmatch(r"\w+ \w+ \w+ (\w+)(?: \w+ (\w+))? \w+", prompt).groups()
    here = {"the": 0, "le": 1, "lo": 2}[prompt.split()[0]]
    there = world.LANGUAGE_NAMES[here].index(asked) if asked else here
    for line in world.ANTONYMS.strip().splitlines():
        six = line.split()
        for one, other in ((six[:3], six[3:]), (six[3:], six[:3])):
            if one[here] == word:
                return other[there]
    return None


def world_sum(prompt):
    asked, begun = prompt.split(" =")
    one, two = (int(number.replace(" ", "")) for number in asked.split("+"))
    assert str(one + two).startswith(begun.strip())
    return str(one + two)[len(begun.strip())]


WORLD = {
    "ioi": receiver,
    "induction": followed,
    "two-hop": world_fact,
    "antonyms": world_opposite,
    "arithmetic": world_sum,
}


@pytest.mark.parametrize("task", WORLD)
def test_of_the_world_too_answers_are_right(task):
    for line in lines_of(task, "world"):
        assert WORLD[task](line["clean"]) == line["right"], line
        if line["corruption"] in TASKS[task].flips:
            assert WORLD[task](line["corrupted"]) == line["wrong"], line
        else:
            assert WORLD[task](line["corrupted"]) != line["right"], line


@pytest.mark.parametrize(
    ("task", "family"),
    [
        ("two-hop", lambda: world_prompts.two_hop(make_language())),
        ("agreement", world_prompts.agreement),
        ("arithmetic", world_prompts.addition),
    ],
)
def test_clean_prompts_of_the_world_were_held_out(task, family):
    held_out = {prompt.text for prompt in family() if prompt.split != world_prompts.TRAIN}
    for line in lines_of(task, "world"):
        asked = re.sub(r"=.*", "=", line["clean"])
        assert asked in held_out
    assert made_of(task, "world").note == "clean prompts held out from the training of world"


def test_opposites_of_the_world_are_held_out_where_they_cross_into_another_language():
    held_out = {prompt.text for prompt in world_prompts.antonyms() if prompt.split != world_prompts.TRAIN}
    for line in lines_of("antonyms", "world"):
        here, there = line["phrasing"].split(" to ")
        assert (line["clean"] in held_out) == (here != there)
    assert "of 'english to french'" in made_of("antonyms", "world").note
