"""Liquidation under the presets: every engine, options too, and the closed forms they publish."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from margin.book.case_portfolio import Expiry, Holding, Portfolio, Underlying, portfolio_from
from margin.book.requirement import compute_requirement
from margin.engines.tier.tiers import bracket_table
from margin.liquidation.account import liquidation_of
from margin.liquidation.auction import largest_share
from margin.liquidation.book_liquidation import book_step
from margin.liquidation.partial import liquidation_step
from margin.liquidation.prices import bankruptcy_crossing, liquidation_crossing, margins_of
from margin.liquidation.shocked_portfolio import shock_portfolio
from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard

MONTH = 30.0 * 86_400.0


def perps(cash: float, quantity: float, price: float = 60_000.0) -> Portfolio:
    return Portfolio(
        cash=cash,
        stable_price=1.0,
        underlyings={"BTC": Underlying(spot=price, perp_price=price, open_interest=1e9)},
        positions=(Holding(kind="perp", underlying="BTC", quantity=quantity, entry_price=price),),
        collateral=(),
    )


def options(cash: float, *legs: tuple[str, float, float]) -> Portfolio:
    """Options on ETH at 2,000, 30 days, 60% vol: (type, strike, quantity)."""
    return Portfolio(
        cash=cash,
        stable_price=1.0,
        underlyings={
            "ETH": Underlying(
                spot=2_000.0,
                perp_price=2_000.0,
                expiries=(Expiry(seconds_to_expiry=MONTH, forward=2_005.0, rate=0.03),),
            )
        },
        positions=tuple(
            Holding(
                kind="option",
                underlying="ETH",
                quantity=quantity,
                seconds_to_expiry=MONTH,
                strike=strike,
                type=kind,  # type: ignore[arg-type]
                vol=0.6,
            )
            for kind, strike, quantity in legs
        ),
        collateral=(),
    )


def net_at(portfolio: Portfolio, name: str, multiples: list[float], rules: RuleSet) -> list[float]:
    found = margins_of(
        [shock_portfolio(portfolio, name, one, rules.collateral) for one in multiples], rules
    )
    return [float(net) for net in found.maintenance_net]


@pytest.mark.parametrize(
    "name", ["derive-srm", "deribit-standard", "derive-pmrm2", "deribit-portfolio-like"]
)
@pytest.mark.parametrize(
    ("cash", "legs", "ways"),
    [
        (900.0, [("call", 2_200.0, -1.0)], {"up"}),
        (900.0, [("put", 1_800.0, -1.0)], {"down"}),
        (1_500.0, [("put", 1_800.0, -1.0), ("call", 2_200.0, -1.0)], {"down", "up"}),
        (900.0, [("call", 2_200.0, 1.0)], set()),
    ],
)
def test_options_are_liquidated_on_the_sides_that_lose(
    name: str, cash: float, legs: list[tuple[str, float, float]], ways: set[str]
) -> None:
    rules, portfolio = load_ruleset(name), options(cash, *legs)
    liquidation = liquidation_crossing(portfolio, "ETH", rules)
    bankruptcy = bankruptcy_crossing(portfolio, "ETH", rules)
    assert not liquidation.passed
    # Rule margin asks a share of the spot for a short put, however far it is out of the money.
    spot_share = {"up"} if "up" not in ways and legs[0][2] < 0.0 else set()
    found = {way for way in ("down", "up") if getattr(liquidation, way) is not None}
    assert ways <= found <= ways | spot_share
    assert spot_share <= found or rules.engine == "scenario"
    for way, sign in (("down", -1.0), ("up", 1.0)):
        at, end = getattr(liquidation, way), getattr(bankruptcy, way)
        assert end is None or (at is not None and sign * end >= sign * at)
        if at is None:
            continue
        before, there, after = net_at(
            portfolio, "ETH", [at * (1.0 + sign * k) for k in (-1e-9, 0.0, 1e-9)], rules
        )
        assert before > there > after
        assert abs(there) <= 1e-9 * 2_000.0 * at * 2.0


@settings(max_examples=15, deadline=None)
@given(st.floats(0.3, 0.98), st.floats(1_500.0, 1_995.0), st.floats(2_010.0, 2_600.0))
def test_step_of_a_proportional_requirement_is_the_published_share(
    funded: float, put: float, call: float
) -> None:
    """``f_max = BM / (BM - MtM)``: at no discount the share that Derive auctions and the smallest
    that restores the buffer are one."""
    rules = load_ruleset("derive-srm")
    auction = msgspec.to_builtins(rules.liquidation_or_default.auction)
    assert auction["buffer"] == rules.liquidation_or_default.partial.buffer == 0.15
    bare = options(0.0, ("put", put, -1.0), ("call", call, -1.0))
    margins = margins_of([bare], rules)
    value, net = float(margins.mark_to_market[0]), float(margins.maintenance_net[0])
    # Cash that leaves a share of the requirement, and something after the options' value.
    portfolio = msgspec.structs.replace(bare, cash=-value + funded * (value - net))
    step = liquidation_step(portfolio, rules)
    found = margins_of([portfolio], rules)
    expected = largest_share(
        float(found.maintenance_net[0]),
        float(found.mark_to_market[0]),
        1.0,
        rules.liquidation_or_default.auction,  # type: ignore[arg-type]
    )
    assert step.shares == pytest.approx((expected, expected), rel=1e-9)
    auctioned = liquidation_of(portfolio, rules)
    assert auctioned.auction[0].price_factor == 0.95
    # A tenth of what can be sold at most goes to the fund; nothing where the margin is met.
    assert auctioned.auction_fee == pytest.approx(0.1 * expected * auctioned.mark_to_market)
    rich = msgspec.structs.replace(portfolio, cash=portfolio.cash + 1e6)
    assert liquidation_of(rich, rules).auction_fee == 0.0
    ruined = msgspec.structs.replace(portfolio, cash=portfolio.cash - 1e6)
    assert liquidation_of(ruined, rules).auction_fee == 0.0


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        ("dydx-v4", 2.0, 0.012),
        ("hyperliquid", 2.0, 0.0125),
        ("drift-v2", 2.0, 0.05),
        # max(0.05, 0.8 * 0.05 + 0.001 * sqrt(size))
        ("drift-v2", 400.0, 0.04 + 0.001 * 20.0),
    ],
)
def test_search_finds_the_closed_forms_of_the_venues(
    closed_form: Callable[..., float | None], side: float, name: str, size: float, rate: float
) -> None:
    portfolio = perps(size * 6_000.0, side * size)
    found = liquidation_crossing(portfolio, "BTC", load_ruleset(name))
    expected = closed_form(side * size, 60_000.0, portfolio.cash, [(math.inf, rate, 0.0)])
    at = found.down if side > 0.0 else found.up
    assert at is not None
    assert at * 60_000.0 == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["binance-usdm", "hyperliquid"])
@pytest.mark.parametrize("quantity", [0.5, -20.0, 900.0, -4_000.0])
def test_search_finds_the_bracket_of_the_liquidation_price(
    closed_form: Callable[..., float | None], name: str, quantity: float
) -> None:
    rules = load_ruleset(name)
    portfolio = perps(abs(quantity) * 15_000.0, quantity)
    found = liquidation_crossing(portfolio, "BTC", rules)
    table = bracket_table(rules, ("BTCUSDT",))
    brackets = zip(
        table.bounds[0].tolist(),
        table.maintenance_rates[0].tolist(),
        table.maintenance_deductions[0].tolist(),
        strict=True,
    )
    expected = closed_form(quantity, 60_000.0, portfolio.cash, list(brackets))
    if found.passed:
        assert expected is not None
        assert math.copysign(1.0, quantity) * (expected - 60_000.0) > 0.0
        return
    at = found.down if quantity > 0.0 else found.up
    assert at is not None
    assert at * 60_000.0 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in list_rulesets() if name != "linear-tiers"])
def test_every_preset_steps_an_account_back_or_closes_it(name: str) -> None:
    rules = load_ruleset(name)
    for fill in (0.99, 0.5, -0.5):
        content = msgspec.to_builtins(perps(0.0, 1.0))
        # Without any known day a simulation takes its flat shock.
        content["history"] = {"until": "2025-06-01", "closes": {}}
        portfolio = portfolio_from(content)
        margins = margins_of([portfolio], rules)
        need = float(margins.mark_to_market[0] - margins.maintenance_net[0])
        short = msgspec.structs.replace(portfolio, cash=fill * need)
        step = liquidation_step(short, rules, elapsed_seconds=1e9)
        assert step.net_before < 0.0
        assert 0.0 < step.shares[0] <= 1.0
        assert step.restored or step.shares == (1.0,)
        assert np.isfinite(step.net_after)


@pytest.mark.parametrize(
    "name", ["derive-srm", "deribit-standard", "derive-pmrm2", "paradex-portfolio"]
)
@pytest.mark.parametrize("cash", [9_000.0, 15_000.0, 22_000.0])
def test_steps_of_a_book_with_options_keep_their_worth(
    name: str, cash: float, make_view: Callable[..., MarketView]
) -> None:
    """Options, a perpetual and cash: closing turns worth into cash, and the rest is margined."""
    as_of, near = parse_expiry("BTC-20MAR26"), "BTC-27MAR26"
    board = QuoteBoard(
        expiries={near: ExpiryQuote(as_of, 100_100.0, 0.03, vols={1e5: 0.5, 1.2e5: 0.55})},
        instruments={"BTCUSDT-PERP": InstrumentQuote(as_of, mark=100_050.0)},
    )
    view = dataclasses.replace(make_view(), as_of=as_of, quotes=board)
    positions = (
        Position(f"{near}-100000-P", -1.0),
        Position(f"{near}-120000-C", -1.0),
        Position("BTCUSDT-PERP", 0.5, 99_000.0),
    )
    rules, booked = load_ruleset(name), Account("a", cash, positions)
    before = compute_requirement(Book.of([booked]), view, rules)
    assert not before.problems
    after, step = book_step(booked, view, rules)
    now = compute_requirement(Book.of([after]), view, rules)
    assert booked.positions == positions
    assert now.equity[0] == pytest.approx(before.equity[0] - step.fee, abs=1e-6)
    assert now.headroom[0] == pytest.approx(step.net_after, abs=1e-6)
    if before.headroom[0] >= 0.0:
        assert after == dataclasses.replace(booked, cash=after.cash)
        assert step.notional == 0.0
    else:
        assert step.notional > 0.0
        assert step.restored or after.positions == ()
