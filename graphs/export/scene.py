"""What there is to be seen of a graph: lines, shapes and words at their places, for any writer to put on paper."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Signature
from typing import Any

import numpy as np

from graphs.assays import VERDICTS, Assay, Verdict
from graphs.errors import BadOption
from graphs.export.layout import Layout, place_nodes
from graphs.export.lettering import readable, shorten, width_of, wrap
from graphs.graph import AttributionGraph
from graphs.wording import held_against

# Raising is blue and lowering vermilion: the pair stays two colours to every kind of colour-blind eye, and in grey the
# tee still tells them apart. Red is kept for claims that failed. For print, raising is also the darker of the two, so
# that a grey copy keeps them apart.
THEMES = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1b1f24",
        "quiet": "#6b7280",
        "line": "#e8eaee",
        "faint": "#b9bec6",
        "raise": "#0b5fa5",
        "lower": "#d4570a",
        "failed": "#c00d1e",
        "low": "#ffffff",
        "high": "#46546a",
        "error": "#d3d7dd",
    },
    "dark": {
        "paper": "#14171c",
        "ink": "#e8eaed",
        "quiet": "#9aa3af",
        "line": "#262b33",
        "faint": "#5b6470",
        "raise": "#5aa9f0",
        "lower": "#f58a42",
        "failed": "#ff6b75",
        "low": "#1d222a",
        "high": "#b4c2d6",
        "error": "#4a515c",
    },
    "print": {
        "paper": "#ffffff",
        "ink": "#000000",
        "quiet": "#4d4d4d",
        "line": "#dddddd",
        "faint": "#b0b0b0",
        "raise": "#003a70",
        "lower": "#e06c00",
        "failed": "#b00010",
        "low": "#ffffff",
        "high": "#333333",
        "error": "#d0d0d0",
    },
}
FONTS = ("sans", "serif")
SHAPES = {"token": "square", "logit": "square", "error": "diamond", "unselected": "box", "bias": "plus"}
CHOICES = {"bos": ("grey", "draw", "hide"), "errors": ("grey", "hide")}
STROKES = ("measured", "unmeasured", "failed")  # samples of an edge that was tried, or not
TRAILS = {  # samples of lines in charts: colour and width
    **{"kept": ("raise", 2.0), "taken": ("lower", 1.6), "chance": ("faint", 0.7)},
    **{"held": ("quiet", 1.2), "same": ("quiet", 1.0)},
}
DASHED = ("taken", "same")
LONG = {  # samples that are wider than a dot
    **{"width": 66.0, "breadth": 66.0, "raise": 30.0, "lower": 30.0, "size": 24.0},
    **dict.fromkeys((*STROKES, *TRAILS), 24.0),
}
STRONG = 0.4  # the share of a target's input at which an edge is as wide and as dark as edges get
LETTER = 10.0
SMALL = 8.5  # for units that have a number only
MARGIN = 18.0
NAMES = 46.0  # for the layers' names, at the left
MOST_NUMBERS = 60  # so many units are called by their number; more say nothing
CROWD = 40  # in a crowd like this, no room is kept for numbers
AREA = 1_250_000.0  # how large the picture of a graph may grow to make room for labels
LINE = 15.5


@dataclass(frozen=True)
class Line:
    """A straight stroke."""

    x0: float
    y0: float
    x1: float
    y1: float
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Curve:
    """An edge: Bézier curves from node to node that end in an arrowhead or, when it lowers its target, in a tee.

    points: start, two handles and an end for each curve, the last end being the foot of the head, the tip of the head.
    ends: rows of source and target in the graph; none in the legend. dashed: other edges were tried by experiment, not
        this one.
    """

    points: tuple[tuple[float, float], ...]
    colour: str
    opacity: float
    width: float
    tee: bool
    ends: tuple[int, int] | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Shape:
    """A node: circle, square, diamond, box, plus or card; its middle, half its width; its row, none in the legend.

    size: half the width and half the height of a card, which words stand on; of the others the radius says enough.
    dot: the colour of a dot in its middle, which says that it was ablated alone; none otherwise.
    about: the row of the node that a mark in a chart tells of, without being it.
    """

    shape: str
    x: float
    y: float
    radius: float
    fill: str
    outline: str
    dot: str | None = None
    size: tuple[float, float] | None = None
    row: int | None = None
    tip: str = ""
    about: int | None = None


@dataclass(frozen=True)
class Text:
    """One line of words. x: its start or its middle, as `anchor` says. y: its middle. plate: cover what lies below."""

    x: float
    y: float
    words: str
    colour: str
    size: float = LETTER
    anchor: str = "start"
    bold: bool = False
    plate: bool = False
    row: int | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        width = width_of(self.words, self.size, self.bold)
        left = self.x - (width / 2 if self.anchor == "middle" else 0)
        return left, self.y - self.size * 0.55, left + width, self.y + self.size * 0.55


@dataclass(frozen=True)
class Scene:
    """Everything on the picture, in drawing order, within 0..width and 0..height, y downwards, in points.

    font: one of FONTS. width_cm: how wide it comes out on paper, everything in proportion; as it is if none.
    """

    width: float
    height: float
    colours: dict[str, str]
    lines: tuple[Line, ...]
    curves: tuple[Curve, ...]
    shapes: tuple[Shape, ...]
    texts: tuple[Text, ...]
    font: str = "sans"
    width_cm: float | None = None


def compose(
    graph: AttributionGraph,
    *,
    assay: Assay | None = None,
    theme: str = "light",
    most_edges: int = 700,
    least_share: float = 0.0,
    biases: bool = False,
    bos: str = "grey",
    errors: str = "grey",
    labels: bool = True,
    legend: bool = True,
    title: str | None = None,
    font: str = "sans",
    width_cm: float | None = None,
    bare: bool = False,
) -> Scene:
    """The picture of a graph, made of marks. What it leaves out, the caption says with its figures.

    assay: what was measured; marks the nodes that were ablated, and adds the verdicts to the caption.
    theme: "light", "dark" or "print".
    most_edges: only so many edges are drawn, those that carry most; the caption says how many.
    least_share: nor are those drawn that are a smaller share of their target's input.
    biases: draw the constants too, which have no share of their targets' input: lines as wide as if they had.
    bos: what comes from the mark that opens the prompt: "grey", "draw" it like anything else, or "hide" it.
    errors: nodes for what the features miss: "grey", or "hide" them and what comes from them.
    labels: say what nodes are, where there is room. Without, only logits are called by name.
    legend: say below what the marks mean.
    title: instead of the prompt.
    font: "sans" or "serif".
    width_cm: the width on paper, in centimetres; a PNG then has 300 dots to the inch.
    bare: leave heading and caption to the page around the picture, which then must say the same.

    Raises:
        BadOption: there is no such theme, font or choice, or a number makes no sense.
    """
    check_look(theme, font, width_cm, bos, errors)
    if most_edges < 0:
        raise BadOption(f"most_edges must be 0 or more, not {most_edges}.")
    if not 0 <= least_share <= 1:
        raise BadOption(f"least_share must be a share, 0 to 1, not {least_share}.")
    colours = THEMES[theme]
    hidden = [kind for kind, away in (("bias", not biases), ("error", errors == "hide")) if away]
    rows = np.flatnonzero(~np.isin(graph.nodes.kind, hidden))
    shown = graph.select(rows)
    names = [label_of(shown, row) if labels or shown.nodes.kind[row] == "logit" else "" for row in range(len(rows))]
    reserved, layout = _make_room(shown, names)
    tested = None if assay is None else np.isin(rows, [each.node for each in assay.ablations])
    wrong = np.isin(rows, [] if assay is None else moved_the_other_way(assay))

    top_lines = [] if bare else heading(graph, title, max(110, int(layout.width / 9)), colours)
    left, top = MARGIN + NAMES, MARGIN + (LINE * 2 + 12) * (not bare)
    width = max(layout.width + left + MARGIN, 720.0, *(text.box[2] + MARGIN for text in top_lines))
    left += (width - left - MARGIN - layout.width) / 2 * (layout.width < 500)
    x, y = layout.x + left, layout.y + top

    tokens, depth = _token_texts(shown, layout, left, top, colours)
    radius = _radii(shown)
    labelled = _labels(shown, rows, names, reserved, (x, y, radius), width - MARGIN, colours)
    strength = _carried(graph)
    curves, counts = _edges(graph, rows, x, y, radius, strength, (most_edges, least_share), bos, colours)
    curves = [_tried(graph, curve, assay, colours) for curve in curves]
    bottom = top + layout.height + depth
    said = [] if bare else [*caption_lines(graph, counts), None]
    caption, height = lay_out_caption(said, assay, width, bottom + 16, colours)
    samples = _samples(shown, assay, curves) if legend else []
    key, height = lay_out_legend(samples, width, height + 4, colours)
    return Scene(
        width=width,
        height=height + MARGIN * 0.6,
        colours=colours,
        lines=(*_layer_lines(layout, left, top, width, colours), *key["lines"]),
        curves=(*curves, *key["curves"]),
        shapes=(*_shapes(shown, rows, x, y, radius, tested, wrong, colours), *key["shapes"]),
        texts=(
            *top_lines,
            *_layer_names(shown, layout, top, colours),
            *labelled,
            *tokens,
            *caption,
            *key["texts"],
        ),
        font=font,
        width_cm=width_cm,
    )


def check_options(options: Mapping[str, Any], taken: Signature, what: str, without: Sequence[str] = ()) -> None:
    """That every option is one that is taken, and none of `without`. what: who takes them, in words.

    Raises:
        BadOption: one is not.
    """
    own = (*without, "assay", "bare")
    offered = [name for name, each in taken.parameters.items() if each.kind is each.KEYWORD_ONLY and name not in own]
    unknown = [name for name in options if name not in offered]
    if unknown:
        raise BadOption(f"{what} has no choice {unknown[0]!r}; it has {', '.join(offered)}.")


def check_look(theme: str, font: str, width_cm: float | None, bos: str, errors: str) -> None:
    """What every picture can look like.

    Raises:
        BadOption: there is no such theme, font or choice, or the width is none that paper has.
    """
    for name, found in (("bos", bos), ("errors", errors)):
        if found not in CHOICES[name]:
            raise BadOption(f"{name} is {', '.join(CHOICES[name])}; found {found!r}.")
    if theme not in THEMES:
        raise BadOption(f"a picture's theme is {', '.join(THEMES)}; found {theme!r}.")
    if font not in FONTS:
        raise BadOption(f"a picture's font is {' or '.join(FONTS)}; found {font!r}.")
    if width_cm is not None and not 1 <= width_cm <= 500:
        raise BadOption(f"a picture is 1 to 500 cm wide; found {width_cm}. A column of a paper is about 8.5 cm.")


def moved_the_other_way(assay: Assay, *, held: bool = False) -> list[int]:
    """The nodes that, ablated alone, moved the target against a prediction large enough to count.

    held: with attention held, in place of live.
    """
    share = assay.registration.get("thresholds", {}).get("sizeable", 0.05)
    least = share * abs(assay.statistics.get("clean", float("nan")))
    return [
        each.node
        for each in assay.ablations
        if abs(each.predicted) >= least and each.predicted * (each.measured_frozen if held else each.measured) < 0
    ]


def failed_edge(assay: Assay | None) -> tuple[int, int] | None:
    """The edge that was furthest from its weight when its source was taken away, if that was too far. None else."""
    exact = float(assay.registration.get("thresholds", {}).get("exact", 1e-4)) if assay is not None else 1e-4
    far = [each for each in (assay.edges if assay is not None else ()) if each.largest > exact]
    return (far[0].source, far[0].target) if far else None


def untried(graph: AttributionGraph, source: int) -> bool:
    """Whether no experiment can take a source away: what is written nowhere, but read with its target or in a sum."""
    label = str(graph.nodes.label[source])
    kind = str(graph.nodes.kind[source])
    return kind == "unselected" or (kind == "bias" and label.startswith("encoder bias"))


def _tried(graph: AttributionGraph, curve: Curve, assay: Assay | None, colours: dict[str, str]) -> Curve:
    if assay is None or not assay.edges or curve.ends is None:
        return curve
    if curve.ends == failed_edge(assay):
        return replace(curve, colour=colours["failed"], opacity=0.95)
    return replace(curve, dashed=untried(graph, curve.ends[0]))


def label_of(graph: AttributionGraph, row: int) -> str:
    """What stands beside a node: its label, a logit's probability or lead with it; `L2/544` for an unlabelled unit."""
    nodes = graph.nodes
    kind = str(nodes.kind[row])
    words = readable(str(nodes.label[row])).strip()
    if kind == "logit":
        return f"{_logit_name(graph, row)} {_likely(graph, row)}"
    if kind in ("token", "error", "unselected"):
        return ""
    return shorten(words, 30) or f"L{nodes.unit(row)}"


