"""The registry lists every feature once and says all about it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import features
from features import registry
from features.definition import AccountFeature, CrossFeature, MarketFeature
from features.registry import ACCOUNT_FEATURES, CROSS_FEATURES, MARKET_FEATURES

Feature = MarketFeature | CrossFeature | AccountFeature

FEATURES: tuple[Feature, ...] = (*MARKET_FEATURES, *CROSS_FEATURES, *ACCOUNT_FEATURES)
FAMILIES = ("market.volatility", "market.liquidity", "market.correlation", "account")
SHARED = {"ewma_correlation", "market_factor", "aggregates", "frame"}
"""Files of the families that serve features without being one."""

every_feature = pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)


def _modules() -> list[str]:
    root = Path(features.__file__).parent
    return [
        f"features.{family}.{path.stem}"
        for family in FAMILIES
        for path in sorted((root / family.replace(".", "/")).glob("*.py"))
        if not path.stem.startswith("_")
    ]


def _factories(module: ModuleType) -> list[Callable[..., Feature]]:
    kinds = {kind.__name__ for kind in (MarketFeature, CrossFeature, AccountFeature)}
    return [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and function.__annotations__.get("return") in kinds
    ]


def _module_of(feature: Feature) -> str:
    kernel: Any = feature.kernel
    return str(kernel.py_func.__module__)


def test_names_are_unique_over_all_levels() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(names) == len(set(names))
    assert list(registry.MARKET_COLUMNS) == names[: len(registry.MARKET_COLUMNS)]
    assert list(registry.ACCOUNT_COLUMNS) == names[len(registry.MARKET_COLUMNS) :]


@every_feature
def test_feature_tells_unit_formula_and_reference(feature: Feature) -> None:
    assert feature.name
    assert feature.unit
    assert feature.formula
    assert feature.reference
    assert feature.name == feature.name.strip().lower()


@every_feature
def test_feature_is_documented(feature: Feature) -> None:
    module = importlib.import_module(_module_of(feature))
    (factory,) = _factories(module)
    doc = inspect.getdoc(factory) or ""
    kernel: Any = feature.kernel
    assert module.__doc__
    assert kernel.py_func.__doc__
    for part in ("Formula:", "Unit:", "NaN", "References\n----------\n"):
        if part == "NaN" and isinstance(feature, AccountFeature):
            continue  # some need nothing that has a warm-up
        assert part in doc, f"{factory.__name__} does not say {part!r}"


@pytest.mark.parametrize("name", _modules())
def test_every_factory_file_is_registered(name: str) -> None:
    module = importlib.import_module(name)
    factories = _factories(module)
    if name.rpartition(".")[2] in SHARED:
        assert factories == []
        return
    assert len(factories) == 1, f"{name} should hold one factory"
    registered = {_module_of(feature) for feature in FEATURES}
    assert name in registered, f"{name} has no line in features/registry.py"


def test_named_columns_exist() -> None:
    named = {
        registry.CROSS_VOLATILITY,
        registry.ADV,
        "market_correlation",
        "trailing_return_24h",
        *registry.PRIOR_VOLATILITIES,
        *registry.BOOK_MEANS,
    }
    assert named <= set(registry.MARKET_COLUMNS)
    assert {*registry.PRIOR_VOLATILITIES, registry.CROSS_VOLATILITY} <= set(registry.VOLATILITIES)


@pytest.mark.parametrize("horizon", registry.HORIZONS)
def test_every_horizon_has_its_prior(horizon: int) -> None:
    assert registry.prior_column(horizon) in registry.ACCOUNT_COLUMNS


def test_windows_fit_into_the_warm_up() -> None:
    assert max(max(f.settings) for f in MARKET_FEATURES) <= registry.WARM_UP_HOURS
    assert registry.CORRELATION_HALF_LIFE_HOURS <= registry.WARM_UP_HOURS
