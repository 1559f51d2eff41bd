"""What pictures are made of: strokes, edges, shapes and words at their places, for any writer to put on paper."""

from __future__ import annotations

from dataclasses import dataclass

from graphs.export.lettering import width_of

LETTER = 10.0
SMALL = 8.5  # the smallest that matter
MARGIN = 18.0
LINE = 15.5  # from one line of words to the next


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
