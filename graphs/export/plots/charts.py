"""Charts: axes that say what is counted, and marks at their figures; several are laid out in rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from graphs.export.lettering import readable, shorten, width_of
from graphs.export.scene.legend import DASHED, TRAILS
from graphs.export.scene.marks import LETTER, Line, Shape, Text

SMALL = 9.0  # letters of ticks and notes
ROW = 12.0
RIGHT, BETWEEN = 16.0, 16.0
NAMED = 5  # so many dots of a chart are called by name, where there is room
UNTESTED = 8.0  # how high a chart is that has nothing to show


@dataclass(frozen=True)
class Axis:
    """What is counted along one side, with its unit, from `low` to `high`. ticks: (value, words)."""

    name: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Trail:
    """A line through points (x, y), cut at the chart's edge; one that is no number breaks it. style: one of TRAILS."""

    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Bar:
    """How many figures lie between `low` and `high`. tip: what it says under the pointer."""

    low: float
    high: float
    count: int
    tip: str


@dataclass(frozen=True)
class Dot:
    """One figure. tip: what it says under the pointer. about: the node it tells of. name: stands beside it, given room.

    colour, outline: roles of the theme. What lies outside of the chart stands at its edge.
    """

    x: float
    y: float
    tip: str
    about: int | None = None
    name: str = ""
    shape: str = "circle"
    radius: float = 3.2
    colour: str = "raise"
    outline: str = "paper"


@dataclass(frozen=True)
class Chart:
    """One chart. notes: lines below its title. bars, trails, dots: in drawing order; the last dots are named first.

    size: of the space between the axes, in points. grid: lines at the ticks of both axes, not of the upward one only.
    """

    title: str
    notes: Sequence[str]
    across: Axis
    upwards: Axis
    size: tuple[float, float]
    bars: Sequence[Bar] = ()
    trails: Sequence[Trail] = ()
    dots: Sequence[Dot] = ()
    grid: bool = False


@dataclass(frozen=True)
class Marks:
    """What charts are drawn with, and where they end."""

    lines: list[Line]
    shapes: list[Shape]
    texts: list[Text]
    right: float
    bottom: float


def untested(title: str, why: str, wide: float) -> Chart:
    """In place of a chart: why there is none."""
    nothing = Axis("", 0.0, 1.0, ())
    return Chart(title, [f"untested: {why}"], nothing, nothing, (wide, UNTESTED))


