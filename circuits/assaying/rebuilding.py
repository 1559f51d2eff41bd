"""How much of what it stands in for the dictionary's features do not say on this prompt."""

from __future__ import annotations

from circuits.clean_outputs import missed
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary


def missed_share(transcoders: Dictionary, run: Trace) -> float:
    """The squared length of the errors over that of the MLP outputs, all layers and all positions it covers together.

    Replaced attentions count beside the MLPs. 0 for an exact dictionary; above 1 for one that is worse than none.
    """
    if run.errors is None and not run.attended:
        return 0.0
    layers = range(len(run.written))
    written = [run.written[layer, transcoders.at(layer).silent_positions :].square().sum() for layer in layers]
    errors = [missed(transcoders, run, layer).square().sum() for layer in layers]
    written += [each.written.square().sum() for each in run.attended.values()]
    errors += [each.missed.square().sum() for each in run.attended.values()]
    return float(sum(errors) / sum(written))
