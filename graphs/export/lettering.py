"""Words on a picture: what can be written, how wide it comes out, where it is cut."""

from __future__ import annotations

import unicodedata


def readable(words: str) -> str:
    """The same words with line ends and tabs made visible, and what no picture can hold replaced."""
    words = words.replace("\r\n", "↵").replace("\n", "↵").replace("\r", "↵").replace("\t", "⇥")
    return "".join("\ufffd" if _unfit(letter) else letter for letter in words)


def _unfit(letter: str) -> bool:
    """Whether XML has no place for it, or it would turn the words around it."""
    turns = "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
    return turns or unicodedata.category(letter) in ("Cc", "Cs") or ord(letter) & 0xFFFE == 0xFFFE


def kept_apart(words: str) -> str:
    """Words that read from right to left, so that a figure beside them stays beside them; others as they are."""
    turned = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in words)
    return f"\u200e\u2068{words}\u2069" if turned else words


def shorten(words: str, most: int) -> str:
    """The words, cut to so many letters."""
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"


def width_of(words: str, size: float, bold: bool = False) -> float:
    """About how wide words are in Helvetica or Arial: a little generous, so that nothing runs into anything."""
    narrow, wide = "ijltfI|'.,:;!()[]/\\-` ", "mwMW@%—…"
    total = 0.0
    for letter in words:
        if _clings(letter):  # accents, joiners
            continue
        if unicodedata.east_asian_width(letter) in "WF":
            total += 1.0
        elif letter in narrow:
            total += 0.3
        elif letter in wide or ord(letter) > 0x2000:
            total += 0.95
        elif letter.isupper() or letter in "&<>=+~":
            total += 0.72
        else:
            total += 0.56
    return total * size * (1.09 if bold else 1.03)


def wrap(words: str, width: float, size: float) -> list[str]:
    """The words in lines, each so wide at most; a wider word, as a whole prompt may be without spaces, is broken."""
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and width_of(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
        while cut := _overhang(lines[-1], width, size):
            lines[-1:] = [lines[-1][:cut], lines[-1][cut:]]
    return lines


def _overhang(line: str, width: float, size: float) -> int:
    """Where a line that is too wide is broken, at no accent or joiner; 0 where it fits."""
    if width_of(line, size) <= width:
        return 0
    starts = [at for at in range(1, len(line)) if not _clings(line[at]) and line[at - 1] != "\u200d"]
    return max((at for at in starts if width_of(line[:at], size) <= width), default=min(starts, default=0))


def _clings(letter: str) -> bool:
    return unicodedata.category(letter) in ("Mn", "Me", "Cf")
