"""Faithfulness curves of an assay: how much of the answer survives as more and more of the graph is kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from graphs.assays import Assay, Curve
from graphs.errors import BadOption
from graphs.export.lettering import readable, shorten
from graphs.export.scene import (
    MARGIN,
    THEMES,
    Line,
    Scene,
    Text,
    check_look,
    heading,
    lay_out_caption,
    lay_out_legend,
)
from graphs.graph import AttributionGraph

WIDE, HIGH = 210.0, 130.0  # of one chart, between its axes
LEFT, BELOW, ABOVE, BETWEEN = 38.0, 30.0, 34.0, 18.0
IN_A_ROW = 3
ALL = 0.86  # where along the axis the whole graph stands; at its end, all active units
LOW, TOP = -0.25, 1.25  # survival is drawn within these; what lies outside stands at the edge


def compose_curves(
    graph: AttributionGraph,
    *,
    assay: Assay | None = None,
    theme: str = "light",
    legend: bool = True,
    title: str | None = None,
    font: str = "sans",
    width_cm: float | None = None,
) -> Scene:
    """One chart for each curve that the assay holds: the graph's, its complement's and those of random sets.

    Across: how many units are kept, most influential first, up to the whole graph, then all active units. Upwards: the
    share of the clean difference that survives. The other options are those of `compose`.

    Raises:
        BadOption: there is no assay, or it holds no curves; no such theme or font.
    """
    check_look(theme, font, width_cm, "grey", "grey")
    if assay is None or not assay.curves:
        found = "was not tested" if assay is None else "was tested without them"
        raise BadOption(f"curves are measured by `circuits check`; this graph {found}.")
    colours = THEMES[theme]
    across = min(len(assay.curves), IN_A_ROW)
    top_lines = heading(graph, title, int(across * 36), colours)
    width = max(2 * MARGIN + across * (LEFT + WIDE + BETWEEN), *(text.box[2] + MARGIN for text in top_lines))
    top = MARGIN + 44
    lines, texts = [], []
    for place, curve in enumerate(assay.curves):
        row, column = divmod(place, IN_A_ROW)
        corner = (MARGIN + LEFT + column * (LEFT + WIDE + BETWEEN), top + ABOVE + row * (ABOVE + HIGH + BELOW))
        chart_lines, chart_texts = _chart(curve, corner, colours)
        lines += chart_lines
        texts += chart_texts
    bottom = top + -(-len(assay.curves) // IN_A_ROW) * (ABOVE + HIGH + BELOW) + 14
    caption, bottom = lay_out_caption([None], assay, width, bottom, colours)
    samples = [
        ("kept", "only these units are left"),
        ("taken", "only these are ablated"),
        ("chance", "random sets as large, at the same layers and positions"),
    ]
    key, bottom = lay_out_legend(samples if legend else [], width, bottom + 4, colours)
    return Scene(
        width=width,
        height=bottom + MARGIN * 0.6,
        colours=colours,
        lines=(*lines, *key["lines"]),
        curves=(),
        shapes=(),
        texts=(*top_lines, *texts, *caption, *key["texts"]),
        font=font,
        width_cm=width_cm,
    )


def _chart(curve: Curve, corner: tuple[float, float], colours: dict[str, str]) -> tuple[list[Line], list[Text]]:
    left, top = corner
    name = f"{curve.ablation} ablation, errors {curve.errors}"
    texts = [Text(left, top - 22, name, colours["ink"], bold=True)]
    if not curve.kept:
        return [], [
            *texts,
            Text(left, top - 8, shorten(readable(f"untested: {curve.untested}"), 46), colours["quiet"], size=8.5),
        ]
    beaten = "" if curve.p_area != curve.p_area else f", p = {curve.p_area:.3f} against random sets"
    texts.append(Text(left, top - 9, f"area {curve.area:.2f}{beaten}", colours["quiet"], size=8.5))
    whole = max(curve.kept[-2] if len(curve.kept) > 1 else 1, 1)
    x = [left + WIDE * ALL * min(kept / whole, 1.0) for kept in curve.kept[:-1]]
    x.append(left + WIDE)

    def height(value: float) -> float:
        return top + HIGH * (TOP - float(np.clip(value, LOW, TOP))) / (TOP - LOW)

    lines = [Line(left, height(share), left + WIDE, height(share), colours["line"]) for share in (0.0, 0.5, 1.0)]
    lines.append(Line(left, top, left, top + HIGH, colours["faint"]))
    texts += [
        Text(left - 18, height(share), f"{share:.0%}", colours["quiet"], size=8.5, anchor="middle")
        for share in (0.0, 0.5, 1.0)
    ]
    for at, words in ((x[0], "0"), (left + WIDE * ALL, f"graph: {whole}"), (x[-1], f"all: {curve.kept[-1]}")):
        shift = -8 if words.startswith("graph") else 8 if words.startswith("all") else 0
        texts.append(Text(at + shift, top + HIGH + 9, words, colours["quiet"], size=8.5, anchor="middle"))

    def trail(values: list[float], colour: str, wide: float, dashed: bool = False) -> list[Line]:
        points = [(a, height(b)) for a, b in zip(x, values, strict=False) if b == b]
        return [Line(*one, *other, colour, wide, dashed=dashed) for one, other in pairwise(points)]

    for random in curve.random_faithfulness:
        lines += trail(list(random), colours["faint"], 0.7)
    lines += trail(list(curve.complement), colours["lower"], 1.6, dashed=True)
    lines += trail(list(curve.faithfulness), colours["raise"], 2.0)
    return lines, texts
