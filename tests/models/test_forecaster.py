"""A bundle at work on moments of accounts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from features.account import aggregates as moment
from features.account.frame import compute_features
from features.identity import digests_of
from features.registry import (
    ACCOUNT_FEATURES,
    BOOK_MEANS,
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
    found = rng.uniform(0.01, 0.5, (n, moment.width(len(VOLATILITIES), len(BOOK_MEANS))))
    found[:, moment.GROSS] = rng.uniform(1_000.0, 50_000.0, n)
    found[:, moment.MAINTENANCE] = 0.02 * found[:, moment.GROSS]
    found[:, moment.HEADROOM] = found[:, moment.GROSS] * rng.uniform(0.01, 0.4, n)
    volatilities = slice(moment.PRIOR_VOLATILITY, moment.FIRST_VOLATILITY + len(VOLATILITIES))
    width = found[:, volatilities].shape[1]
    found[:, volatilities] = found[:, [moment.GROSS]] * rng.uniform(0.01, 0.03, (n, width))
    return found


def at_headroom(forecaster: Forecaster, moments: Floats, headroom: Floats) -> Floats:
    moved = moments.copy()
    moved[:, moment.HEADROOM] = headroom
    return forecaster.probability(forecaster.features(moved))


def test_level_suffices_and_a_little_less_does_not(forecaster: Forecaster) -> None:
    moments = accounts()
    found = forecaster.required_level(moments, moments[:, moment.GROSS], P_STAR)
    limits = np.array([P_STAR[hours] for hours in HORIZONS])
    assert np.isfinite(found.level).all()
    assert (found.level > 0.0).all()
    assert (at_headroom(forecaster, moments, found.level) <= limits).all()
    below = found.level - 2.0**-31 * moments[:, moment.GROSS]
    assert (at_headroom(forecaster, moments, below) > limits).any(axis=1).all()


def test_each_horizon_has_its_own_smallest_level(forecaster: Forecaster) -> None:
    moments = accounts()
    upper = moments[:, moment.GROSS]
    found = forecaster.required_level(moments, upper, P_STAR)
    for k, hours in enumerate(HORIZONS):
        p = at_headroom(forecaster, moments, found.by_horizon[:, k])[:, k]
        below = at_headroom(forecaster, moments, found.by_horizon[:, k] - 2.0**-31 * upper)[:, k]
        assert (p <= P_STAR[hours]).all()
        assert (below > P_STAR[hours]).all()
    np.testing.assert_array_equal(found.level, found.by_horizon.max(axis=1))


def test_level_does_not_depend_on_the_equity_the_account_has(forecaster: Forecaster) -> None:
    poor, rich = accounts(), accounts()
    rich[:, moment.HEADROOM] *= 3.0
    upper = poor[:, moment.GROSS]
    np.testing.assert_array_equal(
        forecaster.required_level(poor, upper, P_STAR).level,
        forecaster.required_level(rich, upper, P_STAR).level,
    )


def test_search_leaves_the_moments_as_they_were(forecaster: Forecaster) -> None:
    moments = accounts(5)
    kept = moments.copy()
    forecaster.required_level(moments, moments[:, moment.GROSS], P_STAR)
    np.testing.assert_array_equal(moments, kept)


def test_upper_that_does_not_suffice_gives_infinity(forecaster: Forecaster) -> None:
    moments = accounts(5)
    found = forecaster.required_level(moments, np.full(5, 1e-3), P_STAR)
    assert np.isinf(found.level).all()


def test_account_in_warm_up_gives_nan_and_its_neighbours_are_untouched(
    forecaster: Forecaster,
) -> None:
    moments = accounts(6)
    upper = moments[:, moment.GROSS].copy()
    sound = forecaster.required_level(moments, upper, P_STAR).level
    moments[2, moment.PRIOR_VOLATILITY] = np.nan
    found = forecaster.required_level(moments, upper, P_STAR).level
    assert np.isnan(found).tolist() == [False, False, True, False, False, False]
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[others], sound[others])


def test_features_are_the_columns_of_the_schema(forecaster: Forecaster) -> None:
    moments = accounts(4)
    names = forecaster.bundle.schema.features
    np.testing.assert_array_equal(forecaster.features(moments), compute_features(moments, names))


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
