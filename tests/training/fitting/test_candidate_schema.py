"""Which columns a model is trained on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from features.registry import ACCOUNT_COLUMNS, HORIZONS, OPTION_FEATURES
from training.fitting.candidate import MIN_PRESENCE, trained_schema


@pytest.fixture
def data() -> Any:
    features = np.random.default_rng(2).standard_normal((50, len(ACCOUNT_COLUMNS)))
    for name in OPTION_FEATURES:
        features[:, ACCOUNT_COLUMNS.index(name)] = 0.0
    return SimpleNamespace(features=features, horizons=HORIZONS)


def test_population_without_options_has_no_option_columns(data: Any) -> None:
    features = trained_schema(data, np.arange(50)).features
    assert set(features) == set(ACCOUNT_COLUMNS) - set(OPTION_FEATURES)


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
