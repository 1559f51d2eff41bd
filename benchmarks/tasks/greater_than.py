"""Greater-than: what lasts from one year to another ends later than it began.

Right is a year after the first one, wrong one before it. Corruptions: it began before both, so that either may be; it
began in the year 02, as it does in 01 in the source (in the shipped world nothing begins before 02).
Source: Hanna et al. 2023, "How does GPT-2 compute greater-than?".
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.world import language as world

PHRASINGS = {
    "lasted": "The {event} lasted from the year {century}{start} to the year {century}{answer}",
    "began": "The {event} began in the year {century}{start} and ended in the year {century}{answer}",
    "took place": "The {event} took place between {century}{start} and {century}{answer}",
    "known": "It is known that the {event} went on from {century}{start} to {century}{answer}",
}
WORLD_PHRASINGS = {"lasted": "the {event} lasted from {century} {start} to {century} {answer}"}

FIRST = "02"
YEARS = [f"{year:02d}" for year in range(3, 98)]
EVENTS = (
    "war battle siege trial project voyage strike reign campaign conflict rebellion crisis dispute trip tour".split()
)
WORDS = {"event": EVENTS, "century": "11 12 13 14 15 16 17 18".split(), "year": YEARS}
WORLD_WORDS = {"event": world.EVENTS, "century": world.CENTURIES, "year": YEARS}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling:
    earlier, wrong, start, right = sorted(pick("year", 4))
    clean = {"event": pick.one("event"), "century": pick.one("century"), "start": start}
    instead = FIRST if corruption == "began in 02" else earlier
    return Filling(clean, clean | {"start": instead}, right=right, wrong=wrong)


TASK = Task(
    about="a year after the one in which it began",
    wordings=(
        Wording(PHRASINGS, WORDS, draw),
        Wording(WORLD_PHRASINGS, WORLD_WORDS, draw, trained="greater"),
    ),
    flips=(),
    blurs=("began earlier", "began in 02"),
)
