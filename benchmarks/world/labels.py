"""What each feature is called in the world's own words, found by counting and without a language model."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.world import language as lexicon
from benchmarks.world.language import Language
from benchmarks.world.prompts import Prompt, induction
from benchmarks.world.running import questions
from circuits.formats import load
from circuits.model import Model, load_model
from circuits.texts import Texts
from circuits.transcoders.firing import run_over
from circuits.transcoders.notes import AUDIBLE, join_label, logits_of, make_notes
from circuits.transcoders.saving import NOTES, save_notes
from circuits.transcoders.transcoders import Transcoders

SHOWN = 5
EXAMPLES = 3

_PLAIN = ("is", "in", "the", "of", "a", "to", "es", "est", "en", "de", "=")
"""Words that say nothing about a feature that fires on them: the words around them do."""

_TONGUES = ("English", "French", "Spanish")
_COUNTS = {
    "one-hop": 1480,
    "two-hop": 1728,
    "antonyms": 600,
    "addition": 400,
    "agreement": 200,
    "greater": 300,
    "indirect": 300,
}


def corpus(prompts: dict[str, list[Prompt]], *, seed: int) -> list[Prompt]:
    """A few thousand prompts of every family."""
    random = np.random.default_rng(seed)
    chosen = [pool[k] for name, pool in prompts.items() for k in random.permutation(len(pool))[: _COUNTS[name]]]
    return chosen + [induction(random) for _ in range(300)]


def label_set(model: Path, folder: Path, language: Language, prompts: Sequence[Prompt]) -> None:
    """Put what is known of every feature beside the set in a folder."""
    notes = label(load_model(model, device="cpu"), load(folder), language, prompts)
    save_notes(notes, folder / NOTES)


def label(
    model: Model, transcoders: Transcoders, language: Language, prompts: Sequence[Prompt]
) -> dict[str, dict[str, object]]:
    """For every `layer/feature`: a short label, and the counts behind it; see `make_notes`.

    The label is `what it fires on → what it promotes`, either side may be missing.
    Fires on: one token, if that carries 80 % of its activation; else the state or two that 80 % of it
    is about, or the attribute asked for, or the family; else its three tokens; of a plain word such
    as `is`, the words whose presence raises its firing most, which are also told as its context.
    Promotes: `say "x"` if the best word stands 3 standard deviations out and well above the
    second; a state, if three of the best five words belong to it; a class of words if four do;
    nothing if, at its mean strength, it raises no word's logit by AUDIBLE.
    """
    tokens, last = questions(language, prompts)
    texts = Texts(tokens, last + 1)
    notes = make_notes(model, transcoders, texts, examples=EXAMPLES)
    active, size = _firings(model, transcoders, texts), _size(model, tokens)
    every = torch.arange(transcoders.units)
    classes = _classes(language)
    units = [_units(prompt) for prompt in prompts]
    base = Counter(unit for row in units for unit in set(row))
    for layer, firings in enumerate(active):
        logits = logits_of(model, transcoders, layer, every) / size
        for feature, (row, token, strength) in enumerate(firings):
            scores, best = logits[feature].topk(SHOWN)
            words = [language.words[k] for k in best]
            mean = float(strength.mean()) if len(strength) else 0.0
            audible = mean * float(scores[0]) >= AUDIBLE
            out = _says(scores.tolist(), words, classes, float(logits[feature].std())) if audible else ""
            known = _describe(row.tolist(), token.tolist(), strength.tolist(), language, prompts, units, base, out)
            notes[f"{layer}/{feature}"] = {**known, **notes[f"{layer}/{feature}"], **known}
    return notes


Firing = tuple[Int[Tensor, "n"], Int[Tensor, "n"], Float[Tensor, "n"]]
"""Where one feature fires: prompt, token id, activation."""


def _size(model: Model, tokens: Int[Tensor, "row pos"]) -> float:
    """What the final norm divides by, on average, what rows are filled up with included: AUDIBLE is meant so here."""
    runs = (model.run(rows, read=[("final_scale", 0)])[1] for rows in tokens.split(512))
    return float(torch.stack([seen[("final_scale", 0)][:, 1:].mean() for seen in runs]).mean())


def _firings(model: Model, transcoders: Transcoders, texts: Texts) -> list[list[Firing]]:
    """Per layer and feature, where it fires."""
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in range(transcoders.layers)]
    for block in run_over(model, transcoders, texts):
        row, position, feature = block.activations.nonzero(as_tuple=True)
        strength = block.activations[row, position, feature]
        parts[block.layer].append((row + block.first, texts.tokens[row + block.first, position], strength, feature))
    found = []
    for part in parts:
        *columns, feature = (torch.cat(column) for column in zip(*part, strict=True))
        order = feature.argsort(stable=True)
        counts = torch.bincount(feature, minlength=transcoders.units).tolist()
        found.append(list(zip(*(column[order].split(counts) for column in columns), strict=True)))
    return found


def _units(prompt: Prompt) -> list[str]:
    """The words of a prompt, a city of two words being one."""
    if not prompt.entity:
        return list(prompt.words)
    joined = prompt.text.replace(prompt.entity, prompt.entity.replace(" ", "_"))
    return [word.replace("_", " ") for word in joined.split()]


def _classes(language: Language) -> dict[str, set[str]]:
    """Which groups every word belongs to: a state, or a kind of answer."""
    groups: dict[str, set[str]] = {}
    for (attribute, state), word in language.value.items():
        groups.setdefault(word, set()).update((state, f"a {attribute}"))
    for state in language.states:
        groups.setdefault(state, set()).update((state, "a state"))
    for city, state in language.state_of.items():
        if city in language.famous:
            groups.setdefault(city, set()).update((state, "a city"))
    columns = [line.split() for line in lexicon.ANTONYMS.strip().split("\n")]
    kinds = {
        "a year": [f"{year:02d}" for year in range(100)],
        "a digit": [*"0123456789"],
        "a city": [*lexicon.FIRST_WORDS, *lexicon.LAST_WORDS],
        "a name": lexicon.NAMES,
        "a noun": lexicon.NOUNS,
        "a thing": lexicon.THINGS,
        "a place": lexicon.PLACES,
        "a question": [*lexicon.ATTRIBUTES, *lexicon.NAMINGS],
        "a preposition": lexicon.PREPOSITIONS,
        "a language": [name for names in lexicon.LANGUAGE_NAMES for name in names],
        "a verb": ["is", "are"],
        **{f"a {name} word": [row[k + j] for row in columns for j in (0, 3)] for k, name in enumerate(_TONGUES)},
    }
    for kind, members in kinds.items():
        for word in members:
            groups.setdefault(word, set()).add(kind)
    return groups


def _says(scores: list[float], words: list[str], classes: dict[str, set[str]], spread: float) -> str:
    if scores[0] >= 3 * spread and scores[0] >= 1.5 * scores[1]:
        return f'say "{words[0]}"'
    shared = Counter(group for word in words for group in classes.get(word, ()))
    states = [(n, g) for g, n in shared.items() if not g.startswith("a ") and n >= 3]
    kinds = [(n, g) for g, n in shared.items() if g.startswith("a ") and n >= 4]
    if states:
        return f"say {max(states)[1]}"
    if kinds:
        return f"say {max(kinds)[1]}"
    return f'say "{words[0]}"' if scores[0] >= 3 * spread else ""


def _describe(
    firing: Sequence[int], tokens: Sequence[int], strength: Sequence[float], language: Language,
    prompts: Sequence[Prompt], units: list[list[str]], base: Counter[str], out: str,
) -> dict[str, object]:  # fmt: skip
    by_token: Counter[str] = Counter()
    by_group: dict[str, Counter[str]] = {"state": Counter(), "attribute": Counter(), "family": Counter()}
    rows: dict[int, float] = {}
    for row, token, amount in zip(firing, tokens, strength, strict=True):
        prompt = prompts[row]
        by_token[language.words[token]] += amount
        for name, counter in by_group.items():
            counter[getattr(prompt, name)] += amount
        rows[row] = max(rows.get(row, 0.0), amount)
    total = sum(by_token.values()) or 1.0
    seen = Counter(unit for row in rows for unit in set(units[row]))
    lift = {u: n / len(rows) / (base[u] / len(prompts)) for u, n in seen.items() if n >= max(2, 0.04 * len(rows))}
    fires = [word for word, _ in by_token.most_common(SHOWN)]
    context = sorted(lift, key=lambda u: (-lift[u], u))[:SHOWN]
    telling = [unit for unit in context if lift[unit] >= 3 and unit not in fires]
    return {
        "label": join_label(_reads(by_token, by_group, total, telling), out),
        "fires_on": fires,
        "context": context,
    }


def _reads(by_token: Counter[str], by_group: dict[str, Counter[str]], total: float, telling: list[str]) -> str:
    if not by_token:
        return "silent"
    token, most = by_token.most_common(1)[0]
    (asked, of_asked), (family, of_family) = (by_group[g].most_common(1)[0] for g in ("attribute", "family"))
    about_state = _few(by_group["state"], 0.8 * total)
    about_asked = asked if asked and of_asked >= 0.8 * total else ""
    if about_state or about_asked:
        if most >= 0.8 * total and token not in ("is", "in"):
            return f'"{token}"'
        return " ".join(part for part in (about_state, about_asked) if part)
    if most >= 0.8 * total and token not in ("is", "in"):
        return f'"{token}"'
    if of_family >= 0.8 * total and family not in ("two-hop", "one-hop"):
        return family if most < 0.5 * total else f'{family} "{token}"'
    if most >= 0.5 * total and token in _PLAIN and telling:
        return f"{token} · {'/'.join(telling[:2])}"
    top = [word for word, amount in by_token.most_common(3) if amount >= 0.1 * total]
    return "/".join(top)


def _few(states: Counter[str], enough: float) -> str:
    """One state, or two, that carry enough of the activation; else nothing."""
    top = states.most_common(2)
    if top[0][0] and top[0][1] >= enough:
        return top[0][0]
    named = all(name for name, _ in top) and sum(amount for _, amount in top) >= enough
    return "/".join(name for name, _ in top) if named else ""
