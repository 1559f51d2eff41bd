"""Numbers that were followed over a training: one chart for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphs.export.lettering import readable, shorten
from graphs.export.plots.charts import Chart, Trail, axis, figure, lay_out_charts
from graphs.export.scene.marks import MARGIN, Scene, Text
from graphs.export.scene.options import check_look
from graphs.export.scene.themes import THEMES

SIZE = (170.0, 96.0)
IN_A_ROW = 2


def compose_training(
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
    check_look(theme, font, None)
    colours = THEMES[theme]
    charts = [_chart(lines, across, name, called) for name, called in names.items()]
    marks = lay_out_charts(charts, min(len(charts), IN_A_ROW), MARGIN, MARGIN + 18, colours)
    heading = Text(MARGIN, MARGIN, shorten(readable(title), 64), colours["ink"], size=11.0, bold=True)
    return Scene(
        width=max(marks.right, heading.box[2]) + MARGIN,
        height=marks.bottom + MARGIN * 0.5,
        colours=colours,
        lines=tuple(marks.lines),
        curves=(),
        shapes=tuple(marks.shapes),
        texts=(heading, *marks.texts),
        font=font,
    )


def _chart(lines: Sequence[Mapping[str, float]], across: str, name: str, called: str) -> Chart:
    points = [(line[across], line[name]) for line in lines]
    end = max((x for x, _ in points), default=0) or 1.0
    most = max((y for _, y in points if y == y), default=0) or 1.0
    last = next((y for _, y in reversed(points) if y == y), None)
    return Chart(
        title=called,
        notes=["nothing was noted" if last is None else f"at last {figure(last)}"],
        across=axis(across, 0.0, end, most=3),
        upwards=axis("", 0.0, most, most=3),
        size=SIZE,
        trails=[Trail(points, "kept")],
    )
