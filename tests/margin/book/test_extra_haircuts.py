"""``initial_extra_haircuts`` count under every rule set."""

from __future__ import annotations

import pytest

from margin.book.requirement import compute_requirement
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.book import Account, Balance, Book, Position


def with_extra(name: str, share: float) -> RuleSet:
    """The preset with half of ETH's value counted for maintenance, and less of it initially."""
    content = load_ruleset(name).content()
    collateral = content["collateral"]
    collateral["haircuts"] = {**collateral.get("haircuts", {}), "ETH": 0.2}
    if "standard" in content:
        content["standard"] |= {"base_factor": 0.8, "base_im_scale": 1.0, "underlyings": {}}
    collateral["initial_extra_haircuts"] = {"ETH": share}
    return ruleset_from_content(content)


@pytest.mark.parametrize("name", list_rulesets())
def test_initial_margin_takes_the_extra_share_and_maintenance_does_not(
    market: MarketView, name: str
) -> None:
    book = Book.of([Account("a", 1_000.0, (), (Balance("ETH", 50.0),))])
    plain, more = (
        compute_requirement(book, market, with_extra(name, share)) for share in (0.0, 0.3)
    )
    assert plain.problems == more.problems == {}
    taken = more.initial_margin[0] - plain.initial_margin[0]
    assert taken == pytest.approx(0.3 * 50.0 * 2_000.0, rel=1e-12)
    assert more.maintenance_margin[0] == plain.maintenance_margin[0]
    assert more.equity[0] == plain.equity[0]


def test_a_debt_has_no_extra_haircut(market: MarketView) -> None:
    book = Book.of([Account("a", 1_000.0, (), (Balance("ETH", -1.0),))])
    got = compute_requirement(book, market, with_extra("linear-tiers", 0.3))
    assert got.initial_margin.tolist() == [0.0]


def test_worked_account(market: MarketView) -> None:
    # 4% of 10,000, and 30% of 100,000 in ETH beyond its haircut.
    held = Account("a", 0.0, (Position("BTCUSDT-PERP", 0.1),), (Balance("ETH", 50.0),))
    got = compute_requirement(Book.of([held]), market, with_extra("linear-tiers", 0.3))
    assert got.initial_margin[0] == pytest.approx(30_400.0)
