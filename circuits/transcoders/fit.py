"""Whether a set belongs to a model: how many features are active, and how much of the MLPs they miss, on some text.

Published names of hooks have meant different tensors. A set that reads the wrong one looks like any other in a graph,
so it is measured before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.errors import BadPrompt, UnfitTranscoders
from circuits.model import Model
from circuits.sampling import sample_prompts
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.transcoders import Transcoders

TOKENS = 256  # measured on, about; of a set that stays in its files, an eighth
POOR = 0.9  # median FVU from which a set is refused: it explains next to nothing
DOUBTFUL = 0.4  # median FVU from which other tensors are tried
BETTER = 0.7  # a set is refused when with another tensor its FVU is below this share of its own
FAR = 5.0  # times its declared L0, either way, from which a set is refused
AT_ONCE = 2**26  # activations held at once

READS = ("mlp_input", "mlp_normalised", "residual_mid")
WRITES = ("mlp_output", "mlp_raw")
PAIRS = (*product(READS, WRITES), *((site, site) for site in WRITES))  # the last ones are autoencoders'
ATTENTION_READS = ("attention_input", "attention_normalised")
ATTENTION_WRITES = ("attention_output", "attention_raw")

CAUSES = {
    "mlp_input": "the norm's gain included",
    "mlp_normalised": "the norm's gain excluded",
    "residual_mid": "the residual stream before the norm",
    "mlp_output": "the output as it joins the residual stream",
    "mlp_raw": "the output before the norm behind it",
    "attention_input": "the norm's gain included",
    "attention_normalised": "the norm's gain excluded",
    "attention_output": "the output as it joins the residual stream",
    "attention_raw": "the output before the norm behind it",
}

TEXT = (
    "The harbour was quiet when the ferry came in, and only two passengers stepped onto the stones.",
    "In 1869 the chemist arranged the elements by their weight, and left gaps for those not yet found.",
    "To boil an egg, bring water to a simmer, lower the egg in with a spoon, and wait seven minutes.",
    "She had read the letter twice already, but she unfolded it again and held it up to the lamp.",
    "The river Danube passes through ten countries before it reaches the Black Sea.",
    "def area(width, height):\n    return width * height\n",
    "Prices rose by three per cent last year, the bank said on Monday, while wages hardly moved at all.",
    "If it rains tomorrow, the match will be played on Sunday; otherwise we meet at noon by the gate.",
    "The cell divides in two, and each half carries a copy of the same long molecule.",
    "He laughed, shook his head and said that nobody in the village had ever owned such a thing.",
    "Question: What is the capital of Norway? Answer: Oslo.",
    "The committee shall meet at least twice a year and shall publish its minutes within thirty days.",
)


@dataclass(frozen=True, eq=False)
class Fit:
    """How a set fits a model. reads, writes: where it was tried. tokens: how many it was measured on.

    l0: per layer, the mean number of active features a token.
    fvu: per layer, the fraction of the variance of the MLP's output that is unexplained: 0 is perfect, 1 is no better
        than the mean.
    """

    reads: str
    writes: str
    tokens: int
    l0: list[float]
    fvu: list[float]

    def __str__(self) -> str:
        return f"L0 {_mean(self.l0):.3g}, FVU {median(self.fvu):.2f}"


@torch.no_grad()
def measure(model: Model, transcoders: Transcoders, prompts: Sequence[Int[Tensor, "pos"]]) -> Fit:
    """L0 and FVU per layer on some prompts, the positions left out that the set leaves alone.

    Of an autoencoder the input is the output that it rebuilds, as the real MLP puts it out.
    In a model of layer norms, the mean over d_model of an output counts for nothing: no norm lets it through.
    """
    layers, numbers = range(transcoders.layers), transcoders.of_layers
    inputs: list[list[Tensor]] = [[] for _ in layers]
    outputs: list[list[Tensor]] = [[] for _ in layers]
    wanted = [(site, number) for site in (transcoders.reads, transcoders.writes) for number in numbers]
    for prompt in prompts:
        _, seen = model.run(prompt[None], read=wanted)
        for layer, number in enumerate(numbers):
            inputs[layer].append(seen[(transcoders.reads, number)][0, transcoders.silent_positions :])
            outputs[layer].append(seen[(transcoders.writes, number)][0, transcoders.silent_positions :])
    x, y = [torch.cat(each) for each in inputs], [torch.cat(each) for each in outputs]
    rebuilt = [transcoders.bias(layer).expand_as(y[layer]).clone() for layer in layers]
    l0 = []
    rows = max(1, AT_ONCE // transcoders.units)
    for layer in layers:
        live = 0
        for first in range(0, len(x[layer]), rows):
            here = slice(first, first + rows)
            acts = transcoders.activations(layer, x[layer][here])
            live += int((acts != 0).sum())
            for to in transcoders.written_layers(layer):
                rebuilt[to][here] += transcoders.decode(layer, acts, to)
        l0.append(live / max(1, len(x[layer])))
        skip = transcoders.skip(layer)
        if skip is not None:
            rebuilt[layer] += x[layer] @ skip.T
    centred = model.family.norm == "layer"
    fvu = [_unexplained(real, made, centred) for real, made in zip(y, rebuilt, strict=True)]
    return Fit(transcoders.reads, transcoders.writes, len(y[0]), l0, fvu)


@torch.no_grad()
def measure_attention(model: Model, attention: Lorsa, prompts: Sequence[Int[Tensor, "pos"]]) -> Fit:
    """The same of a set for attention, the first position of each prompt left out."""
    real: list[list[Tensor]] = [[] for _ in attention.numbers]
    made: list[list[Tensor]] = [[] for _ in attention.numbers]
    live = [0] * len(attention.numbers)
    sites = [(site, number) for site in (attention.reads, attention.writes) for number in attention.numbers]
    for prompt in prompts:
        _, seen = model.run(prompt[None], read=sites)
        for at, number in enumerate(attention.numbers):
            acts = attention.activations(number, seen[(attention.reads, number)][0])[1:]
            live[at] += int((acts != 0).sum())
            made[at].append(attention.decode(number, acts) + attention.bias(number))
            real[at].append(seen[(attention.writes, number)][0, 1:])
    centred = model.family.norm == "layer"
    fvu = [_unexplained(torch.cat(y), torch.cat(out), centred) for y, out in zip(real, made, strict=True)]
    tokens = sum(map(len, real[0]))
    return Fit(attention.reads, attention.writes, tokens, [each / max(1, tokens) for each in live], fvu)


def check_fit(model: Model, transcoders: Transcoders | Lorsa) -> Fit:
    """Measure a set, and refuse it where it does not fit.

    Raises:
        UnfitTranscoders: its median FVU is 0.9 or more, nothing is ever active, L0 is five times what its publisher
            declares or a fifth, or it fits much better with other tensors, which the message then names.
    """
    prompts = _prompts(model, TOKENS // 8 if transcoders.unchecked else TOKENS)
    own = (transcoders.reads, transcoders.writes)
    found = _measure_at(model, transcoders, own, prompts)
    reason = _reason(transcoders, found)
    if not reason and median(found.fvu) < DOUBTFUL:
        return found
    others = [_measure_at(model, transcoders, pair, prompts) for pair in _pairs(transcoders) if pair != own]
    best = min(others, key=lambda fit: median(fit.fvu))
    fits_better = median(best.fvu) < BETTER * median(found.fvu) and not _reason(transcoders, best)
    if not reason and not fits_better:
        return found
    reason = reason or "it seems to be hooked to another tensor"
    where = f"reads {transcoders.reads} ({CAUSES[transcoders.reads]}) and writes {transcoders.writes}"
    if fits_better:
        changed = [
            f"{verb} {site} ({CAUSES[site]})"
            for verb, site, own in (
                ("reads", best.reads, transcoders.reads),
                ("writes", best.writes, transcoders.writes),
            )
            if site != own
        ]
        sites = "".join(f"@{site}" for site in (best.reads, best.writes))
        kind = ", an autoencoder" if best.reads == best.writes else ""
        hint = f"It fits when it {' and '.join(changed)}{kind}: {best}. Give it as {transcoders.name}{sites}"
    else:
        hint = (
            "No other tensor fits it either: it was trained too little, or for another model or checkpoint. "
            "Train it longer, give another set"
        )
    raise UnfitTranscoders(
        f"{transcoders.name} does not fit {model.name}: {reason} ({found}, on {found.tokens} tokens; it {where}). "
        f"{hint}, or take it as it is: --force in the shell, force=True in Python."
    )


def find_sites(model: Model, transcoders: Transcoders) -> list[Fit]:
    """How a set fits with every pair of sites it could read and write, the best first."""
    prompts = _prompts(model, TOKENS // 8 if transcoders.unchecked else TOKENS)
    tried = [_measure_at(model, transcoders, pair, prompts) for pair in _pairs(transcoders)]
    return sorted(tried, key=lambda fit: median(fit.fvu))


def _pairs(transcoders: Transcoders | Lorsa) -> list[tuple[str, str]]:
    """What a set could read and write; one with a skip or with later layers to write is no autoencoder."""
    if isinstance(transcoders, Lorsa):
        return list(product(ATTENTION_READS, ATTENTION_WRITES))
    plain = transcoders.W_skip is None and not transcoders.cross_layer
    return [(reads, writes) for reads, writes in PAIRS if plain or reads != writes]


def _measure_at(
    model: Model, transcoders: Transcoders | Lorsa, pair: tuple[str, str], prompts: Sequence[Int[Tensor, "pos"]]
) -> Fit:
    if isinstance(transcoders, Lorsa):
        return measure_attention(model, replace(transcoders, reads=pair[0], writes=pair[1]), prompts)
    return measure(model, replace(transcoders, reads=pair[0], writes=pair[1]), prompts)


def _reason(transcoders: Transcoders | Lorsa, fit: Fit) -> str:
    if not any(fit.l0):
        return "no feature is ever active"
    if not median(fit.fvu) < POOR:
        what = "attention puts" if transcoders.writes in ATTENTION_WRITES else "the MLPs put"
        return f"it explains next to nothing of what {what} out"
    declared = transcoders.declared
    if declared and not declared / FAR <= _mean(fit.l0) <= declared * FAR:
        return f"{_mean(fit.l0):.3g} features are active at a token, its publisher says {declared:.3g}"
    return ""


def _prompts(model: Model, tokens: int) -> list[Int[Tensor, "pos"]]:
    """Some lines of English where the model knows the words, else what it says itself; about so many tokens."""
    found: list[Tensor] = []
    try:
        for line in TEXT:
            found.append(model.tokenize(line))
            if sum(map(len, found)) >= tokens:
                break
    except BadPrompt:
        length = min(model.context, 32)
        first = getattr(model.words.tokenizer, "bos_token_id", None) or 0
        found = list(sample_prompts(model, first, count=math.ceil(tokens / length), length=length, seed=0))
    return found


def _unexplained(real: Tensor, made: Tensor, centred: bool) -> float:
    if centred:
        real, made = real - real.mean(-1, keepdim=True), made - made.mean(-1, keepdim=True)
    spread = (real - real.mean(0)).square().sum()
    missed = (real - made).square().sum()
    return float(missed / spread) if spread > 0 else (0.0 if missed == 0 else math.inf)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
