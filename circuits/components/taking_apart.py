"""An open transformer whose MLPs may be taken apart into the features of a set that are active on some prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.components.features import Features
from circuits.components.layers import Layer
from circuits.components.norms import normalise
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer
from circuits.errors import UnfitTranscoders
from circuits.transcoders.base import Dictionary
from circuits.transcoders.mixed import Mixed
from circuits.transcoders.transcoders import Transcoders
from circuits.transcoders.with_attention import attention_of

NUMBERS = 2**25  # activations of a whole set that are held at once

Activate = Callable[[Tensor, Tensor], Tensor]


def check_separable(dictionary: Dictionary) -> None:
    """See that each MLP's output is a sum of its own features' writes, a constant and an error.

    Raises:
        UnfitTranscoders: features write to later layers, inputs reach the output past them, or attention is replaced.
    """
    layers = range(dictionary.layers)
    reason = ""
    if attention_of(dictionary) is not None:
        reason = "stands in for attention, whose heads are nodes here: name the set for MLPs alone"
    elif any(len(dictionary.written_layers(layer)) > 1 for layer in layers):
        reason = "is cross-layer: its features are parts of no one MLP. Give a per-layer set"
    elif any(dictionary.skip(layer) is not None for layer in layers):
        reason = "has skips, which carry the input past its features. Give a set without"
    if reason:
        raise UnfitTranscoders(f"{dictionary.name} {reason}, or --neurons for the neurons.")


@torch.no_grad()
def take_apart(
    transformer: Transformer, dictionary: Dictionary, batches: Iterable[Pairs], most: int | None = None
) -> Transformer:
    """The same transformer, its MLPs with the features that are active on a clean or a corrupted prompt of these.

    most: of these the ones whose writing differs most between the prompts, so many in all layers together; what the
    others write counts as error. A layer in which the set has neurons keeps its own.

    Raises:
        UnfitTranscoders: see `check_separable`.
    """
    check_separable(dictionary)
    of_set = [at for at in range(len(transformer.layers)) if dictionary.at(at).kind == "feature"]
    width = {at: dictionary.at(at).units for at in of_set}
    alive = {at: torch.zeros(width[at], dtype=torch.bool, device=transformer.W_E.device) for at in of_set}
    moved = {at: torch.zeros(width[at], dtype=torch.float64, device=transformer.W_E.device) for at in of_set}
    for pairs in batches:
        runs = [transformer.run(transformer.embed(tokens)) for tokens in (pairs.clean, pairs.corrupted)]
        for at in of_set:
            silent = dictionary.at(at).silent_positions
            ours, theirs = (run.mlp_input[at][:, silent:].flatten(0, 1) for run in runs)
            for rows in torch.arange(len(ours), device=ours.device).split(max(1, NUMBERS // width[at])):
                clean, other = (
                    dictionary.activations(at, _read(transformer.layers[at], dictionary.at(at).reads, each[rows]))
                    for each in (ours, theirs)
                )
                alive[at] |= (clean != 0).any(0) | (other != 0).any(0)
                moved[at] += (clean - other).abs().sum(0)
    units = {at: alive[at].nonzero()[:, 0] for at in of_set}
    if most is not None:
        units = _strongest(dictionary, units, moved, most)
    layers = list(transformer.layers)
    for at, unit in units.items():
        layers[at] = replace(layers[at], features=_features(layers[at], dictionary, at, unit))
    return replace(transformer, layers=layers)


def _strongest(
    dictionary: Dictionary, units: dict[int, Tensor], moved: dict[int, Tensor], most: int
) -> dict[int, Tensor]:
    """Of these features the ones that write most differently, so many in all layers together."""
    sizes = {at: moved[at][unit] * dictionary.writing(at, unit, at).norm(dim=1) for at, unit in units.items()}
    every = torch.cat(list(sizes.values()))
    if len(every) <= most:
        return units
    chosen = torch.zeros(len(every), dtype=torch.bool, device=every.device)
    chosen[every.argsort(descending=True, stable=True)[:most]] = True
    by_layer = chosen.split([len(each) for each in sizes.values()])
    return {at: unit[own] for (at, unit), own in zip(units.items(), by_layer, strict=True)}


def _features(layer: Layer, dictionary: Dictionary, at: int, unit: Int[Tensor, "feature"]) -> Features:
    """These features as parts of the layer's MLP."""
    here = dictionary.at(at)
    return Features(
        unit=unit,
        activate=_activation(layer, dictionary, at, unit),
        W_dec=dictionary.writing(at, unit, at),
        bias=dictionary.bias(at),
        unnormed=here.writes == "mlp_raw",
        silent=here.silent_positions,
    )


def _activation(layer: Layer, dictionary: Dictionary, at: int, unit: Int[Tensor, "feature"]) -> Activate:
    """How active some of these features are on a stream that the MLP reads.

    Of a transcoder only these rows are held and multiplied, unless all of them must be ranked.
    """
    site = dictionary.at(at).reads
    found, own = dictionary.find(at) if isinstance(dictionary, Mixed) else (dictionary, at)
    if not isinstance(found, Transcoders):
        return lambda stream, some: dictionary.activations(at, _read(layer, site, stream))[..., some]
    like = found.b_dec[own].new_zeros(len(unit), layer.W_in.shape[0])
    vectors, constants = found.reading(own, like, unit)
    thresholds = found.threshold[own][unit]

    def activate(stream: Tensor, some: Tensor) -> Tensor:
        x = _read(layer, site, stream)
        rows = slice(None) if some is unit else torch.searchsorted(unit, some)
        before = x @ vectors[rows].T + constants[rows]
        live = before > thresholds[rows] if found.k is None else _alive(found, own, x.detach(), some)
        return torch.where(live, before, 0)

    return activate


@torch.no_grad()
def _alive(found: Transcoders, own: int, x: Float[Tensor, "batch pos d_in"], unit: Int[Tensor, "some"]) -> Tensor:
    """Which of these features are active, the whole set being ranked."""
    rows = x.flatten(0, 1).split(max(1, NUMBERS // found.units))
    return torch.cat([found.activations(own, each)[:, unit] != 0 for each in rows]).unflatten(0, x.shape[:2])


def _read(layer: Layer, site: str, stream: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_in"]:
    """What a set reads there when the MLP reads this stream."""
    if site == "residual_mid" or layer.mlp_norm is None:
        return stream
    return layer.mlp_norm.parts(stream)[0] if site == "mlp_normalised" else normalise(layer.mlp_norm, stream)
