"""Uncovered loss by hand: equal averages, ratios, paired intervals, the choice of an estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from market.core.clock import DAY, HOUR
from training.backtest.account_hours import AccountHours
from training.backtest.policies import FLAT, Policy
from training.backtest.uncovered_loss import (
    block_of,
    choose_best_simple,
    compare_at_budget,
    flat_budget,
    match,
    ratio_interval,
    uncovered,
    with_known_levels,
)

Floats = npt.NDArray[np.float64]


@dataclass
class Times:
    """What uncovered loss reads of an account panel."""

    maintenance_margin: Floats
    rows: Any


def account_hours(fall: list[float], gross: list[float], margin: list[float]) -> AccountHours:
    """One hour a day, each counted."""
    count = len(fall)
    times: Any = Times(np.array(margin), SimpleNamespace(row=np.arange(count)))
    every = np.ones(count, dtype=np.bool_)
    nothing = np.zeros(0)
    none = np.zeros(0, dtype=np.int64)
    closes = np.arange(count) * DAY + HOUR
    return AccountHours(times, none, np.array(gross), np.array(fall), every, nothing, none, closes)


HOURS = account_hours([1.0, 0.0, 6.0, 2.0], [10.0, 10.0, 20.0, 40.0], [0.5, 0.5, 1.0, 2.0])
"""Falls of 10, 0, 30 and 5% of notional, maintenance margin of 5%."""


def proportional(measure: list[float]) -> Policy:
    return Policy(lambda scalar: scalar * np.array(measure))


def test_budget_is_that_of_the_flat_level_that_covers_so_many() -> None:
    # Falls over maintenance margin: 2, 0, 6, 1. Three of four are at most 2.
    assert flat_budget(HOURS, 0.75) == pytest.approx((2.0, 0.1))
    assert flat_budget(HOURS, 1.0) == pytest.approx((6.0, 0.3))


def test_uncovered_loss_by_hand() -> None:
    flat = match(HOURS, proportional([0.5, 0.5, 1.0, 2.0]), 0.1)
    assert flat.scalar == pytest.approx(2.0)
    assert flat.share == pytest.approx([0.1] * 4)
    loss = uncovered(HOURS.share(HOURS.fall), flat.share)
    assert loss == pytest.approx([0.0, 0.0, 0.2, 0.0], abs=1e-15)
    # A level that knows the order of the falls, at the same average: 10, 0, 25 and 5%.
    other = match(HOURS, proportional([1.0, 0.0, 5.0, 2.0]), 0.1)
    assert other.share.mean() == pytest.approx(0.1)
    assert uncovered(HOURS.share(HOURS.fall), other.share).mean() == pytest.approx(0.05 / 4)
    figures = compare_at_budget(HOURS, {FLAT: flat, "sigma_x": other}, "sigma_x")
    assert figures[FLAT]["uncovered"] == pytest.approx(0.05)
    assert figures[FLAT]["breach_rate"] == 0.25
    assert figures["sigma_x"]["ratio_to_flat"] == pytest.approx(0.25)
    assert figures[FLAT]["ratio_to_best_simple"] == pytest.approx(4.0)
    assert figures["sigma_x"]["ratio_to_best_simple"] == 1.0


def test_scalars_do_not_depend_on_what_came_after() -> None:
    policy = proportional([1.0, 2.0, 3.0, 4.0])
    worse = replace(HOURS, fall=HOURS.fall * 7.0)
    assert match(HOURS, policy, 0.2).scalar == match(worse, policy, 0.2).scalar


def test_a_level_that_falls_with_its_scalar_is_solved_too() -> None:
    gross = HOURS.gross
    falling = Policy(lambda factor: 0.4 * gross / (1.0 + factor), (0.01, 50.0))
    found = match(HOURS, falling, 0.1)
    assert found.scalar == pytest.approx(3.0, rel=1e-5)
    assert found.matched
    beyond = match(HOURS, falling, 0.9)
    assert beyond.scalar == pytest.approx(0.01)
    assert not beyond.matched
    assert match(HOURS, falling, 0.001).scalar == pytest.approx(50.0)


def test_best_simple_is_the_estimate_with_the_least_loss() -> None:
    policies = {
        FLAT: proportional([0.5, 0.5, 1.0, 2.0]),
        "sigma_long_volatility": proportional([0.5, 1.0, 1.0, 2.0]),
        "sigma_ewma_volatility_72h": proportional([1.0, 0.1, 5.0, 2.0]),
        "sigma_forecast": proportional([1.0, 0.0, 6.0, 2.0]),
        "volatility_oracle": proportional([1.0, 0.0, 6.0, 2.0]),
    }
    assert choose_best_simple(HOURS, policies) == "sigma_ewma_volatility_72h"


def test_hours_without_a_level_of_every_policy_do_not_count() -> None:
    policies = {"a": proportional([1.0, np.nan, 1.0, 1.0]), "b": proportional([1.0] * 4)}
    counted = with_known_levels(HOURS, policies).counted
    assert counted.tolist() == [True, False, True, True]


def test_blocks_are_of_three_days() -> None:
    hours = account_hours([0.0] * 7, [1.0] * 7, [1.0] * 7)
    assert block_of(hours).tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_bootstrap_is_paired() -> None:
    rng = np.random.default_rng(4)
    block = np.repeat(np.arange(40), 25)
    other = rng.exponential(size=40)[block] * rng.exponential(size=1_000)
    assert ratio_interval(other, other, block) == (1.0, (1.0, 1.0))
    # The same share of every hour: the blocks differ, the ratio does not.
    ratio, interval = ratio_interval(0.9 * other, other, block)
    assert ratio == pytest.approx(0.9)
    assert interval == pytest.approx((0.9, 0.9))
    noisy = other * rng.exponential(size=1_000)
    ratio, interval = ratio_interval(noisy, other, block)
    assert ratio is not None
    assert interval is not None
    assert interval[0] < ratio < interval[1]
    assert ratio_interval(noisy, other, block) == (ratio, interval)


def test_ratio_to_nothing_is_none_and_one_block_has_no_interval() -> None:
    loss = np.array([1.0, 2.0])
    assert ratio_interval(loss, np.zeros(2), np.array([0, 1])) == (None, None)
    assert ratio_interval(loss, 2.0 * loss, np.zeros(2, dtype=np.int64)) == (0.5, None)
