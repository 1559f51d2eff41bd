"""Level 6: graphs that should do worse than this one, held to the same measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench, strongest_units
from circuits.assaying.survival import Survival, p_value
from circuits.attending import places_of
from circuits.attribution.direct import attribute_directly
from circuits.model import Model
from circuits.sampling import sample_prompts
from circuits.transcoders.base import Dictionary, StandIn
from graphs.assays import Control
from graphs.graph import AttributionGraph

DRAWN = 4  # prompts drawn for each that is wanted
ROUNDS = 4  # a control's graph is traced in so many rounds, each choosing anew


class ShuffledDecoders:
    """A dictionary whose units write what others of their layer should: it reads right and says the wrong thing."""

    def __init__(self, dictionary: Dictionary, seed: int) -> None:
        numbers = np.random.default_rng(seed)
        self._dictionary = dictionary
        units = [dictionary.at(layer).units for layer in range(dictionary.layers)]
        self._order = [torch.from_numpy(numbers.permutation(each)) for each in units]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dictionary, name)

    def at(self, layer: int) -> StandIn:
        return replace(self._dictionary.at(layer), exact=False)

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        return self._dictionary.writing(layer, self._order[layer].to(unit.device)[unit], to)

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        written = torch.empty_like(activations)
        written[..., self._order[layer].to(activations.device)] = activations
        return self._dictionary.decode(layer, written, to)


def test_controls(bench: Bench) -> list[Control]:
    """What of the difference survives with only the graph's units left, beside the units of graphs that mean nothing.

    Each control gives as many units as the graph has, the most influential of its own graph: of another prompt that
    the model sampled; of this prompt through shuffled decoders; of this prompt in the model with its weights shuffled.
    All are tested in the real model, on this prompt: mean ablation, errors live.

    Source: METHODS section 7.3, controls 3 to 5.
    """
    kinds = {
        "graphs of other prompts": _of_other_prompts,
        "graphs through shuffled decoders": _of_shuffled_decoders,
        "graphs of the model with its weights shuffled": _of_shuffled_models,
    }
    statistic = "what survives with only its features left (mean ablation)"
    survival = Survival(bench, "mean")
    untested = survival.untested or ("" if len(bench.units) else "the graph has no features")
    if not _explains_next_token(bench):
        untested = "these graphs explain next tokens, this one something else"
    if untested:
        return [Control(name, statistic, float("nan"), [], float("nan"), untested) for name in kinds]
    ours = float(survival.kept([bench.places(bench.units)])[0])
    count = bench.count("testing graphs that should do worse", len(kinds) * thresholds.OTHERS)
    found = []
    for name, draw in kinds.items():
        null = []
        for each in draw(bench, survival):
            null.append(each)
            count(1)
        known = np.array([each for each in null if np.isfinite(each)])
        few = "" if 1 / (1 + len(known)) <= thresholds.SIGNIFICANT else f"only {len(known)} of them could be tested"
        p = float("nan") if few else p_value(known >= ours)
        found.append(Control(name, statistic, ours, known.tolist(), p, few))
    return found


def _explains_next_token(bench: Bench) -> bool:
    nodes, rows = bench.graph.nodes, bench.metric.rows
    return bool(((nodes.kind[rows] == "logit") & (nodes.position[rows] == len(bench.run.tokens) - 1)).all())


def _of_other_prompts(bench: Bench, survival: Survival) -> Iterator[float]:
    for prompt in sample_others(bench, seed=bench.seed + 2):
        graph = _trace(bench.model, bench.transcoders, prompt, len(bench.units))
        yield float(survival.kept([_units(bench, graph)])[0])


def sample_others(bench: Bench, *, seed: int) -> list[Int[Tensor, "pos"]]:
    """Prompts that the model samples, as long as the graph's and all different, from it and from one another.

    Several times as many are drawn, for a prompt that the model likes to say comes up often; there may be too few.
    """
    tokens = bench.run.tokens
    count, length = DRAWN * thresholds.OTHERS, max(len(tokens), 2)
    drawn = sample_prompts(bench.model, int(tokens[0]), count=count, length=length, seed=seed)[:, : len(tokens)]
    different = {tuple(prompt): None for prompt in drawn.tolist() if prompt != tokens.tolist()}
    return [torch.tensor(prompt, device=tokens.device) for prompt in different][: thresholds.OTHERS]


def _of_shuffled_decoders(bench: Bench, survival: Survival) -> Iterator[float]:
    for each in range(thresholds.OTHERS):
        shuffled = cast(Dictionary, ShuffledDecoders(bench.transcoders, bench.seed + each))
        graph = _trace(bench.model, shuffled, bench.run.tokens, len(bench.units))
        yield float(survival.kept([_units(bench, graph)])[0])


def _of_shuffled_models(bench: Bench, survival: Survival) -> Iterator[float]:
    for each in range(thresholds.OTHERS):
        model = bench.model.shuffled(bench.seed + each)
        graph = _trace(model, bench.transcoders.for_model(model), bench.run.tokens, len(bench.units))
        yield float(survival.kept([_units(bench, graph)])[0])


def _trace(model: Model, dictionary: Dictionary, tokens: Int[Tensor, "pos"], size: int) -> AttributionGraph:
    """A graph of which only the `size` strongest units are wanted."""
    budget = 2 * size
    return attribute_directly(model, dictionary, tokens.tolist(), max_features=budget, round_size=-(-budget // ROUNDS))


def _units(bench: Bench, graph: AttributionGraph) -> Int[Tensor, "unit 3"]:
    nodes, rows = graph.nodes, strongest_units(graph)[: len(bench.units)]
    return torch.from_numpy(places_of(nodes, rows)).to(bench.active)
