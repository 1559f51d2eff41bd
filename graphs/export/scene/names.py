"""What nodes and prompts are called on a picture."""

from __future__ import annotations

import re

import numpy as np

from graphs.export.lettering import kept_apart, readable, shorten
from graphs.graph import AttributionGraph
from graphs.prompts import prompt_of
from graphs.wording import held_against


def label_of(graph: AttributionGraph, row: int) -> str:
    """What stands beside a node: its label, a logit's probability or lead with it; `L2/544` for an unlabelled unit."""
    nodes = graph.nodes
    kind = str(nodes.kind[row])
    words = readable(str(nodes.label[row])).strip()
    if kind == "logit":
        return f"{kept_apart(_logit_name(graph, row))} {_likely(graph, row)}"
    if kind == "token" and nodes.position[row] < 0:
        return shorten(words, 30)
    if kind in ("token", "error", "unselected"):
        return ""
    return shorten(words, 30) or f"L{nodes.unit(row)}"


def target_of(graph: AttributionGraph, row: int) -> str:
    """A target in the heading: a logit as in `label_of`, anything else by its place."""
    nodes = graph.nodes
    if nodes.kind[row] == "logit":
        return label_of(graph, row)
    place = f"L{nodes.unit(row)}" if nodes.kind[row] in ("feature", "attention", "neuron") else str(nodes.kind[row])
    at = f" @{readable(graph.tokens[nodes.position[row]]).strip()}" if nodes.position[row] >= 0 else ""
    return f"{shorten(readable(str(nodes.label[row])), 24) or place}{at}"


def answer_of(graph: AttributionGraph, row: int) -> str:
    """What a target is called where its figure stands elsewhere."""
    return _logit_name(graph, row) if graph.nodes.kind[row] == "logit" else target_of(graph, row)


def spoken(words: str) -> str:
    """Words as a name: a comma alone is none, unless it is quoted."""
    quoted = len(words) > 2 and words[0] == words[-1] and words[0] in "'\""
    return words if quoted or any(letter.isalnum() for letter in words) else f'"{words}"'


def _likely(graph: AttributionGraph, row: int) -> str:
    """How likely a token is; of a contrast, by how many logits it leads."""
    if row in held_against(graph):
        return f"{graph.nodes.value[row]:+.1f} logits"
    return _percent(float(graph.nodes.activation[row]))


def _percent(probability: float) -> str:
    return "<1%" if 0 < probability < 0.01 else f"{probability:.0%}"


def has_name(graph: AttributionGraph, row: int) -> bool:
    """Whether a node is called by more than its number."""
    words = str(graph.nodes.label[row]).strip()
    return str(graph.nodes.kind[row]) == "logit" or (bool(words) and not re.fullmatch(r"L\d+/(attn/)?\d+", words))


def _logit_name(graph: AttributionGraph, row: int) -> str:
    label = readable(str(graph.nodes.label[row]))
    words = label.strip() or "␣" * bool(label)
    if not words:
        return f"token {graph.nodes.feature[row]}"
    if _has_a_twin(graph, row):
        return f'"{shorten(label, 24)}"'
    return spoken(shorten(words, 24))


def _has_a_twin(graph: AttributionGraph, row: int) -> bool:
    """Whether another answer differs from this one by the space around it only."""
    label = str(graph.nodes.label[row])
    others = (str(graph.nodes.label[other]) for other in graph.nodes.where("logit"))
    return any(other != label and other.strip() == label.strip() for other in others)


def first_token(graph: AttributionGraph) -> int | None:
    """The row of the mark that opens the prompt (`<bos>`, `<s>`, `[CLS]`, …), None if there is none."""
    if not _opens(graph):
        return None
    rows = np.flatnonzero((graph.nodes.kind == "token") & (graph.nodes.position == 0))
    return int(rows[0]) if len(rows) else None


def _opens(graph: AttributionGraph) -> bool:
    return bool(graph.tokens) and bool(re.fullmatch(r"<[^ ]*>|\[[A-Z]+\]", graph.tokens[0].strip()))


def prompt_in_words(graph: AttributionGraph) -> str:
    """What the model was asked, without the mark that opens it, as a picture can hold it."""
    opening = graph.tokens[0] if _opens(graph) else ""
    return readable(prompt_of(graph)).removeprefix(opening).strip()
