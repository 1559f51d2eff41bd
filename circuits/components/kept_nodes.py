"""Nodes that were kept of a transformer's parts, and what they read with."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from circuits.components.components import LETTERS
from circuits.components.parts import READS, Column, Parts


@dataclass(frozen=True)
class Node:
    """A part that writes to the stream. own: which one of its column it is. position: -1 where it is all of them.

    name: "input", "m3.f17", "a4.h1@7".
    """

    column: Column
    own: int
    position: int
    name: str


@dataclass(frozen=True)
class Reader:
    """Something that takes from the stream. node: which of the kept nodes does; the logits come after the last.

    letter: of a head, whether these are its queries, keys or values. name: "m3.f17", "a4.h1<k>@7", "logits".
    """

    node: int
    letter: str
    name: str


def nodes_of(parts: Parts, kept: Bool[Tensor, "part *position"]) -> list[Node]:
    """The kept parts that write to the stream, in order: queries, keys and values do not."""
    found = []
    for part, *position in kept.nonzero().tolist():
        column, own = parts.places[part]
        if column[0] not in READS:
            name = f"{parts.names[part]}@{position[0]}" if position else parts.names[part]
            found.append(Node(column, own, position[0] if position else -1, name))
    return found


def readers_of(nodes: list[Node]) -> list[Reader]:
    """What these nodes read with, and the logits. Of heads the queries, keys and values, of tokens nothing."""
    found = []
    for at, node in enumerate(nodes):
        part, mark, position = node.name.partition("@")
        if node.column[0] == "mixed":
            found += [Reader(at, letter, f"{part}<{letter}>{mark}{position}") for letter in LETTERS]
        elif node.column[0] != "input":
            found.append(Reader(at, "", node.name))
    return [*found, Reader(len(nodes), "", "logits")]
