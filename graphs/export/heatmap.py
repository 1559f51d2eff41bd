"""A heat map: one coloured square for each row and column, blue above zero and vermilion below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from graphs.errors import BadOption
from graphs.export.lettering import readable, shorten, width_of, wrap
from graphs.export.scene.captions import lay_out_notes, lay_out_title
from graphs.export.scene.marks import MARGIN, Scene, Shape, Text
from graphs.export.scene.options import check_look, widest_of
from graphs.export.scene.themes import THEMES, mix

CELL = 26.0
SMALL = 14.0  # of crowded maps, whose squares hold no numbers
CROWD = 48  # rows or columns
MOST_ROWS, MOST_COLUMNS = 150, 300  # the strongest of more are drawn
RANKS = 20  # of each row where squares go by their strength
NUMBER = 7.0  # letters of the numbers in the squares
OWN = 5.5  # letters of their own names, where they have room
LONG = 14  # letters of a column's name
STEPS, STEP, BAR = 20, 4.0, 9.0  # of the colour bar on either side of nought: how many, how wide, how high
FAINT = 0.02  # of the largest: numbers below it are grey, and crowded squares have no sign


@dataclass(frozen=True, eq=False)
class HeatMap:
    """What was measured at every place, with the words for it.

    effect: in units of the metric, `unit`; nan where nothing was measured. [row column]
    share: the same as a share of what there was to gain, `kept` in words; all nan where that was nothing.
    rows, columns: what they are called. places: the name of every square in full, [row][column].
    title: what was patched, in which direction. note: what more there is to know. across: what columns are.
    direction: by which one of several maps is called.
    ranked: columns have no meaning of their own, so each row shows its strongest squares under their own names.
    most: so many rows are drawn, those with the strongest squares.
    """

    effect: Float[np.ndarray, "row column"]
    share: Float[np.ndarray, "row column"]
    rows: Sequence[str]
    columns: Sequence[str]
    places: Sequence[list[str]]
    title: str
    direction: str
    unit: str
    kept: str
    across: str = ""
    note: str = ""
    ranked: bool = False
    most: int = MOST_ROWS

    def __post_init__(self) -> None:
        shape = (len(self.rows), len(self.columns))
        named = {len(row) for row in self.places} == {len(self.columns)} and len(self.places) == len(self.rows)
        if self.effect.shape != shape or self.share.shape != shape or not named or not self.effect.size:
            raise BadOption(
                f"a heat map of {shape[0]} rows and {shape[1]} columns wants as many values and names, found "
                f"{self.effect.shape}, {self.share.shape} and {sum(map(len, self.places))} names."
            )

    @property
    def values(self) -> Float[np.ndarray, "row column"]:
        """What is drawn: shares, or effects where there are none."""
        return self.share if np.isfinite(self.share).any() else self.effect

    @property
    def scale(self) -> str:
        """What the values are, in words."""
        return self.kept if np.isfinite(self.share).any() else f"effect in {self.unit}"


@dataclass(frozen=True)
class _Drawn:
    """The squares of a map that are drawn. at: which of the map's, counted row by row; -1 for none. [row column]"""

    at: Int[np.ndarray, "row column"]
    rows: list[str]
    columns: list[str]
    across: str
    left_out: str


