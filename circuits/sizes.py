"""Bytes in words."""

from __future__ import annotations


def size_in_words(size: float) -> str:
    """Bytes as a person reads them: 512 B, 2.5 MB, 171 GB; a thousand to the next, as disks are sold."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 99.95 else f"{size:.1f} {units[0]}"
