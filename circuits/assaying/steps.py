"""Where a prediction is lost: single ablations in a row of models, from the graph's own arithmetic to the real one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.assaying.bench import Bench
from circuits.assaying.single import predict_ablations
from circuits.assaying.statistics import slope_of
from circuits.clean_outputs import missed
from circuits.holding import hold_attention
from circuits.interventions import batches, change_node, default_window, intervene
from circuits.sites import Edit, Site
from circuits.transcoders.base import written_within
from graphs.assays import STEPS, Steps

# How the units of a layer answer to what they read: by how much the activations change. [row pos unit]
Answer = Callable[[int, Float[Tensor, "row pos d_in"]], Float[Tensor, "row pos unit"]]


@torch.no_grad()
def test_steps(bench: Bench) -> list[Steps]:
    """Ablate each registered node alone in seven models, each with one simplification less than the one before.

    In the first four the dictionary stands for the MLPs, with the clean run's errors; attention patterns and norm
    scales are held, and a unit counts as in the real intervention: its writes within the window, what the window holds
    still. In the last three the MLPs are the model's own.

    Source: METHODS section 7.1, P0 to P3 and M0 to M2.
    """
    rows = bench.ablated
    answers = {"whole": _linear(bench), "gated": _gated(bench, waking=False), "replaced": _gated(bench, waking=True)}
    real = {"norms_held": ("frozen", "frozen"), "attention_held": ("frozen", "live"), "live": ("live", "live")}
    count = bench.count("finding where predictions are lost", len(rows) * (len(answers) + len(real)))
    found = {"pruned": predict_ablations(bench.transcoders, bench.run, bench.graph, bench.metric, rows)}
    for name, answer in answers.items():
        found[name] = np.empty(len(rows))
        for some in batches(range(len(rows)), bench.run, per_row=_numbers(bench)):
            found[name][list(some)] = _change(bench, _run_replaced(bench, rows[list(some)], answer))
            count(len(some))
    for name, (attention, norms) in real.items():
        found[name] = np.empty(len(rows))
        for some in batches(range(len(rows)), bench.run):
            alone = [[change_node(bench.graph.nodes, int(row), 0.0)] for row in rows[list(some)]]
            options = {"attention": attention, "norms": norms, "read": bench.metric.site}
            found[name][list(some)] = _change(
                bench, intervene(bench.model, bench.transcoders, bench.run, alone, **options)
            )
            count(len(some))
    return [Steps(node=rows.tolist(), **{name: found[name].tolist() for name in STEPS})]


def summarise_steps(found: Steps) -> dict[str, float]:
    """`kept_by_STEP`: the slope of each model's changes on those of the model before it.

    1 where a step changes nothing. Their product is not the slope from first to last: a step may also change which
    nodes matter.
    """
    changes = {name: np.array(getattr(found, name), dtype=np.float64) for name in STEPS}
    return {f"kept_by_{name}": slope_of(changes[before], changes[name]) for before, name in pairwise(STEPS)}


def _change(bench: Bench, read: Tensor) -> Float[np.ndarray, "row"]:
    return (bench.metric.explained(read) - bench.metric.clean).double().cpu().numpy()


def _numbers(bench: Bench) -> int:
    """How many numbers one row of the replacement model needs at once."""
    widest = max(bench.transcoders.at(layer).units for layer in range(bench.model.layers))
    return 3 * len(bench.run.tokens) * widest


def _linear(bench: Bench) -> Answer:
    """Active units change in proportion to their value; all others stay silent."""
    run, dictionary = bench.run, bench.transcoders

    def answer(layer: int, x: Tensor) -> Tensor:
        here = run.units_at("mlp", layer)
        position, unit = run.position[here], run.unit[here]
        vectors, constants = dictionary.reading(layer, run.inputs[layer][position], unit)
        value = (vectors * run.inputs[layer][position]).sum(-1) + constants
        moved = torch.einsum("rnd,nd->rn", x[:, position] - run.inputs[layer][position], vectors)
        out = x.new_zeros(*x.shape[:2], dictionary.at(layer).units)
        out[:, position, unit] = moved * torch.where(value == 0, 0, run.activation[here] / value)
        return out

    return answer


def _gated(bench: Bench, *, waking: bool) -> Answer:
    """Units are encoded anew; waking: those too that are silent in the clean run."""
    run, dictionary = bench.run, bench.transcoders

    def answer(layer: int, x: Tensor) -> Tensor:
        was = dictionary.activations(layer, run.inputs[layer])
        out = dictionary.activations(layer, x) - was
        out[:, : dictionary.at(layer).silent_positions] = 0
        return out if waking else out * (was != 0)

    return answer


def _run_replaced(bench: Bench, rows: Int[np.ndarray, "row"], answer: Answer) -> Tensor:
    """What stands at the metric's site of the replacement model when each node alone is ablated. [row pos ...]"""
    run, dictionary, layers = bench.run, bench.transcoders, range(bench.model.layers)
    written, last = _ablate(bench, rows)

    def read(layer: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            more = answer(layer, x)
            more[last >= layer] = 0  # held by the window
            for to in dictionary.written_layers(layer):
                written[to] += dictionary.decode(layer, more, to)
            skip = dictionary.skip(layer)
            if skip is not None:
                written[layer] += (x - run.inputs[layer]) @ skip.T
            return x

        return edit

    def write(layer: int) -> Edit:
        return lambda _: run.written[layer] + written[layer]

    scales = bench.model.scales()
    _, clean = bench.model.run(run.tokens[None], read=scales)
    edits: dict[Site, Edit] = dict(hold_attention(run))
    edits |= {site: (lambda x, site=site: clean[site].expand_as(x)) for site in scales}
    edits |= {(dictionary.at(layer).reads, layer): read(layer) for layer in layers}
    edits |= {(dictionary.at(layer).writes, layer): write(layer) for layer in layers}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")  # that is what is wanted
        _, seen = bench.model.run(run.tokens.expand(len(rows), -1), edit=edits, read=[bench.metric.site])
    return seen[bench.metric.site]


def _ablate(bench: Bench, rows: Int[np.ndarray, "row"]) -> tuple[list[Tensor], Int[Tensor, "row"]]:
    """By how much each layer's MLP output changes at first, and the last layer that each row's window holds."""
    nodes, run, dictionary = bench.graph.nodes, bench.run, bench.transcoders
    written = [each.new_zeros(len(rows), *each.shape) for each in run.written]
    last = []
    for at, row in enumerate(rows.tolist()):
        layer, position = int(nodes.layer[row]), int(nodes.position[row])
        if nodes.kind[row] == "error":
            written[layer][at, position] -= missed(dictionary, run, layer)[position]
            last.append(layer)
            continue
        unit = torch.tensor([int(nodes.feature[row])], device=run.tokens.device)
        within = written_within(dictionary, layer, default_window(dictionary))
        for to in within:
            written[to][at, position] -= float(nodes.activation[row]) * dictionary.writing(layer, unit, to)[0]
        last.append(within[-1])
    return written, torch.tensor(last, device=run.tokens.device)
