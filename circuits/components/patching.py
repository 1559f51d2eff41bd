"""Activation patching: a value of one prompt's run put in the place of the other's, one place at a time.

    noising     clean run, corrupted values: what the answer needs
    denoising   corrupted run, clean values: what is enough to bring it back

The two differ where one of several would do, or several are needed at once. What lies before a place is run once; from
there the model goes on once for each place, those of a layer side by side. Positions before the first where the
prompts differ are what they are in both, and those after an answer is read are of no consequence: neither is run again.
Of a head or neuron that is patched at one position, nor are the positions before that.

Source: Vig et al. 2020; Meng et al. 2022; METHODS section 8.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.metrics import Metric, logit_difference
from circuits.components.norms import normalise
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer
from circuits.errors import BadOption
from circuits.progress import Count

DIRECTIONS = ("denoising", "noising")
ROWS = 2**14  # positions of all pairs and places that go on at once
LOGITS = 2**24  # of all pairs and places that are read at once
MOST = 2**16  # places of one sweep


@dataclass(frozen=True, eq=False)
class Patched:
    """What patching did, averaged over the pairs.

    effect: metric of the patched run less that of the run it was patched into. [layer place], or by position
        [layer unit pos]
    share: the same over the difference between the two prompts' metrics: denoising, 1 is all of it brought back;
        noising, 1 is all of it lost. nan where the prompts do not differ.
    over: what was patched. clean, corrupted: the metric of either run.
    layers: which they are. units: which heads or neurons; none where places are positions.
    """

    effect: Float[np.ndarray, "layer *place"]
    share: Float[np.ndarray, "layer *place"]
    over: str
    direction: str
    clean: float
    corrupted: float
    layers: tuple[int, ...]
    units: tuple[int, ...]


@torch.no_grad()
def patch_activations(
    transformer: Transformer,
    pairs: Pairs,
    *,
    over: str = "heads",
    positions: bool = False,
    layers: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    direction: str = DIRECTIONS[0],
    metric: Metric = logit_difference,
    ablation: Ablation = resample,
    progress: Count = lambda done, total: None,
) -> Patched:
    """Patch every place of a kind by itself.

    over: one of OVER. "heads", "neurons": the output of a head or MLP neuron, at all positions; place is which.
        "resid": the residual stream before a layer, "attention", "mlps": what a layer's attention or MLP adds; place is
        the position.
    positions: of heads and neurons, each position by itself. layers, neurons: only these; by default all.
    ablation: noising, what is put in the place of the clean values; see `circuits.components.ablations`.
    progress: called with how many places are done, of how many.

    Raises:
        BadOption: no such kind, direction, layer or neuron, more than MOST places, the metric is no number, or clean
            values would go into no prompt's run.
    """
    if over not in OVER:
        raise BadOption(f"what to patch must be one of {', '.join(OVER)}, found {over!r}.")
    _check_choices(over, positions, neurons)
    length = pairs.clean.shape[1]
    first, last = _reach(transformer, pairs) if ablation is resample else (0, length)
    rows = _chosen("layers", layers, len(transformer.layers), transformer.name)
    units = _units(transformer, over, neurons)
    shape = ((len(units),) if units else ()) + ((last - first,) if positions or not units else ())
    _check_count(len(rows), shape, over, positions)
    pairs = replace(pairs, clean=pairs.clean[:, :last], corrupted=pairs.corrupted[:, :last])
    clean, corrupted, base, donor = ends_of(transformer, pairs, direction, ablation, neurons=over == "neurons")
    wanted = read_logits(transformer, clean.after, pairs)
    tail = last - int(pairs.position.min())

    def measure(after: Float[Tensor, "place pair last d_model"]) -> list[float]:
        each, of = torch.arange(len(pairs), device=after.device), pairs.position - last
        logits = transformer.unembed(after[:, each, of])
        losses = [loss_of(transformer, those, pairs, metric, wanted) for those in logits]
        return [float(-loss.double().mean()) for loss in losses]

    (at_clean,), (at_corrupted,) = measure(clean.after[None]), measure(corrupted.after[None])
    before = at_clean if direction == "noising" else at_corrupted
    size = max(1, min(ROWS // (len(pairs) * (last - first)), LOGITS // wanted.numel()))
    sweep = _Sweep(transformer, base.since(first), donor.since(first), size, tail)
    patch = OVER[over]
    if isinstance(patch, _Units):
        patch = partial(_over_units, kind=patch, units=units, positions=positions)
    found, total = [], len(rows) * int(np.prod(shape))
    for layer in rows:
        for ends in patch(sweep, layer):
            found += [each - before for each in measure(ends)]
            progress(len(found), total)
    effect = np.array(found)
    if positions:  # they come position by position
        effect = np.moveaxis(effect.reshape(len(rows), *shape[::-1]), 1, 2)
    effect = effect.reshape(len(rows), *shape)
    if positions or not units:
        effect = np.pad(effect, [(0, 0)] * (effect.ndim - 1) + [(first, length - last)])
    apart = (at_clean - at_corrupted) * (-1 if direction == "noising" else 1)
    share = effect / apart if apart else np.full_like(effect, np.nan)
    return Patched(effect, share, over, direction, at_clean, at_corrupted, rows, units)


def _check_choices(over: str, positions: bool, neurons: Sequence[int] | None) -> None:
    if positions and over not in UNITS:
        raise BadOption(f"positions are a choice of {' and '.join(UNITS)}: {over} is by position as it is.")
    if neurons is not None and over != "neurons":
        raise BadOption(f"neurons are chosen where neurons are patched, found {over}.")


def _units(transformer: Transformer, over: str, neurons: Sequence[int] | None) -> tuple[int, ...]:
    """The heads or neurons to patch; none of a kind whose places are positions."""
    if over == "neurons":
        width = len(transformer.layers[0].W_out)
        if not width:
            raise BadOption(f"{transformer.name} has no MLPs, so no neurons: patch heads, attention or resid.")
        return _chosen("neurons", neurons, width, transformer.name)
    return tuple(range(transformer.heads)) if over in UNITS else ()


def _chosen(what: str, chosen: Sequence[int] | None, count: int, name: str) -> tuple[int, ...]:
    """The layers or neurons that are asked for, in order.

    Raises:
        BadOption: there is no such one, or none is asked for.
    """
    if chosen is None:
        return tuple(range(count))
    strange = [each for each in chosen if not 0 <= each < count]
    if strange or not chosen:
        found = strange[0] if strange else "none"
        raise BadOption(f"{what} of {name} are 0 to {count - 1}, found {found}.")
    return tuple(sorted(set(chosen)))


def _check_count(layers: int, shape: tuple[int, ...], over: str, positions: bool) -> None:
    total = layers * int(np.prod(shape))
    if total > MOST:
        ways = " × ".join(f"{count:,}" for count in (layers, *shape))
        fewer = "layers or neurons" if over == "neurons" else "layers"
        apart = ", or leave positions together" if positions else ""
        scores = ", or score all at once: circuits find --method atp --neurons" if over == "neurons" else ""
        raise BadOption(
            f"{ways} places are {total:,} runs, at most {MOST:,} are made: choose fewer {fewer}{apart}{scores}."
        )


def _reach(transformer: Transformer, pairs: Pairs) -> tuple[int, int]:
    """The first position where the prompts differ, or an answer is read before, and the one after the last answer."""
    if not all(layer.causal for layer in transformer.layers):
        return 0, pairs.clean.shape[1]
    differ = (pairs.clean != pairs.corrupted).any(0).int()
    return min(int(differ.argmax()), int(pairs.position.min())), int(pairs.position.max()) + 1


def ends_of(
    transformer: Transformer, pairs: Pairs, direction: str, ablation: Ablation, *, neurons: bool = False
) -> tuple[Run, Run, Run, Run]:
    """The clean run and what takes its place, then the run that is patched and the one that its patches come from.

    neurons: these are kept as well.

    Raises:
        BadOption: there is no such direction, or clean values would go into no prompt's run.
    """
    if direction not in DIRECTIONS:
        raise BadOption(f"the direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}.")
    if direction == "denoising" and ablation is not resample:
        raise BadOption("denoising puts clean values into the corrupted prompt's run: ablations are for noising.")
    clean = transformer.run(transformer.embed(pairs.clean), neurons=neurons)
    other = ablation(transformer, pairs, neurons=neurons)
    return (clean, other, clean, other) if direction == "noising" else (clean, other, other, clean)


Ends = Iterator[Float[Tensor, "place pair last d_model"]]


@dataclass(frozen=True, eq=False)
class _Sweep:
    """base, donor: what is patched, and where patches come from, at the positions that may differ.

    size: how many places go on at once. tail: how many last positions are read at the end.
    """

    transformer: Transformer
    base: Run
    donor: Run
    size: int
    tail: int

    def beside(self, at: int, added: Float[Tensor, "place pair pos d_model"]) -> Tensor:
        """The ends when a layer's attention adds so much more."""
        return self.transformer.go_on_beside(self.base, at, added, tail=self.tail)

    def on(self, at: int, streams: Float[Tensor, "place pair pos d_model"]) -> Tensor:
        """The ends of these streams, from before a layer on."""
        how = {"keep": False, "past": self.base, "tail": self.tail}
        return self.transformer.go_on(streams.flatten(0, 1), at, **how).after.unflatten(0, streams.shape[:2])

    def behind(self, at: int, added: Float[Tensor, "place pair pos d_model"]) -> Tensor:
        """The ends when a layer's MLP adds so much more."""
        base = self.base
        end = base.before[at + 1] if at + 1 < len(base.before) else base.after
        return self.on(at + 1, end + added)

    def one_position(self, change: Float[Tensor, "pair pos d_model"]) -> Ends:
        """A change at each position alone, some positions at a time."""
        positions = torch.arange(change.shape[1], device=change.device)
        for here in positions.split(self.size):
            yield change * (positions == here[:, None])[:, None, :, None]

    def from_each_position(self) -> Iterator[tuple[_Sweep, slice]]:
        """For each position the sweep of what it may change, and where in that it stands.

        At least `tail` positions: what is read at the end must be among them.
        """
        length = self.base.after.shape[1]
        causal = all(layer.causal for layer in self.transformer.layers)
        for position in range(length):
            start = min(position, length - self.tail) if causal else 0
            here = replace(self, base=self.base.since(start), donor=self.donor.since(start))
            yield here, slice(position - start, position - start + 1)


