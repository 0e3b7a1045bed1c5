"""Which columns a model is trained on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from features.registry import ACCOUNT_COLUMNS, HORIZONS, OPTION_FEATURES
from market.core.errors import ModelError
from training.fitting.candidate import MIN_PRESENCE, trained_schema
from training.labels.dataset import feature_columns


@pytest.fixture
def data() -> Any:
    features = np.random.default_rng(2).standard_normal((50, len(ACCOUNT_COLUMNS)))
    for name in OPTION_FEATURES:
        features[:, ACCOUNT_COLUMNS.index(name)] = 0.0
    return SimpleNamespace(features=features, horizons=HORIZONS, feature_names=ACCOUNT_COLUMNS)


def test_population_without_options_has_no_option_columns(data: Any) -> None:
    features = trained_schema(data, np.arange(50)).features
    logits = {name for name in ACCOUNT_COLUMNS if name.startswith("prior_logit_")}
    assert set(features) == set(ACCOUNT_COLUMNS) - set(OPTION_FEATURES) - logits


def test_one_option_in_the_fit_rows_adds_the_column_that_it_changes(data: Any) -> None:
    data.features[7, ACCOUNT_COLUMNS.index("vega_share")] = -0.5
    assert "vega_share" in trained_schema(data, np.arange(50)).features
    assert "vega_share" not in trained_schema(data, np.arange(7)).features
    assert "gamma_share" not in trained_schema(data, np.arange(50)).features


def test_other_columns_of_zeros_stay(data: Any) -> None:
    data.features[:, ACCOUNT_COLUMNS.index("collateral_share")] = 0.0
    assert "collateral_share" in trained_schema(data, np.arange(50)).features


def test_column_that_is_mostly_missing_is_left_out(data: Any) -> None:
    missing = int(50 * (1.0 - MIN_PRESENCE)) + 1
    data.features[:missing, ACCOUNT_COLUMNS.index("net_share")] = np.nan
    assert "net_share" not in trained_schema(data, np.arange(50)).features


def test_prior_reads_the_distance_of_each_horizon_and_the_long_run_one(data: Any) -> None:
    schema = trained_schema(data, np.arange(50))
    assert schema.prior_distances == tuple(
        (f"forecast_distance_{hours}h", "long_run_distance") for hours in HORIZONS
    )
    horizons = (2, 12, 48)
    more = np.column_stack([data.features, np.ones((50, 3))])
    other: Any = SimpleNamespace(
        features=more, horizons=horizons, feature_names=feature_columns(horizons)
    )
    assert [names[0] for names in trained_schema(other, np.arange(50)).prior_distances] == [
        f"forecast_distance_{hours}h" for hours in horizons
    ]


def test_missing_prior_distance_is_refused(data: Any) -> None:
    data.features[:, ACCOUNT_COLUMNS.index("long_run_distance")] = np.nan
    with pytest.raises(ModelError, match="long_run_distance"):
        trained_schema(data, np.arange(50))
