"""Training batches: rows of every family in fixed proportions, as arrays."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from benchmarks.world.language import NAMINGS, PAD, Language
from benchmarks.world.prompts import TRAIN, Prompt, induction

SHORT = {"greater": 14, "two-hop": 48, "has": 16, "in": 10, "name": 32, "antonyms": 24, "addition": 16, "agreement": 6}
LONG = {"indirect": 8, "induction": 12}
"""Rows of each family in a batch of 186; `has`, `in` and `name` are the three one-hop phrasings."""

ELSEWHERE = 0.1
"""How much a word that is no answer counts."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of one length, ready for training.

    tokens: token ids, `<bos>` first, `<pad>` after the end. [row pos]
    weight: how much predicting this token counts: 1 for an answer, 0 for `<bos>` and padding. [row pos]
    years: for the first rows, the year that the answer must exceed: any greater year is right,
        each with the same probability. [year_row]
    year_position: where those rows hold the answer, 0 if there are none.
    """

    tokens: Int[np.ndarray, "row pos"]
    weight: Float[np.ndarray, "row pos"]
    years: Int[np.ndarray, "year_row"]
    year_position: int


def rows(language: Language, prompts: list[Prompt]) -> tuple[Int[np.ndarray, "row pos"], Float[np.ndarray, "row pos"]]:
    """Token ids of question and answer, padded to the longest, and the weight of every token."""
    lines = [language.ids(prompt.words + prompt.answers) for prompt in prompts]
    tokens = np.full((len(lines), max(map(len, lines))), PAD)
    weight = np.zeros(tokens.shape, dtype=np.float32)
    for row, (line, prompt) in enumerate(zip(lines, prompts, strict=True)):
        tokens[row, : len(line)] = line
        weight[row, 1 : len(line)] = ELSEWHERE
        weight[row, len(line) - len(prompt.answers) : len(line)] = 1
    return tokens, weight


def sampler(
    language: Language,
    prompts: dict[str, list[Prompt]],
    *,
    seed: int,
    scale: float = 1.0,
    long: float = 1.0,
    unseen: bool = False,
) -> Callable[[], list[Block]]:
    """A function that draws the next batch: a short block and a long one.

    scale: rows of a batch, as a multiple of 186.
    long: rows of the long block, as a multiple once more.
    unseen: held-out prompts too; for transcoders, which only imitate the model.
    """
    random = np.random.default_rng(seed)
    pools = _pools(prompts, unseen=unseen)
    encoded = {name: rows(language, pool) for name, pool in pools.items()}
    scales = ((SHORT, scale), (LONG, scale * long))
    counts = [{name: max(1, round(n * factor)) for name, n in group.items()} for group, factor in scales]
    first_year = language.first_year
    year_at = len(pools["greater"][0].words) + 1

    def draw_short() -> Block:
        drawn = []
        for name, count in counts[0].items():
            tokens, weight = encoded[name]
            chosen = random.integers(len(tokens), size=count)
            drawn.append((tokens[chosen], weight[chosen]))
        tokens, weight = _stack(drawn)
        years = tokens[: counts[0]["greater"], year_at - 3] - first_year
        tokens[: len(years), year_at] = first_year + random.integers(years + 1, 100)
        return Block(tokens, weight, years, year_at)

    def draw_long() -> Block:
        tokens, weight = encoded["indirect"]
        chosen = random.integers(len(tokens), size=counts[1]["indirect"])
        repeated = [induction(random) for _ in range(counts[1]["induction"])]
        again, again_weight = rows(language, repeated)
        for row in range(len(again)):  # every word of the second round can be known
            second_round = again[row].tolist().index(again[row, 1], 2)
            again_weight[row, second_round + 1 :] = 1
        tokens, weight = _stack([(tokens[chosen], weight[chosen]), (again, again_weight)])
        return Block(tokens, weight, np.zeros(0, dtype=np.int64), 0)

    return lambda: [draw_short(), draw_long()]


def _pools(prompts: dict[str, list[Prompt]], *, unseen: bool) -> dict[str, list[Prompt]]:
    """Prompts that may be drawn, by the names used in SHORT and LONG."""
    allowed = {name: [p for p in pool if unseen or p.split == TRAIN] for name, pool in prompts.items()}
    facts = allowed.pop("one-hop")
    allowed["has"] = [p for p in facts if not p.entity]
    allowed["in"] = [p for p in facts if p.attribute == "in"]
    allowed["name"] = [p for p in facts if p.attribute in NAMINGS]
    return allowed


def _stack(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Row blocks of different lengths as one, padded on the right."""
    length = max(tokens.shape[1] for tokens, _ in parts)
    tokens = np.concatenate([np.pad(t, ((0, 0), (0, length - t.shape[1])), constant_values=PAD) for t, _ in parts])
    weight = np.concatenate([np.pad(w, ((0, 0), (0, length - w.shape[1]))) for _, w in parts])
    return tokens, weight
