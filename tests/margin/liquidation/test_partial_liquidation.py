"""Partial liquidation: the buffer is met, a little less would not do, and nobody is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.case_portfolio import Holding, Portfolio, Underlying
from margin.book.requirement import compute_requirement
from margin.liquidation.auction import auction_steps, largest_share
from margin.liquidation.book_liquidation import book_step
from margin.liquidation.partial import allowed_shortage, liquidation_step
from margin.liquidation.prices import margins_of
from margin.liquidation.shocked_portfolio import reduce_positions
from margin.rules.liquidation import AuctionRules, LiquidationRules, PartialRules
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.errors import CaseError, DataError


def with_rules(partial: PartialRules | None = None, backstop_share: float = 0.0) -> RuleSet:
    return msgspec.structs.replace(
        load_ruleset("linear-tiers"),
        liquidation=LiquidationRules(partial or PartialRules(), backstop_share),
    )


def account(cash: float, *notionals: float) -> Portfolio:
    prices = (60_000.0, 2_000.0, 10.0)
    names = ("BTC", "ETH", "X")
    return Portfolio(
        cash=cash,
        stable_price=1.0,
        underlyings={
            name: Underlying(spot=price, perp_price=price)
            for name, price in zip(names, prices, strict=True)
        },
        positions=tuple(
            Holding(kind="perp", underlying=name, quantity=quantity / price, entry_price=price)
            for name, quantity, price in zip(names, notionals, prices, strict=False)
        ),
        collateral=(),
    )


def surplus(portfolio: Portfolio, rules: RuleSet, shares: list[float]) -> float:
    """What is left over beyond the buffer, by another way: close, pay, margin again."""
    partial = rules.liquidation_or_default.partial
    left = reduce_positions(portfolio, shares)
    closed = sum(
        share * abs(leg.quantity) * portfolio.underlyings[leg.underlying].spot
        for share, leg in zip(shares, portfolio.positions, strict=True)
    )
    paid = msgspec.structs.replace(left, cash=left.cash - partial.fee_rate * closed)
    margins = margins_of([paid], rules)
    requirement = float(margins.mark_to_market[0] - margins.maintenance_net[0])
    return float(margins.maintenance_net[0]) - partial.buffer * requirement


@pytest.mark.parametrize("order", ["pro_rata", "largest_first"])
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1_000.0), min_size=1, max_size=3),
    st.floats(0.05, 0.99),
    st.floats(0.0, 0.5),
    st.floats(0.0, 0.01),
)
def test_smallest_that_restores_the_buffer(
    order: str, notionals: list[float], funded: float, buffer: float, fee: float
) -> None:
    rules = with_rules(partial=PartialRules(order=order, buffer=buffer, fee_rate=fee))  # type: ignore[arg-type]
    gross = sum(map(abs, notionals))
    portfolio = account(0.02 * gross * funded, *notionals)
    before = copy.deepcopy(portfolio)
    step = liquidation_step(portfolio, rules)
    shares = list(step.shares)
    scale = 1e-9 * gross
    assert portfolio == before
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert step.net_before < 0.0
    assert step.fee == pytest.approx(fee * step.notional)
    if not step.restored:
        assert shares == [1.0] * len(notionals)
        assert surplus(portfolio, rules, shares) < scale
        return
    assert surplus(portfolio, rules, shares) >= -scale
    last = [k for k, share in enumerate(shares) if share > 0.0]
    little_less = list(shares)
    if order == "pro_rata":
        little_less = [share * (1.0 - 1e-6) for share in shares]
    else:
        smallest = min(last, key=lambda k: abs(notionals[k]))
        little_less[smallest] *= 1.0 - 1e-6
    assert surplus(portfolio, rules, little_less) < 0.0


def test_share_by_hand() -> None:
    """Equity 1,500 beside 2% of 100,000: closing f leaves 1,500 >= 1.1 * 2,000 (1 - f)."""
    step = liquidation_step(
        account(1_500.0, 100_000.0), with_rules(partial=PartialRules(buffer=0.1))
    )
    assert step.shares[0] == pytest.approx(1.0 - 1_500.0 / 2_200.0, rel=1e-12)
    assert step.net_before == pytest.approx(-500.0)
    assert step.restored


def test_paradex_closes_a_multiple_of_a_fifth() -> None:
    """Paradex documentation, "Liquidations", Example: 80 of value beside 88.8 of margin at 1%; 40%
    of both positions bring the margin ratio below 90%, to 85.6%, for a penalty of 17.76 (half of
    the margin freed in its table; the text beside it says 70% today)."""
    rules = ruleset_from_content(
        load_ruleset("linear-tiers").content()
        | {
            "tier": {"brackets": [{"maintenance_rate": 0.01, "initial_rate": 0.02}]},
            "liquidation": {
                "partial": {"buffer": 1 / 0.9 - 1, "multiple_of": 0.2, "margin_fee_rate": 0.5}
            },
        }
    )
    portfolio = Portfolio(
        cash=1_000.0,
        stable_price=1.0,
        underlyings={
            "BTC": Underlying(spot=54_800.0, perp_price=54_800.0),
            "ETH": Underlying(spot=3_400.0, perp_price=3_400.0),
        },
        positions=(
            Holding(kind="perp", underlying="BTC", quantity=0.1, entry_price=60_000.0),
            Holding(kind="perp", underlying="ETH", quantity=-1.0, entry_price=3_000.0),
        ),
        collateral=(),
    )
    step = liquidation_step(portfolio, rules)
    assert step.net_before == pytest.approx(80.0 - 88.8)
    assert step.shares == pytest.approx((0.4, 0.4))
    assert step.fee == pytest.approx(17.76)
    assert step.requirement_after == pytest.approx(53.28)
    assert step.requirement_after / (step.net_after + step.requirement_after) == pytest.approx(
        0.856, abs=5e-4
    )


def test_largest_first_closes_as_few_positions_as_it_can() -> None:
    rules = with_rules(partial=PartialRules(order="largest_first", buffer=0.0))
    # 2% of 200,000 is 4,000; equity 2,500 carries 125,000: 75,000 go, all of them BTC.
    step = liquidation_step(account(2_500.0, -120_000.0, 80_000.0), rules)
    assert step.shares == pytest.approx((75_000.0 / 120_000.0, 0.0))
    step = liquidation_step(account(1_000.0, -120_000.0, 80_000.0), rules)
    assert step.shares == pytest.approx((1.0, 30_000.0 / 80_000.0))


def test_a_healthy_account_is_left_alone() -> None:
    for method in ("buffer", "share", "whole"):
        step = liquidation_step(
            account(2_000.0, 100_000.0),
            with_rules(partial=PartialRules(method=method, buffer=0.0)),
        )
        assert (step.shares, step.notional, step.restored) == ((0.0,), 0.0, True)


def test_a_fifth_of_large_positions_first() -> None:
    """Hyperliquid, "Liquidations": above 100,000 USDC 20% go first, and everything in the
    cooldown of 30 seconds after; below 2/3 of the margin the backstop takes over."""
    rules = with_rules(
        partial=PartialRules(
            method="share", share=0.2, share_above=100_000.0, cooldown_seconds=30.0
        ),
        backstop_share=2.0 / 3.0,
    )
    portfolio = account(6_000.0, 300_000.0, 100_000.0)
    assert liquidation_step(portfolio, rules).shares == (0.2, 1.0)
    assert liquidation_step(portfolio, rules, since_last_seconds=29.0).shares == (1.0, 1.0)
    assert liquidation_step(portfolio, rules, since_last_seconds=30.0).shares == (0.2, 1.0)
    assert not liquidation_step(portfolio, rules).backstop
    taken = liquidation_step(account(5_300.0, 300_000.0, 100_000.0), rules)
    assert taken.backstop
    assert taken.shares == (1.0, 1.0)


def test_a_ramp_frees_a_part_of_the_shortage() -> None:
    """Drift v2, "Liquidation Engine": a share of the shortage that rises with time; small
    shortages at once."""
    partial = PartialRules(buffer=0.0, ramp_start=0.1, ramp_seconds=60.0, small_shortage=50.0)
    assert allowed_shortage(partial, 500.0, 0.0) == 0.1
    assert allowed_shortage(partial, 500.0, 30.0) == pytest.approx(0.6)
    assert allowed_shortage(partial, 500.0, 1e9) == 1.0
    assert allowed_shortage(partial, 49.0, 0.0) == 1.0
    rules = with_rules(partial=partial)
    portfolio = account(1_500.0, 100_000.0)
    first = liquidation_step(portfolio, rules)
    assert first.net_after == pytest.approx(-450.0)
    assert not first.restored
    late = liquidation_step(portfolio, rules, elapsed_seconds=60.0)
    assert late.net_after == pytest.approx(0.0, abs=1e-6)
    assert late.restored


@settings(max_examples=100, deadline=None)
@given(
    st.floats(1.0, 1e6),
    st.floats(1.0, 1e6),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.5),
    st.floats(0.0, 1.0),
)
def test_auctioned_share_restores_the_buffer(
    value: float, short: float, factor: float, buffer: float, reserve: float
) -> None:
    """Sold at ``d (MtM - R)``, the share f leaves a buffer margin of zero, and less does not."""
    rules = AuctionRules(1.0, 0.5, 1.0, 1.0, 1.0, buffer=buffer)
    net, reserved = -short, reserve * value
    share = largest_share(net, value, factor, rules, reserved)
    assert 0.0 < share <= 1.0

    def after(f: float) -> float:
        # Reserved cash stays, so only the rest of the account is sold and freed of margin.
        requirement = (1.0 + buffer) * (net - value) * (1.0 - f)
        worth = reserved + (value - reserved) * (1.0 - f) + f * factor * (value - reserved)
        return worth + requirement

    scale = 1e-9 * (value + short)
    if share < 1.0:
        assert abs(after(share)) <= scale
        assert after(share * 0.999) < scale


def test_steps_of_an_auction_fall_without_a_jump_up() -> None:
    rules = AuctionRules(0.95, 0.7, 900.0, 43_200.0, 3_600.0, buffer=0.15)
    offers = auction_steps(-200.0, 300.0, rules)
    prices = [offer.price for offer in offers]
    assert prices == sorted(prices, reverse=True)
    assert [offers[0].price, prices[-1]] == pytest.approx([285.0, -200.0])
    assert [offer.seconds for offer in offers][-1] == 900.0 + 43_200.0 + 3_600.0
    assert not auction_steps(-200.0, -1.0, rules)[0].solvent
    with pytest.raises(CaseError, match="steps of an auction is 1"):
        auction_steps(-200.0, 300.0, rules, 1)


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="must not rise"):
        AuctionRules(0.5, 0.7, 1.0, 1.0, 1.0)


def test_default_table_leaves_the_identity_of_a_rule_set(linear_tiers: RuleSet) -> None:
    assert "liquidation" not in linear_tiers.content()
    assert "life_cycle" not in linear_tiers.content()
    assert linear_tiers.liquidation_or_default == LiquidationRules()
    assert with_rules().sha256 != linear_tiers.sha256
    assert np.isfinite(linear_tiers.life_cycle_or_default.call_hours)


def test_step_of_a_book_is_that_of_its_portfolio(
    make_view: Callable[..., MarketView],
) -> None:
    """The same account through both doors: as a margin case and as an account of a book."""
    rules = with_rules(partial=PartialRules(buffer=0.2, fee_rate=0.001))
    view = make_view(mark=[60_000.0, 2_000.0, 10.0])
    notionals = (-120_000.0, 80_000.0)
    names = ("BTCUSDT-PERP", "ETHUSDT-PERP")
    booked = Account(
        "a",
        3_000.0,
        tuple(
            Position(name, size / price, price)
            for name, size, price in zip(names, notionals, (60_000.0, 2_000.0), strict=True)
        ),
    )
    after, step = book_step(booked, view, rules)
    expected = liquidation_step(account(3_000.0, *notionals), rules)
    assert step.shares == pytest.approx(expected.shares, rel=1e-12)
    now = compute_requirement(Book.of([after]), view, rules)
    assert now.headroom[0] == pytest.approx(step.net_after)
    assert now.equity[0] == pytest.approx(3_000.0 - step.fee)
    assert now.headroom[0] >= 0.2 * now.maintenance_margin[0] - 1e-6
    bankrupt = msgspec.structs.replace(rules, liquidation=LiquidationRules(PartialRules("whole")))
    closed, _ = book_step(booked, view, bankrupt)
    assert (closed.positions, closed.cash) == ((), 3_000.0)
    with pytest.raises(DataError, match="no symbol SOLUSDT"):
        book_step(Account("a", 1.0, (Position("SOLUSDT", 1.0),)), view, rules)
