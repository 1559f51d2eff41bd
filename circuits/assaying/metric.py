"""What is measured: the logit that the graph explains, and the difference that a circuit must keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import NotTestable
from circuits.model import Model
from graphs.graph import AttributionGraph
from graphs.wording import name_node


@dataclass(frozen=True, eq=False)
class Metric:
    """How the last position's logits are turned into one number, twice over.

    target: the goal's foremost logit node, by row. `explained` is what that node's value is: the logit of `right`
    less the mean of all logits, or less that of `wrong` for a contrast.
    foil: the token that `right` is held against when the whole graph is tested: the likeliest other one, or `wrong`.
    clean: the explained logit of the clean run. clean_logits: all of them.
    words: the same for a reader, with how many targets the graph has: only the foremost is tested.
    """

    target: int
    right: int
    wrong: int
    foil: int
    clean: float
    clean_logits: Float[Tensor, "vocab"]
    words: str
    model: Model

    def explained(self, logits: Float[Tensor, "*run vocab"]) -> Float[Tensor, "*run"]:
        """What the graph explains, in logits."""
        against = logits.mean(-1) if self.wrong < 0 else logits[..., self.wrong]
        return logits[..., self.right] - against

    def difference(self, logits: Float[Tensor, "*run vocab"]) -> Float[Tensor, "*run"]:
        """The logit difference between right and foil."""
        return logits[..., self.right] - logits[..., self.foil]

    def divergence(self, logits: Float[Tensor, "*run vocab"]) -> Float[Tensor, "*run"]:
        """KL(clean || these), in nats, of what the model would say (after any soft cap)."""
        clean = self.model.probabilities(self.clean_logits.double())
        other = self.model.probabilities(logits.double())
        tiny = torch.finfo(torch.float64).tiny
        return (clean * (clean.clamp_min(tiny).log() - other.clamp_min(tiny).log())).sum(-1).clamp_min(0)


def choose_metric(model: Model, graph: AttributionGraph, logits: Float[Tensor, "vocab"]) -> Metric:
    """The metric for a graph's foremost target, on these clean last-position logits.

    Raises:
        NotTestable: the goal is not made of next tokens at the last position.
    """
    others = (graph.goal != 0) & ((graph.nodes.kind != "logit") | (graph.nodes.position != len(graph.tokens) - 1))
    if others.any():
        named = name_node(graph, int(others.argmax()))
        raise NotTestable(
            f"the assay measures next tokens at the last position, and this graph explains {named}: "
            "its edges are exact, what they predict is untested."
        )
    rows = graph.nodes.where("logit")
    foremost = int(graph.goal[rows].argmax())
    right = int(graph.nodes.feature[rows[foremost]])
    against = graph.provenance.get("against", [-1] * len(rows))
    wrong = int(against[foremost])
    others = logits.clone()
    others[right] = -torch.inf
    foil = wrong if wrong >= 0 else int(others.argmax())
    name, other = (text.strip() for text in model.texts([right, foil]))
    explained = f"logit of {name!r} less " + (f"that of {other!r}" if wrong >= 0 else "the mean of all")
    which = "" if len(rows) == 1 else f" (the foremost of {len(rows)} targets; the others are not tested)"
    words = f"explained: {explained}{which}; kept or lost: logit of {name!r} less that of {other!r}"
    found = Metric(int(rows[foremost]), right, wrong, foil, 0.0, logits, words, model)
    return Metric(found.target, right, wrong, foil, float(found.explained(logits)), logits, words, model)
