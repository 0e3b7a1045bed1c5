"""The search for a level on a spline prior: equal to halving on the graph, to the left of flats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest

from features.account.aggregates import (
    FAST_FORECAST,
    FIRST_VOLATILITY,
    FORECAST_SUM,
    GROSS,
    HEADROOM,
    LONG_RUN_VOLATILITY,
)
from features.account.column_plan import column_plan, rows_at
from features.account.frame import AGGREGATES, compute_features
from features.identity import digests_of
from features.registry import (
    BOOK_MEANS,
    FORECAST_HORIZONS,
    VOLATILITIES,
    account_feature,
    prior_distances,
)
from margin.add_on.bounds import ModelLevel
from margin.add_on.solver import RELATIVE_PRECISION, required_level
from models.bundle.bundle import bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.export import export
from models.prior import DEFAULT_KNOTS, SplinePrior
from models.prior.score import prior_score
from models.trees.lightgbm_trees import trees_from_booster
from models.trees.tree_table import TreeTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HORIZONS = (1, 12, 24)
P_STAR = {1: 0.01, 12: 0.05, 24: 0.1}
DISTANCES = tuple(prior_distances(hours) for hours in HORIZONS)
FEATURES = (
    *(forecast for forecast, _ in DISTANCES),
    "long_run_distance",
    "forecast_diversification",
    "net_share",
    "headroom_share",
    "equity_share",
    "distance_ewma_volatility_12h",
)
SCHEMA = ModelSchema.of_columns(
    FEATURES,
    tuple(account_feature(name).monotone for name in FEATURES),
    HORIZONS,
    (),
    digests_of(FEATURES),
    DISTANCES,
)
CALIBRATION = {1: (0.9, 0.1), 12: (1.0, 0.0), 24: (1.1, -0.1)}
FIRST_FORECAST = FIRST_VOLATILITY + len(VOLATILITIES) + len(BOOK_MEANS)


def accounts(n: int, seed: int = 5) -> Floats:
    """Aggregates of accounts with an hourly volatility of 1 to 3 per cent of notional."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0.01, 0.5, (n, AGGREGATES))
    found[:, GROSS] = rng.lognormal(9.0, 2.0, n)
    forecasts = range(FIRST_FORECAST, FIRST_FORECAST + len(FORECAST_HORIZONS))
    volatilities = range(FIRST_VOLATILITY, FIRST_VOLATILITY + len(VOLATILITIES))
    single = (FORECAST_SUM, FAST_FORECAST, LONG_RUN_VOLATILITY)
    columns = [*single, *volatilities, *forecasts]
    found[:, columns] = found[:, [GROSS]] * rng.uniform(0.01, 0.03, (n, len(columns)))
    found[:, HEADROOM] = found[:, FIRST_FORECAST] * np.exp(rng.uniform(-1.0, 3.5, n))
    return found


def splines(sparse: float) -> dict[int, SplinePrior]:
    rng = np.random.default_rng(8)
    return {
        hours: SplinePrior.of_parameters(
            np.array([2.0, *(-rng.exponential(1.5, 27) * (rng.random(27) > sparse))])
        )
        for hours in HORIZONS
    }


def made(
    folder: Path, priors: Mapping[int, SplinePrior], trees: Mapping[int, TreeTable]
) -> Forecaster:
    files = bundle_files(
        model=export(SCHEMA, trees, CALIBRATION, priors),
        schema=SCHEMA,
        trees=trees,
        calibration=CALIBRATION,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
        priors=priors,
    )
    return Forecaster(load_bundle(folder / write_bundle(folder, files)))


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    rng = np.random.default_rng(3)
    priors = splines(sparse=0.4)
    X = compute_features(accounts(4_000, seed=4), FEATURES)
    start = prior_score(X, SCHEMA, priors)
    parameters: dict[str, Any] = {
        "objective": "binary",
        "num_leaves": 7,
        "learning_rate": 0.1,
        "boost_from_average": False,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        "monotone_constraints": list(SCHEMA.monotone),
    }
    trees = {}
    for h, hours in enumerate(HORIZONS):
        y = (0.7 * start[:, h] + X[:, 4] + rng.logistic(size=len(X)) > 0.0).astype(np.float64)
        data = lightgbm.Dataset(X, y, init_score=start[:, h].copy())
        trees[hours] = trees_from_booster(lightgbm.train(parameters, data, 30), len(FEATURES))
    return made(tmp_path_factory.mktemp("bundles"), priors, trees)


