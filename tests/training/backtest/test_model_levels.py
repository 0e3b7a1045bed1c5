"""The model's level by the factor on p*: as decisions search it, and falling in the factor."""

from __future__ import annotations

import numpy as np
import pytest

from features.account.frame import compute_aggregates
from market.core.errors import ModelError
from models.forecaster import Forecaster
from tests.training.backtest.conftest import World, make_forecaster
from training.backtest.model_levels import LevelCurves, choose_factors, level_curves
from training.labels.account_panel import take_rows


def test_level_at_a_factor_is_the_one_that_decisions_search(
    world: World, forecaster: Forecaster
) -> None:
    times, targets = world.hours().times, world.ruleset.add_on.targets
    factors = np.array([0.5, 1.0, 40.0, 1000.0])
    curves = level_curves(times, world.market, forecaster, targets, factors)
    sample = np.flatnonzero(times.usable)[::41].astype(np.int64)
    gross = times.gross_notional()[sample]
    aggregates = compute_aggregates(take_rows(times.rows, sample), world.market)
    for k, factor in enumerate(factors.tolist()):
        tolerated = {hours: min(1.0, p * factor) for hours, p in targets.items()}
        exact = forecaster.required_level(aggregates, gross, tolerated).level
        exact = np.where(np.isinf(exact), gross, exact)
        assert curves.levels[sample, k] == pytest.approx(exact, rel=1e-6, abs=1e-9)
    assert (curves.levels[sample, -1] == 0.0).all()  # 1000 times 0.002 tolerates everything


def test_levels_fall_with_the_factor_and_are_nan_without_data(
    world: World, forecaster: Forecaster
) -> None:
    times = world.hours().times
    curves = level_curves(
        times, world.market, forecaster, world.ruleset.add_on.targets, np.geomspace(0.01, 100, 9)
    )
    known = times.usable
    assert (np.diff(curves.levels[known], axis=1) <= 0.0).all()
    assert np.isnan(curves.levels[~known]).all()


def test_levels_between_two_factors_are_linear_in_the_log_of_the_factor() -> None:
    curves = LevelCurves(np.array([1.0, 4.0, 16.0]), np.array([[9.0, 5.0, 1.0]]))
    assert curves.at(2.0) == pytest.approx([7.0])
    assert curves.at(16.0) == pytest.approx([1.0])
    assert curves.at(0.1) == pytest.approx([9.0])
    assert curves.at(99.0) == pytest.approx([1.0])


def test_chosen_factors_reach_around_the_budgets(world: World, forecaster: Forecaster) -> None:
    hours = world.hours()
    counted = np.flatnonzero(hours.counted).astype(np.int64)
    targets = world.ruleset.add_on.targets
    factors = choose_factors(hours.times, counted, world.market, forecaster, targets, (0.03, 0.09))
    assert (np.diff(factors) > 0.0).all()
    curves = level_curves(hours.times, world.market, forecaster, targets, factors)
    average = (curves.levels[counted] / hours.gross[counted, None]).mean(axis=0)
    assert average[-1] < 0.03 < 0.09 < average[0]


def test_targeted_horizon_that_the_model_lacks_is_refused(world: World, tmp_path: object) -> None:
    short = make_forecaster(tmp_path, (1, 8))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="24"):
        level_curves(
            world.hours().times,
            world.market,
            short,
            world.ruleset.add_on.targets,
            np.array([1.0]),
        )
