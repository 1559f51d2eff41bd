"""The static picture of a graph, as SVG, PNG, PDF or Graphviz source: the same marks in each."""

from __future__ import annotations

import re
from html import escape
from inspect import signature
from pathlib import Path
from typing import Any

from graphs.assays import Assay
from graphs.errors import BadOption, MissingProgram
from graphs.export.diagram import compose_diagram
from graphs.export.lettering import readable
from graphs.export.plots import PLOTS, compose_plots
from graphs.export.scene import compose
from graphs.export.scene.marks import Curve, Line, Scene, Shape, Text
from graphs.export.scene.options import CM, INCH, check_options
from graphs.export.scene.themes import mix
from graphs.graph import AttributionGraph

# The first that is there is taken. Words are measured as wide as Helvetica; serif letters are narrower.
FAMILIES = {
    "sans": "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', 'Noto Sans', 'Noto Sans CJK SC', sans-serif",
    "serif": "'Times New Roman', Times, 'Liberation Serif', 'Noto Serif', 'Noto Serif CJK SC', serif",
}
DOT_FAMILIES = {
    "sans": "Helvetica,Liberation Sans,Arial,DejaVu Sans",
    "serif": "Times,Liberation Serif,Times New Roman,DejaVu Serif",
}
SUFFIXES = (".svg", ".png", ".pdf", ".dot")
# The same picture, the same bytes: Graphviz notes when a PDF was made. As long as before, so that places in it hold.
CREATED = re.compile(rb"/CreationDate \(D:\d{14}(Z|[+-]\d\d'\d\d'?)\)")  # with the zone that the machine keeps
NEVER = b"/CreationDate (D:20000101000000Z)"
MOST_SHOWN = 1500  # nodes that a notebook shows unasked
SOLID = 0.5  # edges as opaque as that are
DOT = 1.35  # the radius of the dot in a node that was ablated alone
EXTENTS = {  # half the width and half the height, in radii
    "circle": (1.0, 1.0),
    "square": (0.92, 0.92),
    "diamond": (1.12, 1.12),
    "box": (1.1, 0.65),
    "plus": (1.15, 1.15),
}


