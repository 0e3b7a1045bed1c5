from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "surface.md"


def rows_of(title: str) -> list[list[str]]:
    """Cells of the rows of the table under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {title}")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_page_leaves_no_arbitrage_and_names_every_failure() -> None:
    """The page needs real data to be written; a change of the fit would leave it out of date."""
    repaired = rows_of("Arbitrage before and after the repair")
    assert len(repaired) == 12
    assert {cell for row in repaired for cell in row[-2:]} == {"0"}
    failed = rows_of("Slices that failed")
    assert f"\n{len(failed)} of 1596" in PAGE.read_text(encoding="utf-8")
    assert all(row[-1] for row in failed)