def _over_attention(sweep: _Sweep, at: int) -> Ends:
    norm = sweep.transformer.layers[at].post_norm
    change = normalise(norm, sweep.donor.attention[at]) - normalise(norm, sweep.base.attention[at])
    for added in sweep.one_position(change):
        yield sweep.beside(at, added)


def _over_mlps(sweep: _Sweep, at: int) -> Ends:
    for added in sweep.one_position(sweep.donor.mlp[at] - sweep.base.mlp[at]):
        yield sweep.behind(at, added)


def _over_residual(sweep: _Sweep, at: int) -> Ends:
    for added in sweep.one_position(sweep.donor.before[at] - sweep.base.before[at]):
        yield sweep.on(at, sweep.base.before[at] + added)


@dataclass(frozen=True)
class _Units:
    """Parts of which a layer has many. add: what some of them, patched at some positions, add to the stream more.

    go_on: from where.
    """

    add: Callable[[_Sweep, int, list[int], slice], Float[Tensor, "unit pair pos d_model"]]
    go_on: Callable[[_Sweep, int, Tensor], Tensor]


def _over_units(sweep: _Sweep, at: int, *, kind: _Units, units: Sequence[int], positions: bool) -> Ends:
    """Heads or neurons one by one; with positions, all of them at the first, then all at the next."""
    everywhere = [(sweep, slice(None))]
    for here, where in sweep.from_each_position() if positions else everywhere:
        length = here.base.after.shape[1]
        for first in range(0, len(units), sweep.size):
            added = kind.add(here, at, list(units[first : first + sweep.size]), where)
            if positions:
                added = pad(added, (0, 0, where.start, length - where.stop))
            yield kind.go_on(here, at, added)


