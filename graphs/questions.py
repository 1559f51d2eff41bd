"""Questions over a store that people ask again and again, ready made.

A feature's number means something for its own transcoders only, a neuron's for its own model, so answers keep those of
several sets and models apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphs.errors import BadOption
from graphs.query import text_in_sql

if TYPE_CHECKING:
    import pyarrow

    from graphs.query import Base

UNITS = "('feature', 'neuron', 'attention')"
KNOWN = "if(isnan(influence), null, influence)"  # for SQL takes what is no number for the largest of all
UNIT = "concat('L', layer, if(kind = 'attention', '/attn/', '/'), feature)"


def holding(base: Base, unit: str, *, most: int | None = None) -> pyarrow.Table:
    """The graphs that contain a feature or neuron, where it matters most first; a row for each position of it.

    unit: `L2/544`, `L2/attn/12`, or with a position `L2/544@3`.

    Raises:
        BadOption: the unit is written otherwise.
    """
    return base.ask(
        f"""
        select graph, prompt, model, transcoders, nodes.position, label, activation, influence
        from nodes join graphs on graphs.id = graph
        where {_is_unit(unit)} order by {KNOWN} desc nulls last, graph, nodes.position
        """,
        most=most,
    )


def shared(base: Base, graphs: Sequence[str] = (), *, most: int | None = None) -> pyarrow.Table:
    """The features that several graphs contain, wherever they stand, with their influence summed in each graph.

    `model` is empty where the graphs are of several, which share a set of transcoders but never a neuron.

    graphs: ids; a feature is told that is in all of them. Without: of all features those in most graphs come first.
    """
    among = f"graph in ({', '.join(text_in_sql(id) for id in graphs)})" if graphs else "true"
    return base.ask(
        f"""
        with each as (
            select transcoders, model, if(kind = 'neuron', model, null) as owner, kind, layer, feature, graph,
                any_value(label) as label, sum({KNOWN}) as influence
            from nodes join graphs on graphs.id = graph
            where kind in {UNITS} and {among} group by all
        )
        select {UNIT} as unit, any_value(label) as label,
            if(count(distinct model) = 1, any_value(model), null) as model, transcoders, count(*) as graphs,
            avg(influence) as influence, min(influence) as least, max(influence) as largest
        from each group by transcoders, owner, kind, layer, feature
        having count(*) >= {max(len(set(graphs)), 2)} order by graphs desc, influence desc nulls last, unit
        """,
        most=most,
    )


def between(base: Base, source: str, target: str) -> pyarrow.Table:
    """The mean weight of an edge over prompts, for each model and set of transcoders.

    A graph's weight is the sum of its edges from the one to the other, over all positions. `graphs`: how many contain
    both ends. `with_edge`: how many an edge too; `mean`, `deviation`, `least` and `largest` are over those.
    `mean_with_zeros` counts 0 for the others: the edge was pruned, or the target is not later.

    source, target: units as in `holding`, or labels: ` austin`.
    """
    ends = base.ask(
        f"""
        select graph, list(node) filter ({_is_end(source)}) as sources, list(node) filter ({_is_end(target)}) as targets
        from nodes where {_is_end(source)} or {_is_end(target)} group by graph
        having len(sources) > 0 and len(targets) > 0
        """
    )
    base.keep("ends", ends)
    return base.ask(
        """
        with weights as (
            select edges.graph, sum(weight) as weight from edges join ends on ends.graph = edges.graph
            where list_contains(sources, source) and list_contains(targets, target) group by edges.graph
        )
        select model, transcoders, count(*) as graphs, count(weight) as with_edge, avg(weight) as mean,
            stddev_samp(weight) as deviation, min(weight) as least, max(weight) as largest,
            avg(coalesce(weight, 0)) as mean_with_zeros
        from ends join graphs on graphs.id = ends.graph left join weights on weights.graph = ends.graph
        group by model, transcoders order by graphs desc
        """,
        among=ends["graph"].to_pylist(),
    )


def labelled(base: Base, words: str, *, most: int | None = None) -> pyarrow.Table:
    """Where a label occurs: all nodes whose label contains the words, in any case, the most influential first."""
    return base.ask(
        f"""
        select graph, prompt, kind, layer, nodes.position, feature, label, influence
        from nodes join graphs on graphs.id = graph
        where contains(lower(label), lower({text_in_sql(words)})) order by {KNOWN} desc nulls last, graph, node
        """,
        most=most,
    )


def _is_end(text: str) -> str:
    """Whether a node is a unit, or of this label."""
    found = _unit(text)
    return found or f"trim(label) = {text_in_sql(text.strip())}"


def _is_unit(text: str) -> str:
    found = _unit(text)
    if found is None:
        raise BadOption(f"a feature is written L2/544, L2/attn/12 or L2/544@3, found {text!r}.")
    return found


def _unit(text: str) -> str | None:
    found = re.fullmatch(r"L?(\d{1,9})/(attn/)?(\d{1,18})(?:@(\d{1,9}))?", text.strip())
    if found is None:
        return None
    layer, attends, feature, position = found.groups()
    kinds = "kind = 'attention'" if attends else "kind in ('feature', 'neuron')"
    place = f" and position = {position}" if position else ""
    return f"(layer = {layer} and feature = {feature} and {kinds}{place})"
