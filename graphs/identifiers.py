"""What Neuronpedia and circuit-tracer call a node: texts that no two nodes of a graph share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isqrt

from graphs.nodes import OF_ATTENTION, Nodes


def identify(nodes: Nodes) -> list[str]:
    """One id per node: `layer_unit_position` for a unit, `E_token_position`, `layer_-1_position` for an error.

    Logits stand one layer above the number of layers, as circuit-tracer has it. An older id of errors,
    `0_layer_position`, may be a unit's of layer 0, so it is never given. Kinds that neither program has are told by
    their name, and a second node of one name gets a number.

    Source: FORMATS 5.2.
    """
    found: list[str] = []
    times: dict[str, int] = {}
    for row in range(len(nodes)):
        name = _identify(nodes, row)  # ends in `_` and a number, so that none looks like another's second
        times[name] = times.get(name, 0) + 1
        found.append(name if times[name] == 1 else f"{name}-{times[name]}")
    return found


def _identify(nodes: Nodes, row: int) -> str:
    kind, layer, unit, position = (getattr(nodes, name)[row] for name in ("kind", "layer", "feature", "position"))
    if kind == "token":
        return f"E_{unit}_{position}"
    if kind == "logit":
        return f"{layer + 1}_{unit}_{position}"
    if kind in ("feature", "neuron"):
        return f"{layer}_{unit}_{position}"
    if kind == "attention":
        return f"{layer}_lor_{unit}_{position}"
    if kind == "error":
        return f"{layer}_error_attn_{position}" if unit == OF_ATTENTION else f"{layer}_-1_{position}"
    if kind == "bias":
        return f"{layer}_bias_{_slug(str(nodes.label[row]))}_{position}"
    return f"{layer}_{kind}_{unit}_{position}"


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def pair(layer: int, unit: int) -> int:
    """Cantor's number of two numbers: `(layer + unit)(layer + unit + 1) / 2 + unit`."""
    return (layer + unit) * (layer + unit + 1) // 2 + unit


def unpair(number: int) -> tuple[int, int]:
    """The layer and the unit that `pair` made one, whatever their size."""
    diagonal = (isqrt(8 * number + 1) - 1) // 2
    unit = number - diagonal * (diagonal + 1) // 2
    return diagonal - unit, unit


def cumulative_shares(influence: Sequence[float], whole: float) -> list[float]:
    """For each node, the share of all influence that it and all stronger ones carry: small for what matters.

    influence: nan for what has none, and gets none. whole: what all nodes carry, those that are no longer there too.
    """
    ranked = sorted((row for row, each in enumerate(influence) if each == each), key=lambda row: -influence[row])
    found, carried = [float("nan")] * len(influence), 0.0
    for row in ranked:
        carried += influence[row]
        found[row] = min(carried / whole, 1.0) if whole > 0 else 1.0
    return found
