"""One pass back through the frozen model: the gradient of many targets at every place where something is written.

    at an MLP's output        the sources written there are scored; no gradient passes the MLP, but by a skip
    a target joins            where it reads: one vector, at its own position
    at an attention's output  its biases are scored; then  g += attentionᵀ g,  three products:
                              z = g outᵀ,  v[key] = Σ_query mixing[key, query] z[query],  g += v valueᵀ

Targets are sorted by layer, so that at every place the live ones come first. A target owns a row of g for each position
up to its own and no others (for every position, where attention looks both ways); until its first attention it is one
vector. All rows stand in one matrix, so that every
product is one flat matrix product.

Source: METHODS section 3.1; SPEED sections 3.1 to 3.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.frozen import Frozen, FrozenAttention
from circuits.mixing import mix, unfold
from circuits.transcoders.base import Dictionary

BLOCK = 4096  # rows of g that go through an attention at once: its intermediate results stay in cache


@dataclass(frozen=True, eq=False)
class Targets:
    """What gradients start from. They must stand in reverse reading order: later layers first.

    layer: the layer whose MLP a target reads beside; the number of layers for logits; half a layer less for what reads
        the stream as it enters that layer. [target]
    position: where it reads. [target]
    vector: its read vector in the residual stream there. [target d_model]
    head: of a unit of attention, which of `Frozen.looks` it reads through: its vector, times that, at every position up
        to its own; where that is None, its vector is of the attention's output. -1 for what reads at one place. None
        where all do. A sweep takes targets of one sort. [target]
    """

    layer: Int[np.ndarray, "target"] | Float[np.ndarray, "target"]
    position: Int[np.ndarray, "target"]
    vector: Float[Tensor, "target d_model"]
    head: Int[np.ndarray, "target"] | None = None

    def __len__(self) -> int:
        return len(self.layer)

    def take(self, rows: Int[np.ndarray, "_"] | slice) -> Targets:
        """Some of them, in this order."""
        at = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.vector.device)
        head = None if self.head is None else self.head[rows]
        return Targets(self.layer[rows], self.position[rows], self.vector[at], head)

    def sorts(self) -> list[Int[np.ndarray, "_"]]:
        """Rows of those that read at one place, and of those that read along a pattern: what is there of the two."""
        if self.head is None:
            return [np.arange(len(self))]
        return [rows for rows in (np.flatnonzero(self.head < 0), np.flatnonzero(self.head >= 0)) if len(rows)]


def join_targets(parts: Sequence[Targets]) -> Targets:
    """Several in one, in their order."""
    head = None
    if any(each.head is not None for each in parts):
        head = np.concatenate([np.full(len(each), -1) if each.head is None else each.head for each in parts])
    return Targets(
        np.concatenate([each.layer for each in parts]),
        np.concatenate([each.position for each in parts]),
        torch.cat([each.vector for each in parts]),
        head,
    )


class Reach:
    """Which rows of g stand at each position, for targets of these positions; made once for a whole sweep."""

    def __init__(
        self,
        position: Int[np.ndarray, "target"],
        length: Int[np.ndarray, "target"],
        start: Int[np.ndarray, "_"],
        device: torch.device,
    ) -> None:
        everywhere = range(int(length.max(initial=0)))
        self._device = device
        self._past = [np.flatnonzero(length > at) for at in everywhere]
        self._here = [np.flatnonzero(position == at) for at in everywhere]
        self._targets = [torch.from_numpy(each).to(device) for each in self._past]
        self._rows = [torch.from_numpy(start[each] + at).to(device) for at, each in enumerate(self._past)]

    def whole(self, position: int, full: int) -> tuple[Tensor, Tensor]:
        """Of the first `full` targets, those with a row at a position; and these rows."""
        if position >= len(self._past):
            nothing = torch.empty(0, dtype=torch.int64, device=self._device)
            return nothing, nothing
        count = int(self._past[position].searchsorted(full))
        return self._targets[position][:count], self._rows[position][:count]

    def single(self, position: int, full: int, live: int) -> Tensor:
        """The targets from `full` to `live` that read at a position."""
        if position >= len(self._here):
            return torch.empty(0, dtype=torch.int64, device=self._device)
        here = self._here[position]
        first, last = here.searchsorted(full), here.searchsorted(live)
        return torch.from_numpy(here[first:last]).to(self._device)


@dataclass(frozen=True, eq=False)
class Fan:
    """Targets that have passed one attention: at every position their gradient is a mixture of the same few vectors.

    first: the first of these targets; they stand side by side. vectors: one a head, then the target's own, which
    counts where it reads and nowhere else. [target head+1 d_model]
    mixing: of the attention they have passed. [head key query]
    """

    first: int
    vectors: Float[Tensor, "target spoke d_model"]
    mixing: Float[Tensor, "head key query"]


@dataclass(frozen=True, eq=False)
class Gradient:
    """The gradient of the live targets at one place.

    full: how many targets, the first ones, have all their rows in g.
    live: how many there are in all; those from `full` on are still one vector, in `vector`. [target d_model]
    fresh: the targets from here on have joined since the place before.
    """

    g: Float[Tensor, "row d_model"]
    vector: Float[Tensor, "target d_model"]
    reach: Reach
    full: int
    live: int
    fresh: int

    def at(self, position: int) -> tuple[Tensor, Float[Tensor, "_ d_model"]]:
        """Which targets have a gradient at a position, and what it is."""
        targets, rows = self.reach.whole(position, self.full)
        found = self.g.index_select(0, rows)
        single = self.reach.single(position, self.full, self.live)
        if single.shape[0] == 0:
            return targets, found
        return torch.cat([targets, single]), torch.cat([found, self.vector[single]])

    def joined(self, position: int) -> tuple[Tensor, Float[Tensor, "_ d_model"]]:
        """The same of those targets alone that have just joined."""
        single = self.reach.single(position, self.fresh, self.live)
        return single, self.vector[single]


def sweep_back(
    frozen: Frozen, dictionary: Dictionary, targets: Targets, *, stop_early: bool
) -> Iterator[tuple[str, int, Gradient]]:
    """Yield ("mlp" | "attention" | "embedding", layer, gradient there) from the last layer to the first.

    An attention that is replaced (see `Frozen.looks`) is not passed.

    A gradient is changed in place between two yields: score it, do not keep it.

    stop_early: do not go through the first attention. Embeddings must then be scored before it, at ("attention", 0), as
        it carries them forward. Not for parallel blocks, whose targets of layer 0 read beside that attention.
    """
    length = targets.position + 1 if frozen.causal else np.full(len(targets), len(frozen.embedding))
    start = np.concatenate([[0], np.cumsum(length)])
    g = targets.vector.new_empty(int(start[-1]), targets.vector.shape[1])
    vector = targets.vector.clone()
    reach = Reach(targets.position, length, start, g.device)
    full, live = 0, int((targets.layer >= frozen.layers).sum())
    fan = None
    for layer in reversed(range(frozen.layers)):
        rows, single = g[: start[full]], vector[full:live]
        yield "mlp", layer, Gradient(g, vector, reach, full, live, fresh=0)
        before = live
        skipped = skipped_single = None
        if dictionary.skip(layer) is not None:
            skipped = _through_skip(frozen, dictionary, layer, rows, _positions(length[:full], g))
            skipped_single = _through_skip(frozen, dictionary, layer, single, _as_index(targets.position[full:live], g))
        if not frozen.parallel:
            if skipped is not None and skipped_single is not None:
                rows += skipped
                single += skipped_single
                fan = None
            live = int((targets.layer >= layer).sum())
        yield "attention", layer, Gradient(g, vector, reach, full, live, fresh=before)
        if layer == 0 and stop_early:
            return
        opened = full if layer in frozen.looks else live
        if layer not in frozen.looks:
            _pass(frozen.attention[layer], g, start, length, targets.position, full, fan, causal=frozen.causal)
            fan = _open(frozen.attention[layer], g, vector, start, length, targets.position, full, live)
        if frozen.parallel and skipped is not None and skipped_single is not None:
            rows += skipped
            if opened == live:
                g.index_add_(0, _as_index((start[:-1] + targets.position)[full:live], g), skipped_single)
            else:
                single += skipped_single
            fan = None
        full, live = opened, int((targets.layer > layer - 1).sum())
        if live > full and targets.head is not None and targets.head[full] >= 0:
            looks = frozen.looks[layer]
            if looks is None:
                own = frozen.attention[layer]
                fan = _open(own, g, vector, start, length, targets.position, full, live, beside=False)
            else:
                _spread(looks, targets.take(slice(full, live)), length[full:live], g[start[full] : start[live]])
            full = live
    yield "embedding", -1, Gradient(g, vector, reach, full, live, fresh=0)


def _pass(
    attention: FrozenAttention,
    g: Tensor,
    start: np.ndarray,
    length: np.ndarray,
    position: np.ndarray,
    full: int,
    fan: Fan | None,
    *,
    causal: bool,
) -> None:
    """g += attentionᵀ g for the first `full` targets, some rows at a time.

    Where a fan has fewer vectors than rows, these are what is multiplied by `out`, and mixed thereafter.
    """
    weights = attention.weights
    first = 0
    while first < full:
        within = full if fan is None or first >= fan.first else fan.first
        last = int(np.searchsorted(start[: within + 1], start[first] + BLOCK, side="right")) - 1
        last = max(first + 1, last)
        here = slice(first, last)
        rows = g[start[first] : start[last]]
        if fan is not None and first >= fan.first and (last - first) * fan.vectors.shape[1] < len(rows):
            spokes = fan.vectors[first - fan.first : last - fan.first] @ weights.out.T
            z = rows.new_empty(len(rows), spokes.shape[2])
            unfold(fan.mixing, spokes, start[here] - start[first], length[here], position[here], z)
        else:
            z = rows @ weights.out.T
        v = mix(attention.mixing, z, start[here] - start[first], length[here], weights.kv_heads, causal=causal)
        rows.addmm_(v, weights.value.T)
        first = last


def _open(
    attention: FrozenAttention,
    g: Tensor,
    vector: Tensor,
    start: np.ndarray,
    length: np.ndarray,
    position: np.ndarray,
    full: int,
    live: int,
    *,
    beside: bool = True,
) -> Fan | None:
    """The first attention that targets pass: from one vector each to all their rows.

    With the gradient at one position, heads need not be summed before the mixing: g[key] = Σ_head mixing[head, key]
    u_head with u_head = value_head out_headᵀ vector, plus the vector itself at its own position: what goes on beside
    the attention, but for targets that read its output alone.
    """
    if full == live:
        return None
    weights = attention.weights
    z = (vector[full:live] @ weights.out.T).unflatten(1, (weights.heads, -1))
    value = weights.value.unflatten(1, (weights.kv_heads, -1)).permute(1, 2, 0)
    value = value.repeat_interleave(weights.heads // weights.kv_heads, dim=0)
    vectors = vector.new_empty(live - full, weights.heads + 1, vector.shape[1])
    for head in range(weights.heads):
        torch.matmul(z[:, head], value[head], out=vectors[:, head])
    vectors[:, -1] = vector[full:live] if beside else 0
    rows = g[start[full] : start[live]]
    unfold(attention.mixing, vectors, start[full:live] - start[full], length[full:live], position[full:live], rows)
    return Fan(full, vectors, attention.mixing)


def _spread(
    looks: Float[Tensor, "head query key"], targets: Targets, length: np.ndarray, g: Float[Tensor, "row d_model"]
) -> None:
    """Units of attention join: the rows of each are its vector, by how much it looks at every position."""
    owner = np.repeat(np.arange(len(targets)), length)
    key = np.concatenate([np.arange(n) for n in length]) if len(length) else owner
    assert targets.head is not None
    head, query, key = (_as_index(each, g) for each in (targets.head[owner], targets.position[owner], key))
    torch.mul(looks[head, query, key][:, None], targets.vector[_as_index(owner, g)], out=g)


def _through_skip(
    frozen: Frozen, dictionary: Dictionary, layer: int, g: Float[Tensor, "row d_model"], position: Tensor
) -> Float[Tensor, "row d_model"] | None:
    """What a gradient on a layer's MLP output is on the stream before it, by the dictionary's skip."""
    skip = dictionary.skip(layer)
    if skip is None:
        return None
    post_norm, here = frozen.mlp_post_norm[layer], dictionary.at(layer)
    if here.writes == "mlp_raw" and post_norm is not None:
        g = post_norm.transpose(g, position)
    g = g @ skip
    if here.reads == "residual_mid":
        return g
    return frozen.mlp_norm[layer].transpose(g, position, gained=here.reads == "mlp_input")


def _positions(length: np.ndarray, like: Tensor) -> Tensor:
    """The position of every row of targets of these lengths."""
    if not len(length):
        return _as_index(np.empty(0, dtype=np.int64), like)
    return _as_index(np.concatenate([np.arange(n) for n in length]), like)


def _as_index(rows: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(like.device)
