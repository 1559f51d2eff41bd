"""What a part of an attribution is said to take."""

import time

import pytest

from benchmarks import stages
from benchmarks.stages import STAGES, stages_of


class Work:
    """Two parts, one inside the other."""

    def outer(self) -> None:
        burn(0.02)
        self.inner()

    def inner(self) -> None:
        burn(0.04)


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_part_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stages, "STAGES", {"whole": (Work, "outer"), "part": (Work, "inner")})
    before = Work.outer

    def work() -> None:
        Work().outer()
        burn(0.01)

    found = stages_of(work, repeats=3)

    assert found == pytest.approx({"whole": 0.02, "part": 0.04, "the rest": 0.01}, abs=0.004)
    assert Work.outer is before


def test_every_part_is_there_to_be_timed():
    for owner, name in STAGES.values():
        assert callable(getattr(owner, name))
