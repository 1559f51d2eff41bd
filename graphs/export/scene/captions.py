"""The words above and below a picture: what it is of, what was kept and left out, what the assay found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphs.assays import VERDICTS, Assay, Verdict
from graphs.export.lettering import readable, shorten, wrap
from graphs.export.scene.marks import LINE, MARGIN, Text
from graphs.export.scene.names import first_token, label_of, prompt_in_words, target_of
from graphs.export.scene.tested import failed_edge
from graphs.graph import AttributionGraph
from graphs.wording import name_node

NOTE = 8.5  # letters of notes
OFTEN, FEW = 2 / 3, 4  # of all tokens; units that are called by name
COLUMN = 560.0  # below a narrower picture words are smaller
TOLD = 6  # claims that failed, and as many untested ones, that are told; of a full check there may be dozens


def heading(
    graph: AttributionGraph, title: str | None, most: int, colours: dict[str, str], widest: float | None = None
) -> list[Text]:
    """Above a picture: the prompt, or a title in its place, so many letters at most; what it answers, what made it.

    widest: the picture's width, at which lines are broken; none for a line each.
    """
    words = title if title is not None else prompt_in_words(graph)
    asked = np.flatnonzero((graph.goal != 0) | (graph.nodes.kind == "logit"))
    asked = asked[np.argsort(-graph.goal[asked], kind="stable")].tolist()
    answer = ", ".join(target_of(graph, row) for row in asked[:3])
    more = f" and {len(asked) - 3} more" if len(asked) > 3 else ""
    # A picture is shown around: of a folder on someone's disk it says the last name only.
    sources = {name: str(graph.provenance[name]) for name in ("model", "transcoders") if name in graph.provenance}
    shown = {name: os.path.basename(at.rstrip("/")) if os.path.isabs(at) else at for name, at in sources.items() if at}
    made = [readable(f"{name} {at}") for name, at in shown.items()]
    name, told = shorten(readable(words), most), " · ".join([f"→ {answer}{more}", *made])
    wide = (widest or float("inf")) - 2 * MARGIN
    names, lines = wrap(name, wide, 16.0), wrap(told, wide, 11.0)
    first = MARGIN + 6 + 19.0 * len(names)
    return [
        *(Text(MARGIN, MARGIN + 6 + 19.0 * at, line, colours["ink"], 15.0, bold=True) for at, line in enumerate(names)),
        *(Text(MARGIN, first + 14.0 * at, line, colours["quiet"], size=11.0) for at, line in enumerate(lines)),
    ]


def lay_out_title(words: str, width: float, colours: dict[str, str]) -> tuple[list[Text], float]:
    """The title of a picture that is no graph's, in one or more lines, and where what it is of may begin."""
    lines = wrap(readable(words), width - 2 * MARGIN, 12.0)
    return [
        Text(MARGIN, MARGIN + 14.0 * at, line, colours["ink"], size=11.0, bold=True) for at, line in enumerate(lines)
    ], MARGIN + 14.0 * len(lines) + 4


def lay_out_notes(notes: Sequence[str], width: float, top: float, colours: dict[str, str]) -> tuple[list[Text], float]:
    """What more there is to know, below such a picture, and where it ends."""
    lines = wrap(readable("; ".join(filter(None, notes))), width - 2 * MARGIN, NOTE)
    texts = [Text(MARGIN, top + 12.0 * at, line, colours["quiet"], size=NOTE) for at, line in enumerate(lines)]
    return texts, top + 12.0 * len(lines)


def failure_in_words(graph: AttributionGraph, assay: Assay | None) -> list[str]:
    """The edge that is red, by name: to some eyes its colour is that of edges that lower their target."""
    failed = failed_edge(assay)
    names = [name_node(graph, row) for row in failed or ()]
    return [f"furthest from its weight: {' → '.join(names)}"] if names else []


def lay_out_caption(
    lines: Sequence[str | None], assay: Assay | None, width: float, top: float, colours: dict[str, str]
) -> tuple[list[Text], float]:
    """The lines below a picture, and where they end; where there is a None, what the assay says."""
    told = [("not tested by ablation", colours["quiet"])]
    if assay is not None:
        told = [(verdicts_in_short(assay), colours["ink"])]
        for verdict, colour in (("not supported", "failed"), ("untested", "quiet")):
            claims = [_claim(each) for each in assay.verdicts if each.verdict == verdict]
            told += [(f"{verdict}: {claim}", colours[colour]) for claim in claims[:TOLD]]
            if len(claims) > TOLD:
                told.append((f"{verdict}: {len(claims) - TOLD} more", colours[colour]))
    size = 11.0 if width >= COLUMN else 9.0
    texts = []
    for line in lines:
        for words, colour in told if line is None else [(line, colours["ink"])]:
            for part in wrap(readable(words), width - 2 * MARGIN, size):
                texts.append(Text(MARGIN, top, part, colour, size=size))
                top += LINE * size / 11.0
    return texts, top


