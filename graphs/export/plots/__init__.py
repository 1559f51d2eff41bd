"""What an assay measured, as plots: one line each in a plain table, alone or all on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphs.assays import Assay
from graphs.errors import BadOption, ForeignFolder
from graphs.export.lettering import wrap
from graphs.export.plots.charts import Chart, Marks, lay_out_charts
from graphs.export.plots.controls import chart_controls
from graphs.export.plots.curves import chart_curves
from graphs.export.plots.doses import chart_doses
from graphs.export.plots.hypotheses import chart_hypotheses
from graphs.export.plots.layers import KINDS, chart_layers
from graphs.export.plots.pairs import chart_pairs
from graphs.export.plots.predictions import chart_predictions
from graphs.export.plots.stability import chart_stability
from graphs.export.plots.steps import chart_steps
from graphs.export.scene.captions import heading, lay_out_caption
from graphs.export.scene.legend import lay_out_legend
from graphs.export.scene.marks import LETTER, MARGIN, Scene, Text
from graphs.export.scene.options import check_look, widest_of
from graphs.export.scene.themes import THEMES
from graphs.graph import AttributionGraph

NARROWEST = 560.0


@dataclass(frozen=True)
class Plot:
    """title: what it shows. says: how it is read. samples: its lines, each with its meaning. in_a_row: so many charts.

    charts: made of a graph and its assay; none where nothing was measured.
    """

    title: str
    says: str
    charts: Callable[[AttributionGraph, Assay], list[Chart]]
    in_a_row: int
    samples: Sequence[tuple[str, str]] = ()


PLOTS = {
    "predictions": Plot(
        "Nodes ablated one by one",
        "A dot for each node, a diamond for an error. Hollow and red: moved the target the other way.",
        chart_predictions,
        2,
        [("same", "as the graph predicts")],
    ),
    "steps": Plot(
        "Where the prediction is lost",
        "A line for each of the nodes of most effect, ablated alone: from left to right each model lets one thing more "
        "act that the graph holds still. All active units answer, saturate and fall silent, others wake, the MLPs are "
        "the model's own, norms and attention answer.",
        chart_steps,
        1,
        [("kept", "change of the target")],
    ),
    "doses": Plot(
        "More and more of a node taken away",
        "Upwards: the change of the target, in logits or a feature's own units. Dose 1 sets a node to zero, 2 turns it "
        "round. Only the most influential nodes.",
        chart_doses,
        4,
        [("kept", "measured, attention live"), ("held", "attention held"), ("taken", "as the graph predicts")],
    ),
    "pairs": Plot(
        "What ablating a node does to units further on",
        "A dot for each node and unit that it reaches. An edge confirms itself; longer paths are the claim.",
        chart_pairs,
        2,
        [("same", "as the graph predicts")],
    ),
    "hypotheses": Plot(
        "Groups ablated as one",
        "A row for each group that was named, and for each arrow between two. Dot: measured, attention live; red: the "
        "other way than predicted. Hollow: as the graph predicts.",
        chart_hypotheses,
        1,
        [("chance", "a random group as large in its place")],
    ),
    "layers": Plot(
        "The replacement model after a small change, against the model",
        "Of what the layers since have written in answer, the replacement's against the model's: cosine; squared error "
        "over the model's square; length over the model's; by powers of ten. Means over changes.",
        chart_layers,
        4,
        [(style, kind) for kind, style in KINDS.items()],
    ),
    "curves": Plot(
        "How much survives as more of the graph is kept",
        "Units come back in the order of their influence.",
        chart_curves,
        3,
        [
            ("kept", "only these units are left"),
            ("taken", "only these are ablated"),
            ("chance", "random sets as large, alike in layer, position and activation"),
        ],
    ),
    "controls": Plot(
        "The graph beside what should do worse",
        "Bars: how many controls. Diamond: the graph. Of sets: random ones as large, at the same layers and positions.",
        chart_controls,
        3,
        [("same", "what was wanted")],
    ),
    "stability": Plot(
        "What is left under other thresholds and in other words",
        "Bars: how many nodes, edges or unrelated prompts. Dots: the question in other words, hollow where the answer "
        "was another.",
        chart_stability,
        3,
    ),
}


def chart_plots(
    graph: AttributionGraph, assay: Assay | None, which: Sequence[str] = tuple(PLOTS)
) -> dict[str, list[Chart]]:
    """The charts of each plot that has something to show.

    Raises:
        ForeignFolder: the assay names nodes that the graph does not have.
    """
    if assay is None:
        return {}
    _check_rows(graph, assay)
    charts = {name: PLOTS[name].charts(graph, assay) for name in which}
    return {name: found for name, found in charts.items() if found}


def _check_rows(graph: AttributionGraph, assay: Assay) -> None:
    rows = [each.node for each in (*assay.ablations, *assay.doses)]
    rows += [row for each in (*assay.contributions, *assay.steps, *assay.groups) for row in each.node]
    rows += [row for each in assay.between for row in (*each.source, *each.target)]
    strange = [row for row in rows if not 0 <= row < len(graph.nodes)]
    if strange:
        raise ForeignFolder(
            f"the assay names node {strange[0]}, and the graph has nodes 0 to {len(graph.nodes) - 1}: it is of another "
            "graph. Test this one with `circuits check`."
        )


def compose_plots(
    graph: AttributionGraph,
    which: Sequence[str],
    *,
    assay: Assay | None = None,
    theme: str = "light",
    legend: bool = True,
    title: str | None = None,
    font: str = "sans",
    width_cm: float | None = None,
) -> Scene:
    """Some of the PLOTS, one below the other; what was not measured is named at the end. Options as in `compose`.

    Raises:
        BadOption: there is no assay, or it holds nothing of what is asked for; no such theme or font.
    """
    check_look(theme, font, width_cm)
    charts = chart_plots(graph, assay, which)
    if not charts:
        wanted = "plots of an assay are" if len(which) > 1 else f"“{PLOTS[which[0]].title}” is"
        found = "was not tested" if assay is None else "was tested without it"
        raise BadOption(f"{wanted} measured by `circuits check`; this graph {found}.")
    colours = THEMES[theme]
    widest = widest_of(width_cm)
    most = 110 if widest else int((840.0 if len(which) > 1 else NARROWEST) / 8)
    top_lines = heading(graph, title, most, colours, widest)
    marks = Marks([], [], [], min(NARROWEST, widest or NARROWEST) - MARGIN, top_lines[-1].y + 19)
    for name, found in charts.items():
        marks = _add_plot(marks, PLOTS[name], found, colours, named=len(which) > 1, legend=legend, widest=widest)
    texts, width, top = marks.texts, marks.right + MARGIN, marks.bottom
    missing = [PLOTS[name].title for name in which if name not in charts]
    for words in wrap(f"not measured: {'; '.join(missing)}", width - 2 * MARGIN, LETTER) if missing else ():
        texts.append(Text(MARGIN, top, words, colours["quiet"]))
        top += 14
    caption, top = lay_out_caption([None], assay, width, top + 4, colours)
    return Scene(
        width=max(width, *(text.box[2] + MARGIN for text in top_lines)),
        height=top + MARGIN * 0.6,
        colours=colours,
        lines=tuple(marks.lines),
        curves=(),
        shapes=tuple(marks.shapes),
        texts=(*top_lines, *texts, *caption),
        font=font,
        width_cm=width_cm,
    )


def compose_plot(plot: Plot, charts: Sequence[Chart], theme: str) -> Scene:
    """One plot under its title, without the heading and the caption of a sheet."""
    marks = _add_plot(Marks([], [], [], 0.0, 6.0), plot, charts, THEMES[theme], named=True, legend=True)
    size = {"width": marks.right + MARGIN, "height": marks.bottom}
    parts = {"lines": tuple(marks.lines), "shapes": tuple(marks.shapes), "texts": tuple(marks.texts)}
    return Scene(colours=THEMES[theme], curves=(), **size, **parts)


def _add_plot(
    marks: Marks,
    plot: Plot,
    charts: Sequence[Chart],
    colours: dict[str, str],
    *,
    named: bool,
    legend: bool,
    widest: float | None = None,
) -> Marks:
    """A plot below what is there."""
    top = marks.bottom
    title = [Text(MARGIN, top + 6, plot.title, colours["ink"], size=12.5, bold=True)] if named else []
    for in_a_row in range(plot.in_a_row, 0, -1):
        new = lay_out_charts(charts, in_a_row, MARGIN, top + 24 * named, colours)
        if widest is None or new.right <= widest - MARGIN:
            break
    right, top = max(marks.right, new.right), new.bottom
    says = []
    for words in wrap(plot.says, right - MARGIN, LETTER) if legend else ():
        says.append(Text(MARGIN, top, words, colours["quiet"]))
        top += 13
    key, top = lay_out_legend(plot.samples if legend else [], right + MARGIN, top + 4, colours)
    return Marks(
        [*marks.lines, *new.lines, *key["lines"]],
        [*marks.shapes, *new.shapes],
        [*marks.texts, *title, *new.texts, *says, *key["texts"]],
        right,
        top + 22,
    )
