"""Level 5 as curves: what survives as the graph's units come back one after the other, errors kept and ablated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int
from scipy.integrate import trapezoid
from torch import Tensor

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.sets import draw_controls, find_unfair
from circuits.assaying.survival import Survival, p_value
from graphs.assays import Curve

ABLATIONS = ("zero", "mean", "resample")


def test_curves(bench: Bench) -> list[Curve]:
    """A curve for each kind of ablation, with errors kept and, where there are any, ablated too.

    Units come in the order of their influence; those of a random set, as many at each layer and position as the graph
    has, in any order. The area is that under faithfulness over the share of the graph's units kept.
    """
    ours = bench.places(bench.units)
    sizes = np.unique(np.linspace(0, len(ours), thresholds.POINTS).round().astype(int)).tolist()
    active, activation = bench.active.cpu().numpy(), bench.run.activation.double().cpu().numpy()
    drawn = draw_controls(active, activation, ours.cpu().numpy(), thresholds.CURVES, bench.seed)
    unfair = find_unfair(ours.cpu().numpy(), drawn)
    random = _shuffle(drawn, ours, bench.seed)
    kinds = [(each, errors) for errors in ("kept", "ablated") for each in ABLATIONS]
    if bench.run.errors is None:
        kinds = [(each, errors) for each, errors in kinds if errors == "kept"]
    nested = [order[:size] for order in random for size in sizes]
    fills = sum(len(bench.fills(ablation)) for ablation, _ in kinds)
    count = bench.count("keeping more and more of the graph", fills * (2 * (len(sizes) + 1) + len(nested)))
    return [_test_curve(bench, kind, ours, sizes, nested, unfair, count) for kind in kinds]


def _test_curve(
    bench: Bench,
    kind: tuple[str, str],
    ours: Int[Tensor, "unit 3"],
    sizes: list[int],
    nested: list[Tensor],
    unfair: str,
    count: Callable[[int], None],
) -> Curve:
    ablation, errors = kind
    survival = Survival(bench, ablation, errors=errors == "kept")
    sets = [*(ours[:size] for size in sizes), bench.active]
    if survival.untested:
        return Curve(ablation, errors, [], [], [], [], float("nan"), [], float("nan"), survival.untested)
    kept, without = survival.kept(sets, count), survival.without(sets, count)
    others = survival.kept(nested, count).reshape(-1, len(sizes))
    share = np.array(sizes) / max(len(ours), 1)
    area = float(trapezoid(kept[:-1], share))
    random_area = trapezoid(others, share, axis=1)
    return Curve(
        ablation=ablation,
        errors=errors,
        kept=[*sizes, len(bench.active)],
        faithfulness=kept.tolist(),
        complement=without.tolist(),
        random_faithfulness=others.tolist(),
        area=area,
        random_area=random_area.tolist(),
        p_area=float("nan") if unfair else p_value(random_area >= area),
        untested=unfair,
    )


def _shuffle(drawn: list[Int[np.ndarray, "_ 3"]], like: Int[Tensor, "_ 3"], seed: int) -> list[Int[Tensor, "_ 3"]]:
    numbers = np.random.default_rng(seed)
    return [torch.from_numpy(numbers.permutation(each)).to(like) for each in drawn]
