"""A bundle at work on aggregates of accounts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from features.account.aggregates import (
    FIRST_VOLATILITY,
    GROSS,
    HEADROOM,
    MAINTENANCE,
    PRIOR_VOLATILITY,
)
from features.account.frame import AGGREGATES, compute_features
from features.identity import digests_of
from features.registry import (
    ACCOUNT_FEATURES,
    HORIZONS,
    VOLATILITIES,
    prior_column,
)
from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle, bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.export import export
from models.trees.tree_table import TreeTable

Floats = npt.NDArray[np.float64]

P_STAR = {1: 0.002, 8: 0.01, 24: 0.02}


def make_bundle(folder: Path, digests: Mapping[str, str] | None = None) -> Bundle:
    """The structural prior alone, over all account features; some of other identity if given."""
    names = tuple(feature.name for feature in ACCOUNT_FEATURES)
    here = dict(zip(names, digests_of(names), strict=True)) | dict(digests or {})
    schema = ModelSchema.of_columns(
        names,
        tuple(feature.monotone for feature in ACCOUNT_FEATURES),
        HORIZONS,
        tuple(prior_column(hours) for hours in HORIZONS),
        tuple(here[name] for name in names),
    )
    trees = {hours: TreeTable.empty(len(names)) for hours in HORIZONS}
    calibration = {1: (0.9, 0.1), 8: (1.0, 0.0), 24: (1.1, -0.1)}
    files = bundle_files(
        model=export(schema, trees, calibration),
        schema=schema,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
    )
    return load_bundle(folder / write_bundle(folder, files))


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    return Forecaster(make_bundle(tmp_path_factory.mktemp("bundles")))


def accounts(n: int = 40) -> Floats:
    """Moments of plausible accounts with an hourly volatility of 1 to 3 per cent of notional."""
    rng = np.random.default_rng(5)
    found = rng.uniform(0.01, 0.5, (n, AGGREGATES))
    found[:, GROSS] = rng.uniform(1_000.0, 50_000.0, n)
    found[:, MAINTENANCE] = 0.02 * found[:, GROSS]
    found[:, HEADROOM] = found[:, GROSS] * rng.uniform(0.01, 0.4, n)
    volatilities = slice(PRIOR_VOLATILITY, FIRST_VOLATILITY + len(VOLATILITIES))
    width = found[:, volatilities].shape[1]
    found[:, volatilities] = found[:, [GROSS]] * rng.uniform(0.01, 0.03, (n, width))
    return found


def at_headroom(forecaster: Forecaster, aggregates: Floats, headroom: Floats) -> Floats:
    moved = aggregates.copy()
    moved[:, HEADROOM] = headroom
    return forecaster.probability(forecaster.features(moved))


def test_level_suffices_and_a_little_less_does_not(forecaster: Forecaster) -> None:
    aggregates = accounts()
    found = forecaster.required_level(aggregates, aggregates[:, GROSS], P_STAR)
    limits = np.array([P_STAR[hours] for hours in HORIZONS])
    assert np.isfinite(found.level).all()
    assert (found.level > 0.0).all()
    assert (at_headroom(forecaster, aggregates, found.level) <= limits).all()
    below = found.level - 2.0**-31 * aggregates[:, GROSS]
    assert (at_headroom(forecaster, aggregates, below) > limits).any(axis=1).all()


def test_each_horizon_has_its_own_smallest_level(forecaster: Forecaster) -> None:
    aggregates = accounts()
    upper = aggregates[:, GROSS]
    found = forecaster.required_level(aggregates, upper, P_STAR)
    for k, hours in enumerate(HORIZONS):
        p = at_headroom(forecaster, aggregates, found.by_horizon[:, k])[:, k]
        below = at_headroom(forecaster, aggregates, found.by_horizon[:, k] - 2.0**-31 * upper)[:, k]
        assert (p <= P_STAR[hours]).all()
        assert (below > P_STAR[hours]).all()
    np.testing.assert_array_equal(found.level, found.by_horizon.max(axis=1))


def test_level_does_not_depend_on_the_equity_the_account_has(forecaster: Forecaster) -> None:
    poor, rich = accounts(), accounts()
    rich[:, HEADROOM] *= 3.0
    upper = poor[:, GROSS]
    np.testing.assert_array_equal(
        forecaster.required_level(poor, upper, P_STAR).level,
        forecaster.required_level(rich, upper, P_STAR).level,
    )


def test_search_leaves_the_aggregates_unchanged(forecaster: Forecaster) -> None:
    aggregates = accounts(5)
    kept = aggregates.copy()
    forecaster.required_level(aggregates, aggregates[:, GROSS], P_STAR)
    np.testing.assert_array_equal(aggregates, kept)


def test_upper_that_does_not_suffice_gives_infinity(forecaster: Forecaster) -> None:
    aggregates = accounts(5)
    found = forecaster.required_level(aggregates, np.full(5, 1e-3), P_STAR)
    assert np.isinf(found.level).all()


def test_account_in_warm_up_gives_nan_and_its_neighbours_are_untouched(
    forecaster: Forecaster,
) -> None:
    aggregates = accounts(6)
    upper = aggregates[:, GROSS].copy()
    sound = forecaster.required_level(aggregates, upper, P_STAR).level
    aggregates[2, PRIOR_VOLATILITY] = np.nan
    found = forecaster.required_level(aggregates, upper, P_STAR).level
    assert np.isnan(found).tolist() == [False, False, True, False, False, False]
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[others], sound[others])


def test_features_are_the_columns_of_the_schema(forecaster: Forecaster) -> None:
    aggregates = accounts(4)
    names = forecaster.bundle.schema.features
    np.testing.assert_array_equal(
        forecaster.features(aggregates), compute_features(aggregates, names)
    )


def test_bundle_of_another_registry_is_refused(tmp_path: Path) -> None:
    other = {"herfindahl": "b" * 64, "book_return": "c" * 64}
    with pytest.raises(BundleError, match="computes book_return, herfindahl otherwise"):
        Forecaster(make_bundle(tmp_path, other))


def test_columns_of_another_width_are_refused(forecaster: Forecaster) -> None:
    with pytest.raises(ModelError, match="shape"):
        forecaster.probability(np.zeros((2, 3)))


def test_target_without_a_horizon_is_refused(forecaster: Forecaster) -> None:
    with pytest.raises(ModelError, match="12"):
        forecaster.required_level(accounts(1), np.ones(1), {12: 0.01})
