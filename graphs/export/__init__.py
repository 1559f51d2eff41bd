"""Files for other eyes and other programs: one writer per suffix, in a plain table."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.errors import UnknownPicture
from graphs.export.whole_files import write_whole

if TYPE_CHECKING:
    from graphs.assays import Assay
    from graphs.graph import AttributionGraph

# suffix -> module:function. A writer takes (graph, path, *, assay=None, **options) and writes one file.
PICTURES = {
    ".svg": "graphs.export.picture:write_svg",
    ".png": "graphs.export.picture:write_png",
    ".pdf": "graphs.export.picture:write_pdf",
    ".dot": "graphs.export.picture:write_dot",
    ".html": "graphs.export.page:write_html",
}
EXPORTERS = {
    **PICTURES,
    ".graphml": "graphs.export.network:write_graphml",
    ".gexf": "graphs.export.network:write_gexf",
    ".csv": "graphs.export.network:write_csv",
    ".nodes.csv": "graphs.export.network:write_nodes_csv",
    ".json": "graphs.export.neuronpedia:write_neuronpedia",
    ".pt": "graphs.export.circuit_tracer:write_circuit_tracer",
}


def draw(graph: AttributionGraph, path: str | Path, assay: Assay | None = None, **options: Any) -> Path:
    """Write a picture of the graph; its suffix says which kind (PICTURES). Returns the path.

    The file is written whole or not at all, and replaces one of that name.

    assay: what was measured, for kinds that show it.
    options: passed to the writer.

    Raises:
        UnknownPicture: no picture has that suffix.
        CannotWrite: the folder is not there, or may not be written to.
        MissingProgram: the kind needs a program that is not installed.
    """
    return _write(PICTURES, graph, path, assay, options)


def export(graph: AttributionGraph, path: str | Path, assay: Assay | None = None, **options: Any) -> Path:
    """Like `draw`, but for every suffix in EXPORTERS: pictures, and files that other programs read."""
    return _write(EXPORTERS, graph, path, assay, options)


def _write(
    table: dict[str, str], graph: AttributionGraph, path: str | Path, assay: Assay | None, options: dict[str, Any]
) -> Path:
    path = Path(path)
    suffix = next((each for each in ("".join(path.suffixes[-2:]).lower(), path.suffix.lower()) if each in table), "")
    if not suffix:
        suffix = path.suffix.lower()
        other = " That one is for export, not draw." if suffix in EXPORTERS else ""
        found = f"{path.name!r} ends in {suffix!r}" if suffix else f"{path.name!r} has no ending"
        raise UnknownPicture(f"{found}; known endings are {', '.join(table)}.{other}")
    module, function = table[suffix].split(":")
    write = getattr(import_module(module), function)
    return write_whole(path, lambda unfinished: write(graph, unfinished, assay=assay, **options))
