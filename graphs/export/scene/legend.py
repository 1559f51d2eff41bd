"""Samples of marks, each with its meaning."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.assays import Assay
from graphs.export.lettering import width_of, wrap
from graphs.export.scene.edges import STRONG, breadth, head_length
from graphs.export.scene.marks import LETTER, LINE, MARGIN, Curve, Line, Shape, Text
from graphs.export.scene.tested import failed_edge, moved_the_other_way
from graphs.export.scene.themes import mix
from graphs.graph import AttributionGraph

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


def samples_of(graph: AttributionGraph, assay: Assay | None, curves: Sequence[Curve]) -> list[tuple[str, str]]:
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
    samples.append(("width", "5%, 20%, 40% of its target's input; stronger: carries more"))
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
        lines = wrap(words, width - 2 * MARGIN - long - 2, LETTER)
        space = long + max(width_of(line, LETTER) for line in lines) + 18
        if x > MARGIN and x + space > width - MARGIN + 18:
            x, y = MARGIN, y + LINE
        _draw_sample(legend, sample, x, y, colours)
        for at, line in enumerate(lines):
            legend["texts"].append(Text(x + long + 2, y + LINE * at, line, colours["quiet"]))
        x, y = x + space, y + LINE * (len(lines) - 1)
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
