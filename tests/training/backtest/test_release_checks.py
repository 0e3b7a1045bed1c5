"""The figures that a release is held to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.forecaster import Forecaster
from tests.training.backtest.conftest import World
from training.backtest.release_checks import compare_procyclicality, compare_uncovered


def test_a_model_beside_itself_leaves_the_same_uncovered(
    world: World, forecaster: Forecaster
) -> None:
    found = compare_uncovered(
        world.label_market,
        world.intervals,
        world.ruleset,
        forecaster,
        forecaster,
        world.settings,
    )
    assert found.ratio == 1.0
    assert found.interval == (1.0, 1.0)


def test_procyclicality_is_that_of_the_add_on_and_of_an_estimate(
    world: World, forecaster: Forecaster
) -> None:
    inputs = world.label_market, world.intervals, world.ruleset
    ours, simple = compare_procyclicality(*inputs, forecaster, world.settings)
    assert ours.keys() == simple.keys()
    assert ours["peak_to_trough"] > 1.0
    assert simple["peak_to_trough"] > 1.0
    again, _ = compare_procyclicality(*inputs, forecaster, replace(world.settings))
    assert again == ours
    assert np.isfinite(ours["response_to_one_extreme_return"])
    assert ours["n_day_max_increase"]["1"] == pytest.approx(again["n_day_max_increase"]["1"])
