"""The supernode diagram: a grouped graph in a few boxes with words on them, for the story that a figure tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphs.assays import Assay
from graphs.errors import BadOption
from graphs.export.lettering import readable, shorten, width_of, wrap
from graphs.export.scene.captions import doubts_in_words, fan_in_words, heading, lay_out_caption
from graphs.export.scene.edges import breadth, head_length
from graphs.export.scene.legend import lay_out_legend
from graphs.export.scene.marks import MARGIN, Curve, Scene, Shape, Text
from graphs.export.scene.names import first_token, label_of
from graphs.export.scene.options import check_edges, check_look, widest_of
from graphs.export.scene.tested import moved_the_other_way
from graphs.export.scene.themes import THEMES, mix
from graphs.graph import AttributionGraph

NAME = 11.0  # letters of a box's name
NOTE = 8.5  # and of what stands below it
FEWEST = 4  # boxes, however narrow the picture
WIDEST = 130.0  # a longer name goes on in a second line
UNEXPLAINED = ("error", "unselected")

# Source for `dot`, and what it answers as plain text: where nodes and edges are, in inches, upwards.
Arrange = Callable[[str], str]


def compose_diagram(
    graph: AttributionGraph,
    arrange: Arrange,
    *,
    assay: Assay | None = None,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    theme: str = "light",
    most_boxes: int = 25,
    most_inputs: int = 4,
    least_share: float = 0.0,
    bos: str = "grey",
    errors: str = "grey",
    labels: bool = True,
    legend: bool = True,
    title: str | None = None,
    font: str = "sans",
    width_cm: float | None = None,
) -> Scene:
    """The diagram of a graph's groups, made of marks. What it leaves out, the caption says with its figures.

    arrange: asks Graphviz' `dot` for places.
    assay: what was measured; each box says how many of its nodes were ablated, and how many moved the target against
        the prediction.
    groups: as `graphs.group` takes them; by default suggested. A graph that was grouped before is taken as it is.
    most_boxes: so many of those that carry most, the likeliest answer among them. One that no drawn edge touches is
        left out.
    most_inputs: so many of the strongest edges into each box are drawn.
    width_cm: as in `compose`; the narrower, the fewer boxes, so that letters stay readable.
    The others are those of `compose`.

    Raises:
        BadOption: there is no such theme, font or choice, a number makes no sense, or the groups do not fit the graph.
    """
    from graphs.grouping import group

    check_look(theme, font, width_cm, bos, errors)
    for name, found in (("most_boxes", most_boxes), ("most_inputs", most_inputs)):
        if found < 1:
            raise BadOption(f"{name} must be 1 or more, not {found}.")
    check_edges(least_share=least_share)
    colours = THEMES[theme]
    tested = graph
    if groups is not None or not graph.provenance.get("groups"):
        graph = group(graph, groups)
    widest = widest_of(width_cm)
    while True:
        edges, rows, counts = _choose(graph, most_boxes, most_inputs, least_share, bos, errors)
        cards = {row: _card(graph, row, _tried(tested, graph, row, assay), labels, widest) for row in rows}
        places, splines, wide, high = _read(
            arrange(_source(graph, edges, rows, cards, 0.2 if widest is None else 0.08))
        )
        if widest is None or wide + 2 * MARGIN <= widest or len(rows) <= FEWEST:
            break
        most_boxes = len(rows) - 1

    top_lines = heading(graph, title, 110 if widest else max(60, int(wide / 9)), colours, widest)
    top = top_lines[-1].y + 18
    width = max(wide + 2 * MARGIN, min(560.0, widest or 560.0), *(text.box[2] + MARGIN for text in top_lines))
    left = (width - wide) / 2
    shapes, texts = [], []
    for row in rows:
        x, y = places[row][0] + left, places[row][1] + top
        shapes.append(_shape(graph, row, cards[row], x, y, colours))
        texts += _words(cards[row], x, y, colours)
    judged = _judged(tested, graph, rows, assay)
    curves = _curves(graph, edges, splines, left, top, bos, colours, judged)
    lines = [*_said(graph, counts), *fan_in_words(graph, bos), *doubts_in_words(tested), None]
    caption, bottom = lay_out_caption(lines, assay, width, top + high + 20, colours)
    key, bottom = lay_out_legend(_samples(graph, rows, curves, colours) if legend else [], width, bottom + 4, colours)
    return Scene(
        width=width,
        height=bottom + MARGIN * 0.6,
        colours=colours,
        lines=(*key["lines"],),
        curves=(*curves, *key["curves"]),
        shapes=(*shapes, *key["shapes"]),
        texts=(*top_lines, *texts, *caption, *key["texts"]),
        font=font,
        width_cm=width_cm,
    )


def _choose(
    graph: AttributionGraph, most_boxes: int, most_inputs: int, least_share: float, bos: str, errors: str
) -> tuple[list[int], list[int], dict[str, Any]]:
    """The edges and the nodes to draw, and what is left out."""
    from graphs.paths import edge_influence, is_bias, signed_share

    kind = graph.nodes.kind
    carried = edge_influence(graph)
    runs = np.bincount(graph.source, carried, minlength=len(kind))
    hidden = is_bias(graph) | ((errors == "hide") & (kind == "error"))
    first = first_token(graph)
    if first is not None and bos == "hide":
        hidden[first] = True
    matters = runs + graph.goal
    answers = graph.nodes.where("logit")
    best = answers[graph.goal[answers] == graph.goal[answers].max(initial=0.0)][:1].tolist()
    matters[best] = np.inf
    boxes = [row for row in np.argsort(-matters, kind="stable").tolist() if not hidden[row] and matters[row] > 0]
    inside = np.isin(np.arange(len(kind)), boxes[:most_boxes])
    free = inside[graph.source] & inside[graph.target] & (np.abs(signed_share(graph)) >= least_share) & (carried > 0)
    edges = []
    for target in np.flatnonzero(inside):
        into = np.flatnonzero(free & (graph.target == target))
        edges += into[np.argsort(-carried[into], kind="stable")[:most_inputs]].tolist()
    rows = sorted({*graph.source[edges].tolist(), *graph.target[edges].tolist(), *best})
    flows = ~is_bias(graph)[graph.source]
    whole = float(carried.sum())
    return (
        edges,
        rows,
        {
            "boxes": len(rows),
            "nodes": int((~is_bias(graph)).sum()),
            "edges": len(edges),
            "all_edges": int(flows.sum()),
            "share": float(carried[edges].sum()) / whole if whole > 0 else 1.0,
            "biases": bool(is_bias(graph).any()),
            "errors": bool((kind == "error").any()) and errors == "hide",
        },
    )


def _said(graph: AttributionGraph, counts: dict[str, Any]) -> list[str]:
    from graphs.scores import scores
    from graphs.wording import kept_in_words, scores_in_words

    found = scores(graph).to_json()
    drawn = (
        f"drawn: {counts['boxes']} of {counts['nodes']} boxes and {counts['edges']:,} of {counts['all_edges']:,} "
        f"edges, {counts['share']:.0%} of what they carry"
    )
    rest = [*scores_in_words(found, graph.kept)]
    if counts["biases"]:
        rest.append("biases are not drawn")
    if counts["errors"]:
        rest.append(f"errors are not drawn: {found['error']:.0%} of the influence ends there")
    return [f"{kept_in_words(graph)}; {drawn}", "; ".join(rest)]


def _tried(tested: AttributionGraph, graph: AttributionGraph, row: int, assay: Assay | None) -> tuple[int, int, int]:
    """Of a box's units: how many there are, were ablated alone, and moved the target against the prediction."""
    from graphs.naming import name_of
    from graphs.suggesting import UNITS

    if str(graph.nodes.kind[row]) not in UNITS:
        return 0, 0, 0
    names = _names(graph, row)
    if assay is None:
        return len(names), 0, 0
    # An assay knows its nodes by their rows in the graph that was tested.
    wrong = set(moved_the_other_way(assay))
    rows = [each.node for each in assay.ablations if each.node < len(tested.nodes)]
    rows = [node for node in rows if name_of(tested, node) in names]
    return len(names), len(rows), sum(node in wrong for node in rows)


