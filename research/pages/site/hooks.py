"""Hooks of MkDocs: generated references, lists of pages, and links to files beside ``docs/``.

* A line ``<!-- generated: NAME -->`` of a page is replaced by what `GENERATORS` makes of the code,
  so a reference cannot be older than the code that the site is built from. Read as a file, the page
  says where else to look.
* An entry ``FOLDER/*`` of ``nav`` becomes all pages of that folder, in the order of their names.
* A link to a file of the repository outside ``docs/`` leads to a copy of it in the site: a page, in
  which a file that is not Markdown is shown as a block of code. A notebook is a page of its cells,
  and a folder a list of its files.

Reference: MkDocs 1.6, "Hooks" and "Events".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from research.pages.site.command_line import command_line
from research.pages.site.configuration import configuration
from research.pages.site.decision_list import decision_list
from research.pages.site.http_api import http_api
from research.pages.site.notebook_page import notebook_page
from research.pages.site.python_api import python_api

ROOT = Path(__file__).resolve().parents[3]
DOCS = "docs"
COPIES = "repository"
"""Folder of the site with copies of files outside ``docs/``."""

GENERATORS: Mapping[str, Callable[[], str]] = {
    "configuration": configuration,
    "command line": command_line,
    "http": http_api,
    "python": python_api,
    "decisions": decision_list,
}

_MARK = re.compile(r"^<!-- generated: ([a-z ]+) -->$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_SPAN = re.compile(r"`[^`\n]*`")
_LANGUAGES = {".toml": "toml", ".json": "json", ".py": "python", ".js": "javascript"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace the patterns of ``nav`` by pages."""
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page, or such a file, links to."""
    waiting = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()]
    done = set(waiting)
    while waiting:
        source = waiting.pop()
        for target in _linked(source):
            if target.startswith(f"{DOCS}/") or target in done:
                continue
            done.add(target)
            files.append(_copy(target, config))
            if target.endswith(".md") or (ROOT / target).is_dir():
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill the generated parts, and turn links out of ``docs/`` to the copies."""
    source = _source(page.file.src_uri)

    def generated(mark: re.Match[str]) -> str:
        if mark[1] not in GENERATORS:
            known = ", ".join(GENERATORS)
            raise PluginError(f"{source}: nothing generates {mark[1]!r}; use one of {known}")
        return GENERATORS[mark[1]]()

    parts = _CODE.split(markdown)  # every second one is code, which holds no links
    parts[::2] = [
        _LINK.sub(lambda link: _turned(link, source, page.file.src_uri), part)
        for part in parts[::2]
    ]
    return _ROW.sub(_unescaped, _MARK.sub(generated, "".join(parts)))


def _unescaped(row: re.Match[str]) -> str:
    """A row of a table with bare bars in code, where Python-Markdown ends no cell."""
    return _SPAN.sub(lambda code: code[0].replace("\\|", "|"), row[0])


def _expanded(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {title: _expanded(value) for title, value in item.items()}
    if isinstance(item, list):
        return [entry for value in item for entry in _entries(value)]
    return item


def _entries(value: Any) -> list[Any]:
    if isinstance(value, str) and value.endswith("/*"):
        found = sorted((ROOT / DOCS / value).parent.glob("*.md"))
        if not found:
            raise PluginError(f"nav names {value}, where there is no page")
        return [path.relative_to(ROOT / DOCS).as_posix() for path in found]
    return [_expanded(value)]


def _source(src_uri: str) -> str:
    """Path in the repository of a page of the site."""
    if src_uri.startswith(f"{COPIES}/"):
        path = src_uri.removeprefix(f"{COPIES}/")
        return path if (ROOT / path).exists() else path.removesuffix(".md")
    return f"{DOCS}/{src_uri}"


def _linked(source: str) -> Iterator[str]:
    """Files of the repository that a Markdown file links to."""
    text = "".join(_CODE.split(_content(source))[::2])
    for link in _LINK.finditer(text):
        target = _target(link[1], source)
        if target is not None:
            yield target


def _target(link: str, source: str) -> str | None:
    """The file a link leads to, from the root of the repository; None if it is an address."""
    if "://" in link or link.startswith("mailto:"):
        return None
    path = os.path.normpath((PurePosixPath(source).parent / link).as_posix())
    if not path.startswith(f"{DOCS}/") and not (ROOT / path).exists():
        raise PluginError(
            f"{source} links to {link}, which is not there; name a file or folder that exists"
        )
    return path


def _copy(path: str, config: MkDocsConfig) -> File:
    content = _content(path)
    uri = f"{COPIES}/{path}"
    if (ROOT / path).is_dir():
        uri += ".md"
    elif path.endswith(".ipynb"):
        content = notebook_page(ROOT / path)
        uri += ".md"
    elif not path.endswith(".md"):
        language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
        content = f"# {PurePosixPath(path).name}\n\n`{path}`\n\n````{language}\n{content}\n````\n"
        uri += ".md"
    return File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def _content(path: str) -> str:
    """Text of a file; of a folder, Markdown with a link to each file of it that a page can show."""
    place = ROOT / path
    if not place.is_dir():
        return place.read_text(encoding="utf-8")
    names = sorted(p.name for p in place.iterdir() if p.suffix in {".md", ".ipynb", *_LANGUAGES})
    links = "\n".join(f"* [{name}]({place.name}/{name})" for name in names)
    return f"# {place.name}\n\n{links}\n"


def _turned(link: re.Match[str], source: str, src_uri: str) -> str:
    target, anchor = _target(link[1], source), link[2] or ""
    if target is None:
        return link[0]
    if target.startswith(f"{DOCS}/"):
        turned = target.removeprefix(f"{DOCS}/")
    else:
        turned = f"{COPIES}/{target}" + ("" if target.endswith(".md") else ".md")
    return os.path.relpath(turned, str(PurePosixPath(src_uri).parent)) + anchor