def _asked(graph: AttributionGraph, row: int) -> str:
    """A target in the heading: a logit as in `label_of`, anything else by its place."""
    nodes = graph.nodes
    if nodes.kind[row] == "logit":
        return label_of(graph, row)
    place = f"L{nodes.unit(row)}" if nodes.kind[row] in ("feature", "attention", "neuron") else str(nodes.kind[row])
    at = f" @{readable(graph.tokens[nodes.position[row]]).strip()}" if nodes.position[row] >= 0 else ""
    return f"{shorten(readable(str(nodes.label[row])), 24) or place}{at}"


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
    words = readable(str(graph.nodes.label[row])).strip()
    if not words:
        return f"token {graph.nodes.feature[row]}"
    # A comma alone is no word, unless it is quoted.
    return shorten(words, 24) if any(letter.isalnum() for letter in words) else f'"{words}"'


def _order_of_labels(graph: AttributionGraph, names: Sequence[str]) -> list[int]:
    """The nodes that have something to say: logits, then what has a name of its own, then numbers; by influence."""
    named = np.array([has_name(graph, row) for row in range(len(names))], dtype=bool)
    order = np.lexsort((-graph.nodes.influence, ~named, graph.nodes.kind != "logit"))
    order = order[[bool(names[row]) for row in order]] if len(order) else order
    return order[np.cumsum(~named[order]) <= MOST_NUMBERS].tolist()


