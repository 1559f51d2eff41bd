"""A heat map: one coloured square for each row and column, blue above zero and vermilion below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from graphs.errors import BadOption
from graphs.export.lettering import readable, shorten, width_of, wrap
from graphs.export.scene import MARGIN, THEMES, Scene, Shape, Text, check_look, mix

CELL = 26.0
NUMBER = 7.0  # letters of the numbers in the squares
HEAD = 14.0
LONG = 14  # letters of a column's name


def compose_heatmap(
    values: Float[np.ndarray, "row column"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    note: str = "",
    across: str = "",
    theme: str = "light",
    font: str = "sans",
    width_cm: float | None = None,
) -> Scene:
    """The values, the last row on top as layers are drawn, each with its number in it and its names under the pointer.

    rows, columns: what they are called. note: a line below. across: what the columns are. Colours run to the largest
    size; what is no number is left grey.

    Raises:
        BadOption: names and values do not fit, or there is no such theme or font.
    """
    check_look(theme, font, width_cm, "grey", "grey")
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise BadOption(
            f"a heat map of {len(rows)} rows and {len(columns)} columns wants as many values, found {values.shape}."
        )
    colours = THEMES[theme]
    names = [shorten(readable(column).strip() or "␣", LONG) for column in columns]
    turned = max(width_of(name, 8.5) for name in names) > CELL - 2  # too wide to stand side by side
    left = MARGIN + max(width_of(row, 9.0) for row in rows) + 8
    width = max(left + CELL * len(columns) + MARGIN, 240.0, *((left + CELL * len(columns) + 60,) if turned else ()))
    texts = [
        Text(MARGIN, MARGIN + HEAD * at, line, colours["ink"], size=11.0, bold=True)
        for at, line in enumerate(wrap(readable(title), width - 2 * MARGIN, 11.5))
    ]
    top = MARGIN + HEAD * len(texts) + 4
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    shapes = []
    for at, row in enumerate(rows):
        y = top + CELL * (len(rows) - 1 - at) + CELL / 2
        texts.append(Text(MARGIN, y, row, colours["quiet"], size=9.0))
        for place, value in enumerate(values[at]):
            x = left + CELL * place + CELL / 2
            share = abs(value) / largest if largest and np.isfinite(value) else 0.0
            towards = colours["raise" if value > 0 else "lower"]
            fill = mix(colours["paper"], towards, share) if np.isfinite(value) else colours["error"]
            tip = f"{row}, {readable(columns[place]).strip()}: {value:.4g}"
            shapes.append(Shape("box", x, y, 0, fill, colours["line"], size=(CELL / 2, CELL / 2), tip=tip))
            if np.isfinite(value):
                ink = colours["paper"] if share > 0.55 else colours["ink"]
                texts.append(Text(x, y, short(float(value)), ink, size=NUMBER, anchor="middle"))
    below = top + CELL * len(rows) + 10
    step = 11.0 if turned else 0.0
    for place, name in enumerate(names):
        drop = step * (place % _storeys(names)) if turned else 0.0
        texts.append(
            Text(left + CELL * place + CELL / 2, below + drop, name, colours["quiet"], size=8.5, anchor="middle")
        )
    bottom = below + (step * (_storeys(names) - 1) if turned else 0.0) + 14
    for line in (across, *(wrap(readable(note), width - 2 * MARGIN, 8.5) if note else ())):
        if line:
            texts.append(Text(MARGIN, bottom, line, colours["quiet"], size=8.5))
            bottom += 12
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


def short(value: float) -> str:
    """A number of two digits, as short as it goes."""
    size = abs(value)
    if size >= 10:
        return f"{value:.0f}"
    text = f"{value:.1f}" if size >= 1 else f"{value:.2f}".replace("0.", ".", 1)
    return "0" if text.strip("-.0") == "" else text


def _storeys(names: Sequence[str]) -> int:
    """On how many lines names must take turns so that none runs into the next of its line."""
    widest = max(width_of(name, 8.5) for name in names) + 4
    return max(1, int(-(-widest // CELL)))
