"""A path diagram: senders at the left, receivers at the right, and between them how much went along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from graphs.export.heatmap import HeatMap
from graphs.export.lettering import readable, width_of
from graphs.export.scene.captions import lay_out_notes, lay_out_title
from graphs.export.scene.edges import breadth, head_length
from graphs.export.scene.legend import lay_out_legend
from graphs.export.scene.marks import MARGIN, Curve, Scene, Shape, Text
from graphs.export.scene.options import check_look
from graphs.export.scene.themes import THEMES, mix

MOST, LEAST = 24, 0.01  # paths that are drawn: so many, none below this share of the strongest
NAME, FIGURE = 10.0, 8.5  # letters
SLOT, LANDING, APART = 13.0, 9.0, 8.0  # how high a path is at its sender and at its receiver; between two boxes
BETWEEN, FIGURES = 170.0, 42.0  # the columns of boxes; of that, for the figures


@dataclass(frozen=True, eq=False)
class Paths:
    """Which squares of a heat map are paths. at: counted row by row; -1 where there is none. [sender receiver]"""

    senders: Sequence[str]
    receivers: Sequence[str]
    at: Int[np.ndarray, "sender receiver"]


def compose_paths(
    paths: Paths,
    found: HeatMap,
    *,
    theme: str = "light",
    font: str = "sans",
    width_cm: float | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Scene:
    """The strongest paths, as wide as their effect is large; a tee for those that work against the others.

    Earlier components lie lower. Options as in `graphs.export.heatmap.compose_heatmap`.

    Raises:
        BadOption: there is no such theme or font, or the width is none that paper has.
    """
    check_look(theme, font, width_cm)
    colours = THEMES[theme]
    drawn, count = _strongest(paths, found)
    senders, receivers = (sorted({path[side] for path in drawn}, reverse=True) for side in (0, 1))
    wide = [
        max((width_of(readable(names[row]), NAME, True) for row in rows), default=0.0) + 16
        for names, rows in ((paths.senders, senders), (paths.receivers, receivers))
    ]
    width = max(2 * MARGIN + wide[0] + BETWEEN + wide[1], 320.0)
    texts, top = lay_out_title(title or found.title, width, colours)
    top += 2
    heights = [
        [max(20.0, slot * sum(path[side] == row for path in drawn) + 4) for row in rows]
        for side, rows, slot in ((0, senders, SLOT), (1, receivers, LANDING))
    ]
    tall = [sum(each) + APART * max(len(each) - 1, 0) for each in heights]
    bottom = top + max(tall)
    lefts = (MARGIN, width - MARGIN - wide[1])
    shapes: list[Shape] = []
    middles: list[dict[int, float]] = [{}, {}]
    for side, (rows, names) in enumerate(((senders, paths.senders), (receivers, paths.receivers))):
        y = top + (max(tall) - tall[side]) / 2
        for row, high in zip(rows, heights[side], strict=True):
            x, middles[side][row] = lefts[side] + wide[side] / 2, y + high / 2
            fill = mix(colours["low"], colours["high"], 0.12)
            mark = {"size": (wide[side] / 2, high / 2), "row": row + side * len(paths.senders)}
            shapes.append(Shape("card", x, y + high / 2, wide[side] / 2, fill, colours["high"], **mark))
            texts.append(Text(x, y + high / 2, readable(names[row]), colours["ink"], NAME, "middle", bold=True))
            y += high + APART
    curves = []
    for path in drawn:
        start, end = (_slot(path, side, drawn, middles) for side in (0, 1))
        curve, figure = _draw(path, found, paths, lefts[0] + wide[0], start, lefts[1], end, colours)
        curves.append(curve)
        texts.append(figure)
    bottom += 16
    key, bottom = lay_out_legend(_samples(found) if legend and drawn else [], width, bottom, colours)
    bottom += 10 * bool(key["texts"])
    left_out = f"{len(drawn)} of {count} paths are drawn, the strongest" if len(drawn) < count else ""
    left_out = left_out or ("" if drawn else "no path changes anything")
    notes, bottom = lay_out_notes((found.note, left_out), width, bottom, colours)
    texts += notes
    return Scene(
        width=max(width, *(text.box[2] + MARGIN for text in texts)),
        height=bottom + MARGIN * 0.5,
        colours=colours,
        lines=tuple(key["lines"]),
        curves=(*curves, *key["curves"]),
        shapes=(*shapes, *key["shapes"]),
        texts=(*texts, *key["texts"]),
        font=font,
        width_cm=width_cm,
    )


def _strongest(paths: Paths, found: HeatMap) -> tuple[list[tuple[int, int]], int]:
    """The paths to draw, and of how many."""
    size = np.where(paths.at >= 0, np.nan_to_num(np.abs(found.effect.flat[paths.at])), 0.0)
    enough = (size > 0) & (size >= LEAST * size.max())
    order = np.argsort(-size, axis=None, kind="stable")[: min(MOST, int(enough.sum()))]
    drawn = [(int(at) // size.shape[1], int(at) % size.shape[1]) for at in order]
    return sorted(drawn), int((paths.at >= 0).sum())


def _slot(
    path: tuple[int, int], side: int, drawn: Sequence[tuple[int, int]], middles: Sequence[dict[int, float]]
) -> float:
    """The height at which a path leaves its sender, or reaches its receiver: sorted so that few cross."""
    mine = [each for each in drawn if each[side] == path[side]]
    mine.sort(key=lambda each: middles[1 - side][each[1 - side]])
    step = LANDING if side else SLOT
    return middles[side][path[side]] + step * (mine.index(path) - (len(mine) - 1) / 2)


def _draw(
    path: tuple[int, int],
    found: HeatMap,
    paths: Paths,
    left: float,
    start: float,
    right: float,
    end: float,
    colours: dict[str, str],
) -> tuple[Curve, Text]:
    """A path, and its figure where it begins."""
    at = int(paths.at[path])
    value, shares = float(found.values.flat[at]), np.isfinite(found.share).any()
    largest = 1.0 if shares else float(np.nanmax(np.abs(found.values)))
    wide, tee = breadth(abs(value) / largest), value < 0
    head = head_length(wide, tee)
    x, end_x = left + FIGURES, right - 2
    reach = 0.5 * (end_x - x)
    points = ((x, start), (x + reach, start), (end_x - head - reach, end), (end_x - head, end), (end_x, end))
    colour = colours["lower" if tee else "raise"]
    curve = Curve(points, colour, 0.8, wide, tee, (path[0], len(paths.senders) + path[1]))
    words = f"{value:+.1%}" if shares else f"{value:+.3g}"
    return curve, Text(left + 4, start, words.replace("-", "−"), colours["ink"], size=FIGURE)


def _samples(found: HeatMap) -> list[tuple[str, str]]:
    if not np.isfinite(found.share).any():
        return [("raise", "raises the metric"), ("lower", f"lowers it, in {found.unit}")]
    return [("raise", found.kept), ("lower", "the reverse"), ("breadth", "10%, 40%, all of it")]