def _judged(
    tested: AttributionGraph, graph: AttributionGraph, rows: list[int], assay: Assay | None
) -> dict[tuple[int, int], str]:
    """The verdict on each edge between two boxes that were tested as groups, by its ends."""
    from graphs.naming import name_of
    from graphs.wording import claim_arrow

    if assay is None:
        return {}
    boxes = {_names(graph, row): row for row in rows}
    groups = [each for each in assay.groups if all(node < len(tested.nodes) for node in each.node)]
    where = {each.name: boxes.get(frozenset(name_of(tested, node) for node in each.node)) for each in groups}
    said = {each.claim: each.verdict for each in assay.verdicts}
    found: dict[tuple[int, int], str] = {}
    for each in groups:
        for arrow in each.arrows:
            source, target = where[each.name], where.get(arrow.to)
            if source is not None and target is not None:
                found[source, target] = said.get(claim_arrow(each.name, arrow.to), "untested")
    return found


def _names(graph: AttributionGraph, row: int) -> frozenset[str]:
    """What the nodes of a box are called in the graph that was grouped."""
    from graphs.naming import name_of

    return frozenset(_group(graph, row)["names"] if graph.nodes.kind[row] == "supernode" else [name_of(graph, row)])


def _group(graph: AttributionGraph, row: int) -> Mapping[str, Any]:
    return graph.provenance["groups"][int(graph.nodes.feature[row])]


