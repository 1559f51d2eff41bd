"""A report as a list of what stands in it, for any writer to put down: Markdown, or one page that needs no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from graphs.export.lettering import readable
from graphs.export.picture import to_svg
from graphs.export.scene.marks import Scene

FIGURES = "figures"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem; }
table { border-collapse: collapse; font-size: 13px; margin: 0.8rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #e8eaee; padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }
th { color: #6b7280; font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; overflow-x: auto; }
pre { background: #f5f6f8; padding: 0.8rem; overflow-x: auto; white-space: pre-wrap; }
"""


@dataclass(frozen=True)
class Heading:
    """A title; the depth of the first is 1."""

    words: str
    depth: int = 2


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    words: str


@dataclass(frozen=True)
class Code:
    """What is to be typed, or read as it is."""

    words: str


@dataclass(frozen=True)
class Table:
    """Columns by name, and their cells in words. [row column]"""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A picture, and what its file is called."""

    name: str
    scene: Scene


Block = Heading | Words | Code | Table | Figure


def file_of(figure: Figure) -> str:
    """Where its SVG lies, beside the report."""
    return f"{FIGURES}/{re.sub(r'[^A-Za-z0-9.]+', '-', figure.name)}.svg"


def to_markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; figures are files beside it."""
    return "\n\n".join(_in_markdown(each) for each in blocks) + "\n"


def to_page(blocks: Sequence[Block]) -> str:
    """The report as one file; nothing is loaded from anywhere, and a policy in the page forbids it."""
    title = next((each.words for each in blocks if isinstance(each, Heading)), "")
    body = "\n".join(_in_html(each) for each in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{_escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _in_markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.depth} {_plain(block.words)}"
    if isinstance(block, Words):
        return _plain(block.words)
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in block.words.splitlines())
    if isinstance(block, Figure):
        return f"![{_plain(block.name)}]({file_of(block)})"
    lines = [block.columns, ["---"] * len(block.columns), *block.rows]
    return "\n".join(f"| {' | '.join(_plain(each) for each in line)} |" for line in lines)


def _plain(words: str) -> str:
    """Words that Markdown takes for nothing else."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", readable(words).replace("↵", " "))


def _in_html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.depth}>{_escape(block.words)}</h{block.depth}>"
    if isinstance(block, Words):
        return f"<p>{_escape(block.words)}</p>"
    if isinstance(block, Code):
        return f"<pre>{escape(block.words)}</pre>"
    if isinstance(block, Figure):
        return f"<figure>{to_svg(block.scene)}</figure>"
    head = "".join(f"<th>{_escape(each)}</th>" for each in block.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{_escape(each)}</td>' for each in row)}</tr>\n" for row in block.rows)
    return f"<table>\n<tr>{head}</tr>\n{rows}</table>"


def _escape(words: str) -> str:
    return escape(readable(words))
