"""What each feature fires on and what it promotes, in words, found by counting and without a language model."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.world import language as lexicon
from benchmarks.world.language import PAD, Language
from benchmarks.world.prompts import Prompt, induction
from benchmarks.world.running import mlps, questions
from circuits.transcoders.teachers import recorded
from circuits.transcoders.trained import Trained

LONGEST = 30
SHOWN = 5
AUDIBLE = 0.75
"""Logits: what promotes less is not said to promote anything."""

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


def label(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: Sequence[Prompt]
) -> dict[str, dict[str, object]]:
    """For every `layer/feature`: a short label, and the counts behind it.

    The label is `what it fires on → what it promotes`, either side may be missing.
    Fires on: one token, if that carries 80 % of its activation; else the state or two that 80 % of it
    is about, or the attribute asked for, or the family; else its three tokens; of a plain word such
    as `is`, the words whose presence raises its firing most.
    Promotes: `say "x"` if the best word stands 3 standard deviations out and well above the
    second; a state, if three of the best five words belong to it; a class of words if four do;
    nothing if, at its mean strength, it raises no word's logit by AUDIBLE.
    """
    tokens, active, scale = _activations(model, transcoders, language, prompts)
    promoted = _promoted(model, transcoders, scale)
    classes = _classes(language)
    units = [_units(prompt) for prompt in prompts]
    base = Counter(unit for row in units for unit in set(row))
    found = {}
    for layer, columns in enumerate(active):
        for feature in range(columns.shape[1]):
            firing = columns[:, feature].nonzero()[:, 0]
            scores, best = promoted[layer][feature].topk(SHOWN)
            words = [language.words[k] for k in best]
            strength = float(columns[firing, feature].mean()) if len(firing) else 0.0
            audible = strength * float(scores[0]) >= AUDIBLE
            out = _says(scores.tolist(), words, classes, float(promoted[layer][feature].std())) if audible else ""
            found[f"{layer}/{feature}"] = _describe(
                firing, columns[firing, feature], tokens, language, prompts, units, base, words, out, columns.shape[0]
            )
    return found


def write(labels: dict[str, dict[str, object]], folder: Path) -> None:
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry, ensure_ascii=False)}" for key, entry in labels.items())
    (folder / "labels.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


class _Places:
    """Where every row of the activation table comes from: token id, prompt number."""

    def __init__(self, token: Tensor, prompt: Tensor) -> None:
        self.token, self.prompt = token.tolist(), prompt.tolist()


@torch.no_grad()
def _activations(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: Sequence[Prompt]
) -> tuple[_Places, list[Float[Tensor, "place feature"]], float]:
    """The activation of every feature at every token but `<bos>`; the mean size that the final norm divides by."""
    tokens, _ = questions(language, prompts)
    real = tokens != PAD
    real[:, 0] = False
    parts: list[list[Tensor]] = [[] for _ in range(transcoders.layers)]
    sizes: list[Tensor] = []
    handle = model.model.norm.register_forward_pre_hook(
        lambda _, args: sizes.append(args[0][:, 1:].square().mean(-1).sqrt().mean())
    )
    for rows, keep in zip(tokens.split(512), real.split(512), strict=True):
        with recorded(mlps(model)) as (inputs, _outputs):
            model(input_ids=rows)
            for layer, x in enumerate(inputs):
                parts[layer].append(transcoders.encode(x[keep], layer))
    handle.remove()
    number = torch.arange(len(tokens))[:, None].expand_as(tokens)
    size = float(torch.stack(sizes).mean())
    return _Places(tokens[real], number[real]), [torch.cat(part) for part in parts], size


@torch.no_grad()
def _promoted(model: LlamaForCausalLM, transcoders: Trained, size: float) -> list[Float[Tensor, "feature word"]]:
    """What each feature adds to the logits directly, all layers it writes to together, less the mean over words."""
    read = model.lm_head.weight * model.model.norm.weight / size
    read = read - read.mean(0)
    return [decoder.sum(1) @ read.T for decoder in transcoders.decoder]


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
    firing: Tensor, strength: Tensor, tokens: _Places, language: Language, prompts: Sequence[Prompt],
    units: list[list[str]], base: Counter[str], words: list[str], out: str, places: int,
) -> dict[str, object]:  # fmt: skip
    by_token: Counter[str] = Counter()
    by_group: dict[str, Counter[str]] = {"state": Counter(), "attribute": Counter(), "family": Counter()}
    rows: dict[int, float] = {}
    for place, amount in zip(firing.tolist(), strength.tolist(), strict=True):
        row = tokens.prompt[place]
        prompt = prompts[row]
        by_token[language.words[tokens.token[place]]] += amount
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
        "label": _fit(_reads(by_token, by_group, total, telling), out),
        "fires_on": fires,
        "context": context,
        "promotes": words,
        "density": round(len(firing) / places, 5),
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


def _fit(reads: str, says: str) -> str:
    """`reads → says`, no longer than a picture has room for."""
    both = " → ".join(part for part in (reads, says) if part)
    if len(both) <= LONGEST:
        return both
    room = LONGEST - len(says) - 4 if says else LONGEST - 1
    return f"{reads[:room]}… → {says}" if says and room >= 4 else both[: LONGEST - 1] + "…"
