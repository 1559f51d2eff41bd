"""Path patching: what senders do to the answer through some receivers alone.

    1  the base run, and the run on the other prompt
    2  the base run again, the senders as on the other prompt, all other heads as they were: what receivers read is kept
    3  the base run again, the receivers reading that, all else live

MLPs are live in step 2, so that a path may pass through them, or frozen as the heads are: then only the direct edge is
left. What receivers read is fixed, so that one does not change what another reads; the logits, as a receiver, read what
step 2 changed beside what step 3 makes of the others.

Source: Wang et al. 2022, "Interpretability in the Wild" (IOI); Goldowsky-Dill et al. 2023; METHODS section 8.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.components import LETTERS, Components
from circuits.components.edge_scores import components_of, loss_of, read_logits
from circuits.components.metrics import Metric, logit_difference
from circuits.components.pairs import Pairs
from circuits.components.patching import DIRECTIONS, ends_of
from circuits.components.transformer import Put, Run, Transformer
from circuits.errors import BadOption
from circuits.progress import Count

MLPS = ("live", "frozen")
COLUMNS = dict(zip(LETTERS, ("query", "key", "value"), strict=True))
READER = re.compile(r"a(\d+)\.h(\d+)<([qkv])>|m(\d+)")


@dataclass(frozen=True, eq=False)
class PathsPatched:
    """What patching did, averaged over the pairs.

    effect: metric of the patched run less that of the base run, for each set of senders and each of receivers.
    share: the same over the difference between the two prompts' metrics; see `circuits.components.patching.Patched`.
    """

    effect: Float[np.ndarray, "sender receiver"]
    share: Float[np.ndarray, "sender receiver"]
    direction: str
    clean: float
    corrupted: float


@torch.no_grad()
def patch_paths(
    transformer: Transformer,
    pairs: Pairs,
    senders: Sequence[Sequence[str]],
    receivers: Sequence[Sequence[str]],
    *,
    direction: str = DIRECTIONS[0],
    mlps: str = MLPS[0],
    metric: Metric = logit_difference,
    ablation: Ablation = resample,
    progress: Count = lambda done, total: None,
) -> PathsPatched:
    """Patch every set of senders to every set of receivers.

    senders: "input", "a0.h1", "m2". receivers: "a3.h2<q>", "m3", "logits"; "a3.h2" is its queries, keys and values.
    mlps: in step 2, one of MLPS. Two runs for each set of senders and each pair of sets, from the first changed layer.

    Raises:
        BadOption: a name is not known, no path leads from any sender to any receiver, or the metric is no number.
    """
    if mlps not in MLPS:
        raise BadOption(f"MLPs are one of {', '.join(MLPS)} on the way, found {mlps!r}.")
    components = components_of(transformer)
    named = [expand(components, each) for each in receivers]
    for each in senders:
        for to in named:
            check_path(components, each, to)
    clean, corrupted, base, donor = ends_of(transformer, pairs, direction, ablation)
    wanted = read_logits(transformer, clean.after, pairs)

    def gain(after: Tensor) -> float:
        logits = read_logits(transformer, after, pairs)
        return float(-loss_of(transformer, logits, pairs, metric, wanted).double().mean())

    ends, before = (gain(clean.after), gain(corrupted.after)), gain(base.after)
    effect = np.zeros((len(senders), len(receivers)))
    for row, own in enumerate(senders):
        path = _send(transformer, base, donor, set(own), frozen=mlps == "frozen")
        for column, to in enumerate(named):
            effect[row, column] = gain(_receive(transformer, base, path, to)) - before
        progress(row + 1, len(senders))
    apart = (ends[0] - ends[1]) * (-1 if direction == "noising" else 1)
    share = effect / apart if apart else np.full_like(effect, np.nan)
    return PathsPatched(effect, share, direction, *ends)


def expand(components: Components, receivers: Sequence[str]) -> list[str]:
    """Receivers as readers: a head is its queries, keys and values.

    Raises:
        BadOption: there is no such receiver.
    """
    found = []
    for name in receivers:
        own = [name] if name in components.readers else [f"{name}<{letter}>" for letter in LETTERS]
        if own[0] not in components.readers:
            last = components.layers - 1
            some = f"a{last}.h0, a{last}.h0<q>, m{last} and logits are some of this model's"
            raise BadOption(f"there is no receiver {name!r}: {some}.")
        found += own
    return found


def check_path(components: Components, senders: Sequence[str], receivers: Sequence[str]) -> None:
    """Raises BadOption where a sender is not known, or nothing that the senders write can reach the receivers."""
    for name in senders:
        if name not in components.sources:
            last = components.layers - 1
            raise BadOption(f"there is no sender {name!r}: input, a{last}.h0 and m{last} are some of this model's.")
    rows = [components.sources.index(name) for name in senders]
    columns = [components.readers.index(name) for name in receivers]
    if not components.edges[np.ix_(rows, columns)].any():
        raise BadOption(f"nothing leads from {', '.join(senders)} to {', '.join(receivers)}: these come first.")


def _send(transformer: Transformer, base: Run, donor: Run, senders: set[str], *, frozen: bool) -> Run:
    """Step 2: the run in which the senders write what they write in the other run, and all other heads stay."""
    heads = range(transformer.heads)
    replace: dict[tuple[str, int], Put] = {}
    for at in range(len(transformer.layers)):
        mixed = base.mixed[at].clone()
        for head in heads:
            if f"a{at}.h{head}" in senders:
                mixed[:, head] = donor.mixed[at][:, head]
        replace[("mixed", at)] = mixed
        if f"m{at}" in senders:
            replace[("mlp", at)] = donor.mlp[at]
        elif frozen:
            replace[("mlp", at)] = base.mlp[at]
    start = donor.before[0] if "input" in senders else base.before[0]
    return transformer.go_on(start, 0, replace=replace)


def _receive(
    transformer: Transformer, base: Run, path: Run, receivers: Sequence[str]
) -> Float[Tensor, "pair pos d_model"]:
    """Step 3: the stream at the end when the receivers read what they read in step 2."""
    heads: dict[tuple[str, int], list[int]] = {}
    replace: dict[tuple[str, int], Put] = {}
    for name in receivers:
        found = READER.fullmatch(name)
        if found is None:
            continue  # the logits
        layer, head, letter, mlp = found.groups()
        if mlp is not None:
            replace[("mlp", int(mlp))] = transformer.layers[int(mlp)].mlp(path.mlp_input[int(mlp)])
        else:
            heads.setdefault((COLUMNS[letter], int(layer)), []).append(int(head))
    for (column, layer), own in heads.items():
        replace[(column, layer)] = _putting(getattr(path, column)[layer], own)
    after = base.after
    if replace:
        first = min(layer for _, layer in replace)
        after = transformer.go_on(base.before[first], first, keep=False, replace=replace).after
    return after + path.after - base.after if "logits" in receivers else after


def _putting(theirs: Float[Tensor, "pair head pos d_head"], heads: list[int]) -> Put:
    def put(ours: Tensor) -> Tensor:
        ours = ours.clone()
        ours[:, heads] = theirs[:, heads]
        return ours

    return put
