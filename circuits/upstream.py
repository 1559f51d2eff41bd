"""The part of a trace that can have fed a goal: what is written later, or to the right, is no part of its graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from circuits.attending import OFFSET
from circuits.goal import Goal
from circuits.reading import Reading, written_at
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary


def keep_upstream(
    run: Trace, dictionary: Dictionary, goal: Goal, reading: Reading | None
) -> tuple[Trace, Goal, Int[np.ndarray, "place layer"]]:
    """The trace with only these units, errors and constants; the goal on it; and how far errors count, by layer.

    reading: what the targets that are no units read.
    The last is, for each layer, the last position whose attention output, and whose MLP output, some target can have
    been fed by, -1 for none.
    """
    own = torch.tensor(goal.units, dtype=torch.int64, device=run.layer.device)
    of_attention = run.unit >= OFFSET
    layer = (run.layer[own] - 0.5 * of_attention[own]).cpu().numpy()
    position = run.position[own].cpu().numpy()
    if reading is not None:
        layer = np.concatenate([reading.targets.layer, layer])
        position = np.concatenate([reading.targets.position, position])
    layers = np.arange(run.frozen.layers)
    written = np.stack([layers if run.frozen.parallel else layers - 0.5, layers])
    above = layer > written[:, :, None]
    seen = position if run.frozen.causal else np.full(len(position), len(run.tokens) - 1)
    reach = np.where(above, seen, -1).max(2)
    stays = run.position <= torch.from_numpy(reach).to(run.position)[(~of_attention).long(), run.layer]
    stays[own] = True
    if reading is not None and reading.along is not None:
        for row in torch.nonzero(reading.along.any(1))[:, 0].tolist():
            stays[written_at(run, dictionary, int(layer[row]), int(position[row]))[0]] = True
    read = layer.max() if run.frozen.parallel else np.floor(layer.max()) + 1  # attention below this is passed

    def fed(place: str, at: int, where: int) -> bool:
        if place == "mlp":
            return bool(reach[1, at] >= max(where, 0))
        return place == "embedding" or bool(at < read)

    constants = [each for each in run.constants if fed(each.place, each.layer, each.position)]
    columns = {name: getattr(run, name)[stays] for name in ("layer", "position", "unit", "activation")}
    place = torch.cumsum(stays, 0) - 1
    return replace(run, constants=constants, **columns), replace(goal, units=place[own].tolist()), reach
