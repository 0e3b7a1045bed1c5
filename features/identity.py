"""Identity of each feature column: what its values depend on, as one SHA-256.

A model depends on the columns that it reads and on nothing else of the registry, so a feature that
is added, or one that the model does not read, changes nothing for it. Columns with equal digests
hold equal numbers for equal inputs.

A digest covers name, formula, settings, constants and revision of a column and the digests of its
inputs: other columns, roles (`ROLES`) and sources that are no columns (`SOURCES`). Positions in
arrays are not covered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from features import registry
from features.definition import (
    AccountFeature,
    CrossFeature,
    Feature,
    GroupFeature,
    MarketFeature,
)
from features.market import inputs
from features.market.volatility.forecast.coefficients import shipped_coefficients
from market.bars.outlier_filter import MAX_GAP_HOURS
from market.core.errors import ModelError

_EXOGENOUS = (
    "funding",
    "open_interest",
    "implied_volatility",
    "basis",
    "skew",
    "term_slope",
    "curvature",
)
"""Exogenous series, in the order of `features.market.inputs.HOLD_HOURS`. Their names in digests
begin with ``context.``, as they did when the first bundles were written."""

SOURCES = ("correlation.slow", "correlation.fast", *(f"context.{name}" for name in _EXOGENOUS))
"""Inputs that are no columns: the correlation matrices and the exogenous series."""

ROLES = ("cross_volatility", "average_daily_volume", "prior_volatilities")
"""Inputs that stand for the market columns which the registry chooses for them."""


def column_digests(others: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 of every registered market and account column by name.

    With those of `others` that this version computes though no registry lists them: forecast
    distances of any horizon.

    Raises
    ------
    ModelError
        A feature names an input that does not exist.
    """
    features, roles, digests = _features(others), _roles(), _source_digests()

    def digest(name: str, reader: str) -> str:
        if name in digests:
            return digests[name]
        if name in roles:
            return _sha256([digest(column, name) for column in roles[name]])
        if name not in features:
            raise ModelError(f"feature {reader!r} reads {name!r}, which is no column and no source")
        feature = features[name]
        read = {source: digest(source, name) for source in feature.inputs}
        digests[name] = _sha256(_content(feature) | {"inputs": read})
        return digests[name]

    return {name: digest(name, name) for name in features}


def digests_of(names: Iterable[str]) -> tuple[str, ...]:
    """SHA-256 of each named column, in the order of the names.

    Raises
    ------
    ModelError
        This version computes no such column.
    """
    columns = tuple(names)
    digests = column_digests(columns)
    unknown = [name for name in columns if name not in digests]
    if unknown:
        raise ModelError(
            f"this version computes no column {', '.join(unknown)}; "
            "docs/features.md lists the columns that it computes"
        )
    return tuple(digests[name] for name in columns)


def columns_that_differ(recorded: Mapping[str, str]) -> list[str]:
    """Columns of a record, name to SHA-256, that this version computes otherwise or not at all."""
    digests = column_digests(recorded)
    return sorted(name for name, digest in recorded.items() if digests.get(name) != digest)


def digests_of_registry(sha256: str) -> dict[str, str] | None:
    """Digests of all columns of a registry that is named by one hash over the whole of it.

    Early bundles and market states name that hash alone. None where it is not known.
    """
    known = _revision_one()
    return dict(known["columns"]) if sha256 == known["registry_sha256"] else None


def market_columns_of(account_columns: Iterable[str]) -> set[str]:
    """Market columns that account columns read directly, not those behind cross features."""
    names = tuple(account_columns)
    features, roles = _features(names), _roles()
    columns: set[str] = set()
    for name in names:
        for source in features[name].inputs:
            columns.update(roles.get(source, (source,)))
    return columns - set(SOURCES)


def coefficients_end(account_columns: Iterable[str]) -> int | None:
    """End of the data, in nanoseconds, that the coefficients of the volatility forecast were fitted
    to; None if no column depends on it."""
    if market_columns_of(account_columns).isdisjoint(registry.FORECAST_VOLATILITIES):
        return None
    return shipped_coefficients().end


def _features(others: Iterable[str] = ()) -> dict[str, Feature]:
    features: tuple[Feature, ...] = (
        *registry.MARKET_FEATURES,
        *registry.CROSS_FEATURES,
        *registry.GROUP_FEATURES,
        *registry.ACCOUNT_FEATURES,
    )
    known = {feature.name: feature for feature in features}
    for name in others:
        found = None if name in known else registry.find_account_feature(name)
        if found is not None:
            known[name] = found
    return known


def _roles() -> dict[str, tuple[str, ...]]:
    chosen = ((registry.CROSS_VOLATILITY,), (registry.ADV,), registry.PRIOR_VOLATILITIES)
    return dict(zip(ROLES, chosen, strict=True))


def _source_digests() -> dict[str, str]:
    limits = zip(_EXOGENOUS, inputs.HOLD_HOURS, strict=True)
    return {
        "correlation.slow": _sha256([registry.CORRELATION_HALF_LIFE_HOURS, MAX_GAP_HOURS]),
        "correlation.fast": _sha256([registry.FAST_CORRELATION_HALF_LIFE_HOURS, MAX_GAP_HOURS]),
        **{f"context.{name}": _sha256([hours]) for name, hours in limits},
    }


def _content(feature: Feature) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": feature.name,
        "formula": feature.formula,
        "constants": list(feature.constants),
        "revision": feature.revision,
    }
    if isinstance(feature, MarketFeature):
        content |= {"settings": list(feature.settings), "survives_gaps": feature.survives_gaps}
    elif isinstance(feature, CrossFeature):
        content["settings"] = list(feature.params)
    elif isinstance(feature, GroupFeature):
        content["settings"] = list(feature.settings)
    if not isinstance(feature, AccountFeature):
        content["max_gap_hours"] = MAX_GAP_HOURS
    return content


@cache
def _revision_one() -> dict[str, Any]:
    text = files(__package__).joinpath("revision_one.json").read_text(encoding="utf-8")
    known: dict[str, Any] = json.loads(text)
    return known


def _sha256(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
