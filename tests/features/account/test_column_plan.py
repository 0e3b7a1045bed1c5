"""The fused pass over the columns has the bits of each feature's own kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numba import njit

from features.account import column_plan as fused
from features.account.aggregates import HEADROOM
from features.account.column_plan import column_plan, rows_at
from features.account.frame import AGGREGATES, compute_features, set_headroom
from features.registry import ACCOUNT_COLUMNS, ACCOUNT_FEATURES
from market.core.arrays import Floats
from market.core.errors import ModelError


def moments(n: int) -> Floats:
    """Aggregates of every kind: ordinary, nothing, huge, negative and missing."""
    rng = np.random.default_rng(8)
    found = rng.standard_normal((n, AGGREGATES)) * 10.0 ** rng.integers(-6, 7, (n, AGGREGATES))
    found[rng.random(found.shape) < 0.05] = 0.0
    found[rng.random(found.shape) < 0.05] = np.nan
    found[rng.random(found.shape) < 0.02] = np.inf
    return found


def by_kernels(aggregates: Floats) -> Floats:
    out = np.empty((len(aggregates), len(ACCOUNT_FEATURES)))
    column = np.empty(len(aggregates))
    for i, feature in enumerate(ACCOUNT_FEATURES):
        feature.kernel(aggregates, column, *feature.params)
        out[:, i] = column
    return out


def test_columns_have_the_bits_of_their_kernels() -> None:
    aggregates = moments(400)
    np.testing.assert_array_equal(compute_features(aggregates), by_kernels(aggregates))


def test_rows_at_another_headroom_have_the_bits_of_their_kernels() -> None:
    aggregates = moments(60)
    rng = np.random.default_rng(9)
    account = rng.integers(60, size=200)
    headroom = rng.choice([0.0, -1.0, 1e-3, 5.0, 1e6, np.inf, np.nan], 200)
    before = compute_features(aggregates)
    rows = rows_at(column_plan(ACCOUNT_COLUMNS).of_equity, aggregates, before, account, headroom)
    moved = aggregates[account]
    moved[:, HEADROOM] = headroom
    np.testing.assert_array_equal(rows, by_kernels(moved))
    in_place = before[account]
    set_headroom(aggregates[account], in_place, ACCOUNT_COLUMNS, headroom)
    np.testing.assert_array_equal(in_place, rows)


def test_feature_of_equity_without_a_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @njit
    def kernel(aggregates, out):  # type: ignore[no-untyped-def]
        out[:] = aggregates[:, HEADROOM]

    by_name = {feature.name: feature for feature in ACCOUNT_FEATURES}
    for equity in (False, True):
        feature = replace(by_name["equity_share"], name="new", kernel=kernel, uses_equity=equity)
        monkeypatch.setattr(fused, "account_feature", (by_name | {"new": feature}).__getitem__)
        column_plan.cache_clear()
        if equity:
            with pytest.raises(ModelError, match=r"'new' depends on equity.*column_plan.py"):
                column_plan(("new",))
        else:
            aggregates = moments(5)
            columns = compute_features(aggregates, ("net_share", "new"))
            np.testing.assert_array_equal(columns[:, 1], aggregates[:, HEADROOM])
    column_plan.cache_clear()
