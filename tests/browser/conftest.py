"""The system's Chromium, and an endpoint for it. Without a browser these tests are skipped by name;
``.ci/run`` installs one and requires that they ran."""

from __future__ import annotations

import faulthandler
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import pytest
from playwright.sync_api import Browser, sync_playwright

from benchmarks.console.first_load import BROWSERS, find_browser
from tests.browser.desk import LiveDesk, live_desk
from tests.browser.visit import Visit

SIZES = {"wide": (1280, 900), "narrow": (400, 800)}

Scheme = Literal["light", "dark"]
Visitor = Callable[..., Visit]

TEST_SECONDS = 300.0
"""Longest time of a test here; the driver of the browser has calls without a deadline."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name these tests in the JUnit report as ones that need a browser, also where skipped."""
    for item in items:
        if "visitor" in getattr(item, "fixturenames", ()):
            item.user_properties.append(("browser", "true"))


@pytest.fixture(scope="session")
def program() -> str:
    """Path of the system's browser; without one the tests are skipped by name."""
    found = find_browser()
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    return found


@pytest.fixture(scope="module")
def browser(program: str) -> Iterator[Browser]:
    """A browser for the tests of a file. Its driver keeps an event loop running in this thread, in
    which no test of another file could start its own."""
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def desk(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDesk]:
    with live_desk(tmp_path_factory.mktemp("desk")) as started:
        yield started


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """A browser that no longer answers ends the process, and not the run."""
    faulthandler.dump_traceback_later(TEST_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def visitor(browser: Browser, desk: LiveDesk) -> Iterator[Visitor]:
    """Opens the console with one of the desk's keys; None: without a key. At the end of the
    test each visit must have been clean, see `Visit.check`."""
    visits: list[Visit] = []
    with ExitStack() as stack:

        def visit(key: str | None = "admin", scheme: Scheme = "light", size: str = "wide") -> Visit:
            width, height = SIZES[size]
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            visits.append(Visit(desk, context, key))
            stack.callback(visits[-1].close)
            return visits[-1]

        yield visit
        for one in visits:
            one.check()