def _label_size(graph: AttributionGraph, row: int) -> float:
    return LETTER if has_name(graph, row) else SMALL


def _make_room(graph: AttributionGraph, names: Sequence[str]) -> tuple[list[int], Layout]:
    """For which labels room is kept, as many as the picture's size allows, and the layout that keeps it."""
    order = _order_of_labels(graph, names)
    if len(order) > CROWD:
        order = [row for row in order if has_name(graph, row)]
    logits = sum(str(graph.nodes.kind[row]) == "logit" for row in order)
    tokens = [width_of(shorten(readable(token).strip(), 14), 11.0) + 4 for token in graph.tokens]
    narrowest = np.array(tokens) * (sum(tokens) < 1500)
    bare = place_nodes(graph, narrowest=narrowest)
    most = max(AREA, 1.3 * bare.width * bare.height)
    fewer = [logits + count for count in (400, 250, 160, 120, 90, 60, 40, 25, 15) if logits + count < len(order)]
    for count in (len(order), *fewer):
        room = np.zeros(len(names))
        for row in order[:count]:
            room[row] = width_of(names[row], _label_size(graph, row)) + 9
        layout = place_nodes(graph, room=room, narrowest=narrowest)
        if layout.width * layout.height <= most:
            break
    return order[:count], layout


