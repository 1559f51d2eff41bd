"""What is left of what the graph explains when sets of units are kept or ablated: the measure of level 5."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.ablation import ablate_sets
from circuits.assaying.bench import Bench


class Survival:
    """Shares of what must be kept (see `Metric`) under one kind of ablation: `(m - m₀) / (m clean - m₀)`.

    m₀ is what is left with every unit ablated, by the same rule. Of several fillings the means are taken first.

    untested: why shares mean nothing here, empty when they do.
    """

    def __init__(self, bench: Bench, ablation: str, *, errors: bool = True) -> None:
        self._bench, self._errors, self._fills = bench, errors, bench.fills(ablation)
        self._empty = float(self._measure([bench.active[:0]], True, None)[0])
        self._scale = bench.metric.clean_kept - self._empty
        self.untested = ""
        if not abs(self._scale) >= bench.metric.smallest:
            moved = f"ablating everything moves the difference by {abs(self._scale):.2g}{bench.metric.unit}"
            self.untested = f"{moved}, {bench.metric.smallest:.2g} are wanted"

    def kept(self, sets: Sequence[Tensor], count: Callable[[int], None] | None = None) -> Float[np.ndarray, "set"]:
        """What survives when only these units are left. Each set: [unit 3], (layer, position, unit)."""
        return (self._measure(sets, True, count) - self._empty) / self._scale

    def without(self, sets: Sequence[Tensor], count: Callable[[int], None] | None = None) -> Float[np.ndarray, "set"]:
        """What survives when only these units are ablated."""
        return (self._measure(sets, False, count) - self._empty) / self._scale

    def _measure(
        self, sets: Sequence[Tensor], keep: bool, count: Callable[[int], None] | None
    ) -> Float[np.ndarray, "set"]:
        bench, found = self._bench, []
        for fill in self._fills:
            runs = ablate_sets(
                bench.model,
                bench.transcoders,
                bench.run,
                sets,
                keep=keep,
                fill=fill,
                errors=self._errors,
                read=bench.metric.site,
                progress=count,
            )
            found.append(torch.cat([bench.metric.kept(each) for each in runs]).double().cpu().numpy())
        return np.mean(found, axis=0)


def p_value(as_well: np.ndarray) -> float:
    """(1 + controls that do as well or better) / (1 + controls)."""
    return float((1 + as_well.sum()) / (1 + len(as_well)))
