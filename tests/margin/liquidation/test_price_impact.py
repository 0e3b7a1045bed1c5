"""Price impact of closes: the formula by hand, the share that pays for it, and its bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.requirement import compute_requirement
from margin.floors.liquidity import closing_costs
from margin.liquidation.book_liquidation import book_step
from margin.liquidation.partial import liquidation_step
from margin.liquidation.price_impact import ImpactCurves, worst_price
from margin.rules.liquidation import LiquidationRules, PartialRules
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from tests.margin.liquidation.test_partial_liquidation import account as portfolio_account

BTC, ETH, X = "BTCUSDT-PERP", "ETHUSDT-PERP", "XUSDT-PERP"


def with_impact(partial: PartialRules | None = None, name: str = "linear-tiers") -> RuleSet:
    return msgspec.structs.replace(
        load_ruleset(name),
        liquidation=LiquidationRules(partial or PartialRules(), price_impact="depth"),
    )


def test_cost_is_the_half_spread_and_the_square_root_law(view: MarketView) -> None:
    """BTC: 5 bp + 0.5% sqrt(24) sqrt(1e7 / 1e9) = 0.0005 + 0.0024495 of 10 million."""
    rules = with_impact()
    curves = ImpactCurves.of_view(np.array([0, 2]), view, rules)
    costs = curves.costs(np.array([[-1e7, 1e3], [0.0, 2e9]]))
    share = 0.0005 + 0.005 * math.sqrt(24.0) * 0.1
    assert costs[0, 0] == pytest.approx(1e7 * share, rel=1e-12)
    assert costs[1, 0] == 0.0
    # Nothing is closed at a greater loss than it is worth.
    assert costs[1, 1] == 2e9
    assert np.isnan(ImpactCurves.of_view(np.array([-1]), view, rules).costs(np.ones((1, 1)))[0, 0])


@pytest.mark.parametrize("name", ["linear-tiers", "emir-tiers"])
def test_cost_is_that_of_the_floor_where_a_day_is_enough(name: str, view: MarketView) -> None:
    """The floor counts the same cost, and the risk of further days beyond a tenth of a day's
    volume."""
    rules = load_ruleset(name)
    notional = np.array([3e7, -2e6, 5e4])
    symbol = np.arange(3)
    floor = closing_costs(
        symbol, notional, view.volatility, view.adv, view.symbols, rules.floors.liquidity
    )
    cost = ImpactCurves.of_view(symbol, view, rules).costs(notional[None, :])[0]
    assert floor.extra_days.tolist() == [0.0, 0.0, 0.0]
    assert cost == pytest.approx(floor.cost, rel=1e-15)
    assert (cost > 0.0).all()


def test_worst_price_is_beyond_the_mean_by_half_of_the_move() -> None:
    """Sold 2 at 100 for a cost of 6, 2 of it the half-spread: mean 97, last unit 96."""
    assert worst_price(100.0, 2.0, 6.0, 2.0) == pytest.approx(96.0)
    assert worst_price(100.0, -2.0, 6.0, 2.0) == pytest.approx(104.0)
    assert worst_price(100.0, 1.0, 100.0, 0.0) == 0.0


@pytest.mark.parametrize("order", ["pro_rata", "largest_first"])
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([BTC, ETH, X]), st.floats(1e3, 3e7), st.booleans()),
        min_size=1,
        max_size=3,
        unique_by=lambda leg: leg[0],
    ),
    st.floats(0.05, 0.99),
    st.floats(0.0, 0.3),
)
def test_smallest_share_pays_for_its_impact(
    view: MarketView,
    order: str,
    legs: list[tuple[str, float, bool]],
    funded: float,
    buffer: float,
) -> None:
    """After the step the account meets the buffer out of what is left once the impact is paid; a
    little less would not do. Margin, closing and payment are computed apart."""
    marks = {BTC: 100_000.0, ETH: 2_000.0, X: 1.0}
    partial = PartialRules(order=order, buffer=buffer, fee_rate=0.0005)  # type: ignore[arg-type]
    rules = with_impact(partial)
    positions = tuple(
        Position(name, (1.0 if long else -1.0) * size / marks[name], marks[name])
        for name, size, long in legs
    )
    bare = compute_requirement(Book.of([Account("a", 0.0, positions)]), view, rules)
    booked = Account("a", funded * float(bare.maintenance_margin[0]), positions)
    after, step = book_step(booked, view, rules)

    def cost(shares: list[float]) -> float:
        total = 0.0
        for (name, size, _), share in zip(legs, shares, strict=True):
            row = [BTC, ETH, X].index(name)
            closed = share * size
            law = 0.0005 + view.volatility[row] * math.sqrt(24.0 * closed / view.adv[row])
            total += closed * min(1.0, law)
        return total

    def surplus(shares: list[float]) -> float:
        left = tuple(
            Position(leg.instrument, leg.quantity * (1.0 - share), leg.entry_price)
            for leg, share in zip(positions, shares, strict=True)
        )
        closed = sum(share * size for share, (_, size, _) in zip(shares, legs, strict=True))
        paid = booked.cash - 0.0005 * closed - cost(shares)
        now = compute_requirement(Book.of([Account("a", paid, left)]), view, rules)
        return float(now.headroom[0] - buffer * now.maintenance_margin[0])

    gross = sum(size for _, size, _ in legs)
    shares = list(step.shares)
    assert step.impact == pytest.approx(cost(shares), rel=1e-9)
    now = compute_requirement(Book.of([after]), view, rules)
    before = compute_requirement(Book.of([booked]), view, rules)
    assert now.equity[0] == pytest.approx(
        before.equity[0] - step.fee - step.impact, abs=1e-9 * gross
    )
    assert now.headroom[0] == pytest.approx(step.net_after, abs=1e-9 * gross)
    if not step.restored:
        assert surplus(shares) < 1e-9 * gross
        return
    assert surplus(shares) >= -1e-9 * gross
    little_less = list(shares)
    if order == "pro_rata":
        little_less = [share * (1.0 - 1e-6) for share in shares]
    else:
        # The last one taken is the smallest by margin, here in the order of the notional.
        last = min((k for k, share in enumerate(shares) if share > 0.0), key=lambda k: legs[k][1])
        little_less[last] *= 1.0 - 1e-6
    assert surplus(little_less) < 0.0


@pytest.mark.parametrize("key", ["none", None])
def test_without_the_key_closes_are_at_the_mark(key: str | None, view: MarketView) -> None:
    content = load_ruleset("linear-tiers").content()
    table = {} if key is None else {"price_impact": key}
    rules = ruleset_from_content(content | {"liquidation": table})
    booked = Account("a", 1_500.0, (Position(BTC, 1.0, 100_000.0),))
    _, step = book_step(booked, view, rules)
    assert step.impact == 0.0
    assert step.shares[0] == pytest.approx(1.0 - 1_500.0 / 2_200.0, rel=1e-12)
    _, dearer = book_step(booked, view, with_impact())
    assert dearer.shares[0] > step.shares[0]
    assert 0.0 < dearer.impact == pytest.approx(step.net_after - dearer.net_after, abs=25.0)


def test_an_account_that_is_taken_over_trades_nothing(view: MarketView) -> None:
    rules = msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        liquidation=LiquidationRules(PartialRules(), 0.5, price_impact="depth"),
    )
    _, step = book_step(Account("a", 900.0, (Position(BTC, 1.0, 100_000.0),)), view, rules)
    assert step.backstop
    assert (step.shares, step.impact) == ((1.0,), 0.0)


def test_a_case_without_a_market_takes_the_stand_ins() -> None:
    """Neither volume nor volatility is known: 2% an hour and a tenth of a day's volume."""
    rules = with_impact(PartialRules(method="whole"))
    step = liquidation_step(portfolio_account(1_500.0, 100_000.0), rules)
    share = 0.0005 + 0.02 * math.sqrt(24.0) * math.sqrt(0.1)
    assert step.impact == pytest.approx(100_000.0 * share, rel=1e-9)
    # With order-book figures: the books of BTC, or the law where it is dearer.
    booked = with_impact(PartialRules(method="whole"), "emir-tiers")
    depth = booked.floors.liquidity.depth
    assert isinstance(depth, dict)
    assert "BTCUSDT" in depth
    half = depth["BTCUSDT"].half_spread
    law = half + booked.floors.liquidity.impact * 0.02 * math.sqrt(24.0) * math.sqrt(0.1)
    found = liquidation_step(portfolio_account(1_500.0, 100_000.0), booked)
    assert found.impact == pytest.approx(100_000.0 * law, rel=1e-9)


def test_more_is_never_cheaper(make_view: Callable[..., MarketView]) -> None:
    view = make_view(adv=[1e9, 5e8, 0.0])
    curves = ImpactCurves.of_view(np.arange(3), view, load_ruleset("emir-tiers"))
    sizes = np.geomspace(1.0, 1e11, 200)
    costs = curves.costs(np.outer(sizes, np.ones(3)))
    assert (np.diff(costs, axis=0) > 0.0).all()
    assert (costs <= sizes[:, None]).all()
    assert (costs[:, 2] == sizes).all()  # no volume at all: all of it is lost