def _labels(
    graph: AttributionGraph,
    rows: np.ndarray,
    names: Sequence[str],
    reserved: Sequence[int],
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
    right: float,
    colours: dict[str, str],
) -> list[Text]:
    """A label for each node that has room beside it: kept for it, or left over by the others.

    places: x, y and radius of the nodes.
    """
    x, y, radius = places
    taken = np.stack([x - radius - 2, y - radius - 1, x + radius + 2, y + radius + 1], axis=1)
    sure = set(reserved)
    texts = []
    # What matters little gets no label just because it stands where there is room.
    for row in [*reserved, *(row for row in _order_of_labels(graph, names)[: len(sure) + CROWD] if row not in sure)]:
        size = _label_size(graph, row)
        colour = colours["ink" if has_name(graph, row) else "quiet"]
        wide = width_of(names[row], size)
        for start in (x[row] + radius[row] + 3.5, x[row] - radius[row] - 4.5 - wide):
            text = Text(float(start), float(y[row]), names[row], colour, size=size, plate=True, row=int(rows[row]))
            box = text.box
            hits = (taken[:, 0] < box[2]) & (taken[:, 2] > box[0]) & (taken[:, 1] < box[3]) & (taken[:, 3] > box[1])
            if row in sure or (not hits.any() and box[0] > MARGIN + NAMES and box[2] < right):
                texts.append(text)
                taken = np.vstack([taken, box])
                break
    return texts


def _radii(graph: AttributionGraph) -> np.ndarray:
    matters = np.where(graph.nodes.kind == "logit", graph.goal, graph.nodes.influence)
    return 3.6 + 4.0 * np.sqrt(np.clip(matters / max(matters.max(initial=0.0), 1e-12), 0, 1))


def _shapes(
    graph: AttributionGraph,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    tested: np.ndarray | None,
    wrong: np.ndarray,
    colours: dict[str, str],
) -> list[Shape]:
    nodes = graph.nodes
    strength = (radius - radius.min(initial=3.6)) / 4.0
    shapes = []
    for row in range(len(nodes)):
        kind = str(nodes.kind[row])
        unexplained = kind in ("error", "unselected")
        full = strength[row] ** 1.5
        words = readable(str(nodes.label[row])) or kind
        where = f" at {readable(graph.tokens[nodes.position[row]])}" if nodes.position[row] >= 0 else ""
        level = f" in layer {nodes.layer[row]}" if kind not in ("token", "logit") else ""
        carries = f"probability {nodes.activation[row]:.1%}" if kind == "logit" else f"{nodes.influence[row]:.1%}"
        shapes.append(
            Shape(
                shape=SHAPES.get(kind, "circle"),
                x=float(x[row]),
                y=float(y[row]),
                radius=float(radius[row]),
                fill=colours["error"] if unexplained else mix(colours["low"], colours["high"], full),
                outline=colours["failed" if wrong[row] else "quiet" if unexplained else "high"],
                dot=colours["low" if full > 0.45 else "high"] if tested is not None and tested[row] else None,
                row=int(rows[row]),
                tip=f"{words}: {kind}{level}{where}, {carries}" + (" of the influence" if kind != "logit" else ""),
            )
        )
    return shapes


