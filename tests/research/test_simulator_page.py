from __future__ import annotations

from pathlib import Path

from market.simulator.market_parameters import MarketParameters

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


def test_page_shows_the_stored_market_and_every_fact_within_tolerance() -> None:
    """The page needs real data to be written; a refit without it would leave it out of date."""
    text = PAGE.read_text(encoding="utf-8")
    stored = MarketParameters.load()
    assert stored.sha256[:16] in text, (
        "the stored market changed: run python -m research.pages.simulator"
    )
    table = text.split("## Stylised facts of bars")[1].split("## ")[0]
    assert "| yes |" in table
    assert "| no |" not in table
