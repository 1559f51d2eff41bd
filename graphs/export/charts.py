"""Numbers that were followed over time: one small chart for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from graphs.export.lettering import readable, shorten
from graphs.export.scene import MARGIN, THEMES, Line, Scene, Text, check_look

WIDE, HIGH = 150.0, 90.0  # of one chart, between its axes
LEFT, BELOW, ABOVE, BETWEEN = 34.0, 26.0, 22.0, 20.0
IN_A_ROW = 2


def compose_charts(
    lines: Sequence[Mapping[str, float]],
    *,
    across: str,
    names: Mapping[str, str],
    title: str,
    theme: str = "light",
    font: str = "sans",
) -> Scene:
    """A chart for each of `names`, upwards from zero, over the column `across`.

    lines: what was noted, one after another. names: column -> what it is called. A value that is no number leaves a
    gap.

    Raises:
        BadOption: no such theme or font.
    """
    check_look(theme, font, None, "grey", "grey")
    colours = THEMES[theme]
    columns = min(len(names), IN_A_ROW)
    width = 2 * MARGIN + columns * (LEFT + WIDE) + (columns - 1) * BETWEEN
    texts = [Text(MARGIN, MARGIN, shorten(readable(title), 64), colours["ink"], size=11.0, bold=True)]
    strokes: list[Line] = []
    end = max((line[across] for line in lines), default=0) or 1.0
    for place, (name, called) in enumerate(names.items()):
        row, column = divmod(place, columns)
        left = MARGIN + LEFT + column * (LEFT + WIDE + BETWEEN)
        top = MARGIN + 12 + ABOVE + row * (ABOVE + HIGH + BELOW)
        points = [(line[across], line[name]) for line in lines]
        most = max((value for _, value in points if value == value), default=0) or 1.0
        strokes += [Line(left, top + HIGH * at, left + WIDE, top + HIGH * at, colours["line"]) for at in (0, 0.5, 1)]
        for (x0, y0), (x1, y1) in pairwise(points):
            if y0 == y0 and y1 == y1:
                ends = (left + WIDE * x0 / end, top + HIGH * (1 - y0 / most))
                ends += (left + WIDE * x1 / end, top + HIGH * (1 - y1 / most))
                strokes.append(Line(*ends, colours["raise"], 1.4))
        last = next((value for _, value in reversed(points) if value == value), None)
        ending = "" if last is None else f", at last {last:.3g}"
        texts.append(Text(left, top - 10, f"{called}{ending}", colours["ink"], size=8.5))
        texts += [
            Text(
                left - 16, top + HIGH * (1 - share), f"{most * share:.3g}", colours["quiet"], size=7.5, anchor="middle"
            )
            for share in (0.0, 1.0)
        ]
        texts.append(
            Text(left + WIDE / 2, top + HIGH + 9, f"{end:,.0f} {across}", colours["quiet"], size=7.5, anchor="middle")
        )
    rows = -(-len(names) // columns)
    return Scene(
        width=width,
        height=MARGIN + 12 + rows * (ABOVE + HIGH + BELOW) + MARGIN * 0.5,
        colours=colours,
        lines=tuple(strokes),
        curves=(),
        shapes=(),
        texts=tuple(texts),
        font=font,
    )
