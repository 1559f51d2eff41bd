"""What an attribution graph is, and everything done to one. Knows no model and loads no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Bound here and now, because a module has the same name: left to __getattr__, the first `import graphs.scores`
# anywhere would put the module in the function's place. Both are light.
from graphs.export import draw, export
from graphs.scores import Scores, scores

if TYPE_CHECKING:
    from graphs.assays import Ablation, Assay, Subset, Verdict
    from graphs.comparing import Comparison, align, compare
    from graphs.graph import AttributionGraph
    from graphs.grouping import group, read_groups
    from graphs.importing import import_graph
    from graphs.nodes import KINDS, Nodes
    from graphs.paths import Path, edge_influence, influence, strongest_paths
    from graphs.pruning import prune
    from graphs.store import Entry, Store
    from graphs.suggesting import suggest_groups

# Everything else is loaded when it is first asked for: name -> module.
_ROOMS = {
    "Nodes": "nodes",
    "KINDS": "nodes",
    "AttributionGraph": "graph",
    "Path": "paths",
    "influence": "paths",
    "edge_influence": "paths",
    "strongest_paths": "paths",
    "prune": "pruning",
    "group": "grouping",
    "suggest_groups": "suggesting",
    "read_groups": "grouping",
    "compare": "comparing",
    "align": "comparing",
    "Comparison": "comparing",
    "import_graph": "importing",
    "Store": "store",
    "Entry": "store",
    "Assay": "assays",
    "Ablation": "assays",
    "Subset": "assays",
    "Verdict": "assays",
}

__all__ = [
    "AttributionGraph",
    "Nodes",
    "KINDS",
    "influence",
    "edge_influence",
    "strongest_paths",
    "Path",
    "prune",
    "group",
    "suggest_groups",
    "read_groups",
    "compare",
    "align",
    "Comparison",
    "scores",
    "Scores",
    "Store",
    "Entry",
    "draw",
    "export",
    "import_graph",
    "Assay",
    "Ablation",
    "Subset",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'graphs' has no attribute {name!r}: it offers {', '.join(__all__)}.")
    value = getattr(import_module(f"graphs.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
