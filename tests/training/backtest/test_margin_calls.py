"""Calls of accounts by hand, and properties of every level."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from market.core.clock import HOUR
from training.backtest.account_hours import FOLLOW_HOURS, AccountHours
from training.backtest.margin_calls import simulate_calls


def one_account(headroom: list[float], hours: int) -> AccountHours:
    """An account of so many hours; the last headroom holds to the end of its path."""
    path = np.full(hours + FOLLOW_HOURS, headroom[-1])
    path[: len(headroom)] = headroom
    fall = np.array([path[n] - path[n : n + FOLLOW_HOURS + 1].min() for n in range(hours)])
    every = np.ones(hours, dtype=np.bool_)
    times: Any = SimpleNamespace(start=np.array([0, hours]), usable=every)
    at = np.arange(hours)
    closes = np.arange(len(path)) * HOUR
    return AccountHours(times, at * 0, np.ones(hours), fall, every, path, at, closes)


def test_call_is_needed_where_the_account_breaches_without_it() -> None:
    hours = one_account([5.0, 2.0, 1.0, -1.0], 6)
    found = simulate_calls(hours, np.full(6, 3.0))
    # Hour 1 lacks 1, hour 2 has 1 + 1 and lacks 1 more, hour 3 has -1 + 2 and lacks 2. With the
    # first deposit headroom stays at 0 or above, so that the later ones are in vain.
    assert (found["calls"], found["needed"], found["in_vain"]) == (3, 1, 2)
    assert found["collected"] == 4.0
    assert (found["prevented_breaches"], found["missed_breaches"]) == (1, 0)
    assert found["median_lead_hours"] == 2.0


def test_a_breach_in_spite_of_calls_is_missed_and_ends_the_life() -> None:
    hours = one_account([5.0, 2.0, -9.0, 50.0], 6)
    found = simulate_calls(hours, np.full(6, 3.0))
    assert (found["calls"], found["needed"], found["missed_breaches"]) == (1, 1, 1)
    assert found["prevented_breaches"] == 0


def test_state_flips_where_headroom_passes_the_level() -> None:
    hours = one_account([5.0, 2.0, 5.0, 2.0, 5.0], 12)
    found = simulate_calls(hours, np.full(12, 3.0))
    assert found["flips_per_account_day"] == pytest.approx(4 / 0.5)
    assert found["calls"] == 1  # what was paid at hour 1 still stands at hour 3


def test_an_account_in_breach_at_first_is_left_out() -> None:
    found = simulate_calls(one_account([-1.0, 5.0, -2.0], 6), np.full(6, 3.0))
    assert (found["calls"], found["missed_breaches"]) == (0, 0)
    assert found["flips_per_account_day"] is None


def test_hours_without_a_level_call_nobody() -> None:
    hours = one_account([1.0], 5)
    assert simulate_calls(hours, np.full(5, np.nan))["calls"] == 0
    assert simulate_calls(hours, np.zeros(5))["calls"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_more_level_breaches_no_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hours = one_account((2.0 + rng.normal(size=80).cumsum()).tolist(), 80)
    levels = np.abs(rng.normal(size=80))
    found = [simulate_calls(hours, scale * levels) for scale in (0.0, 0.5, 1.0, 4.0)]
    missed = [figures["missed_breaches"] for figures in found]
    collected = [figures["collected"] for figures in found]
    assert missed == sorted(missed, reverse=True)
    assert collected == sorted(collected) or missed[0] != missed[-1]
