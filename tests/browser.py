"""Chromium as the tests drive it: a fresh user, no network of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 90_000  # milliseconds, where eight others want the two cores
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@contextmanager
def new_page(folder: Path) -> Iterator[Any]:
    """An empty page of a browser whose user lives in `folder`; the test is skipped where Playwright is not."""
    driver = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: the page was not driven")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(folder / "user"),
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking"],
            viewport={"width": 1400, "height": 900},
            timeout=PATIENCE,
        )
        browser.set_default_timeout(PATIENCE)
        yield browser.new_page()
        browser.close()
