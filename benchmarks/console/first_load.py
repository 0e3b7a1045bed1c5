"""The first load of a page in a browser: nothing cached, until its charts are drawn."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import numpy as np
from playwright.sync_api import Browser, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Names of the system's browser, in the order in which they are looked for."""

_LOADS = 5
_TIMES = """() => { const it = performance.getEntriesByType("navigation")[0];
  return [it.domContentLoadedEventEnd, it.loadEventEnd, performance.now()]; }"""
DRAWN = """() => document.readyState === "complete" && (!document.querySelector("figure.chart")
  || document.documentElement.dataset.charts === "drawn")"""
"""JavaScript: whether a page is loaded and its charts are drawn."""


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """Milliseconds from the start of the navigation.

    Attributes
    ----------
    dom_content_loaded, load:
        Of the events of these names.
    drawn:
        Until the charts are drawn, if there are any.
    """

    dom_content_loaded: float
    load: float
    drawn: float


def find_browser() -> str | None:
    """Path of the system's browser; None: there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def first_load(url: str) -> FirstLoad:
    """Medians of some first loads.

    Raises
    ------
    SystemExit
        No browser is installed.
    """
    found = find_browser()
    if found is None:
        raise SystemExit(f"no browser is installed: none of {', '.join(BROWSERS)}")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        loads = np.array([_load(browser, url) for _ in range(_LOADS)])
        browser.close()
    return FirstLoad(*(float(value) for value in np.median(loads, axis=0)))


def _load(browser: Browser, url: str) -> list[float]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_function(DRAWN)
    times: list[float] = page.evaluate(_TIMES)
    context.close()
    return times