def _carried(graph: AttributionGraph) -> np.ndarray:
    # Here, not above: numba takes half a second to load, and the layout alone does not need it.
    from graphs.paths import edge_influence

    return edge_influence(graph)


def _edges(
    graph: AttributionGraph,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    carried: np.ndarray,
    cut: tuple[int, float],
    bos: str,
    colours: dict[str, str],
) -> tuple[list[Curve], dict[str, Any]]:
    """The edges to draw, weakest first, and how many there were. cut: the most of them, the least share of each."""
    from graphs.paths import is_bias, received

    place = np.full(len(graph.nodes), -1)
    place[rows] = np.arange(len(rows))
    gross = received(graph)[graph.target]
    share = np.divide(graph.weight, gross, out=np.zeros_like(graph.weight), where=gross > 0)
    first = first_token(graph)
    fan = (graph.source == first) if first is not None else np.zeros(len(graph.source), dtype=bool)
    constant = is_bias(graph)[graph.source]
    hidden = (place[graph.source] < 0) | (fan & (bos == "hide"))
    flows = np.flatnonzero(~constant)
    free = np.flatnonzero(~constant & ~hidden)
    most, least_share = cut
    strong = free[np.abs(share[free]) >= least_share]
    chosen = strong[np.argsort(-carried[strong], kind="stable")[:most]]
    grey = fan & (bos == "grey")
    drawn = np.concatenate([np.flatnonzero(constant & ~hidden), chosen])
    # What is grey lies below everything else, constants above that.
    order = drawn[np.lexsort((carried[drawn], ~grey[drawn]))]
    largest = float(carried[chosen].max(initial=0.0)) or 1.0
    curves = []
    for edge in order.tolist():
        source, target = int(place[graph.source[edge]]), int(place[graph.target[edge]])
        size = min(abs(float(share[edge])) / STRONG, 1.0)
        width = 0.5 + 3.0 * size**0.6
        tee = bool(share[edge] < 0)
        colour = colours["faint"] if grey[edge] else colours["lower" if tee else "raise"]
        points = _bend(
            (float(x[source]), float(y[source]) - radius[source]),
            (float(x[target]), float(y[target]) + radius[target]),
            width,
            tee,
            blocked=_blocked(source, target, x, y),
        )
        opacity = 0.45 if grey[edge] or constant[edge] else 0.14 + 0.78 * (float(carried[edge]) / largest) ** 0.45
        ends = (int(graph.source[edge]), int(graph.target[edge]))
        curves.append(Curve(points, colour, opacity, min(width, 1.6) if grey[edge] else width, tee, ends))
    whole = float(carried[flows].sum())
    counts = {
        "drawn": len(chosen),
        "edges": len(flows),
        "share": float(carried[chosen].sum()) / whole if whole > 0 else 1.0,
        "free": len(free),
        "strong": len(strong),
        "least_share": least_share,
        "bos": bos,
        "biases": int((~np.isin(np.flatnonzero(graph.nodes.kind == "bias"), rows)).sum()),
        "errors": int((~np.isin(np.flatnonzero(graph.nodes.kind == "error"), rows)).sum()),
    }
    return curves, counts


def breadth(share: float) -> float:
    """How wide an edge between groups is, by its share of its target's input."""
    return 0.5 + 5.5 * min(share, 1.0) ** 0.7


def head_length(width: float, tee: bool) -> float:
    """How far an edge's head reaches before its tip."""
    return 1.2 + 0.3 * width if tee else 3.2 + 1.5 * width


