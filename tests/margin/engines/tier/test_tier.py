"""Tier margin against worked numbers, and its shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit

from margin.engines.tier.tiers import TierTable, bracket_table, tier_margin
from margin.rules.ruleset import RuleSet, ruleset_from_content

# BTCUSDT brackets in the form that Binance publishes: bound, maintenance rate, 1 / leverage, and
# the maintenance amount that it prints beside them, worked out by hand.
BINANCE = [
    (50_000.0, 0.004, 0.008, 0.0),
    (600_000.0, 0.005, 0.01, 50.0),
    (3_000_000.0, 0.01, 0.02, 3_050.0),
    (None, 0.025, 0.05, 48_050.0),
]


def tiers(content: dict[str, Any]) -> RuleSet:
    brackets = [
        {"maintenance_rate": m, "initial_rate": i, **({"upper_bound": b} if b else {})}
        for b, m, i, _ in BINANCE
    ]
    content["tier"]["symbols"] = {"BTCUSDT": {"brackets": brackets}}
    return ruleset_from_content(content)


@pytest.fixture(scope="module")
def table(linear_tiers: RuleSet) -> TierTable:
    return bracket_table(tiers(linear_tiers.content()), ("BTCUSDT", "ETHUSDT"))


def maintenance(table: TierTable, notional: float, row: int = 0) -> float:
    return float(table.maintenance(np.array([notional]), np.array([row]))[0])


def test_deductions_are_the_published_maintenance_amounts(table: TierTable) -> None:
    expected = [amount for *_, amount in BINANCE]
    np.testing.assert_allclose(table.maintenance_deductions[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("notional", "expected"),
    [
        (0.0, 0.0),
        (40_000.0, 160.0),
        (50_000.0, 200.0),
        (100_000.0, 450.0),  # 100 000 * 0.5% - 50
        (-1_000_000.0, 6_950.0),  # 1 000 000 * 1% - 3 050
        (4_000_000.0, 51_950.0),  # 4 000 000 * 2.5% - 48 050
    ],
)
def test_maintenance_is_notional_times_rate_minus_deduction(
    table: TierTable, notional: float, expected: float
) -> None:
    assert maintenance(table, notional) == pytest.approx(expected, rel=1e-12)


def test_symbols_without_own_brackets_pay_the_default_at_any_size(table: TierTable) -> None:
    assert maintenance(table, -1e12, row=1) == 2e10
    assert table.initial(np.array([1e6]), np.array([1]))[0] == 4e4


def test_padding_never_leaks_nan_or_a_second_rate(table: TierTable) -> None:
    for array in (table.maintenance_deductions, table.initial_deductions):
        assert np.isfinite(array).all()
        assert (array[1] == 0).all()


def test_margin_is_continuous_at_every_bound(table: TierTable) -> None:
    for bound in table.bounds[0, :-1]:
        below = maintenance(table, float(np.nextafter(bound, 0)))
        above = maintenance(table, float(np.nextafter(bound, np.inf)))
        assert above == pytest.approx(below, rel=1e-12)


@given(a=st.floats(0, 1e12), b=st.floats(0, 1e12))
def test_margin_never_falls_with_notional_and_maintenance_never_exceeds_initial(
    table: TierTable, a: float, b: float
) -> None:
    small, large = sorted((a, b))
    assert maintenance(table, small) <= maintenance(table, large) * (1 + 1e-12)
    initial = table.initial(np.array([a]), np.array([0]))[0]
    assert maintenance(table, a) <= initial * (1 + 1e-12)


@given(notional=st.floats(-1e12, 1e12))
def test_scalar_and_vector_agree_to_the_last_bit(table: TierTable, notional: float) -> None:
    row = (table.bounds[0], table.maintenance_rates[0], table.maintenance_deductions[0])
    assert tier_margin(notional, *row) == maintenance(table, notional)


def test_unresolved_row_and_nan_notional_give_nan(table: TierTable) -> None:
    got = table.maintenance(np.array([1.0, np.nan]), np.array([-1, 0]))
    assert np.isnan(got).all()


def test_scalar_is_callable_inside_another_kernel(table: TierTable) -> None:
    @njit
    def twice(notional, bounds, rates, deductions):  # type: ignore[no-untyped-def]
        return 2.0 * tier_margin(notional, bounds[0], rates[0], deductions[0])

    got = twice(1e5, table.bounds, table.maintenance_rates, table.maintenance_deductions)
    assert got == pytest.approx(900.0)


def test_shared_table_cannot_be_written(table: TierTable) -> None:
    with pytest.raises(ValueError, match="read-only"):
        table.bounds[0, 0] = 1.0
