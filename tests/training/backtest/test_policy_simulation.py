"""Accounts simulated by hand, and properties of every path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import sliding_window_view

from features.account.frame import AccountRows
from margin.book.account_requirement import Collateral, Requirement
from training.backtest.margin_paths import FOLLOW_HOURS, MarginPaths
from training.backtest.policy_simulation import simulate_policy
from training.labels.account_panel import AccountPanel

Floats = npt.NDArray[np.float64]


def one_account(
    headroom: Sequence[float], hours: int, closed: Sequence[float] = (), margin: float = 1.0
) -> MarginPaths:
    """An account of so many decision hours; the last headroom holds to the end of the path."""
    path = np.full(hours + FOLLOW_HOURS, headroom[-1])
    path[: len(headroom)] = headroom
    closed_equity = path + margin
    closed_equity[: len(closed)] = closed
    none = np.zeros(0)
    rows = AccountRows(
        row=np.arange(hours),
        leg_start=np.zeros(hours + 1, dtype=np.int64),
        leg_symbol=np.zeros(0, dtype=np.int64),
        leg_notional=none,
        headroom=path[:hours],
        maintenance_margin=np.full(hours, margin),
    )
    figures = Requirement(
        equity=path[:hours] + margin,
        initial_margin=np.full(hours, 2.0 * margin),
        maintenance_margin=rows.maintenance_margin,
        headroom=rows.headroom,
        gross_notional=np.zeros(hours),
        leg_start=rows.leg_start,
        leg_symbol=rows.leg_symbol,
        leg_notional=none,
        leg_age_hours=none,
        leg_suspect=np.zeros(0, dtype=np.bool_),
        problems={},
        collateral=Collateral.none(hours),
        options=None,
    )
    usable = np.ones(hours, dtype=np.bool_)
    times = AccountPanel(np.array([0, hours]), 1.0, rows, figures, usable)
    at_risk = (np.minimum.accumulate(path[:hours]) >= 0.0) & (path[:hours] > 0.0)
    lowest = sliding_window_view(path[1:], FOLLOW_HOURS).min(axis=1)
    return MarginPaths(times, at_risk, path, closed_equity, lowest)


def test_five_hours_by_hand() -> None:
    """Level 3: 1 is missing at hour 1, 3 at hour 2; at hour 4 equity is 2 under margin."""
    # Own headroom: 4, 2, -2, -1, -6 without top-ups; with 1 and 4 paid: 4, 2, -1, 3, -2.
    # The call of hour 1 lifts headroom to 3, so hour 2 stands at -2 + 1 = -1: a breach there.
    account = one_account([4.0, 2.0, -2.0, -1.0, -6.0], 5, closed=[9.0, 9.0, 9.0, -3.0, 9.0])
    outcome = simulate_policy(account, np.full(5, 3.0))
    assert outcome.calls_issued == 1.0
    assert outcome.calls_needed == 1.0  # without the unit paid it would have breached as well
    assert outcome.calls_in_vain == 0.0
    assert outcome.breaches == 1.0
    assert outcome.shortfall == 2.0  # closed at hour 3: -3 + 1 paid
    assert outcome.average_margin == 4.0
    assert outcome.average_collected == 0.5  # one unit over the two at-risk hours


def test_needed_call_prevents_the_breach_and_later_calls_are_in_vain() -> None:
    account = one_account([4.0, 2.0, -0.5, 5.0, 5.0, 5.0, 3.0], 7)
    outcome = simulate_policy(account, np.full(7, 3.0))
    # 1 is missing at hour 1; headroom at hour 2 is 0.5, so 2.5 are missing; then 3.5 are paid.
    assert (outcome.breaches, outcome.shortfall) == (0.0, 0.0)
    assert (outcome.calls_issued, outcome.calls_needed, outcome.calls_in_vain) == (2.0, 1.0, 1.0)
    assert outcome.average_collected == pytest.approx(3.5 / 2)


def test_a_breach_beyond_24_hours_makes_no_call_needed() -> None:
    for hours_to_breach, needed in ((24, 1.0), (25, 0.0)):
        headroom = [1.0] * hours_to_breach + [-0.5]
        account = one_account(headroom, 2)
        account.times.usable[1] = False  # one call only, at hour 0
        outcome = simulate_policy(account, np.full(2, 2.0))
        assert (outcome.calls_issued, outcome.calls_needed) == (1.0, needed)


def test_a_breach_that_closes_above_zero_leaves_no_shortfall() -> None:
    outcome = simulate_policy(one_account([1.0, -0.5], 2, closed=[0.0, 0.0, 0.2]), np.zeros(2))
    assert (outcome.breaches, outcome.shortfall) == (1.0, 0.0)


def test_no_call_in_an_hour_without_usable_data() -> None:
    account = one_account([1.0, 1.0, 1.0], 3)
    account.times.usable[:] = [False, True, False]
    assert simulate_policy(account, np.full(3, 2.0)).calls_issued == 1.0


def test_account_ends_with_its_breach() -> None:
    account = one_account([1.0, -1.0, 5.0, -1.0, 1.0], 5)
    assert simulate_policy(account, np.zeros(5)).breaches == 1.0


@given(
    hnp.arrays(np.float64, 12, elements=st.floats(-3.0, 5.0)),
    hnp.arrays(np.float64, 8, elements=st.floats(0.0, 4.0)),
    st.floats(1.0, 3.0),
)
def test_more_margin_never_breaches_more_on_the_same_path(
    headroom: Floats, level: Floats, factor: float
) -> None:
    headroom[0] = abs(headroom[0]) + 0.1
    account = one_account(list(headroom), 8)
    less, more = simulate_policy(account, level), simulate_policy(account, factor * level)
    assert more.breaches <= less.breaches
    assert more.average_margin >= less.average_margin
    assert less.calls_issued == less.calls_needed + less.calls_in_vain


@given(st.floats(0.1, 3.0), st.floats(-9.0, -0.1), st.floats(-9.0, 3.0), st.floats(0.0, 9.0))
def test_more_margin_never_loses_more_in_the_same_hour(
    headroom: float, fallen: float, closed: float, level: float
) -> None:
    account = one_account([headroom, fallen, fallen], 1, closed=[0.0, 0.0, closed])
    less, more = (simulate_policy(account, np.full(1, asked)) for asked in (level, level + 1.0))
    assert more.shortfall <= less.shortfall


def test_account_that_survives_one_fall_can_lose_more_in_the_next() -> None:
    account = one_account([1.0, -1.0, -1.0, -9.0], 4, closed=[0.0, 0.0, 0.0, 0.0, -8.0])
    assert simulate_policy(account, np.full(4, 0.5)).shortfall == 0.0
    assert simulate_policy(account, np.full(4, 3.0)).shortfall == 4.0  # -8 with 4 paid