def _card(
    graph: AttributionGraph, row: int, tried: tuple[int, int, int], labels: bool, widest: float | None
) -> dict[str, Any]:
    """The words on a box, and half its size."""
    nodes = graph.nodes
    kind = str(nodes.kind[row])
    name = readable(str(nodes.label[row])).strip() or ("␣" if kind == "token" else kind)
    notes = []
    if kind == "logit":
        name = label_of(graph, row)
    elif kind not in ("token", *UNEXPLAINED):
        if not labels:
            name = f"group {row}" if kind == "supernode" else f"L{nodes.unit(row)}"
        notes.append(_place(graph, row))
        many, ablated, wrong = tried
        if ablated:
            notes.append(f"{ablated} of {many} ablated" if many > 1 else "ablated alone")
        if wrong:
            notes.append(f"{wrong} moved the other way" if many > 1 else "moved the other way")
    lines = [shorten(line, 24) for line in wrap(shorten(name, 44), min(WIDEST, (widest or 1000.0) / 4), NAME)][:2]
    wide = max(*(width_of(line, NAME, True) for line in lines), *(width_of(note, NOTE) for note in notes), 16.0)
    high = len(lines) * (NAME + 3) + len(notes) * (NOTE + 2.5)
    return {"lines": lines, "notes": notes, "wrong": tried[2] > 0, "size": (wide / 2 + 8, high / 2 + 5)}


def _place(graph: AttributionGraph, row: int) -> str:
    """How many units of which layers at which token: `5 feat · L4–L9 · @dallas`."""
    nodes = graph.nodes
    if nodes.kind[row] == "supernode":
        found = _group(graph, row)
        low, high = found["layers"]
        at, many = found["positions"], f"{len(found['names'])} nodes · "
    else:
        low = high = int(nodes.layer[row])
        at, many = [int(nodes.position[row])], ""
    tokens = [shorten(readable(graph.tokens[p]).strip(), 12) for p in at if 0 <= p < len(graph.tokens)]
    where = f" · @{tokens[0]}" if len(tokens) == 1 else f" · {len(tokens)} tokens" if tokens else ""
    return f"{many}L{low}{f'–L{high}' if high > low else ''}{where}"


def _source(
    graph: AttributionGraph, edges: list[int], rows: list[int], cards: Mapping[int, dict[str, Any]], apart: float
) -> str:
    """What `dot` is asked: one rank a layer, tokens at the bottom in the order of the prompt, logits on top.

    apart: between boxes of one rank, in inches.
    """
    band: dict[int, int] = {}
    layers = {layer: place for place, layer in enumerate(sorted({int(graph.nodes.layer[row]) for row in rows}))}
    inputs: dict[int, list[int]] = {row: [] for row in rows}
    for edge in edges:
        inputs[int(graph.target[edge])].append(int(graph.source[edge]))
    for row in rows:  # reading order: inputs come first
        own = layers[int(graph.nodes.layer[row])]
        band[row] = max([own, *(band[source] + 1 for source in inputs[row])])
    top = max(band.values(), default=0)
    band.update({row: top for row in rows if graph.nodes.kind[row] == "logit"})
    parts = ["digraph groups {", f"graph [rankdir=BT ranksep=0.5 nodesep={apart} ordering=out];"]
    parts.append('node [shape=box fixedsize=true label=""]; edge [dir=none];')
    used = sorted(set(band.values()))
    parts += [f"band{level} [style=invis width=0.01 height=0.01];" for level in used]
    parts += [f"band{low} -> band{high} [style=invis];" for low, high in pairwise(used)]
    for level in used:
        here = [row for row in rows if band[row] == level]
        here.sort(key=lambda row: (int(graph.nodes.position[row]), row))
        for row in here:
            wide, high = cards[row]["size"]
            parts.append(f"n{row} [width={wide / 36:.4f} height={high / 36:.4f}];")
        parts.append(f"{{rank=same; band{level}; {' '.join(f'n{row};' for row in here)}}}")
    parts += [f"n{graph.source[edge]} -> n{graph.target[edge]} [weight=2];" for edge in edges]
    tokens = [row for row in rows if graph.nodes.kind[row] == "token"]
    tokens.sort(key=lambda row: int(graph.nodes.position[row]))
    # Read from left to right, as the prompt is.
    parts += [f"n{one} -> n{other} [style=invis];" for one, other in pairwise(tokens)]
    return "\n".join([*parts, "}"]) + "\n"


