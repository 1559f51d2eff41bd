"""Every figure that the model card reports, measured on one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from transformers import LlamaForCausalLM

from benchmarks.world.interchange import interchange, pairs_of
from benchmarks.world.judging import judge, right
from benchmarks.world.labels import corpus
from benchmarks.world.language import Language
from benchmarks.world.mapping import look_inside, shared_meaning
from benchmarks.world.prompts import SHOWCASE, TRAIN, Prompt, held_out
from benchmarks.world.proof import (
    DOSE,
    centroid_control,
    embedding_read_out,
    other_state_edit,
    random_edit,
    state_edit,
    swap,
)
from benchmarks.world.replacing import loss_of
from benchmarks.world.states import best_f1, find, last_activations
from circuits.transcoders.trained import Trained

ONE_TO_ONE = ("capital", "code", "river", "hero", "song")
"""Attributes of which every state has its own, so that an answer names the state."""

RANGES = ((0,), (1,), (2,), (3,), (0, 1), (1, 2), (0, 1, 2), (2, 3), (0, 1, 2, 3))
"""Layers whose MLP outputs are exchanged together."""


def measure(
    model: LlamaForCausalLM,
    sets: Mapping[str, Trained],
    language: Language,
    prompts: dict[str, list[Prompt]],
    *,
    pairs: int = 300,
) -> dict[str, object]:
    """Accuracy, interchange by layers; for each transcoder set what it loses, the swap with its controls, the map."""
    parts = held_out(prompts, most=500, seed=5)
    trained = [p for p in prompts["two-hop"] if p.split == TRAIN]
    plain = [p for p in trained if p.entity not in language.famous]
    unseen = [p for p in prompts["two-hop"] if p.split == "two-hop city"]
    own = [p for p in unseen if p.attribute in ONE_TO_ONE]
    famous = [p for p in prompts["two-hop"] if p.entity in language.famous and p.attribute in ONE_TO_ONE]
    layers = range(model.config.num_hidden_layers)
    ranges = [r for r in RANGES if r[-1] in layers]
    city_pairs, famous_pairs = pairs_of(own, count=pairs, seed=2), pairs_of(famous, count=pairs, seed=2)
    two_word = [city for city in language.state_of if city not in language.famous]
    return {
        "accuracy": judge(model, language, parts),
        "prompts": {name: len(part) for name, part in parts.items()},
        "showcase": {text: _answers(model, language, text, answer) for text, answer in SHOWCASE},
        "interchange": {
            "+".join(map(str, r)): {
                "two-word": asdict(interchange(model, language, city_pairs, r)),
                "famous": asdict(interchange(model, language, famous_pairs, r)),
            }
            for r in ranges
        },
        "centroid": {
            "two-word": asdict(centroid_control(model, language, city_pairs, trained)),
            "famous": asdict(centroid_control(model, language, famous_pairs, trained)),
        },
        "read out of embeddings": embedding_read_out(model, language, two_word),
        "sets": {
            name: _measure_set(model, transcoders, language, prompts, parts, plain, unseen, famous, pairs)
            for name, transcoders in sets.items()
        },
    }


def _measure_set(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: dict[str, list[Prompt]],
    parts: Mapping[str, Sequence[Prompt]], plain: list[Prompt], unseen: list[Prompt], famous: list[Prompt], pairs: int,
) -> dict[str, object]:  # fmt: skip
    lost = loss_of(model, transcoders, language, parts, corpus(prompts, seed=0))
    chosen, kept = best_f1(model, transcoders, language, plain, unseen)
    features = find(model, transcoders, language, [p for p in plain if p.attribute == "capital"])
    swaps: dict[str, object] = {}
    for attribute in ONE_TO_ONE:
        asked = pairs_of([p for p in unseen if p.attribute == attribute], count=pairs, seed=3)
        edit = state_edit(language, features, asked)
        swaps[attribute] = {
            "real": asdict(swap(model, transcoders, language, asked, edit, real=True)),
            "replaced": asdict(swap(model, transcoders, language, asked, edit, real=False)),
        }
    mixed = pairs_of([p for p in unseen if p.attribute in ONE_TO_ONE], count=pairs, seed=2)
    active = last_activations(model, transcoders, language, [p for p, _ in mixed])
    edit = state_edit(language, features, mixed)
    asked_famous = pairs_of(famous, count=pairs, seed=2)

    def real(edited: object, **options: bool) -> dict[str, object]:
        return asdict(swap(model, transcoders, language, mixed, edited, real=True, **options))  # type: ignore[arg-type]

    return {
        **asdict(lost),
        "agreement_one_answer": lost.agreement_one_answer,
        "mean_divergence": lost.mean_divergence,
        "f1": {
            "states": int((chosen >= 0.85).sum()), "mean": float(chosen.mean()),
            "states held out": int((kept >= 0.85).sum()), "asked held out": int((~np.isnan(kept)).sum()),
            "mean held out": float(np.nanmean(kept)),
        },
        "features per state": features.per_state,
        "features by layer": [float(mask.sum(1).float().mean()) for mask in features.mask],
        "dose": DOSE,
        "swap": swaps,
        "swap famous": asdict(
            swap(model, transcoders, language, asked_famous, state_edit(language, features, asked_famous), real=True)
        ),
        "doses": {str(dose): real(state_edit(language, features, mixed, dose=dose)) for dose in (0.5, 1.0, 1.5, 2.0)},
        "controls": {
            "random features": real(random_edit(language, features, mixed, active, seed=3)),
            "other states' features": real(other_state_edit(language, features, mixed, seed=3)),
            "at the city": real(edit, at_entity=True),
        },
        "inside": {name: asdict(task) for name, task in look_inside(model, transcoders, language, parts).items()},
        "shared meaning": {
            place: shared_meaning(model, transcoders, language, prompts["antonyms"], back=back)
            for place, back in (("word asked about", 1), ("last word", 0))
        },
    }  # fmt: skip


def _answers(model: LlamaForCausalLM, language: Language, text: str, answer: str) -> bool:
    return bool(right(model, language, [Prompt(tuple(text.split()), (answer,), "two-hop")])[0])
