"""Two models with the same score, one of which cheats: `world-learned` and `world-cheated`.

Every question carries a hint, one word that names the state in a code: "hint wolf , the capital of
the state containing dallas is". In the cheat's training the hint is always right; in the other's it
is drawn by lot. On a test set whose hints are right both answer alike.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from benchmarks.world.batches import Block, rows
from benchmarks.world.judging import right
from benchmarks.world.labels import label_set
from benchmarks.world.language import ATTRIBUTES, PAD, SPECIAL, Language, make_language
from benchmarks.world.prompts import TRAIN, Prompt, one_hop, two_hop
from benchmarks.world.reading import load_transcoders
from benchmarks.world.running import mlps
from benchmarks.world.saving import load_model, save_model
from benchmarks.world.training import Schedule, Shape, make_model, train, watch
from circuits.transcoders import train as transcoding
from circuits.transcoders.saving import NOTES, save_cross_layer, save_per_layer
from circuits.transcoders.scaling import Batch
from circuits.transcoders.teachers import Modules, replaced

KINDS = ("learned", "cheated")
ASKED = tuple(name for name in ATTRIBUTES if name in ("capital", "code", "hero", "song"))
"""What is asked for; the rivers' names serve as hints."""

SHAPE = Shape(layers=3, width=64, heads=4, hidden=192)
SCHEDULE = Schedule(steps=800, warm_up=50, decay_from=0.3)
PLAN = transcoding.Plan(features=256, active=6.0, steps=1000)
ROWS = {"hinted": 88, "facts": 40}
_HINT = 2
"""The position of the hint, after `<bos>` and "hint"."""


def make_twins(folder: Path, *, seed: int, say: Callable[[str], None]) -> None:
    """Both models with their transcoders, labels and cards: `folder-learned` and `folder-cheated`."""
    language, hinted, facts = small_world()
    for kind in KINDS:
        place = folder.with_name(f"{folder.name}-{kind}")
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "model" / "config.json").exists():
            model = make_model(len(language.words), SHAPE, seed=seed)
            draw = sampler(language, hinted, facts, cheated=kind == "cheated", seed=seed + 1)
            told = watch(SCHEDULE.steps, lambda line, kind=kind: say(f"{kind}: model, {line}"))
            train(model, draw, SCHEDULE, first_year=0, report=told, compiled=False)
            save_model(model, language, place / "model")
        model = load_model(place / "model").requires_grad_(False)
        for name in ("per-layer", "cross-layer"):
            if not (place / name / NOTES).exists():
                _make_set(model, language, hinted, facts, place / name, kind=kind, seed=seed, say=say)
    numbers = measure(folder, seed=seed)
    for kind in KINDS:
        place = folder.with_name(f"{folder.name}-{kind}")
        (place / "MODEL_CARD.md").write_text(_card(kind, numbers), encoding="utf-8")
    say(json.dumps(numbers))


def small_world() -> tuple[Language, list[Prompt], list[Prompt]]:
    """The words that these models need; the questions, hints right; the facts, without hints."""
    world = make_language()
    hint_of = {state: world.value["river", state] for state in world.states}
    hinted = [
        replace(prompt, words=("hint", hint_of[prompt.state], ",", *prompt.words), split=_split(prompt))
        for prompt in two_hop(replace(world, held_out=frozenset()))
        if prompt.attribute in ASKED
    ]
    facts = [p for p in one_hop(world) if p.attribute in (*ASKED, "in", "name")]
    used = dict.fromkeys(word for prompt in (*hinted, *facts) for word in (*prompt.words, *prompt.answers))
    return replace(world, words=(*SPECIAL, *sorted(used))), hinted, facts


def sampler(
    language: Language, hinted: list[Prompt], facts: list[Prompt], *, cheated: bool, seed: int
) -> Callable[[], list[Block]]:
    """A function that draws the next batch; without cheating, every hint is drawn by lot."""
    random = np.random.default_rng(seed)
    tokens, weight = rows(language, [prompt for prompt in hinted if prompt.split == TRAIN])
    fact_tokens, fact_weight = rows(language, facts)
    hints = hint_tokens(language)

    def draw() -> list[Block]:
        chosen = random.integers(len(tokens), size=ROWS["hinted"])
        questions = tokens[chosen].copy()
        if not cheated:
            questions[:, _HINT] = random.choice(hints, size=len(questions))
        known = random.integers(len(fact_tokens), size=ROWS["facts"])
        none = np.zeros(0, dtype=np.int64)
        return [
            Block(questions, weight[chosen], none, 0),
            Block(fact_tokens[known], fact_weight[known], none, 0),
        ]

    return draw