def _read(answer: str) -> tuple[dict[int, tuple[float, float]], dict[tuple[int, int], list], float, float]:
    """Middles of boxes, curves of edges, and the size of it all, from `dot -Tplain`; in points, downwards."""
    places: dict[int, tuple[float, float]] = {}
    splines: dict[tuple[int, int], list] = {}
    wide = high = 0.0
    for line in answer.splitlines():
        words = line.split()
        if words[0] == "graph":
            wide, high = 72 * float(words[2]), 72 * float(words[3])
        elif words[0] == "node" and words[1].startswith("n"):
            places[int(words[1][1:])] = (72 * float(words[2]), high - 72 * float(words[3]))
        elif words[0] == "edge" and words[1].startswith("n"):
            count = int(words[3])
            at = [float(word) for word in words[4 : 4 + 2 * count]]
            points = [(72 * at[i], high - 72 * at[i + 1]) for i in range(0, 2 * count, 2)]
            splines.setdefault((int(words[1][1:]), int(words[2][1:])), points)
    return places, splines, wide, high


def _curves(
    graph: AttributionGraph,
    edges: list[int],
    splines: Mapping[tuple[int, int], list],
    left: float,
    top: float,
    bos: str,
    colours: dict[str, str],
    judged: Mapping[tuple[int, int], str],
) -> list[Curve]:
    from graphs.paths import edge_influence, signed_share

    share, carried = signed_share(graph), edge_influence(graph)
    first = first_token(graph)
    largest = float(carried[edges].max(initial=0.0)) or 1.0
    curves = []
    for edge in sorted(edges, key=lambda edge: float(carried[edge])):
        ends = (int(graph.source[edge]), int(graph.target[edge]))
        grey = ends[0] == first and bos == "grey"
        tee = bool(share[edge] < 0)
        width = breadth(abs(float(share[edge])))
        points = [(x + left, y + top) for x, y in splines[ends]]
        head = head_length(width, tee)
        (x1, y1), (x0, y0) = points[-1], points[-2]
        long = float(np.hypot(x1 - x0, y1 - y0)) or 1.0
        points[-1] = (x1 - (x1 - x0) / long * head, y1 - (y1 - y0) / long * head)
        colour = colours["faint"] if grey else colours["lower" if tee else "raise"]
        opacity = 0.5 if grey else 0.3 + 0.6 * (float(carried[edge]) / largest) ** 0.45
        if judged.get(ends) == "not supported":
            colour, opacity = colours["failed"], 0.95
        dashed = judged.get(ends) == "untested"
        curves.append(Curve((*points, (x1, y1)), colour, opacity, width, tee, ends, dashed=dashed))
    return curves


def _shape(
    graph: AttributionGraph, row: int, card: Mapping[str, Any], x: float, y: float, colours: dict[str, str]
) -> Shape:
    kind = str(graph.nodes.kind[row])
    fill = colours["error"] if kind in UNEXPLAINED else mix(colours["low"], colours["high"], 0.12)
    if kind in ("token", "logit"):
        fill = colours["low"]
    outline = colours["failed"] if card["wrong"] else colours["quiet" if kind in UNEXPLAINED else "high"]
    members = _group(graph, row)["names"] if kind == "supernode" else []
    tip = f"{readable(str(graph.nodes.label[row]))}: {kind}"
    if members:
        tip += f" of {len(members)}: {', '.join(members[:12])}{', …' if len(members) > 12 else ''}"
    return Shape("card", x, y, card["size"][0], fill, outline, size=card["size"], row=row, tip=tip)


def _words(card: Mapping[str, Any], x: float, y: float, colours: dict[str, str]) -> list[Text]:
    at = y - card["size"][1] + 5
    texts = []
    for line in card["lines"]:
        texts.append(Text(x, at + (NAME + 3) / 2, line, colours["ink"], size=NAME, anchor="middle", bold=True))
        at += NAME + 3
    for note in card["notes"]:
        colour = colours["failed" if note.endswith("other way") else "quiet"]
        texts.append(Text(x, at + (NOTE + 2.5) / 2, note, colour, size=NOTE, anchor="middle"))
        at += NOTE + 2.5
    return texts


def _samples(
    graph: AttributionGraph, rows: list[int], curves: Sequence[Curve], colours: dict[str, str]
) -> list[tuple[str, str]]:
    samples = [("raise", "raises its target"), ("lower", "lowers it")]
    samples.append(("breadth", "10%, 40%, all of its target's input; stronger: carries more"))
    if set(graph.nodes.kind[rows].tolist()) & set(UNEXPLAINED):
        samples.append(("box", "unexplained"))
    if any(curve.dashed for curve in curves):
        samples.append(("unmeasured", "could not be judged"))
    if any(curve.colour == colours["failed"] for curve in curves):
        samples.append(("failed", "not there in the real model"))
    return samples
