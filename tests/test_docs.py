"""The generated pages are what the code says now, and links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from features.definition import Feature
from features.registry import ACCOUNT_FEATURES, CROSS_FEATURES, GROUP_FEATURES, MARKET_FEATURES
from research.pages.features import features_page
from research.pages.site.command_line import verbs

DOCS = Path(__file__).resolve().parent.parent / "docs"
ROOT = DOCS.parent
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
FEATURES: tuple[Feature, ...] = (
    *MARKET_FEATURES,
    *CROSS_FEATURES,
    *GROUP_FEATURES,
    *ACCOUNT_FEATURES,
)


def test_committed_feature_table_is_not_out_of_date() -> None:
    committed = (DOCS / "features.md").read_text(encoding="utf-8")
    assert committed == features_page(), "features changed: run make docs"


def test_every_feature_has_one_whole_row() -> None:
    rows = [
        re.split(r"(?<!\\)\|", line)
        for line in features_page().splitlines()
        if line.startswith("| `")
    ]
    assert [row[1].strip(" `") for row in rows] == [feature.name for feature in FEATURES]
    assert {len(row) for row in rows} == {9}, "a bar inside a cell splits it"


def test_constrained_features_show_their_direction() -> None:
    lines = features_page().splitlines()
    shown = {1: "rises", -1: "falls", 0: "free"}
    for feature in ACCOUNT_FEATURES:
        (line,) = [each for each in lines if each.startswith(f"| `{feature.name}` |")]
        assert f"| {shown[feature.monotone]} |" in line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_are_not_broken(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)", text) + re.findall(r'(?:href|src)="([^"#]+)"', text)
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


def test_decision_records_are_numbered_without_gaps_and_complete() -> None:
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]} ")
        headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequence"], path.name


def test_verbs_that_pages_name_exist() -> None:
    names = {name for name, _ in verbs()}
    known = names | {name.split()[0] for name in names}
    not_built = {"stress"}  # of docs/roadmap.md, which says so
    pages = [ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "reference").glob("*.md")]
    named = [
        (page.name, verb)
        for page in pages
        for verb in re.findall(r"`margincast ([a-z][a-z-]*)", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 100
    assert not [(page, verb) for page, verb in named if verb not in known | not_built]
    assert not_built.isdisjoint(known), "it is built: take it off the list and the roadmap"