def compose_heatmap(
    found: HeatMap,
    *,
    theme: str = "light",
    font: str = "sans",
    width_cm: float | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Scene:
    """The values, the last row on top as layers are drawn, each with its number in it and its name under the pointer.

    Colours run to the largest size; what is no number is grey. Crowded squares hold a minus sign in place of numbers.
    width_cm: on paper; where there is no room for numbers of a readable size, squares hold none.
    title: in place of the map's own. legend: the bar that says what colours mean.

    Raises:
        BadOption: there is no such theme or font, or the width is none that paper has.
    """
    check_look(theme, font, width_cm)
    room = widest_of(width_cm, NUMBER) or float("inf")
    colours, drawn, values = THEMES[theme], _choose(found, room), found.values
    crowded = max(drawn.at.shape) > CROWD or _names_wide(drawn.rows) + CELL * len(drawn.columns) + MARGIN > room
    cell = SMALL if crowded else CELL
    names = [shorten(readable(column).strip() or "␣", LONG) for column in drawn.columns]
    turned = max(width_of(name, 8.5) for name in names) > cell - 2  # too wide to stand side by side
    left = _names_wide(drawn.rows)
    width = max(left + cell * len(names) + MARGIN, 280.0, *((left + cell * len(names) + 60,) if turned else ()))
    texts, top = lay_out_title(title or found.title, width, colours)
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    shapes = []
    for row, name in enumerate(drawn.rows):
        y = top + cell * (len(drawn.rows) - 1 - row) + cell / 2
        texts.append(Text(MARGIN, y, name, colours["quiet"], size=9.0))
        for column, at in enumerate(drawn.at[row].tolist()):
            if at < 0:
                continue
            own = found.places[at // len(found.columns)][at % len(found.columns)]
            x, value = left + cell * column + cell / 2, float(values.flat[at])
            share = abs(value) / largest if largest and np.isfinite(value) else 0.0
            fill = colours["error"] if not np.isfinite(value) else _colour(colours, np.sign(value) * share)
            tip = f"{readable(own)}: {_told(found, at)}"
            size = (cell / 2, cell / 2)
            shapes.append(Shape("box", x, y, 0, fill, colours["line"], size=size, tip=tip, about=at))
            ink = colours["paper"] if share > 0.55 else colours["quiet" if share < FAINT else "ink"]
            texts += _words_in(value, share, x, y, ink, crowded, own if found.ranked else "")
    below = top + cell * len(drawn.rows) + 10
    storeys = _storeys(names, cell) if turned else 1
    for column, name in enumerate(names):
        x, y = left + cell * column + cell / 2, below + 11.0 * (column % storeys)
        texts.append(Text(x, y, name, colours["quiet"], size=8.5, anchor="middle"))
    bottom = below + 11.0 * (storeys - 1) + 14
    texts.append(Text(MARGIN, bottom, drawn.across, colours["quiet"], size=8.5))
    bottom += 16
    if legend:
        bar, words, bottom = _lay_out_bar(found, largest, width, bottom, colours)
        shapes += bar
        texts += words
    notes, bottom = lay_out_notes((found.note, drawn.left_out), width, bottom, colours)
    texts += notes
    return Scene(
        width=width,
        height=bottom + MARGIN * 0.5,
        colours=colours,
        lines=(),
        curves=(),
        shapes=tuple(shapes),
        texts=tuple(texts),
        font=font,
        width_cm=width_cm,
    )


def stack(scenes: Sequence[Scene]) -> Scene:
    """Scenes of one look, one below the other; rows of nodes are counted on."""
    height, parts, rows = 0.0, {}, 0
    for scene in scenes:
        moved = {
            "lines": [replace(each, y0=each.y0 + height, y1=each.y1 + height) for each in scene.lines],
            "curves": [
                replace(
                    each,
                    points=tuple((x, y + height) for x, y in each.points),
                    ends=each.ends and (each.ends[0] + rows, each.ends[1] + rows),
                )
                for each in scene.curves
            ],
            "shapes": [
                replace(each, y=each.y + height, row=None if each.row is None else each.row + rows)
                for each in scene.shapes
            ],
            "texts": [replace(each, y=each.y + height) for each in scene.texts],
        }
        parts = {name: (*parts.get(name, ()), *marks) for name, marks in moved.items()}
        rows = max((each.row + 1 for each in parts["shapes"] if each.row is not None), default=0)
        height += scene.height
    return replace(scenes[0], width=max(scene.width for scene in scenes), height=height, **parts)


def short(value: float) -> str:
    """A number of two digits, as short as it goes."""
    size = abs(value)
    if round(size, 1) >= 10:  # what rounds to ten reads like it
        return f"{value:.0f}"
    text = f"{value:.1f}" if round(size, 2) >= 1 else f"{value:.2f}".replace("0.", ".", 1)
    return "0" if text.strip("-.0") == "" else text


def _names_wide(rows: Sequence[str]) -> float:
    """Where the squares begin, to the right of the names of their rows."""
    return MARGIN + max(width_of(row, 9.0) for row in rows) + 8


def _choose(found: HeatMap, room: float) -> _Drawn:
    """The squares to draw: all, or the strongest rows and columns of too many; ranked, each row's strongest.

    room: how wide the map may be.
    """
    size = np.nan_to_num(np.abs(found.effect))
    rows = _strongest(size.max(1), min(found.most, MOST_ROWS))
    said = []
    if len(rows) < len(found.rows):
        said.append(f"the {len(rows)} strongest of {len(found.rows):,} rows are drawn")
    at, names = np.arange(size.size).reshape(size.shape)[rows], [readable(found.rows[row]) for row in rows]
    if found.ranked:
        ranks = int(np.clip((room - _names_wide(names) - MARGIN) / CELL, 1, RANKS))
        order = np.argsort(-size[rows], axis=1, kind="stable")[:, :ranks]
        if size.shape[1] > ranks:
            said.append(f"of each row the {ranks} strongest of {size.shape[1]:,} are drawn")
        columns, across = [str(place + 1) for place in range(order.shape[1])], f"{found.across}, strongest first"
        at = np.take_along_axis(at, order, 1)
    else:
        kept = _strongest(size.max(0), MOST_COLUMNS)
        if len(kept) < len(found.columns):
            said.append(f"the {len(kept)} strongest of {len(found.columns):,} columns are drawn")
        columns, across, at = [found.columns[each] for each in kept], found.across, at[:, kept]
    return _Drawn(at, names, columns, across, "; ".join(said))


def _strongest(size: Float[np.ndarray, "place"], most: int) -> list[int]:
    return sorted(np.argsort(-size, kind="stable")[:most].tolist())


def _colour(colours: dict[str, str], value: float) -> str:
    """Of a value from -1 to 1."""
    return mix(colours["paper"], colours["raise" if value > 0 else "lower"], abs(value))


def _told(found: HeatMap, at: int) -> str:
    """Share and effect of a square, in words."""
    share, effect = float(found.share.flat[at]), float(found.effect.flat[at])
    if not np.isfinite(effect):
        return "not measured"
    return f"{share:.1%}, {effect:+.4g} {found.unit}" if np.isfinite(share) else f"{effect:+.4g} {found.unit}"


def _words_in(value: float, share: float, x: float, y: float, ink: str, crowded: bool, own: str) -> list[Text]:
    """What stands in a square: its number, above its own name if it has one; only a minus where there is no room."""
    if not np.isfinite(value):
        return []
    if crowded:
        return [Text(x, y, "−", ink, size=NUMBER, anchor="middle")] if value < 0 and share >= FAINT else []
    if not own:
        return [Text(x, y, short(value), ink, size=NUMBER, anchor="middle")]
    name = readable(own).split()[-1]
    return [
        Text(x, y - 5, short(value), ink, size=NUMBER, anchor="middle"),
        Text(x, y + 6, shorten(name, 7), ink, size=OWN, anchor="middle"),
    ]


def _lay_out_bar(
    found: HeatMap, largest: float, width: float, top: float, colours: dict[str, str]
) -> tuple[list[Shape], list[Text], float]:
    """The bar of colours with its ends and its unit, what grey means if there is any, and where they end."""
    shapes, quiet = [], colours["quiet"]
    end = f"{largest:.0%}" if np.isfinite(found.share).any() and largest >= 0.1 else f"{largest:.2g}"
    left = MARGIN + width_of(f"−{end}", 8.5) + 6
    for step in range(-STEPS, STEPS + 1):
        x = left + STEP * (step + STEPS) + STEP / 2
        fill = _colour(colours, step / STEPS)
        shapes.append(Shape("box", x, top, 0, fill, fill, size=(STEP / 2, BAR / 2)))
    long = STEP * (2 * STEPS + 1)
    texts = [
        Text(MARGIN, top, f"−{end}", quiet, size=8.5),
        Text(left + long / 2, top, "0", quiet, size=8.5, anchor="middle"),
        Text(left + long + 5, top, f"+{end}", quiet, size=8.5),
    ]
    bottom = top + 14
    missing = ["grey: not measured"] if not np.isfinite(found.effect).all() else []
    for line in wrap("; ".join((f"colour and number: {found.scale}", *missing)), width - 2 * MARGIN, 8.5):
        texts.append(Text(MARGIN, bottom, line, quiet, size=8.5))
        bottom += 12
    return shapes, texts, bottom


def _storeys(names: Sequence[str], cell: float) -> int:
    """On how many lines names must take turns so that none runs into the next of its line."""
    widest = max(width_of(name, 8.5) for name in names) + 4
    return max(1, int(-(-widest // cell)))
