"""docs/assay.md says what an assay holds: every field, in its type, and every figure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from circuits import assay, attribute
from circuits.assaying import thresholds
from graphs import assays
from graphs.pruning import prune
from tests.circuits.worlds import dictionary_of, model_of

DOCUMENT = (Path(__file__).parents[1] / "docs" / "assay.md").read_text(encoding="utf-8")
RECORDS = {name: each for name, each in vars(assays).items() if isinstance(each, type) and is_dataclass(each)}
ONE = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def section(name):
    """The rows of the table under a heading: the names in the first cell, and the other cells."""
    found = re.search(rf"^#+ {re.escape(name)}$(.*?)(?=^#|\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found, f"docs/assay.md has no section {name}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines() if "|" in line]
    return [(re.findall(r"`([^`]+)`", first), *rest) for first, *rest in rows if first.startswith("`")]


def in_words(kind):
    """A field's type, as the document calls it."""
    if kind in ONE:
        return ONE[kind]
    if is_dataclass(kind):
        return kind.__name__
    if get_origin(kind) and issubclass(get_origin(kind), Mapping):
        inner = get_args(kind)[1]
        return "object" if inner is Any else f"object of {in_words(inner)}s"
    inner = in_words(get_args(kind)[0])
    if inner.startswith("list of "):
        return f"list of lists of {inner.removeprefix('list of ')}"
    return f"list of {inner}" + ("" if inner in RECORDS else "s")


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_in_the_document_in_order_and_in_its_type(name):
    kind = RECORDS[name]
    hints = get_type_hints(kind)

    rows = section("assay.json" if name == "Assay" else name)

    assert [(names[0], words) for names, words, _ in rows] == [
        (field.name, in_words(hints[field.name])) for field in fields(kind)
    ]
    assert all(len(names) == 1 and what for names, _, what in rows)


def test_the_document_is_of_this_version_and_describes_nothing_that_is_gone():
    assert f"\nVersion {assays.VERSION}. " in DOCUMENT
    headings = re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE)
    assert sorted([*headings, "Assay"]) == sorted(RECORDS)


@pytest.mark.slow
def test_all_that_an_assay_registers_and_every_figure_of_it_is_in_the_document(monkeypatch):
    monkeypatch.setattr(thresholds, "OTHERS", 1)
    monkeypatch.setattr(thresholds, "EXAMPLES", 2)
    model = model_of("gpt2")
    neurons = dictionary_of(model, "neurons")
    graph = prune(attribute(model, neurons, "a red fox runs", ["red"]), nodes=0.9, edges=0.98)
    wanted = ("ablations", "doses", "steps", "between", "prunings", "rewordings", "examples", "groups")
    groups = {"one": graph.nodes.where("neuron")[:2].tolist()}
    # The model answers one of them alike at least.
    words = ["a fox runs", "red fox runs", "red a fox runs", "fox runs a red"]

    result = assay(model, neurons, graph, experiments=wanted, top=8, paraphrases=words, groups=groups)

    assert set(result.registration) == {name for names, _ in section("registration") for name in names}
    for each in ("single", "sets", "groups"):
        (said,) = (what for names, what in section("registration") if names == [each])
        assert set(result.registration[each]) <= set(re.findall(r"`(\w+)`", said))
    known = {name for names, _ in section("statistics") for name in names}
    plain = {re.sub(r"^(between|near|far|beyond)_|(_frozen)?(_at_[\d.]+)?$", "", name) for name in result.statistics}
    assert plain == known