def _add_heads(sweep: _Sweep, at: int, heads: list[int], where: slice) -> Tensor:
    layer, base = sweep.transformer.layers[at], sweep.base
    change = sweep.donor.mixed[at][:, heads, where] - base.mixed[at][:, heads, where]
    added = torch.einsum("bhpe,hed->hbpd", change, layer.W_O[heads])
    if layer.post_norm is None:
        return added
    before = base.attention[at][:, where]
    return layer.post_norm(before + added) - layer.post_norm(before)


def _add_neurons(sweep: _Sweep, at: int, neurons: list[int], where: slice) -> Tensor:
    layer = sweep.transformer.layers[at]
    ours, theirs = (run.neurons[at][:, where] for run in (sweep.base, sweep.donor))
    added = torch.einsum("bpn,nd->nbpd", (theirs - ours)[..., neurons], layer.W_out[neurons])
    if layer.mlp_post_norm is None:
        return added
    before = ours @ layer.W_out if layer.b_out is None else ours @ layer.W_out + layer.b_out
    return layer.mlp_post_norm(before + added) - layer.mlp_post_norm(before)


OVER: dict[str, Callable[[_Sweep, int], Ends] | _Units] = {
    "heads": _Units(_add_heads, _Sweep.beside),
    "mlps": _over_mlps,
    "resid": _over_residual,
    "attention": _over_attention,
    "neurons": _Units(_add_neurons, _Sweep.behind),
}
UNITS = tuple(name for name, patch in OVER.items() if isinstance(patch, _Units))
