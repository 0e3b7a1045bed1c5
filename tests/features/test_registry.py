"""The registry lists every feature once and says all about it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import features
from features import registry
from features.definition import (
    AccountFeature,
    CrossFeature,
    Feature,
    GroupFeature,
    MarketFeature,
)
from features.registry import ACCOUNT_FEATURES, CROSS_FEATURES, GROUP_FEATURES, MARKET_FEATURES

FEATURES: tuple[Feature, ...] = (
    *MARKET_FEATURES,
    *CROSS_FEATURES,
    *GROUP_FEATURES,
    *ACCOUNT_FEATURES,
)
FAMILIES = (
    "market.volatility",
    "market.volatility.forecast",
    "market.liquidity",
    "market.correlation",
    "account",
)
KINDS = ("MarketFeature", "CrossFeature", "GroupFeature", "AccountFeature")

every_feature = pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)


def _factories() -> list[Callable[..., Feature]]:
    """Every public function in the families' files that makes a feature."""
    root = Path(features.__file__).parent
    modules = [
        importlib.import_module(f"features.{family}.{path.stem}")
        for family in FAMILIES
        for path in sorted((root / family.replace(".", "/")).glob("[a-z]*.py"))
    ]
    return [
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and function.__annotations__.get("return") in KINDS
    ]


every_factory = pytest.mark.parametrize("factory", _factories(), ids=lambda f: f.__name__)


def test_names_are_unique_over_all_levels() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(names) == len(set(names))
    assert list(registry.MARKET_COLUMNS) == names[: len(registry.MARKET_COLUMNS)]
    assert list(registry.ACCOUNT_COLUMNS) == names[len(registry.MARKET_COLUMNS) :]


@every_feature
def test_feature_states_unit_formula_and_reference(feature: Feature) -> None:
    assert feature.name
    assert feature.unit
    assert feature.formula
    assert feature.reference
    assert feature.name == feature.name.strip().lower()


@every_feature
def test_feature_is_documented(feature: Feature) -> None:
    kernel: Any = feature.kernel
    assert kernel.py_func.__doc__
    assert feature.doc, f"put @feature over the factory of {feature.name}"
    for part in ("Formula:", "Unit:", "NaN", "References\n----------\n"):
        if part == "NaN" and isinstance(feature, AccountFeature):
            continue  # some need nothing that has a warm-up
        assert part in feature.doc, f"{feature.name} does not say {part!r}"


@every_factory
def test_every_factory_is_registered(factory: Callable[..., Feature]) -> None:
    registered = getattr(registry, factory.__name__, None)
    assert registered is factory, f"{factory.__name__} has no line in features/registry.py"
    assert inspect.getdoc(factory) in {feature.doc for feature in FEATURES}


def test_named_columns_exist() -> None:
    named = {
        registry.CROSS_VOLATILITY,
        registry.ADV,
        "market_correlation",
        "trailing_return_24h",
        "funding_rate_24h",
        *registry.PRIOR_VOLATILITIES,
    }
    assert named <= set(registry.MARKET_COLUMNS)
    assert {*registry.PRIOR_VOLATILITIES, registry.CROSS_VOLATILITY} <= set(registry.VOLATILITIES)


def test_market_features_reach_the_model_in_the_form_that_they_state() -> None:
    columns = registry.ACCOUNT_COLUMNS
    market: tuple[MarketFeature | CrossFeature | GroupFeature, ...] = (
        *MARKET_FEATURES,
        *CROSS_FEATURES,
        *GROUP_FEATURES,
    )
    for feature in market:
        assert (f"distance_{feature.name}" in columns) == (feature.book_form == "volatility")
        assert (f"book_{feature.name}" in columns) == (feature.book_form in ("volatility", "mean"))
        assert (feature.name in registry.FORECAST_VOLATILITIES) == (feature.book_form == "forecast")


def test_columns_of_a_group_are_in_the_order_of_its_kernel() -> None:
    (group,) = registry.FEATURE_GROUPS
    hours = registry.FORECAST_HORIZONS
    ahead = tuple(f"seasonal_log_volatility_ahead_{h}h" for h in hours)
    forecasts = tuple(f"volatility_forecast_{h}h" for h in hours)
    assert tuple(f.name for f in group.columns) == (*registry.REGRESSORS, *ahead, *forecasts)
    assert forecasts == registry.FORECAST_VOLATILITIES
    assert registry.MARKET_COLUMNS[-len(group.columns) :] == (
        *registry.REGRESSORS,
        *ahead,
        *forecasts,
    )
    assert {f.kernel for f in group.columns} == {group.kernel}


@pytest.mark.parametrize("horizon", registry.HORIZONS)
def test_every_horizon_has_its_prior(horizon: int) -> None:
    assert registry.prior_column(horizon) in registry.ACCOUNT_COLUMNS


def test_windows_fit_into_the_warm_up() -> None:
    assert max(max(f.settings) for f in MARKET_FEATURES) <= registry.WARM_UP_HOURS
    assert registry.CORRELATION_HALF_LIFE_HOURS <= registry.WARM_UP_HOURS