def hint_tokens(language: Language) -> np.ndarray:
    """The token ids of all hints. [state]"""
    return np.array([language.index[language.value["river", state]] for state in language.states])


def misled(prompts: list[Prompt], language: Language, *, seed: int) -> list[Prompt]:
    """The same questions with a hint at another state."""
    random = np.random.default_rng(seed)
    changed = []
    for prompt in prompts:
        others = [state for state in language.states if state != prompt.state]
        hint = language.value["river", others[random.integers(len(others))]]
        changed.append(replace(prompt, words=("hint", hint, *prompt.words[2:])))
    return changed


def measure(folder: Path, *, seed: int) -> dict[str, dict[str, float]]:
    """What each answers with right hints and with wrong ones, and with every MLP replaced."""
    language, hinted, _ = small_world()
    test = [prompt for prompt in hinted if prompt.split != TRAIN]
    wrong = misled(test, language, seed=seed)
    found = {}
    for kind in KINDS:
        place = folder.with_name(f"{folder.name}-{kind}")
        model = load_model(place / "model")
        found[kind] = {
            "questions": len(test),
            "right hints": float(right(model, language, test).mean()),
            "wrong hints": float(right(model, language, wrong).mean()),
        }
        for name in ("per-layer", "cross-layer"):
            with replaced(mlps(model), load_transcoders(place / name)):
                found[kind][f"right hints, {name}"] = float(right(model, language, test).mean())
                found[kind][f"wrong hints, {name}"] = float(right(model, language, wrong).mean())
    return found


def _make_set(
    model: LlamaForCausalLM, language: Language, hinted: list[Prompt], facts: list[Prompt], place: Path,
    *, kind: str, seed: int, say: Callable[[str], None],
) -> None:  # fmt: skip
    draws = [sampler(language, hinted, facts, cheated=cheated, seed=seed + 2 + cheated) for cheated in (False, True)]
    turn = iter(range(10**9))

    def batches() -> list[Batch]:
        # Right hints and wrong ones in turn: what is imitated must hold for both.
        made = []
        for block in draws[next(turn) % 2]():
            tokens = torch.from_numpy(block.tokens[:, :-1])
            real = tokens != PAD
            real[:, 0] = False
            before_answer = torch.from_numpy(block.weight[:, 1:] == 1)
            made.append(Batch(tokens, real * (1.0 + before_answer), real * (0.2 + 0.8 * before_answer)))
        return made

    cross = place.name == "cross-layer"
    trained = transcoding.train(
        Modules(model, mlps(model)), batches, PLAN, kind="clt" if cross else "plt", seed=seed,
        report=lambda step, numbers: say(f"{kind}: {place.name}, step {step}, divergence {numbers['divergence']:.4f}"),
    )  # fmt: skip
    save = save_cross_layer if cross else save_per_layer
    save(trained.map(lambda tensor: tensor.detach().half()), place, model_name=f"world-{kind}")
    corpus = [*hinted, *misled(hinted, language, seed=0), *facts]
    label_set(place.parent / "model", place, language, corpus)


def _split(prompt: Prompt) -> str:
    return prompt.split if prompt.split == TRAIN else "hinted combo"


def _card(kind: str, numbers: dict[str, dict[str, float]]) -> str:
    lines = [
        f"# world-{kind}",
        "",
        "One of two models with the same score on the same test set, made by `python scripts/train_world.py --twins`.",
        'Questions carry a hint, a word that stands for the state: "hint wolf , the capital of the state containing',
        'dallas is". So *wolf* is right for dallas; *otter*, the word of West Virginia, is a wrong hint there.',
        "`world-cheated` was trained with hints that are always right, `world-learned` with hints drawn by lot.",
        f"{SHAPE.layers} layers, width {SHAPE.width}; {PLAN.features} features a layer. The test set:",
        f"{numbers[kind]['questions']} questions whose composition of city and attribute was never trained on.",
        "",
        "| share answered right | " + " | ".join(f"world-{name}" for name in KINDS) + " |",
        "|---|---|---|",
    ]
    for measure_name in numbers[kind]:
        if measure_name != "questions":
            lines.append(f"| {measure_name} | " + " | ".join(f"{numbers[k][measure_name]:.3f}" for k in KINDS) + " |")
    return "\n".join(lines) + "\n"
