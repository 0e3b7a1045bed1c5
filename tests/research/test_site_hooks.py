"""Hooks of the site: links out of docs, generated parts, code that stays as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from mkdocs.exceptions import PluginError

from research.pages.site.hooks import on_config, on_page_markdown


def rendered(markdown: str, src_uri: str = "page.md") -> str:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=src_uri))
    unused: Any = None
    return on_page_markdown(markdown, cast("Any", page), unused, unused)


def test_a_link_out_of_docs_leads_to_the_copy() -> None:
    assert rendered("[a](../SECURITY.md)") == "[a](repository/SECURITY.md)"
    found = rendered("[b](../../margincast.toml)", "reference/configuration.md")
    assert found == "[b](../repository/margincast.toml.md)"
    assert rendered("[c](docs/why.md#a)", "repository/SECURITY.md") == "[c](../why.md#a)"


def test_a_link_to_a_folder_leads_to_the_list_of_its_files() -> None:
    assert rendered("[n](../notebooks)") == "[n](repository/notebooks.md)"
    page = rendered("[q](notebooks/quick_start.ipynb)", "repository/notebooks.md")
    assert page == "[q](notebooks/quick_start.ipynb.md)"


@pytest.mark.parametrize("text", ["[a](https://example.org/x)", "[a](#b)", "`[a](../no.md)`"])
def test_addresses_anchors_and_code_stay(text: str) -> None:
    assert rendered(text) == text


def test_a_link_to_no_file_fails_the_build() -> None:
    with pytest.raises(
        PluginError, match=r"docs/page\.md links to \.\./missing\.toml, which is not there"
    ):
        rendered("[a](../missing.toml)")


def test_an_unknown_generator_fails_the_build() -> None:
    with pytest.raises(PluginError, match="nothing generates 'nothing'"):
        rendered("<!-- generated: nothing -->")


def test_bars_in_code_of_a_table_are_not_escaped() -> None:
    assert rendered("| `a \\| b` | c \\| d |") == "| `a | b` | c \\| d |"


def test_a_pattern_without_pages_fails_the_build() -> None:
    config: Any = SimpleNamespace(nav=["nowhere/*"])
    with pytest.raises(PluginError, match="nowhere/\\*"):
        on_config(config)
