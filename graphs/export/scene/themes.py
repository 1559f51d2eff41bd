"""The colours of every theme."""

from __future__ import annotations

import numpy as np

# Raising is blue and lowering vermilion: the pair stays two colours to every kind of colour-blind eye, and in grey the
# tee still tells them apart. Red is kept for claims that failed. For print, raising is also the darker of the two, so
# that a grey copy keeps them apart.
THEMES = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1b1f24",
        "quiet": "#6b7280",
        "line": "#e8eaee",
        "faint": "#b9bec6",
        "raise": "#0b5fa5",
        "lower": "#d4570a",
        "failed": "#c00d1e",
        "low": "#ffffff",
        "high": "#46546a",
        "error": "#d3d7dd",
    },
    "dark": {
        "paper": "#14171c",
        "ink": "#e8eaed",
        "quiet": "#9aa3af",
        "line": "#262b33",
        "faint": "#5b6470",
        "raise": "#5aa9f0",
        "lower": "#f58a42",
        "failed": "#ff6b75",
        "low": "#1d222a",
        "high": "#b4c2d6",
        "error": "#4a515c",
    },
    "print": {
        "paper": "#ffffff",
        "ink": "#000000",
        "quiet": "#4d4d4d",
        "line": "#dddddd",
        "faint": "#b0b0b0",
        "raise": "#003a70",
        "lower": "#e06c00",
        "failed": "#b00010",
        "low": "#ffffff",
        "high": "#333333",
        "error": "#d0d0d0",
    },
}
FONTS = ("sans", "serif")


def mix(low: str, high: str, share: float) -> str:
    """The colour that lies so far from one to the other."""
    pairs = [(int(low[i : i + 2], 16), int(high[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * float(np.clip(share, 0, 1))):02x}" for a, b in pairs)
