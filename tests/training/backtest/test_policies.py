"""The policies without a model: what each measures, and that only foresight reads the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market.bars.panel import CLOSE, VOLUME, BarPanel
from models.forecaster import Forecaster
from tests.training.backtest.conftest import SYMBOLS, World, features_of
from training.backtest.paced_add_on import rule_bounds
from training.backtest.policies import (
    MODEL,
    ORACLE,
    PACED,
    SIMPLE_ESTIMATORS,
    UNCAPPED,
    volatility_ratio,
)


def test_volatility_ratio_by_hand(world: World) -> None:
    times = world.hours().times
    n = len(times) // 3
    row = int(times.rows.row[n])
    close = world.history.bars.values[: row + 1, :, CLOSE]
    squares = np.diff(np.log(close), axis=0) ** 2
    ratio = np.sqrt(squares[-24:].mean(axis=0) / squares.mean(axis=0))
    legs = slice(times.rows.leg_start[n], times.rows.leg_start[n + 1])
    weight = np.abs(times.rows.leg_notional[legs])
    expected = (weight * ratio[times.rows.leg_symbol[legs]]).sum() / weight.sum()
    found = volatility_ratio(times, world.history, world.market)[n]
    assert found == pytest.approx(expected, rel=1e-9)


def test_emir_buffer_is_halved_in_stress(world: World, forecaster: Forecaster) -> None:
    times = world.hours().times
    ratio = volatility_ratio(times, world.history, world.market)
    limit = float(np.quantile(ratio, 0.9))
    policies = world.sources(forecaster, limit).simple_policies(times)
    expected = np.where(ratio > limit, 0.2, 0.4) * times.maintenance_margin
    assert policies["emir_buffer"].levels(0.4) == pytest.approx(expected)
    assert policies["flat"].levels(0.4) == pytest.approx(0.4 * times.maintenance_margin)


def test_sigma_is_the_volatility_of_the_book_by_hand(world: World, forecaster: Forecaster) -> None:
    times = world.hours().times
    policies = world.sources(forecaster).simple_policies(times)
    rows = times.rows
    for name in SIMPLE_ESTIMATORS:
        level = policies[f"sigma_{name}"].levels(2.0)
        sigma = world.market.column(name)
        for n in range(0, len(times), 211):
            legs = slice(rows.leg_start[n], rows.leg_start[n + 1])
            x = rows.leg_notional[legs] * sigma[rows.row[n], rows.leg_symbol[legs]]
            rho = world.market.correlation[rows.row[n]][np.ix_(*[rows.leg_symbol[legs]] * 2)]
            assert level[n] == pytest.approx(2.0 * np.sqrt(x @ rho @ x), rel=1e-9)


def test_oracle_is_the_volatility_of_the_next_day(world: World, forecaster: Forecaster) -> None:
    times = world.hours().times
    level = world.sources(forecaster).simple_policies(times)[ORACLE].levels(1.0)
    single = np.flatnonzero(np.diff(times.rows.leg_start) == 1)[::50]
    assert len(single)
    for n in single:
        leg, row = times.rows.leg_start[n], times.rows.row[n]
        marks = world.history.mark[row : row + 25, times.rows.leg_symbol[leg]]
        realised = np.sqrt((np.diff(np.log(marks)) ** 2).sum())
        assert level[n] == pytest.approx(abs(times.rows.leg_notional[leg]) * realised, rel=1e-6)


def test_future_bars_change_no_earlier_level_except_the_oracles(
    world: World, forecaster: Forecaster
) -> None:
    panel = world.history.bars
    row = int(np.searchsorted(panel.closes, world.test[0])) + 100
    values = panel.values.copy()
    shock = 1.0 + 0.2 * np.random.default_rng(0).random((len(panel) - row - 1, SYMBOLS, 1))
    values[row + 1 :, :, :VOLUME] *= shock
    values[row + 1 :, :, VOLUME] *= 3.0
    history, market = features_of(BarPanel(panel.interval, panel.symbols, panel.opens, values))
    changed = replace(world, history=history, market=market)
    levels = []
    for one in (world, changed):
        hours = one.hours(least_hours=10**9)
        policies = one.sources(forecaster).policies(hours.times, hours.interval)
        scalars = {MODEL: 20.0, PACED: 20.0, UNCAPPED: 20.0}
        levels.append(
            {name: policy.levels(scalars.get(name, 0.3)) for name, policy in policies.items()}
        )
    rows = hours.times.rows.row
    known = rows <= row
    for name, before in levels[0].items():
        after = levels[1][name]
        assert np.array_equal(before[known], after[known], equal_nan=True) == (name != ORACLE), name
        assert not np.array_equal(before[~known], after[~known], equal_nan=True), name
    far = rows <= row - 24
    assert np.array_equal(levels[0][ORACLE][far], levels[1][ORACLE][far])


def test_uncapped_levels_differ_from_paced_ones_only_after_the_cap_has_bound(
    world: World, forecaster: Forecaster
) -> None:
    hours = world.hours(least_hours=10**9)
    times = hours.times
    sources = world.sources(forecaster)
    policies = sources.policies(times, hours.interval)
    capped, uncapped = policies[PACED].levels(0.3), policies[UNCAPPED].levels(0.3)
    bounds = rule_bounds(times, sources.history, sources.market, sources.ruleset)
    at_cap = capped >= np.maximum(bounds.cap, bounds.floor)
    assert at_cap.any()
    assert np.any(uncapped[at_cap] > capped[at_cap])
    before = [
        slice(start, start + int(np.argmax(np.append(at_cap[start:end], True))))
        for start, end in zip(times.start[:-1], times.start[1:], strict=True)
    ]
    assert sum(part.stop - part.start for part in before) > 0
    for part in before:
        assert np.array_equal(capped[part], uncapped[part])
