"""Bars on a terminal: none for what is quick, one for what counts, seconds for what cannot be counted."""

from __future__ import annotations

import io
import time
from contextlib import redirect_stderr
from types import SimpleNamespace

import pytest

from circuits import progress
from circuits.progress import Bars


class Terminal(io.StringIO):
    """A terminal that remembers what was written."""

    def isatty(self) -> bool:
        return True

    def comes(self, words: str) -> bool:
        """Whether the words appear within a minute."""
        until = time.monotonic() + 60
        while words not in self.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        return words in self.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(progress, "TICK", 0.01)
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    return Terminal()


def test_what_is_quick_is_not_told(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    with redirect_stderr(terminal), Bars() as bars:
        bars.note("loading")
        bars("tracing", 1, 2)
        time.sleep(0.05)
    assert terminal.getvalue() == ""


def test_one_long_call_is_told_while_it_lasts(terminal: Terminal):
    with redirect_stderr(terminal), Bars() as bars:
        bars.note("loading")
        assert terminal.comes("loading … 00:")


def test_a_count_is_a_bar_even_if_it_stands_still_and_a_full_one_gives_way(terminal: Terminal):
    with redirect_stderr(terminal), Bars() as bars:
        bars.note("assay")
        bars("ablating", 3, 12)
        assert terminal.comes("ablating:  25%")
        bars("ablating", 12, 12)
        assert terminal.comes("assay … ")


def test_nothing_is_shown_after_the_end_or_when_quiet(terminal: Terminal, monkeypatch: pytest.MonkeyPatch):
    with redirect_stderr(terminal), Bars(quiet=True) as bars:
        bars.note("loading")
        time.sleep(0.1)
    assert terminal.getvalue() == ""
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with redirect_stderr(terminal), Bars() as bars:
        bars.note("loading")
        bars.note("")
        now = 100.0
        time.sleep(0.1)
    assert terminal.getvalue() == ""