def halved(forecaster: Forecaster, aggregates: Floats, upper: Floats) -> ModelLevel:
    """The same search on the graph alone, by halving."""
    columns = forecaster.features(aggregates)
    plan = column_plan(FEATURES).of_equity

    def probability(level: Floats, rows: Ints) -> Floats:
        return forecaster.probability(rows_at(plan, aggregates, columns, rows, level))

    return required_level(probability, upper, P_STAR, HORIZONS)


def test_guided_search_finds_what_halving_finds(forecaster: Forecaster) -> None:
    aggregates = accounts(200)
    upper = aggregates[:, GROSS] * np.random.default_rng(1).uniform(0.02, 0.4, 200)
    found = forecaster.required_level(aggregates, upper, P_STAR)
    expected = halved(forecaster, aggregates, upper)
    assert 0.05 < np.isinf(found.level).mean() < 0.95
    finite = np.isfinite(expected.by_horizon)
    np.testing.assert_array_equal(np.isfinite(found.by_horizon), finite)
    difference = np.abs(found.by_horizon[finite] - expected.by_horizon[finite])
    widest = np.broadcast_to(2.0 * RELATIVE_PRECISION * upper[:, None], finite.shape)[finite]
    assert (difference <= widest).all()


def test_guess_alone_is_the_level(forecaster: Forecaster) -> None:
    aggregates = accounts(100, seed=6)
    upper = 5.0 * aggregates[:, GROSS]
    columns = forecaster.features(aggregates)
    guess = forecaster._guesser.levels(aggregates, columns, upper, P_STAR)
    level = halved(forecaster, aggregates, upper).by_horizon
    finite = np.isfinite(level)
    assert finite.mean() > 0.05
    widest = np.broadcast_to(2.0 * RELATIVE_PRECISION * upper[:, None], level.shape)[finite]
    assert (np.abs(guess[finite] - level[finite]) <= widest).all()


def test_probability_never_rises_with_headroom(forecaster: Forecaster) -> None:
    aggregates = accounts(20, seed=7)
    columns = forecaster.features(aggregates)
    plan = column_plan(FEATURES).of_equity
    for i in range(20):
        sigma = aggregates[i, FIRST_FORECAST]
        level = np.concatenate([[-1.0, 0.0, 5e-324], sigma * np.geomspace(1e-7, 1e7, 400)])
        level = np.sort(np.concatenate([level, np.nextafter(level, np.inf)]))
        rows = rows_at(plan, aggregates, columns, np.full(len(level), i), level)
        assert (np.diff(forecaster.probability(rows), axis=0) <= 0.0).all()


def test_the_level_is_the_left_end_of_a_flat(tmp_path: Path) -> None:
    """Without trees, and a prior that only falls from 2 to 4 sigma: the level is where it ends."""
    forecast, long_run = DEFAULT_KNOTS
    weights = np.zeros(27)
    weights[[k for k, knot in enumerate(forecast) if 1.0 < np.exp(knot) < 3.0]] = -2.0
    prior = SplinePrior.of_parameters(np.array([1.0, *weights]), (forecast, long_run))
    nothing = dict.fromkeys(HORIZONS, TreeTable.empty(len(FEATURES)))
    forecaster = made(tmp_path, dict.fromkeys(HORIZONS, prior), nothing)
    aggregates = accounts(30, seed=9)
    sigma = aggregates[:, FIRST_FORECAST]
    upper = 50.0 * sigma
    end = 3.6  # the last ramp that falls, of the knot at 2.8, is complete at the next knot
    raw = float(prior.score(np.array([[np.log(50.0), 0.0]]))[0])
    lowest = 1.0 / (1.0 + np.exp(-(0.9 * raw + 0.1)))
    found = forecaster.required_level(aggregates, upper, {1: lowest * (1.0 + 1e-9)})
    assert (found.level <= sigma * end * (1.0 + 1e-6) + RELATIVE_PRECISION * upper).all()
    assert (found.level > sigma * 2.8).all()
    certain = forecaster.required_level(aggregates, upper, {1: lowest * (1.0 - 1e-9)})
    assert np.isinf(certain.level).all()


def test_missing_distance_gives_no_level_and_touches_no_other_account(
    forecaster: Forecaster,
) -> None:
    aggregates = accounts(12, seed=10)
    upper = 0.5 * aggregates[:, GROSS]
    whole = forecaster.required_level(aggregates, upper, P_STAR)
    broken = aggregates.copy()
    broken[5, LONG_RUN_VOLATILITY] = np.nan
    columns = forecaster.features(broken)
    guess = forecaster._guesser.levels(broken, columns, upper, P_STAR)
    assert np.isnan(guess[5]).all()
    others = np.arange(12) != 5
    again = forecaster.required_level(broken[others], upper[others], P_STAR)
    np.testing.assert_array_equal(again.by_horizon, whole.by_horizon[others])
