"""The house rules that a machine can check: who imports whom, one door per library, and doors that open at once."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {"graphs": {"graphs"}, "circuits": {"graphs", "circuits"}, "benchmarks": {"graphs", "circuits", "benchmarks"}}
DOORS = {
    "transformer_lens": {"circuits/model.py"},
    "huggingface_hub": {"circuits/hub/fetching.py", "circuits/hub/cached.py"},
    "graphviz": {"graphs/export/picture.py"},
    "networkx": {"graphs/export/network.py"},
    "pyarrow": {"graphs/tables.py", "graphs/index.py"},
    "fsspec": {"graphs/addresses.py"},
    "anywidget": {"graphs/widget.py"},
    "starlette": {"circuits/serving/app.py", "circuits/serving/guard.py"},
    "uvicorn": {"circuits/commands/serve.py"},
    "duckdb": {"graphs/query.py"},
}
ROOMS = ("circuits/attribution", "circuits/formats", "circuits/commands", "graphs/export", "graphs/importing")
# What siblings may read from each other's room: no line of its table.
SHARED = (
    "circuits.formats.files",
    "circuits.formats.layer_files",
    "circuits.formats.layers",
    "graphs.export.diagram",
    "graphs.export.layout",
    "graphs.export.lettering",
    "graphs.export.plots",
    "graphs.export.scene",
    "graphs.importing.archives",
    "graphs.importing.assembling",
    "graphs.importing.json_files",
    "graphs.importing.saved_groups",
)
HEAVY = (
    *("torch", "huggingface_hub", "transformer_lens", "transformers", "numba", "networkx", "pyarrow", "graphviz"),
    *("duckdb", "fsspec"),
)
FILES = sorted(path for package in BELOW for path in (ROOT / package).rglob("*.py"))


def imports_of(path):
    """Every module that a file imports, anywhere in it, but for those that only a type checker reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in unread for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) not in skipped and isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif id(node) not in skipped and isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are spelled out, `from . import` is not"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def written_in(path):
    """The names that a file itself defines at its top."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            found |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way_and_through_one_door(path):
    place = path.relative_to(ROOT)
    for name in imports_of(path):
        top = name.split(".")[0]
        assert top not in BELOW or top in BELOW[place.parts[0]], f"{place} must not import {name}"
        assert top != "torch" or place.parts[0] != "graphs", f"{place} must not import torch: graphs know no model"
        assert top not in DOORS or place.parts[0] == "benchmarks" or str(place) in DOORS[top], f"{place} imports {top}"
        for room in ROOMS:
            sibling = name.startswith(f"{room.replace('/', '.')}.") and path.parent == ROOT / room
            allowed = path.name == "__init__.py" or name.startswith(SHARED)
            assert allowed or not sibling, f"{place} must not import its sibling {name}"
        module, _, wanted = name.rpartition(".")
        home = ROOT / f"{module.replace('.', '/')}.py"
        defined = top not in BELOW or not home.exists() or wanted in written_in(home)
        assert defined, f"{place} imports {wanted} from {module}: import it from where it is defined"


def test_a_text_file_is_read_and_written_as_utf_8_whatever_the_locale():
    nodes = [(path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    calls = [
        (path, node) for path, node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert not [
        f"{path.relative_to(ROOT)}, line {call.lineno}"
        for path, call in calls
        if call.func.attr in ("read_text", "write_text") and "encoding" not in {word.arg for word in call.keywords}
    ]


@pytest.mark.parametrize("package", ["graphs", "circuits"])
def test_everything_a_package_offers_is_there_and_no_module_stands_in_its_place(package):
    module = importlib.import_module(package)
    for path in (ROOT / package).glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            importlib.import_module(f"{package}.{path.stem}")
    for name in module.__all__:
        assert not isinstance(getattr(module, name), type(module)), f"{package}.{name} is a module"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


@pytest.mark.parametrize(
    ("opening", "missing"),
    [
        ("import graphs, circuits, graphs.scores, graphs.export", HEAVY),
        ("from circuits.__main__ import read; read(['--help'])", (*HEAVY, "numpy")),
        ("import graphs.store, circuits.commands.draw, circuits.commands.list, circuits.commands.show", HEAVY),
        ("import graphs.comparing, circuits.commands.diff", HEAVY),
        ("import circuits.commands.query; from graphs import Store; Store('nowhere').list()", HEAVY),
        ("import importlib; importlib.import_module('circuits.commands.import')", HEAVY),
        ("import graphs.importing.circuit_tracer, graphs.importing.neuronpedia, circuits.commands.upload", HEAVY[:4]),
        ("import circuits.commands.models, circuits.commands.transcoders, circuits.hub.offers", HEAVY),
        ("from graphs import *", HEAVY[:4]),
    ],
)
def test_doors_open_without_what_lies_behind_them(opening, missing):
    # "Under half a second" depends on the machine; what takes the time does not.
    report = f"import sys, atexit\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n{opening}"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, cwd=ROOT, check=True)

    assert not set(missing) & set(done.stderr.split())
