"""``python -m research.pages.screenshots``: pictures of every page of the console.

Each page in light and dark, on a wide and a narrow screen, goes to ``docs/images/console`` as
``PAGE-SCHEME-SIZE.png``. The endpoint is one that runs (``--url``), or ``margincast run`` with a
configuration (``--config``) in a folder of its own, which trains first and takes some minutes.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.console.first_load import BROWSERS, DRAWN, find_browser
from benchmarks.console.page_paths import page_paths
from benchmarks.http.process import Command, running
from serving.console.session import COOKIE

FOLDER = Path("docs/images/console")
SIZES = {"wide": (1280, 900), "narrow": (400, 800)}
SCHEMES = ("light", "dark")
MOST_BYTES, MOST_HEIGHT = 150_000, 2_000
FIRST_SCREEN, FIRST_SCREEN_HEIGHT = "first-screen.png", 640
KEY = "MARGINCAST_KEY"

_COLOURS = (128, 64, 32, 16)
_START_SECONDS = 1_800.0
_DEMONSTRATION_SECONDS = 240.0
"""How long the market moves on before the first picture: two days of it."""


def main() -> None:
    """Write the pictures, and remove those of pages that are gone."""
    parser = argparse.ArgumentParser(prog="python -m research.pages.screenshots")
    parser.add_argument("--url", help=f"a running endpoint; {KEY} has a key where it needs one")
    parser.add_argument("--config", type=Path, default=Path("margincast.toml"))
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    found = find_browser()
    if found is None:
        raise SystemExit(f"no browser is installed: none of {', '.join(BROWSERS)}")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        with _endpoint(given.url, given.config) as url:
            taken = dict(_pictures(browser, url, _paths(url)))
        with _started(["serve"], {"MARGINCAST__SERVING__AUTH": "keys"}, given.config) as url:
            taken |= dict(_pictures(browser, url, {"login": "/login"}))
        browser.close()
    pictures = {name: _small(png) for name, png in taken.items()}
    given.out.mkdir(parents=True, exist_ok=True)
    for old in given.out.glob("*.png"):
        old.unlink()
    for name, png in pictures.items():
        (given.out / f"{name}.png").write_bytes(png)
        print(f"{given.out / name}.png {len(png):,d} bytes")
    (given.out / FIRST_SCREEN).write_bytes(first_screen(pictures["overview-light-wide"]))


def first_screen(png: bytes) -> bytes:
    """The part of a picture that a reader of the README sees first."""
    picture = Image.open(io.BytesIO(png))
    width, _ = SIZES["wide"]
    part = io.BytesIO()
    picture.crop((0, 0, width, FIRST_SCREEN_HEIGHT)).save(part, "PNG", optimize=True)
    return part.getvalue()


@contextmanager
def _endpoint(url: str | None, config: Path) -> Iterator[str]:
    """The endpoint that was named, or one of its own with this configuration."""
    if url is not None:
        yield url.rstrip("/")
        return
    enabled = {f"MARGINCAST__{name}__ENABLED": "true" for name in ("MONITORING", "ENFORCEMENT")}
    with _started(["run"], enabled, config) as own:
        time.sleep(_DEMONSTRATION_SECONDS)
        yield own


@contextmanager
def _started(verb: list[str], environment: dict[str, str], config: Path) -> Iterator[str]:
    """An endpoint in a folder of its own, once it answers."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(config, folder)
        program = str(Path(sys.executable).parent / "margincast")
        settings = {"MARGINCAST__SERVING__PORT": "{port}", **environment}
        command = Command([program, *verb], settings, Path(folder), "/login")
        with running(command, sorted(os.sched_getaffinity(0))) as server:
            server.wait(_START_SECONDS)
            yield server.url


def _paths(url: str) -> dict[str, str]:
    """Paths of the pages by name, for what the endpoint holds."""
    headers = {"Authorization": f"Bearer {os.environ[KEY]}"} if KEY in os.environ else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
        return page_paths(lambda path: client.get(path).raise_for_status().json())


def _pictures(browser: Browser, url: str, paths: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    key = os.environ.get(KEY)
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            if key:
                context.add_cookies([{"name": COOKIE, "value": key, "url": url}])
            page = context.new_page()
            for name, path in paths.items():
                yield f"{name}-{scheme}-{size}", _picture(page, url + path, width)
            context.close()


def _picture(page: Page, url: str, width: int) -> bytes:
    """The page from its top, as far as it goes or `MOST_HEIGHT`."""
    page.goto(url)
    page.wait_for_function(DRAWN)
    height = int(page.evaluate("document.documentElement.scrollHeight"))
    return page.screenshot(
        full_page=True,
        clip={"x": 0, "y": 0, "width": width, "height": min(height, MOST_HEIGHT)},
        animations="disabled",
        caret="hide",
    )


def _small(png: bytes) -> bytes:
    """The picture with as many colours as `MOST_BYTES` allow.

    Raises
    ------
    SystemExit
        It is larger even with the fewest.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in _COLOURS:
        packed = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if packed.tell() <= MOST_BYTES:
            return packed.getvalue()
    raise SystemExit(f"a picture of {picture.size} has {packed.tell():,d} bytes with 16 colours")


if __name__ == "__main__":
    main()
