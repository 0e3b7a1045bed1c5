"""The floors on volatility: worked numbers, offsets, look-back and what is not known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import norm

from margin.book.requirement import compute_requirement
from margin.floors.registry import FLOORS
from margin.floors.stressed_buffer import market_stress
from margin.rules.floors import (
    CorrelationRules,
    Cover,
    CoverageRules,
    FloorRules,
    StressedBufferRules,
    StressedWeightRules,
    VolatilityRules,
    remaining_share,
)
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.errors import RuleSetError

NAN = float("nan")
RULES = FloorRules(
    volatility=VolatilityRules(),
    stressed_buffer=StressedBufferRules(),
    stressed_weight=StressedWeightRules(),
    coverage=CoverageRules(),
)
CAPPED = FloorRules(
    volatility=VolatilityRules(), correlation=CorrelationRules(), coverage=CoverageRules()
)
Z = float(norm.ppf(0.99)) * math.sqrt(48)
RHO = np.array([[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])
LONG = [0.010, 0.012, 0.03]
YEARS = [20_000.0] * 3

Make = Callable[..., MarketView]


def floor_of(
    name: str, view: MarketView, ruleset: RuleSet, rules: FloorRules, **quantity: float
) -> float:
    legs = tuple(Position(f"{coin}USDT", size) for coin, size in quantity.items())
    requirement = compute_requirement(Book.of([Account("a", 0.0, legs)]), view, ruleset)
    return float(FLOORS[name].amount(requirement, view, rules)[0])


def test_volatility_lifts_a_calm_margin_to_the_long_run(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(long_volatility=LONG, history_hours=YEARS)
    # 1e5 of BTC: 16.1% of it, of which the rules ask 2% already.
    expected = 1e5 * (Z * 0.010 - 0.02)
    assert floor_of("volatility", view, linear_tiers, RULES, BTC=-1.0) == pytest.approx(expected)


def test_volatility_of_the_whole_book_is_that_of_its_covariance(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(long_volatility=LONG, history_hours=YEARS, correlation=RHO)
    exposure = np.array([1e5, -6e4, 2e4])
    risk = exposure * np.array(LONG)
    expected = Z * math.sqrt(risk @ RHO @ risk) - 0.02 * np.abs(exposure).sum()
    got = floor_of("volatility", view, linear_tiers, RULES, BTC=1.0, ETH=-30.0, X=2e4)
    assert got == pytest.approx(expected, rel=1e-12)


def test_coverage_takes_confidence_and_period_of_the_product(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(long_volatility=LONG, history_hours=YEARS)
    rules = FloorRules(volatility=VolatilityRules(), coverage=CoverageRules(product="otc"))
    expected = 1e5 * (norm.ppf(0.995) * math.sqrt(120) * 0.010 - 0.02)
    assert floor_of("volatility", view, linear_tiers, rules, BTC=1.0) == pytest.approx(expected)


def test_rules_that_ask_for_more_leave_no_floor(make_view: Make, linear_tiers: RuleSet) -> None:
    view = make_view(long_volatility=[0.001] * 3, volatility=[0.001] * 3, history_hours=YEARS)
    assert floor_of("volatility", view, linear_tiers, RULES, BTC=1.0) == 0.0
    assert floor_of("correlation", view, linear_tiers, CAPPED, BTC=1.0) == 0.0


@pytest.mark.parametrize(
    ("long", "hours", "counts"),
    [
        ([0.005] * 3, YEARS, 0.005),
        ([0.005] * 3, [8_759.0] * 3, 0.02),  # under a year: at least the stand-in
        ([0.030] * 3, [8_759.0] * 3, 0.030),
        ([0.005] * 3, [NAN] * 3, 0.02),
        ([0.005] * 3, None, 0.02),
        ([NAN] * 3, YEARS, 0.02),
        (None, None, 0.02),
    ],
)
def test_short_or_unknown_history_never_vouches_for_a_low_volatility(
    make_view: Make, linear_tiers: RuleSet, long: object, hours: object, counts: float
) -> None:
    columns = {"long_volatility": long, "history_hours": hours}
    view = make_view(**{key: value for key, value in columns.items() if value is not None})
    expected = 1e5 * (Z * counts - 0.02)
    assert floor_of("volatility", view, linear_tiers, RULES, BTC=1.0) == pytest.approx(expected)


def test_hedge_in_one_underlying_is_no_offset_between_underlyings(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(correlation=RHO, fast_correlation=RHO)
    legs = (Position("BTCUSDT", 1.0), Position("BTCUSDT-PERP", -0.75))
    requirement = compute_requirement(Book.of([Account("a", 0.0, legs)]), view, linear_tiers)
    got = FLOORS["correlation"].amount(requirement, view, CAPPED)[0]
    # A quarter of a coin is left to cover; the rules ask 2% of both legs.
    assert got == pytest.approx(max(0.0, 25_000 * Z * 0.005 - 0.02 * 175_000))
    wild = make_view(correlation=RHO, fast_correlation=RHO, volatility=[0.03, 0.03, 0.03])
    got = FLOORS["correlation"].amount(requirement, wild, CAPPED)[0]
    assert got == pytest.approx(25_000 * Z * 0.03 - 0.02 * 175_000)


def test_offset_between_underlyings_is_at_most_the_cap_of_the_gross_difference(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    rho = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    view = make_view(correlation=rho, fast_correlation=rho, volatility=[0.01, 0.01, 0.01])
    # A perfect hedge of two coins: nothing is left together, a fifth of the gross is kept.
    got = floor_of("correlation", view, linear_tiers, CAPPED, BTC=1.0, ETH=-50.0)
    assert got == pytest.approx(0.2 * 2e5 * Z * 0.01 - 0.02 * 2e5)
    free = FloorRules(volatility=VolatilityRules(), coverage=CoverageRules())
    calm = make_view(correlation=rho, long_volatility=[0.01] * 3, history_hours=YEARS)
    assert floor_of("volatility", calm, linear_tiers, free, BTC=1.0, ETH=-50.0) == 0.0


def test_every_demand_keeps_the_cap_once_it_is_on(make_view: Make, linear_tiers: RuleSet) -> None:
    # Article 27 speaks of the margin, not of one way to compute it.
    rho = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    view = make_view(
        correlation=rho, fast_correlation=rho, long_volatility=[0.02] * 3, history_hours=YEARS
    )
    got = floor_of("volatility", view, linear_tiers, CAPPED, BTC=1.0, ETH=-50.0)
    assert got == pytest.approx(0.2 * 2e5 * Z * 0.02 - 0.02 * 2e5)


@pytest.mark.parametrize(
    ("fast", "left"),
    [(0.8, 1.0), (0.7, 0.8), (0.3, 0.0), (-0.5, 0.0), (NAN, 0.0), (None, 0.0)],
)
def test_offset_shrinks_as_fast_and_slow_correlation_part(
    make_view: Make, linear_tiers: RuleSet, fast: float | None, left: float
) -> None:
    slow = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    quick = slow.copy()
    quick[0, 1] = quick[1, 0] = NAN if fast is None else fast
    columns = {} if fast is None else {"fast_correlation": quick}
    view = make_view(correlation=slow, volatility=[0.02, 0.02, 0.02], **columns)
    alone = 1e5 * Z * 0.02
    # The losses of long and short correlate by -0.8 when trusted in full.
    c = 1.0 - left * 1.8
    joint = math.sqrt(2 * alone**2 * (1 + c))
    expected = 2 * alone - 0.8 * (2 * alone - joint) - 0.02 * 2e5
    got = floor_of("correlation", view, linear_tiers, CAPPED, BTC=1.0, ETH=-50.0)
    assert got == pytest.approx(expected, rel=1e-12)


@given(rho=st.floats(-1, 1), near=st.floats(0, 0.6), far=st.floats(0, 0.6), short=st.booleans())
def test_correlations_further_apart_never_ask_for_less(
    make_view: Make, linear_tiers: RuleSet, rho: float, near: float, far: float, short: bool
) -> None:
    near, far = sorted((near, far))
    slow = np.eye(3) + rho * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])

    def demand(apart: float) -> float:
        fast = slow.copy()
        fast[0, 1] = fast[1, 0] = rho - apart if rho > 0 else rho + apart
        view = make_view(volatility=[0.02] * 3, correlation=slow, fast_correlation=fast)
        eth = -50.0 if short else 50.0
        return floor_of("correlation", view, linear_tiers, CAPPED, BTC=1.0, ETH=eth)

    assert demand(near) <= demand(far) * (1 + 1e-12)


def test_unknown_correlation_offsets_nothing(make_view: Make, linear_tiers: RuleSet) -> None:
    blank = np.full((3, 3), NAN)
    view = make_view(correlation=blank, long_volatility=LONG, history_hours=YEARS)
    got = floor_of("volatility", view, linear_tiers, RULES, BTC=1.0, ETH=-50.0)
    assert got == pytest.approx(1e5 * Z * (0.010 + 0.012) - 0.02 * 2e5)


@pytest.mark.parametrize(
    ("stress", "share"), [(0.2, 1.0), (1.5, 1.0), (2.25, 0.5), (3.0, 0.0), (9.0, 0.0), (NAN, 1.0)]
)
def test_buffer_is_drawn_down_by_the_schedule(
    make_view: Make, linear_tiers: RuleSet, stress: float, share: float
) -> None:
    view = make_view(volatility=[0.01] * 3, long_volatility=[0.01 / stress] * 3)
    current = 1e5 * Z * 0.01
    expected = current * (1 + 0.25 * share) - 0.02 * 1e5
    got = floor_of("stressed_buffer", view, linear_tiers, RULES, BTC=1.0)
    assert got == pytest.approx(expected, rel=1e-12)
    assert remaining_share(market_stress(view), StressedBufferRules()) == pytest.approx(share)


def test_buffer_stands_on_the_rules_where_they_ask_more_than_the_market(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(volatility=[0.0005] * 3, long_volatility=[0.01] * 3)
    got = floor_of("stressed_buffer", view, linear_tiers, RULES, BTC=1.0)
    assert got == pytest.approx(0.25 * 0.02 * 1e5)


def test_buffer_never_lifts_the_margin_above_the_notional(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(volatility=[1.0] * 3)
    got = floor_of("stressed_buffer", view, linear_tiers, RULES, BTC=1.0)
    assert got == pytest.approx(1e5 - 2e3)


def test_stress_is_the_median_over_the_symbols_that_are_known(make_view: Make) -> None:
    view = make_view(volatility=[0.02, 0.03, NAN], long_volatility=[0.01, 0.01, 0.01])
    assert market_stress(view) == pytest.approx(2.5)
    assert math.isnan(market_stress(make_view()))
    assert math.isnan(market_stress(make_view(long_volatility=[0.0, NAN, np.inf])))


def test_stressed_weight_worked_number(make_view: Make, linear_tiers: RuleSet) -> None:
    view = make_view(stressed_volatility=[0.03, 0.0, 0.0], history_hours=YEARS)
    expected = 1e5 * Z * (0.75 * 0.005 + 0.25 * 0.03) - 0.02 * 1e5
    got = floor_of("stressed_weight", view, linear_tiers, RULES, BTC=1.0)
    assert got == pytest.approx(expected, rel=1e-12)


def test_market_worse_than_any_on_record_is_its_own_stress(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(volatility=[0.05] * 3, stressed_volatility=[0.03] * 3, history_hours=YEARS)
    got = floor_of("stressed_weight", view, linear_tiers, RULES, BTC=1.0)
    assert got == pytest.approx(1e5 * Z * 0.05 - 0.02 * 1e5)


def test_unknown_stressed_volatility_is_the_declared_one(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    got = floor_of("stressed_weight", make_view(), linear_tiers, RULES, BTC=1.0)
    assert got == pytest.approx(1e5 * Z * (0.75 * 0.005 + 0.25 * 0.04) - 0.02 * 1e5)


def test_multiple_is_the_normal_quantile_times_the_root_of_the_hours() -> None:
    assert Cover(0.975, 1.0).multiple == pytest.approx(norm.ppf(0.975) * math.sqrt(24), rel=1e-12)


@pytest.mark.parametrize(
    "name", ["volatility", "stressed_buffer", "stressed_weight", "correlation", "wrong_way"]
)
def test_floor_without_its_table_is_refused_by_name(
    view: MarketView, linear_tiers: RuleSet, name: str
) -> None:
    with pytest.raises(RuleSetError, match=name):
        floor_of(name, view, linear_tiers, FloorRules(), BTC=1.0)


def test_absurd_volatility_costs_the_notional_and_overflows_nothing(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(volatility=[1e308, 1e-320, 0.0], correlation=RHO, fast_correlation=RHO)
    got = floor_of("correlation", view, linear_tiers, CAPPED, BTC=1.0)
    assert got == pytest.approx(1e5 - 2e3, rel=1e-12)
    assert floor_of("correlation", view, linear_tiers, CAPPED, ETH=1.0) == 0.0


def test_huge_and_tiny_books_are_netted_without_overflow(
    make_view: Make, linear_tiers: RuleSet
) -> None:
    view = make_view(volatility=[0.01] * 3, correlation=RHO, fast_correlation=RHO)
    unit = floor_of("correlation", view, linear_tiers, CAPPED, BTC=1.0, ETH=-50.0)
    for size in (1e250, 1e-250):
        got = floor_of("correlation", view, linear_tiers, CAPPED, BTC=size, ETH=-50.0 * size)
        assert got / size == pytest.approx(unit, rel=1e-9)
