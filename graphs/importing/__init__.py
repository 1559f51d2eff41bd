"""Graphs of other programs read as ours: one reader per suffix, in a plain table. Nothing in a file is ever run."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import ForeignFile
from graphs.importing.feature_files import notes_beside

if TYPE_CHECKING:
    from graphs.graph import AttributionGraph

# suffix -> module:function. A reader takes a path and returns a graph.
IMPORTERS = {
    ".json": "graphs.importing.neuronpedia:read_neuronpedia",
    ".json.gz": "graphs.importing.neuronpedia:read_neuronpedia",
    ".pt": "graphs.importing.circuit_tracer:read_circuit_tracer",
}


def import_graph(path: str | Path) -> AttributionGraph:
    """The graph in a file of another program; its suffix says which kind (IMPORTERS).

    What the file says of its origin is kept in `provenance["imported"]`. What was pruned before the file was written
    is not known to it, so shares are of what is in the file, unless it was written by `graphs.export`. Records of
    features that lie beside the file are read as notes, where it has none: see `graphs.importing.feature_files`.

    Raises:
        ForeignFile: no such file, another suffix, or no graph in it; the message names the file and what is wrong.
    """
    path = Path(path)
    suffix = next((each for each in IMPORTERS if path.name.lower().endswith(each)), path.suffix.lower())
    if suffix not in IMPORTERS:
        found = f"{path.name!r} ends in {suffix!r}" if suffix else f"{path.name!r} has no ending"
        raise ForeignFile(f"{found}; graphs are read from {', '.join(IMPORTERS)}: of Neuronpedia, of circuit-tracer.")
    module, function = IMPORTERS[suffix].split(":")
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise ForeignFile(f"{path} is a pipe or a device, which may have no end: give a file.")
        graph = getattr(import_module(module), function)(path)
        notes = {} if graph.provenance.get("feature_notes") else notes_beside(path, graph)
        return replace(graph, provenance={**graph.provenance, "feature_notes": notes}) if notes else graph
    except OSError as error:
        raise ForeignFile(f"{path} cannot be read: {error.strerror or error}.") from error