def write_svg(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """An SVG file: the same bytes for the same graph, nothing external.

    picture: "graph", every node at its token and layer, with the options of `compose`; or "groups", the supernode
        diagram, with those of `compose_diagram`; or one of the assay's PLOTS, or "assay", all of them, with those of
        `compose_plots`. So for the other kinds. The diagram asks Graphviz for places.
    """
    Path(path).write_bytes(render(_compose(graph, assay, options), ".svg"))


def write_dot(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """The same picture as Graphviz source, every place fixed: `neato -n2 -Tpdf x.dot` draws it."""
    Path(path).write_bytes(render(_compose(graph, assay, options), ".dot"))


def write_png(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """The same picture as PNG, two pixels a point, or 300 to the inch of `width_cm`. Raises MissingProgram."""
    Path(path).write_bytes(render(_compose(graph, assay, options), ".png"))


def write_pdf(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """The same picture as PDF, for print. Raises MissingProgram without Graphviz."""
    Path(path).write_bytes(render(_compose(graph, assay, options), ".pdf"))


def render(scene: Scene, suffix: str) -> bytes:
    """Any scene as a file with that ending, one of SUFFIXES. Raises MissingProgram."""
    if suffix in (".svg", ".dot"):
        return (to_svg if suffix == ".svg" else to_dot)(scene).encode()
    dots = None if suffix == ".pdf" else 144 if scene.width_cm is None else 300
    found = _render(to_dot(scene, dots), suffix[1:])
    if suffix == ".pdf":
        found = CREATED.sub(lambda date: NEVER.ljust(len(date[0])), found)  # as long: a PDF counts its own bytes
    return found


def in_notebook(graph: AttributionGraph) -> str:
    """The picture as HTML to be put into a page, in words alone for a graph too large to look at (MOST_SHOWN)."""
    picture = as_svg(graph)
    if picture is None:
        return f"<pre>{escape(readable(repr(graph)))}\nToo large to look at: prune it first, prune(graph).</pre>"
    return f'<div style="overflow-x:auto">{picture}</div>'


def as_svg(graph: AttributionGraph) -> str | None:
    """The picture as SVG, none of a graph with more than MOST_SHOWN nodes."""
    return to_svg(compose(graph)) if len(graph.nodes) <= MOST_SHOWN else None


def _compose(graph: AttributionGraph, assay: Assay | None, options: dict[str, Any]) -> Scene:
    picture = options.pop("picture", "graph")
    if picture not in ("graph", "groups", "assay", *PLOTS):
        raise BadOption(f"a picture is graph, groups, assay, or of the assay {', '.join(PLOTS)}; found {picture!r}.")
    if picture == "graph":
        check_options(options, signature(compose), "a picture of the graph")
        return compose(graph, assay=assay, **options)
    if picture != "groups":
        check_options(options, signature(compose_plots), "a picture of its assay")
        return compose_plots(graph, list(PLOTS) if picture == "assay" else [picture], assay=assay, **options)
    check_options(options, signature(compose_diagram), "a picture of its groups")
    return compose_diagram(graph, _arrange, assay=assay, **options)


def _arrange(source: str) -> str:
    return _render(source, "plain", engine="dot").decode()


def _render(source: str, kind: str, engine: str = "neato") -> bytes:
    import graphviz

    fixed = 2 if engine == "neato" else None
    what = f"a .{kind}" if engine == "neato" else "the diagram of groups"
    try:
        return graphviz.Source(source).pipe(format=kind, engine=engine, quiet=True, neato_no_op=fixed)
    except graphviz.ExecutableNotFound as missing:
        raise MissingProgram(
            f"{what} needs Graphviz, and its program `dot` was not found. Install it (Debian, Ubuntu: apt install "
            "graphviz; macOS: brew install graphviz; Windows: winget install graphviz), or draw a .svg of the "
            "whole graph, which needs nothing."
        ) from missing
    except graphviz.CalledProcessError as failed:
        raise MissingProgram(
            f"Graphviz is installed but could not draw {what}: {str(failed.stderr).strip()[:300]}. "
            "Draw a .svg of the whole graph, which does not need it, or update Graphviz."
        ) from failed


def to_svg(scene: Scene) -> str:
    """The scene as an SVG document."""
    width, height = _number(scene.width), _number(scene.height)
    wide, high = width, height
    if scene.width_cm is not None:
        wide, high = f"{scene.width_cm:g}cm", f"{scene.width_cm * scene.height / scene.width:.4g}cm"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{wide}" height="{high}" '
        f'font-family="{escape(FAMILIES[scene.font])}">',
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
    dash = ' stroke-dasharray="4 3"' if line.dashed else ""
    return f'<path d="M{x0} {y0}L{x1} {y1}" stroke="{line.colour}" stroke-width="{_number(line.width)}"{dash}/>'


def _svg_curve(curve: Curve) -> str:
    *_, foot, tip = curve.points
    dx, dy = tip[0] - foot[0], tip[1] - foot[1]
    long = (dx * dx + dy * dy) ** 0.5 or 1.0
    across = (-dy / long, dx / long)  # a unit to the side
    half = 2.4 + 1.0 * curve.width if curve.tee else 1.8 + 0.75 * curve.width
    one = (foot[0] + across[0] * half, foot[1] + across[1] * half)
    other = (foot[0] - across[0] * half, foot[1] - across[1] * half)
    path = f"M{_point(curve.points[0])}C{' '.join(_point(each) for each in curve.points[1:-1])}"
    stroke = f'stroke="{curve.colour}" stroke-width="{_number(curve.width)}"'
    if curve.tee:
        bar = f'<path d="M{_point(one)}L{_point(other)}" fill="none" {stroke}/>'
    else:
        bar = f'<path d="M{_point(one)}L{_point(tip)}L{_point(other)}Z" fill="{curve.colour}"/>'
    name = f' id="e{curve.ends[0]}-{curve.ends[1]}"' if curve.ends else ""
    dash = ' stroke-dasharray="6 4"' if curve.dashed else ""
    return f'<g{name} opacity="{_number(curve.opacity)}"><path d="{path}" fill="none" {stroke}{dash}/>{bar}</g>'


def _svg_shape(shape: Shape) -> str:
    name = f' id="n{shape.row}"' if shape.row is not None else ""
    name += f' data-about="{shape.about}"' if shape.about is not None else ""
    style = f'{name} fill="{shape.fill}" stroke="{shape.outline}" stroke-width="1.2"'
    tip = f"<title>{escape(shape.tip)}</title>"
    if shape.dot is None:
        return _svg_form(shape, style, tip)
    dot = f'<circle cx="{_number(shape.x)}" cy="{_number(shape.y)}" r="{DOT}" fill="{shape.dot}" stroke="none"/>'
    return f"<g{style}>{_svg_form(shape, '', tip)}{dot}</g>"


def _svg_form(shape: Shape, style: str, tip: str) -> str:
    x, y, r = shape.x, shape.y, shape.radius
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
    if shape.shape == "card":
        style = f'{style} rx="5"'
    size = f'x="{_number(x - wide)}" y="{_number(y - high)}" width="{_number(2 * wide)}" height="{_number(2 * high)}"'
    return f"<rect {size}{style}>{tip}</rect>"


def _extent(shape: Shape) -> tuple[float, float]:
    """Half the width and half the height."""
    if shape.size is not None:
        return shape.size
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


def to_dot(scene: Scene, dots: int | None = None) -> str:
    """The scene as Graphviz source with fixed places, for `neato -n2`. Nodes are called as in the SVG.

    dots: to the inch, of pixels; a PDF would come out so much larger.
    """
    high, paper = scene.height, scene.colours["paper"]
    corners = [(0.0, 0.0), (scene.width, scene.height)]
    size = ""
    if scene.width_cm is not None:
        wide = scene.width_cm / CM
        size = f' size="{wide:.4f},{wide * scene.height / scene.width:.4f}!"'
    dpi = "" if dots is None else f" dpi={dots}"
    parts = [
        "digraph graph_on_paper {",
        f'graph [bgcolor="{paper}" outputorder=edgesfirst splines=true margin=0 pad=0{dpi}{size}];',
        f'node [fontname="{DOT_FAMILIES[scene.font]}" label="" fixedsize=true margin=0 penwidth=1.2];',
        *(f'corner{i} [shape=none width=0 height=0 pos="{_flip(at, high)}"];' for i, at in enumerate(corners)),
        *(part for i, line in enumerate(scene.lines) for part in _dot_line(i, line, high)),
        *(
            part
            for i, shape in enumerate(scene.shapes)
            for part in _dot_shape(f"sample{i}" if shape.row is None else f"n{shape.row}", shape, high)
        ),
        *(part for i, curve in enumerate(scene.curves) for part in _dot_curve(i, curve, high, paper)),
        *(_dot_text(i, text, high, paper, DOT_FAMILIES[scene.font]) for i, text in enumerate(scene.texts)),
        "}",
    ]
    return "\n".join(parts) + "\n"


def _dot_line(number: int, line: Line, high: float) -> list[str]:
    start, end = (line.x0, line.y0), (line.x1, line.y1)
    spline = " ".join(_flip(point, high) for point in (start, start, end, end))
    return [
        *_dot_points(f"line{number}", start, end, high),
        f'line{number}a -> line{number}b [pos="{spline}" dir=none color="{line.colour}" '
        f"penwidth={_number(line.width)}{' style=dashed' if line.dashed else ''}];",
    ]


def _dot_points(name: str, start: tuple[float, float], end: tuple[float, float], high: float) -> list[str]:
    return [
        f'{name}{letter} [shape=none width=0 height=0 pos="{_flip(point, high)}"];'
        for letter, point in (("a", start), ("b", end))
    ]


def _dot_curve(number: int, curve: Curve, high: float, paper: str) -> list[str]:
    *chain, tip = curve.points
    start, foot = chain[0], chain[-1]
    spline = " ".join(_flip(point, high) for point in chain)
    long = ((tip[0] - foot[0]) ** 2 + (tip[1] - foot[1]) ** 2) ** 0.5
    # Half transparent, a head would be darker where it lies on its own rim. What is faint must let others through:
    # Graphviz keeps no order among edges.
    colour = f"{curve.colour}{round(255 * curve.opacity):02x}"
    if curve.opacity >= SOLID:
        colour = mix(paper, curve.colour, curve.opacity)
    # Graphviz draws heads ten points long at size 1, a tee two and a half.
    head = f"arrowhead=tee arrowsize={_number(0.4 + 0.12 * curve.width)}"
    if not curve.tee:
        head = f"arrowhead=normal arrowsize={_number(long / 10)}"
    dash = " style=dashed" if curve.dashed else ""
    style = f'[pos="e,{_flip(tip, high)} {spline}" color="{colour}" penwidth={_number(curve.width)} {head}{dash}];'
    if curve.ends:
        return [f"n{curve.ends[0]} -> n{curve.ends[1]} {style}"]
    return [*_dot_points(f"stroke{number}", start, tip, high), f"stroke{number}a -> stroke{number}b {style}"]


def _dot_shape(name: str, shape: Shape, high: float) -> list[str]:
    wide, tall = _extent(shape)
    form = "box" if shape.shape in ("square", "box", "card") else shape.shape
    style = '"filled,rounded"' if shape.shape == "card" else "filled"
    if shape.shape == "plus":  # Graphviz has none
        size = _number(3.4 * shape.radius)
        look = f'shape=none label="+" fontsize={size} fontcolor="{shape.outline}" tooltip={_quote(shape.tip)}'
        return [f'{name} [pos="{_flip((shape.x, shape.y), high)}" width=0 height=0 {look}];']
    parts = [
        f'{name} [pos="{_flip((shape.x, shape.y), high)}" shape={form} width={_inches(2 * wide)} '
        f'height={_inches(2 * tall)} style={style} fillcolor="{shape.fill}" color="{shape.outline}" '
        f"tooltip={_quote(shape.tip)}];"
    ]
    if shape.dot is not None:
        parts.append(
            f'{name}dot [pos="{_flip((shape.x, shape.y), high)}" shape=circle width={_inches(2 * DOT)} '
            f'height={_inches(2 * DOT)} style=filled fillcolor="{shape.dot}" penwidth=0];'
        )
    return parts


def _dot_text(number: int, text: Text, high: float, paper: str, family: str) -> str:
    left, top, right, bottom = text.box
    middle = _flip(((left + right) / 2, text.y), high)
    plate = f'shape=box style=filled color="#00000000" fillcolor="{paper}c7"' if text.plate else "shape=none"
    # \l puts the words at the left edge of their box, wherever the font makes them end.
    words = _quote(text.words)
    if text.anchor == "start":
        words = f'{words[:-1]}\\l"'
    font = f' fontname="{family} bold"' if text.bold else ""
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
