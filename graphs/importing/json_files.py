"""JSON as Neuronpedia and circuit-tracer write it, packed or not: of bounded size and depth, and all of it storable."""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphs.errors import ForeignFile, ForeignFolder
from graphs.records import strict

MOST_BYTES = 100 * 2**20  # what Neuronpedia takes
DENSEST = 12  # bytes that a value takes at least: a link takes forty, and an object in memory sixty-four
DEEPEST = 40  # levels of what a file says of itself


def load_json(path: Path) -> Any:
    """What a file holds.

    Raises:
        ForeignFile: it is no JSON of theirs, damaged, or larger than MOST_BYTES.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ForeignFile(
            f"{path} has {size / 2**20:,.0f} MiB, {MOST_BYTES / 2**20:.0f} MiB are the most that is read: prune first."
        )
    content = _unpacked(path, path.read_bytes()).removeprefix(codecs.BOM_UTF8)
    if not content.lstrip()[:1] == b"{":
        raise ForeignFile(f"{path} is no graph of Neuronpedia's: JSON with metadata, nodes and links is wanted.")
    values = sum(content.count(mark) for mark in (b",", b"{", b"["))
    if values > len(content) / DENSEST + 100_000:
        raise ForeignFile(f"{path} is no graph of Neuronpedia's: it has {values:,} values in {size:,} bytes.")
    try:
        return json.loads(content, parse_constant=_refuse)
    except RecursionError:
        raise ForeignFile(f"{path} is no graph of Neuronpedia's: it is nested too deep.") from None
    except ValueError as error:
        raise ForeignFile(f"{path} is no JSON: {str(error)[:200]}.") from None


def _unpacked(path: Path, content: bytes) -> bytes:
    """What is in a file that was compressed: as it lies on Neuronpedia's server, and as curl leaves it.

    Raises:
        ForeignFile: it is damaged, or longer than what is read.
    """
    if not content.startswith(b"\x1f\x8b"):
        return content
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(content, MOST_BYTES + 1)
    except zlib.error as error:
        raise ForeignFile(f"{path} is compressed, and damaged: {error}.") from None
    if len(found) > MOST_BYTES or not unpacker.eof:
        what = (
            f"more than {MOST_BYTES / 2**20:.0f} MiB, the most that is read" if unpacker.unconsumed_tail else "no end"
        )
        raise ForeignFile(f"{path} is compressed, and has {what}.")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON's")


def check_plain(said: Any) -> None:
    """What is kept must be storable: of bounded depth, and text that can be written.

    Raises:
        ForeignFolder: it is not.
    """
    level, depth = [said], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ForeignFolder(f"what it says of itself is nested more than {DEEPEST} levels deep.")
        inner = [each.values() if isinstance(each, Mapping) else each for each in level]
        level = [each for values in inner for each in values if isinstance(each, Mapping | list)]
    try:
        json.dumps(strict(said), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ForeignFolder("what it says of itself holds half of a character.") from None