def _blocked(source: int, target: int, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a node stands on the straight way from one to the other."""
    across, down = x[target] - x[source], y[target] - y[source]
    long = np.hypot(across, down)
    along = ((x - x[source]) * across + (y - y[source]) * down) / max(long, 1e-9)
    beside = np.abs((x - x[source]) * down - (y - y[source]) * across) / max(long, 1e-9)
    return bool(((beside < 9) & (along > 3) & (along < long - 3)).any())


def _bend(
    start: tuple[float, float], tip: tuple[float, float], width: float, tee: bool, *, blocked: bool = False
) -> tuple[tuple[float, float], ...]:
    """Upright at both ends; those that stay in their column bow to the left when a node stands between."""
    (x0, y0), (x1, y1) = start, tip
    head = head_length(width, tee)
    rise = y0 - y1
    if rise < 16:  # side by side: over the top
        high = min(y0, y1) - 26
        return (x0, y0), (x0, high), (x1, high), (x1, y1 - 14 - head), (x1, y1 - 14)
    sideways = x1 - x0
    bow = 0.0
    if blocked and abs(sideways) < 0.3 * rise + 4:
        bow = -min(12 + 0.1 * rise, 48.0)
    slant = np.clip((sideways - bow * 1.2) * 0.12, -14, 14) if rise > 40 else 0.0
    # The head points along the curve's last stretch.
    handle = (x1 + bow - slant, y1 + 0.42 * rise)
    long = float(np.hypot(handle[0] - x1, handle[1] - y1))
    foot = (x1 + (handle[0] - x1) / long * head, y1 + (handle[1] - y1) / long * head)
    return (x0, y0), (x0 + bow + slant, y0 - 0.42 * rise), handle, foot, (x1, y1)


def first_token(graph: AttributionGraph) -> int | None:
    """The row of the mark that opens the prompt (`<bos>`, `<s>`, `[CLS]`, …), None if there is none."""
    if not graph.tokens or not re.fullmatch(r"<[^ ]*>|\[[A-Z]+\]", graph.tokens[0].strip()):
        return None
    rows = np.flatnonzero((graph.nodes.kind == "token") & (graph.nodes.position == 0))
    return int(rows[0]) if len(rows) else None


def _token_texts(
    graph: AttributionGraph, layout: Layout, left: float, top: float, colours: dict[str, str]
) -> tuple[list[Text], float]:
    """The prompt below its columns, in as many rows as keep the words apart, and how high they are together."""
    nodes = graph.nodes
    middle = {int(nodes.position[row]): float(layout.x[row]) for row in nodes.where("token")}
    base = top + (layout.layer_y[-1] + 19 if -1 in layout.layer_y else layout.height + 2)
    ends: list[float] = []
    texts = []
    for position, token in enumerate(graph.tokens):
        words = shorten(readable(token).strip(), 14) or "␣"
        colour = colours["ink"] if position in middle else colours["faint"]
        x = left + middle.get(position, float(layout.column_x[position]))
        if x < left + layout.column_x[position] - 1:  # below the node and inside the column
            text = Text(x - 7, base, words, colour, size=11.0)
        else:
            text = Text(x, base, words, colour, size=11.0, anchor="middle")
        begins, _, stops, _ = text.box
        row = next((i for i, end in enumerate(ends) if end + 5 < begins), len(ends))
        ends[row : row + 1] = [stops]
        texts.append(replace(text, y=base + row * 14))
    return texts, base + 14.0 * max(len(ends), 1) - top - layout.height


def _layer_lines(layout: Layout, left: float, top: float, width: float, colours: dict[str, str]) -> list[Line]:
    busy = [layer for layer, high in layout.layer_height.items() if high > 10]
    return [
        Line(MARGIN, edge, width - MARGIN, edge, colours["line"])
        for layer in busy[:-1]
        for edge in [top + layout.layer_y[layer] + layout.layer_height[layer] / 2]
    ]


def _layer_names(graph: AttributionGraph, layout: Layout, top: float, colours: dict[str, str]) -> list[Text]:
    kinds: dict[int, set[str]] = {}
    for layer, kind in zip(graph.nodes.layer.tolist(), graph.nodes.kind.tolist(), strict=True):
        kinds.setdefault(layer, set()).add(kind)
    texts = []
    for layer, found in kinds.items():
        name = "logits" if "logit" in found else "tokens" if "token" in found else f"L{layer}"
        texts.append(Text(MARGIN, top + layout.layer_y[layer], name, colours["quiet"]))
    return texts


def heading(graph: AttributionGraph, title: str | None, most: int, colours: dict[str, str]) -> list[Text]:
    words = title if title is not None else prompt_of(graph)
    asked = np.flatnonzero((graph.goal != 0) | (graph.nodes.kind == "logit"))
    asked = asked[np.argsort(-graph.goal[asked], kind="stable")].tolist()
    answer = ", ".join(_asked(graph, row) for row in asked[:3])
    more = f" and {len(asked) - 3} more" if len(asked) > 3 else ""
    # A picture is shown around: of a folder on someone's disk it says the last name only.
    sources = {name: str(graph.provenance[name]) for name in ("model", "transcoders") if name in graph.provenance}
    made = [f"{name} {os.path.basename(at.rstrip('/')) if os.path.isabs(at) else at}" for name, at in sources.items()]
    return [
        Text(MARGIN, MARGIN + 6, shorten(readable(words), most), colours["ink"], size=15.0, bold=True),
        Text(MARGIN, MARGIN + 25, readable(" · ".join([f"→ {answer}{more}", *made])), colours["quiet"], size=11.0),
    ]


def prompt_of(graph: AttributionGraph) -> str:
    """What the model was asked, as it was typed if that is known, without the mark that opens it."""
    opening = graph.tokens[0] if first_token(graph) is not None else ""
    if graph.provenance.get("prompt"):
        return readable(str(graph.provenance["prompt"])).removeprefix(opening).strip()
    tokens = [readable(token) for token in graph.tokens[bool(opening) :]]
    spaced = any(token.startswith(" ") for token in tokens)
    return ("" if spaced else " ").join(tokens).strip()


def lay_out_caption(
    lines: Sequence[str | None], assay: Assay | None, width: float, top: float, colours: dict[str, str]
) -> tuple[list[Text], float]:
    """The lines below a picture, and where they end; where there is a None, what the assay says."""
    told = [("not tested by ablation", colours["quiet"])]
    if assay is not None:
        told = [(verdicts_in_short(assay), colours["ink"])]
        for verdict, colour in (("not supported", "failed"), ("untested", "quiet")):
            claims = [_claim(each) for each in assay.verdicts if each.verdict == verdict]
            told += [(f"{verdict}: {claim}", colours[colour]) for claim in claims]
    texts = []
    for line in lines:
        for words, colour in told if line is None else [(line, colours["ink"])]:
            for part in wrap(readable(words), width - 2 * MARGIN, 11.0):
                texts.append(Text(MARGIN, top, part, colour, size=11.0))
                top += LINE
    return texts, top


def caption_lines(graph: AttributionGraph, counts: dict[str, Any]) -> list[str]:
    """What was kept, what it explains, and what the picture leaves out, each in a sentence with figures.

    counts: of edges that come from no bias, those drawn, those that are strong enough, those that no choice hides,
        and all (`drawn`, `strong`, `free`, `edges`), the share that the drawn carry (`share`), and the least share of
        its target's input that a drawn one may be (`least_share`); what is done with the opening mark (`bos`); how
        many nodes for biases and errors are not drawn (`biases`, `errors`).
    """
    from graphs.scores import scores
    from graphs.wording import kept_in_words, scores_in_words

    found = scores(graph).to_json()
    drawn = f"drawn: all {counts['edges']:,.0f} edges that come from no bias"
    if counts["drawn"] < counts["edges"]:
        strongest = counts["drawn"] < counts["strong"]
        drawn = (
            f"drawn: {'the ' if strongest else ''}{counts['drawn']:,.0f}{' strongest' if strongest else ''} of "
            f"{counts['edges']:,.0f} edges, {counts['share']:.0%} of what they carry"
        )
        if counts["strong"] < counts["free"]:
            drawn += f", none below {counts['least_share']:.2g} of its target's input"
    lines = [f"{kept_in_words(graph)}; {drawn}"]
    figures = scores_in_words(found, graph.kept)
    lines.append(f"{figures[0]}; {figures[1]}")
    ends = {"biases": "", "errors": f": {found['error']:.0%} of the influence ends there"}
    for kind, words in (("biases", "bias"), ("errors", "error")):
        if counts[kind]:
            many = f"{words} node{'s are' if counts[kind] > 1 else ' is'} not drawn"
            lines[-1] += f"; {counts[kind]} {many}{ends[kind]}"
    return lines + fan_in_words(graph, counts["bos"])


def fan_in_words(graph: AttributionGraph, bos: str) -> list[str]:
    """What is done with what comes from the opening mark, and how much that is; nothing if it is drawn like all."""
    first = first_token(graph)
    if first is None or bos == "draw":
        return []
    from graphs.paths import influence

    carried = influence(graph)
    tokens = float(carried[graph.nodes.where("token")].sum())
    share = float(carried[first]) / tokens if tokens > 0 else 0.0
    how = "grey" if bos == "grey" else "not drawn"
    return [f"{how}: what comes from {graph.tokens[0].strip()}, {share:.0%} of what ends in tokens"]


def _claim(verdict: Verdict) -> str:
    found = "" if verdict.number != verdict.number else f"{verdict.number:.3g}, "
    return f"{verdict.claim}: {found}wanted {verdict.threshold}"


def verdicts_in_short(assay: Assay) -> str:
    """`assay: 5 supported, 4 not supported, 0 untested`, and the registration they were judged by."""
    counts = ", ".join(f"{sum(each.verdict == word for each in assay.verdicts)} {word}" for word in VERDICTS)
    registered = assay.registration.get("hash")
    return f"assay: {counts}, on this prompt" + (f"; registered as {registered}" if registered else "")


def _samples(graph: AttributionGraph, assay: Assay | None, curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """The marks in use, each with its meaning."""
    found = set(graph.nodes.kind.tolist())
    units = sorted(found - {"token", "logit", "error", "unselected", "bias"})
    samples: list[tuple[str, str]] = []
    if units:
        samples.append(("circle", ", ".join(units)))
    samples.append(("square", "token, logit"))
    if "error" in found:
        samples.append(("diamond", "error: what the features miss"))
    if "unselected" in found:
        samples.append(("box", "unselected: features not traced"))
    if "bias" in found:
        samples.append(("plus", "bias: a constant of the model"))
    samples += [("raise", "raises its target"), ("lower", "lowers it")]
    samples.append(("width", "5%, 20%, 40% of its target's input; darker: carries more"))
    samples.append(("size", "larger: more influence"))
    if assay is not None:
        samples += [("dot", "ablated alone and measured"), ("circle", "not ablated alone")]
        if moved_the_other_way(assay):
            samples.append(("wrong", "moved the target against the prediction"))
        if assay.edges:
            samples.append(("measured", "measured by taking its source away"))
        if any(curve.dashed for curve in curves):
            samples.append(("unmeasured", "not measured"))
        if failed_edge(assay) in [curve.ends for curve in curves if curve.ends]:
            samples.append(("failed", "furthest from its weight, too far"))
    return samples


def lay_out_legend(
    samples: Sequence[tuple[str, str]], width: float, top: float, colours: dict[str, str]
) -> tuple[dict[str, list], float]:
    """Small samples of marks, each with its meaning, in one or more lines, and where they end."""
    legend: dict[str, list] = {"lines": [], "curves": [], "shapes": [], "texts": []}
    x, y = MARGIN, top
    for sample, words in samples:
        long = LONG.get(sample, 14.0)
        space = long + width_of(words, LETTER) + 18
        if x > MARGIN and x + space > width - MARGIN + 18:
            x, y = MARGIN, y + LINE
        _draw_sample(legend, sample, x, y, colours)
        legend["texts"].append(Text(x + long + 2, y, words, colours["quiet"]))
        x += space
    return legend, y + LINE / 2 * bool(samples)


def _draw_sample(legend: dict[str, list], sample: str, x: float, y: float, colours: dict[str, str]) -> None:
    outline, middle = colours["high"], mix(colours["low"], colours["high"], 0.3)
    if sample in ("raise", "lower"):
        head = head_length(2.0, sample == "lower")
        points = ((x, y), (x + 8, y), (x + 16, y), (x + 26 - head, y), (x + 26, y))
        legend["curves"].append(Curve(points, colours[sample], 0.8, 2.0, sample == "lower"))
    elif sample in TRAILS:
        hue, wide = TRAILS[sample]
        legend["lines"].append(Line(x, y, x + 20, y, colours[hue], wide, dashed=sample in DASHED))
    elif sample in STROKES:
        points = ((x, y), (x + 6, y), (x + 12, y), (x + 15, y), (x + 20, y))
        colour = colours["failed" if sample == "failed" else "raise"]
        legend["curves"].append(Curve(points, colour, 0.9, 1.5, False, dashed=sample == "unmeasured"))
    elif sample in ("width", "breadth"):
        for place, share in enumerate((0.05, 0.2, 0.4) if sample == "width" else (0.1, 0.4, 1.0)):
            size = (share / STRONG) ** 0.6 if sample == "width" else share**0.7
            wide = 0.5 + 3 * size if sample == "width" else breadth(share)
            start = x + place * 22
            legend["lines"].append(
                Line(
                    start,
                    y,
                    start + 18,
                    y,
                    mix(colours["paper"], colours["raise"], 0.22 + 0.68 * size),
                    wide,
                )
            )
    elif sample == "size":
        legend["shapes"].append(Shape("circle", x + 4, y, 3.6, colours["low"], outline))
        legend["shapes"].append(Shape("circle", x + 16, y, 6.0, colours["high"], outline))
    else:
        shape = "circle" if sample in ("dot", "wrong") else sample
        unexplained = sample in ("diamond", "box")
        fill = colours["error"] if unexplained else middle
        line = colours["failed"] if sample == "wrong" else colours["quiet"] if unexplained else outline
        dot = outline if sample in ("dot", "wrong") else None
        legend["shapes"].append(Shape(shape, x + 6, y, 4.5, fill, line, dot=dot))


def mix(low: str, high: str, share: float) -> str:
    """The colour that lies so far from one to the other."""
    pairs = [(int(low[i : i + 2], 16), int(high[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * float(np.clip(share, 0, 1))):02x}" for a, b in pairs)
