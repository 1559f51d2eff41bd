"""The static picture of a graph, as SVG, PNG, PDF or Graphviz source: the same marks in each."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from graphs.assays import Assay
from graphs.errors import MissingProgram
from graphs.export.scene import Curve, Line, Scene, Shape, Text, compose
from graphs.graph import AttributionGraph

FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', 'Noto Sans', 'Noto Sans CJK SC', sans-serif"
INCH = 72.0
EXTENTS = {  # half the width and half the height, in radii
    "circle": (1.0, 1.0),
    "square": (0.92, 0.92),
    "diamond": (1.12, 1.12),
    "box": (1.1, 0.65),
    "plus": (1.15, 1.15),
}


def write_svg(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """An SVG file of `compose(graph, assay=assay, **options)`: the same bytes for the same graph, nothing external."""
    Path(path).write_text(to_svg(compose(graph, assay=assay, **options)), encoding="utf-8")


def write_dot(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """The same picture as Graphviz source, every place fixed: `neato -n2 -Tpdf x.dot` draws it."""
    Path(path).write_text(to_dot(compose(graph, assay=assay, **options)), encoding="utf-8")


def write_png(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """The same picture as PNG, two pixels a point. Raises MissingProgram without Graphviz."""
    Path(path).write_bytes(_render(to_dot(compose(graph, assay=assay, **options)), "png"))


def write_pdf(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """The same picture as PDF, for print. Raises MissingProgram without Graphviz."""
    Path(path).write_bytes(_render(to_dot(compose(graph, assay=assay, **options)), "pdf"))


def _render(source: str, kind: str) -> bytes:
    import graphviz

    try:
        return graphviz.Source(source).pipe(format=kind, engine="neato", neato_no_op=2, quiet=True)
    except graphviz.ExecutableNotFound as missing:
        raise MissingProgram(
            f"a .{kind} needs Graphviz, and its program `dot` was not found. Install it (Debian, Ubuntu: apt install "
            "graphviz; macOS: brew install graphviz; Windows: winget install graphviz), or draw a .svg, which needs "
            "nothing."
        ) from missing
    except graphviz.CalledProcessError as failed:
        raise MissingProgram(
            f"Graphviz is installed but could not draw a .{kind}: {str(failed.stderr).strip()[:300]}. "
            "Draw a .svg, which does not need it, or update Graphviz."
        ) from failed


def to_svg(scene: Scene) -> str:
    """The scene as an SVG document."""
    width, height = _number(scene.width), _number(scene.height)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{escape(FONTS)}">',
        f"<title>{escape(scene.texts[0].words)}</title>",
        f'<rect width="{width}" height="{height}" fill="{scene.colours["paper"]}"/>',
        *(_svg_line(line) for line in scene.lines),
        *(_svg_curve(curve) for curve in scene.curves),
        *(_svg_shape(shape) for shape in scene.shapes),
        *(_svg_text(text, scene.colours["paper"]) for text in scene.texts),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _svg_line(line: Line) -> str:
    x0, y0, x1, y1 = (_number(value) for value in (line.x0, line.y0, line.x1, line.y1))
    return f'<path d="M{x0} {y0}L{x1} {y1}" stroke="{line.colour}" stroke-width="{_number(line.width)}"/>'


def _svg_curve(curve: Curve) -> str:
    start, first, second, foot, tip = curve.points
    dx, dy = tip[0] - foot[0], tip[1] - foot[1]
    long = (dx * dx + dy * dy) ** 0.5 or 1.0
    across = (-dy / long, dx / long)  # a unit to the side
    half = 2.4 + 1.0 * curve.width if curve.tee else 1.8 + 0.75 * curve.width
    one = (foot[0] + across[0] * half, foot[1] + across[1] * half)
    other = (foot[0] - across[0] * half, foot[1] - across[1] * half)
    path = f"M{_point(start)}C{_point(first)} {_point(second)} {_point(foot)}"
    stroke = f'stroke="{curve.colour}" stroke-width="{_number(curve.width)}"'
    if curve.tee:
        bar = f'<path d="M{_point(one)}L{_point(other)}" fill="none" {stroke}/>'
    else:
        bar = f'<path d="M{_point(one)}L{_point(tip)}L{_point(other)}Z" fill="{curve.colour}"/>'
    name = f' id="e{curve.ends[0]}-{curve.ends[1]}"' if curve.ends else ""
    return f'<g{name} opacity="{_number(curve.opacity)}"><path d="{path}" fill="none" {stroke}/>{bar}</g>'


def _svg_shape(shape: Shape) -> str:
    x, y, r = shape.x, shape.y, shape.radius
    name = f' id="n{shape.row}"' if shape.row is not None else ""
    dash = ' stroke-dasharray="2.2 1.8"' if shape.dashed else ""
    style = f'{name} fill="{shape.fill}" stroke="{shape.outline}" stroke-width="1.2"{dash}'
    tip = f"<title>{escape(shape.tip)}</title>"
    if shape.shape == "circle":
        return f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(r)}"{style}>{tip}</circle>'
    wide, high = _extent(shape)
    if shape.shape == "diamond":
        corners = " ".join(_point(p) for p in ((x, y - high), (x + wide, y), (x, y + high), (x - wide, y)))
        return f'<polygon points="{corners}"{style}>{tip}</polygon>'
    if shape.shape == "plus":
        w = wide / 3.2
        turns = ((w, high), (w, w), (wide, w), (wide, -w), (w, -w), (w, -high))
        corners = [(x + dx, y + dy) for dx, dy in (*turns, *((-dx, -dy) for dx, dy in turns))]
        return f'<polygon points="{" ".join(map(_point, corners))}"{style}>{tip}</polygon>'
    size = f'x="{_number(x - wide)}" y="{_number(y - high)}" width="{_number(2 * wide)}" height="{_number(2 * high)}"'
    return f"<rect {size}{style}>{tip}</rect>"


def _extent(shape: Shape) -> tuple[float, float]:
    """Half the width and half the height."""
    wide, high = EXTENTS[shape.shape]
    return shape.radius * wide, shape.radius * high


def _svg_text(text: Text, paper: str) -> str:
    plate = ""
    if text.plate:
        left, top, right, bottom = text.box
        plate = (
            f'<rect x="{_number(left - 1)}" y="{_number(top)}" width="{_number(right - left + 2)}" '
            f'height="{_number(bottom - top)}" fill="{paper}" opacity="0.78"/>'
        )
    anchor = f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    bold = ' font-weight="bold"' if text.bold else ""
    place = f'x="{_number(text.x)}" y="{_number(text.y + 0.35 * text.size)}"'
    style = f'font-size="{_number(text.size)}" fill="{text.colour}"{anchor}{bold}'
    words = f"{plate}<text {place} {style}>{escape(text.words)}</text>"
    return words if text.row is None else f'<g id="l{text.row}">{words}</g>'


def to_dot(scene: Scene) -> str:
    """The scene as Graphviz source with fixed places, for `neato -n2`. Nodes are called as in the SVG."""
    high = scene.height
    corners = [(0.0, 0.0), (scene.width, scene.height)]
    parts = [
        "digraph graph_on_paper {",
        f'graph [bgcolor="{scene.colours["paper"]}" outputorder=edgesfirst splines=true margin=0 pad=0 dpi=144];',
        'node [fontname="Helvetica,Liberation Sans,Arial,DejaVu Sans" label="" fixedsize=true margin=0 penwidth=1.2];',
        *(f'corner{i} [shape=none width=0 height=0 pos="{_flip(at, high)}"];' for i, at in enumerate(corners)),
        *(part for i, line in enumerate(scene.lines) for part in _dot_line(i, line, high)),
        *(
            _dot_shape(f"sample{i}" if shape.row is None else f"n{shape.row}", shape, high)
            for i, shape in enumerate(scene.shapes)
        ),
        *(part for i, curve in enumerate(scene.curves) for part in _dot_curve(i, curve, high)),
        *(_dot_text(i, text, high, scene.colours["paper"]) for i, text in enumerate(scene.texts)),
        "}",
    ]
    return "\n".join(parts) + "\n"


def _dot_line(number: int, line: Line, high: float) -> list[str]:
    start, end = (line.x0, line.y0), (line.x1, line.y1)
    spline = " ".join(_flip(point, high) for point in (start, start, end, end))
    return [
        *_dot_points(f"line{number}", start, end, high),
        f'line{number}a -> line{number}b [pos="{spline}" dir=none color="{line.colour}" '
        f"penwidth={_number(line.width)}];",
    ]


def _dot_points(name: str, start: tuple[float, float], end: tuple[float, float], high: float) -> list[str]:
    return [
        f'{name}{letter} [shape=none width=0 height=0 pos="{_flip(point, high)}"];'
        for letter, point in (("a", start), ("b", end))
    ]


def _dot_curve(number: int, curve: Curve, high: float) -> list[str]:
    start, first, second, foot, tip = curve.points
    spline = " ".join(_flip(point, high) for point in (start, first, second, foot))
    long = ((tip[0] - foot[0]) ** 2 + (tip[1] - foot[1]) ** 2) ** 0.5
    colour = f"{curve.colour}{round(255 * curve.opacity):02x}"
    # Graphviz draws heads ten points long at size 1, a tee two and a half.
    head = f"arrowhead=tee arrowsize={_number(0.4 + 0.12 * curve.width)}"
    if not curve.tee:
        head = f"arrowhead=normal arrowsize={_number(long / 10)}"
    style = f'[pos="e,{_flip(tip, high)} {spline}" color="{colour}" penwidth={_number(curve.width)} {head}];'
    if curve.ends:
        return [f"n{curve.ends[0]} -> n{curve.ends[1]} {style}"]
    return [*_dot_points(f"stroke{number}", start, tip, high), f"stroke{number}a -> stroke{number}b {style}"]


def _dot_shape(name: str, shape: Shape, high: float) -> str:
    wide, tall = _extent(shape)
    form = "box" if shape.shape in ("square", "box") else shape.shape
    if shape.shape == "plus":  # Graphviz has none
        size = _number(3.4 * shape.radius)
        look = f'shape=none label="+" fontsize={size} fontcolor="{shape.outline}" tooltip={_quote(shape.tip)}'
        return f'{name} [pos="{_flip((shape.x, shape.y), high)}" width=0 height=0 {look}];'
    style = "filled,dotted" if shape.dashed else "filled"  # Graphviz' dashes are too long for so small a round
    return (
        f'{name} [pos="{_flip((shape.x, shape.y), high)}" shape={form} width={_inches(2 * wide)} '
        f'height={_inches(2 * tall)} style="{style}" fillcolor="{shape.fill}" color="{shape.outline}" '
        f"tooltip={_quote(shape.tip)}];"
    )


def _dot_text(number: int, text: Text, high: float, paper: str) -> str:
    left, top, right, bottom = text.box
    middle = _flip(((left + right) / 2, text.y), high)
    plate = f'shape=box style=filled color="#00000000" fillcolor="{paper}c7"' if text.plate else "shape=none"
    # \l puts the words at the left edge of their box, wherever the font makes them end.
    words = _quote(text.words)
    if text.anchor == "start":
        words = f'{words[:-1]}\\l"'
    font = ' fontname="Helvetica,Liberation Sans,Arial,DejaVu Sans bold"' if text.bold else ""
    return (
        f't{number} [pos="{middle}" {plate} width={_inches(right - left)} height={_inches(bottom - top)} '
        f'label={words} fontsize={_number(text.size)} fontcolor="{text.colour}"{font}];'
    )


def _quote(words: str) -> str:
    # Graphviz reads backslashes as escapes, and ampersands as HTML entities.
    words = words.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{words}"'


def _flip(point: tuple[float, float], high: float) -> str:
    """A point as Graphviz counts, upwards."""
    return f"{_number(point[0])},{_number(high - point[1])}"


def _inches(points: float) -> str:
    return f"{points / INCH:.4f}"


def _point(point: tuple[float, float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """Two decimals at most, never `-0`: the same digits on every machine."""
    text = f"{float(value):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
