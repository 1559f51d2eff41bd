"""What may have been meant by a word that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to end a complaint with, that offers the names next to this one, whatever their case; or nothing."""
    near = nearest(name.lower(), {each.lower(): each for each in known})
    return f" Did you mean {' or '.join(near)}?" if near else ""


def nearest(word: str, known: Mapping[str, str]) -> list[str]:
    """Up to three known words within one slip of a word of three letters or more, two of a long one.

    word: in small letters. known: by each word in small letters, how it is written.
    """
    slips = 2 if len(word) > 5 else 1 if len(word) > 2 else 0
    likely = difflib.get_close_matches(word, list(known), n=12)
    apart = {each: _slips(word, each) for each in likely}
    return [known[each] for each in sorted(likely, key=apart.__getitem__) if apart[each] <= slips][:3]


def _slips(one: str, other: str) -> int:
    """How many letters are to be put in, left out, changed, or swapped with the next, to make one word the other."""
    rows = [list(range(len(other) + 1))]
    for i, letter in enumerate(one, 1):
        rows.append([i])
        for j, against in enumerate(other, 1):
            best = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (letter != against))
            if i > 1 and j > 1 and (letter, one[i - 2]) == (other[j - 2], against):
                best = min(best, rows[i - 2][j - 2] + 1)
            rows[i].append(best)
    return rows[-1][-1]