def axis(name: str, low: float, high: float, *, most: int = 5) -> Axis:
    """An axis with at most about so many round numbers along it."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(each * unit for each in (1, 2, 5, 10) if each * unit >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(name, low, high, [(each * step, figure(each * step)) for each in range(first, last + 1)])


def shares(name: str, low: float, high: float) -> Axis:
    """An axis in percent: nothing, half and all of it, or more where it reaches far beyond."""
    if high - low > 3:
        return percent(name, low, high)
    return Axis(name, low, high, [(each, f"{each:.0%}") for each in (0.0, 0.5, 1.0)])


def percent(name: str, low: float, high: float) -> Axis:
    """An axis as `axis`, its numbers in percent."""
    ticks = [(value, f"{value:.0%}".replace("-", "−")) for value, _ in axis(name, low, high).ticks]
    return Axis(name, low, high, ticks)


def figure(value: float) -> str:
    """A number of three digits, large ones by thousands, with a true minus."""
    if value != value:
        return "undefined"
    return (f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}").replace("-", "−")


def span(values: Sequence[float], *, slack: float = 0.06) -> tuple[float, float]:
    """From the least to the largest of the values that are numbers, and zero, with some room beyond them."""
    known = [each for each in values if math.isfinite(each)]
    low, high = min([0.0, *known]), max([0.0, *known])
    room = slack * ((high - low) or 1.0)
    return low - room, high + room


def lay_out_charts(charts: Sequence[Chart], in_a_row: int, left: float, top: float, colours: dict[str, str]) -> Marks:
    """The charts in rows, so many in each, their axes below each other."""
    marks = Marks([], [], [], left, top)
    ticks = [width_of(words, SMALL) for chart in charts for _, words in chart.upwards.ticks]
    beside = max(ticks, default=0.0) + 10.0
    right, bottom = left, top
    for start in range(0, len(charts), in_a_row):
        row = charts[start : start + in_a_row]
        above = max(_above(chart) for chart in row)
        x, lowest = left + beside, bottom
        for chart in row:
            _draw_chart(marks, chart, (x, bottom + above), colours)
            lowest = max(lowest, bottom + above + chart.size[1] + _below(chart))
            right = max(right, x + chart.size[0] + RIGHT)
            x += chart.size[0] + RIGHT + BETWEEN + beside
        bottom = lowest + BETWEEN
    return Marks(marks.lines, marks.shapes, marks.texts, right, bottom)


def _above(chart: Chart) -> float:
    return ROW * (1 + len(chart.notes) + bool(chart.upwards.name)) + 8


def _below(chart: Chart) -> float:
    return ROW * (bool(chart.across.ticks) + bool(chart.across.name)) + 4


def _draw_chart(marks: Marks, chart: Chart, corner: tuple[float, float], colours: dict[str, str]) -> None:
    left, top = corner
    wide, high = chart.size
    across, upwards = chart.across, chart.upwards

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + wide * (x - across.low) / (across.high - across.low),
            top + high * (upwards.high - y) / (upwards.high - upwards.low),
        )

    said = [upwards.name] if upwards.name else []
    y = top - _above(chart) + ROW / 2
    marks.texts.append(Text(left, y, _fit(chart.title, wide + RIGHT, LETTER, True), colours["ink"], bold=True))
    for words in (*chart.notes, *said):
        y += ROW
        marks.texts.append(Text(left, y, _fit(words, wide + RIGHT, SMALL), colours["quiet"], size=SMALL))
    if not (across.ticks or upwards.ticks):
        return
    _draw_axes(marks, chart, corner, place, colours)
    for bar in chart.bars:
        (x0, y0), (x1, y1) = place(bar.low, 0), place(bar.high, bar.count)
        size = ((x1 - x0) / 2, (y0 - y1) / 2)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        marks.shapes.append(Shape("box", *middle, 0, colours["faint"], colours["paper"], size=size, tip=bar.tip))
    for trail in chart.trails:
        hue, width = TRAILS[trail.style]
        for one, other in pairwise(trail.points):
            ends = _cut(one, other, upwards)
            if ends is not None:
                line = (*place(*ends[0]), *place(*ends[1]))
                marks.lines.append(Line(*line, colours[hue], width, dashed=trail.style in DASHED))
    shapes = []
    for dot in chart.dots:
        x, y = np.clip(dot.x, across.low, across.high), np.clip(dot.y, upwards.low, upwards.high)
        shape = Shape(
            shape=dot.shape,
            x=place(x, y)[0],
            y=place(x, y)[1],
            radius=dot.radius,
            fill=colours[dot.colour],
            outline=colours[dot.outline],
            tip=readable(dot.tip),
            about=dot.about,
        )
        shapes.append(shape)
    marks.shapes.extend(shapes)
    marks.texts.extend(_name_dots(chart, shapes, corner, colours))


def _fit(words: str, wide: float, size: float, bold: bool = False) -> str:
    """The words, cut to so much room."""
    words = readable(words)
    most = len(words)
    while most > 1 and width_of(shorten(words, most), size, bold) > wide:
        most -= 1
    return shorten(words, most)


def _draw_axes(marks: Marks, chart: Chart, corner: tuple[float, float], place, colours: dict[str, str]) -> None:
    left, top = corner
    wide, high = chart.size
    bottom = top + high
    for value, words in chart.upwards.ticks:
        y = place(0.0, value)[1]
        marks.lines.append(Line(left, y, left + wide, y, colours["line" if value or not chart.grid else "faint"]))
        x = left - 5 - width_of(words, SMALL) / 2
        marks.texts.append(Text(x, y, words, colours["quiet"], size=SMALL, anchor="middle"))
    for value, words in chart.across.ticks:
        x = place(value, 0.0)[0]
        if chart.grid:
            marks.lines.append(Line(x, top, x, bottom, colours["line" if value else "faint"]))
        marks.texts.append(Text(x, bottom + 9, words, colours["quiet"], size=SMALL, anchor="middle"))
    if not chart.grid:
        marks.lines.append(Line(left, top, left, bottom, colours["faint"]))
    if chart.across.name:
        y = bottom + 9 + ROW * bool(chart.across.ticks)
        middle = left + wide / 2
        marks.texts.append(Text(middle, y, chart.across.name, colours["quiet"], size=SMALL, anchor="middle"))


def _cut(one: tuple[float, float], other: tuple[float, float], upwards: Axis) -> list[tuple[float, float]] | None:
    """What of a line lies between the lowest and the highest of the axis, if any."""
    if not np.isfinite([*one, *other]).all():
        return None
    (x0, y0), (x1, y1) = one, other
    if y0 == y1:
        return [one, other] if upwards.low <= y0 <= upwards.high else None
    begin, end = sorted([(upwards.low - y0) / (y1 - y0), (upwards.high - y0) / (y1 - y0)])
    begin, end = max(begin, 0.0), min(end, 1.0)
    return [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in (begin, end)] if begin < end else None


def _name_dots(
    chart: Chart, shapes: Sequence[Shape], corner: tuple[float, float], colours: dict[str, str]
) -> list[Text]:
    """Names for the last dots, where they run into no other dot, no other name, and not out of the chart."""
    left, right = corner[0], corner[0] + chart.size[0] + RIGHT
    taken = [
        (each.x - each.radius, each.y - each.radius, each.x + each.radius, each.y + each.radius) for each in shapes
    ]
    texts = []
    for dot, shape in list(zip(chart.dots, shapes, strict=True))[::-1]:
        if not dot.name or len(texts) == NAMED:
            continue
        words = shorten(readable(dot.name), 28)
        for x in (shape.x + shape.radius + 3, shape.x - shape.radius - 3 - width_of(words, SMALL)):
            text = Text(x, shape.y, words, colours["ink"], size=SMALL, plate=True)
            a, b, c, d = text.box
            free = all(a > box[2] or c < box[0] or b > box[3] or d < box[1] for box in taken)
            if free and a > left and c < right:
                texts.append(text)
                taken.append(text.box)
                break
    return texts