def caption_lines(graph: AttributionGraph, counts: dict[str, Any]) -> list[str]:
    """What was kept, what it explains, and what the picture leaves out, each in a sentence with figures.

    counts: of edges that come from no bias, those drawn, those that are strong enough, those that no choice hides,
        and all (`drawn`, `strong`, `free`, `edges`), the share that the drawn carry (`share`), and the least share of
        its target's input that a drawn one may be (`least_share`); what is done with the opening mark (`bos`); how
        many nodes for biases and errors are not drawn (`biases`, `errors`).
    """
    from graphs.scores import scores
    from graphs.wording import kept_in_words, scores_in_words

    found = scores(graph).to_json()
    drawn = f"drawn: all {counts['edges']:,.0f} edges that come from no bias"
    if counts["drawn"] < counts["edges"]:
        strongest = counts["drawn"] < counts["strong"]
        drawn = (
            f"drawn: {'the ' if strongest else ''}{counts['drawn']:,.0f}{' strongest' if strongest else ''} of "
            f"{counts['edges']:,.0f} edges, {counts['share']:.0%} of what they carry"
        )
        if counts["strong"] < counts["free"]:
            drawn += f", none below {counts['least_share']:.2g} of its target's input"
    lines = [f"{kept_in_words(graph)}; {drawn}"]
    figures = scores_in_words(found, graph.kept)
    lines.append(f"{figures[0]}; {figures[1]}")
    ends = {"biases": "", "errors": f": {found['error']:.0%} of the influence ends there"}
    for kind, words in (("biases", "bias"), ("errors", "error")):
        if counts[kind]:
            many = f"{words} node{'s are' if counts[kind] > 1 else ' is'} not drawn"
            lines[-1] += f"; {counts[kind]} {many}{ends[kind]}"
    return [*lines, *fan_in_words(graph, counts["bos"]), *doubts_in_words(graph)]


def doubts_in_words(graph: AttributionGraph) -> list[str]:
    """What a reader should be wary of: errors where the answer is read, units that fire on nearly everything."""
    from graphs.paths import influence

    nodes = graph.nodes
    told = []
    last = (nodes.kind == "error") & (nodes.position == len(graph.tokens) - 1)
    share = float(influence(graph)[last].sum())
    if share >= 0.005:
        told.append(f"{share:.0%} of the influence ends in errors at the last token")
    notes = graph.provenance.get("feature_notes") or {}
    often = {nodes.unit(row): row for row in nodes.where("feature", "attention", "neuron").tolist()}
    density = {unit: notes.get(unit, {}).get("density") for unit in often}
    known = {unit: each for unit, each in density.items() if isinstance(each, int | float)}  # some write in words
    often = {unit: often[unit] for unit, each in known.items() if each > OFTEN}
    if often:
        first = ", ".join(label_of(graph, row) for row in list(often.values())[:FEW])
        more = f" and {len(often) - FEW} more" if len(often) > FEW else ""
        told.append(f"active on more than two thirds of all tokens: {first}{more}")
    return told


def fan_in_words(graph: AttributionGraph, bos: str) -> list[str]:
    """What is done with what comes from the opening mark, and how much that is; nothing if it is drawn like all."""
    first = first_token(graph)
    if first is None or bos == "draw":
        return []
    from graphs.paths import influence

    carried = influence(graph)
    tokens = float(carried[graph.nodes.where("token")].sum())
    share = float(carried[first]) / tokens if tokens > 0 else 0.0
    how = "grey" if bos == "grey" else "not drawn"
    return [f"{how}: what comes from {graph.tokens[0].strip()}, {share:.0%} of what ends in tokens"]


def _claim(verdict: Verdict) -> str:
    from graphs.wording import figure_in_words

    found = "" if verdict.number != verdict.number else f"{figure_in_words(verdict)}, "
    return f"{verdict.claim}: {found}wanted {verdict.threshold}"


def verdicts_in_short(assay: Assay) -> str:
    """`assay: 5 supported, 4 not supported, 0 untested`, and the registration they were judged by."""
    counts = ", ".join(f"{sum(each.verdict == word for each in assay.verdicts)} {word}" for word in VERDICTS)
    registered = assay.registration.get("hash")
    return f"assay: {counts}, on this prompt" + (f"; registered as {registered}" if registered else "")
