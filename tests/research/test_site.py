"""The documentation site builds strictly, loads nothing from elsewhere, and lacks nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mkdocs.config import load_config

from research.pages.pictures.album import FOLDER, PICTURES
from research.pages.site.command_line import command_line, verbs
from research.pages.site.configuration import configuration, description, sections
from research.pages.site.decision_list import decision_list
from research.pages.site.docstring_sections import in_numpy_form
from research.pages.site.hooks import COPIES, GENERATORS, on_config
from research.pages.site.http_api import http_api, openapi_document, routes
from research.pages.site.python_api import exported

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Document(HTMLParser):
    """What a page loads, where it links to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.classes |= set(found.get("class", "").split())
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag in LOADED and LOADED[tag] in found:
            self.loads.append(found[LOADED[tag]])
        elif tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(found.get("href", ""))
        elif tag == "a" and "href" in found:
            self.links.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of the build is a failure."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*command, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> Mapping[Path, Document]:
    return {path: Document(path) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_site_loads_nothing_from_elsewhere(pages: Mapping[Path, Document], site: Path) -> None:
    foreign = [
        (path.name, load)
        for path, page in pages.items()
        for load in page.loads
        if urlsplit(load).netloc
    ]
    assert not foreign
    assert sum(len(page.loads) for page in pages.values()) > len(pages), "nothing was looked at"
    # Material's script would fetch the renderer of such diagrams from elsewhere.
    assert not [path.name for path, page in pages.items() if "mermaid" in page.classes]
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8").replace('"', "")


@pytest.mark.slow
def test_every_link_and_anchor_of_the_site_leads_somewhere(pages: Mapping[Path, Document]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append(f"{path.name}: {link}")
    assert not broken


@pytest.mark.slow
def test_search_index_has_every_page_of_the_navigation(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    for page in in_navigation():
        assert f'"{page.removesuffix(".md")}.html' in index, page


def in_navigation() -> list[str]:
    def walk(item: Any) -> Iterator[str]:
        if isinstance(item, str):
            yield item
        for inner in item.values() if isinstance(item, Mapping) else item:
            if not isinstance(item, str):
                yield from walk(inner)

    config = on_config(load_config(str(ROOT / "mkdocs.yml"), hooks=[]))
    return list(walk(config.nav))


def test_every_page_is_in_the_navigation_once() -> None:
    pages = in_navigation()
    written = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    notebooks = [f"{COPIES}/{p.relative_to(ROOT)}.md" for p in ROOT.glob("notebooks/*.ipynb")]
    assert sorted(pages) == sorted(written + notebooks)


def test_every_key_has_a_meaning_and_a_row() -> None:
    text = configuration()
    for name, kind in sections():
        section = text.partition(f"## [{name}] ")[2].partition("\n## ")[0]
        inner = {other for other, _ in sections()}
        for key in kind.model_fields:
            if f"{name}.{key}" in inner and f"| `{key}` |" not in section:
                continue  # a table of its own
            assert f"| `{key}` |" in section, f"{name}.{key} has no row"
            assert description(kind, key), f"{name}.{key}: say below the field what it means"


def test_every_verb_and_option_is_in_the_reference() -> None:
    text = command_line()
    names = [name for name, _ in verbs()]
    assert {"run", "score", "ledger verify", "rulesets list"} <= set(names)
    for name, command in verbs():
        part = text.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert part, name
        assert (command.help or "").split()[0] in part
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert all(f"`{option}`" in part for option in parameter.opts), (name, parameter)


@pytest.mark.slow
def test_every_route_and_field_is_in_the_reference() -> None:
    text, document = http_api(), openapi_document()
    assert sum(1 for _ in routes(document)) > 20
    for method, path, operation in routes(document):
        part = text.partition(f"\n### {method.upper()} {path} ")[2].partition("\n### ")[0]
        assert part, path
        for status in operation["responses"]:
            assert f"| {status} |" in part, (path, status)
    for schema in document["components"]["schemas"].values():
        for field in schema.get("properties", ()):
            assert f"| `{field}` |" in text


def test_every_decision_is_listed() -> None:
    listed = decision_list()
    assert all(f"(adr/{path.name})" in listed for path in (DOCS / "adr").glob("*.md"))


def test_every_generator_has_a_page() -> None:
    texts = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")]
    for name in GENERATORS:
        assert sum(f"<!-- generated: {name} -->" in text for text in texts) == 1, name


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_pictures_are_not_out_of_date(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == PICTURES[name](), "draw them again: make docs"


@pytest.mark.slow
def test_every_public_name_of_the_package_is_on_its_page(site: Path) -> None:
    page = Document(site / "reference" / "python.html")
    names = [f"margincast.{name}" for name in exported()]
    assert len(names) > 10
    assert not [name for name in names if name not in page.anchors]
    assert not [name for name in names if f"#{name}" not in page.links]


def test_docstrings_are_brought_into_the_form_of_the_parser() -> None:
    text = (
        "Sum.\n\nParameters\n----------\na, b:\n    Terms.\n\nc:\n    Another.\n\n"
        "Returns\n-------\nThe sum:\n\n- of all.\n\nRaises\n------\nDataError, ModelError\n"
        "    As `margincast.score`."
    )
    assert in_numpy_form(text, "float") == (
        "Sum.\n\nParameters\n----------\na:\n    Terms.\n\nb:\n    Terms.\n\nc:\n    Another.\n\n"
        "Returns\n-------\nfloat\n    The sum:\n\n    - of all.\n\nRaises\n------\nDataError\n"
        "    As [`margincast.score`][margincast.score].\nModelError\n"
        "    As [`margincast.score`][margincast.score]."
    )
    assert in_numpy_form("One line.", "") == "One line."
