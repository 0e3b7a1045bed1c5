from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from margin.surface.repair import remove_butterflies, repair_slices
from margin.surface.slice_fit import SlicePoints, fit_slice, measure_fit
from margin.surface.svi import durrleman, total_variance
from market.core.arrays import Floats
from market.core.errors import DataError

FAR = np.sinh(np.linspace(-9.0, 9.0, 20_001))


def grid(*slices: Floats) -> Floats:
    """Finer than that of the checks, around each slice, and evenly over any quote."""
    return np.concatenate(
        [*(raw[3] + raw[4] * FAR for raw in slices), np.linspace(-3.0, 3.0, 20_001)]
    )


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_nothing_is_left_of_any_arbitrage(seed: int) -> None:
    """Vols of a wild market: levels that fall in time, steep and kinked smiles, noise."""
    rng = np.random.default_rng(seed)
    points = []
    for tau in np.sort(rng.uniform(0.002, 1.0, 4)):
        level, scale = rng.uniform(0.3, 1.2), np.sqrt(tau)
        x = np.sort(rng.uniform(-3, 3, 14))
        vol = level * (1 + rng.uniform(-0.2, 0.2) * x + rng.uniform(0, 0.15) * x**2)
        vol = np.maximum(vol + rng.normal(0, 0.03, 14), 0.05)
        points.append(SlicePoints.of(float(tau), x * level * scale, vol, np.full(14, 0.03)))
    repairs = repair_slices(points, [fit_slice(p) for p in points])
    slices = [repair.repaired.raw for repair in repairs]
    for raw in slices:
        assert durrleman(raw, grid(raw)).min() >= -1e-9
        assert total_variance(raw, grid(raw)).min() > 0.0
    for earlier, later in pairwise(slices):
        k = grid(earlier, later)
        gap = total_variance(later, k) - total_variance(earlier, k)
        assert (gap / np.maximum(total_variance(later, k), 1.0)).min() >= -1e-12
    for repair in repairs:
        assert repair.butterfly_after >= 0.0
        assert repair.calendar_after is None or repair.calendar_after >= 0.0


def test_what_is_sound_is_left_as_it_is() -> None:
    k = np.linspace(-0.5, 0.5, 21)
    points = [
        SlicePoints.of(tau, k, np.sqrt(total_variance(raw, k) / tau))
        for tau, raw in (
            (0.1, np.array([0.01, 0.05, -0.2, 0.0, 0.2])),
            (0.5, np.array([0.08, 0.10, -0.2, 0.0, 0.3])),
        )
    ]
    free = [fit_slice(p) for p in points]
    repairs = repair_slices(points, free)
    assert not any(repair.is_changed for repair in repairs)
    assert all(r.repaired is f for r, f in zip(repairs, free, strict=True))


def test_a_butterfly_is_taken_out_at_little_cost() -> None:
    """The published smile with a butterfly (Gatheral and Jacquier 2014, Example 3.1), against
    scipy's best slice with g of 0 or more on a grid."""
    vogt = np.array([-0.0410, 0.1331, 0.3060, 0.3586, 0.4153])
    k = np.linspace(-1.5, 1.5, 61)
    points = SlicePoints.of(1.0, k, np.sqrt(total_variance(vogt, k)))
    repaired = remove_butterflies(points, measure_fit(points, vogt))
    assert durrleman(repaired.raw, grid(repaired.raw)).min() >= 0.0
    coarse = np.linspace(-4.0, 4.0, 161)
    problem: dict[str, Any] = {
        "method": "SLSQP",
        "bounds": [(-1, 1), (1e-3, 1), (-0.99, 0.99), (-2, 2), (0.01, 3)],
        "constraints": [
            {"type": "ineq", "fun": lambda p: durrleman(p, coarse)},
            {"type": "ineq", "fun": lambda p: total_variance(p, coarse) - 1e-6},
        ],
        "options": {"maxiter": 500},
    }

    def squared_error(p: Floats) -> float:
        return measure_fit(points, p).error ** 2

    theirs = minimize(squared_error, repaired.raw, **problem)
    assert repaired.error <= 1.05 * measure_fit(points, theirs.x).error


def test_a_calendar_is_parted_where_the_quotes_allow_it() -> None:
    """A short smile that is steep beyond its quotes only gives way to the longer one."""
    near_k, far_k = np.linspace(-0.05, 0.05, 11), np.linspace(-0.8, 0.8, 33)
    near_raw = np.array([-0.019, 0.1, 0.1, 0.0, 0.2])
    far_raw = np.array([0.004, 0.04, -0.1, 0.0, 0.1])
    points = [
        SlicePoints.of(
            0.01, near_k, np.sqrt(total_variance(near_raw, near_k) / 0.01), np.full(11, 0.02)
        ),
        SlicePoints.of(
            0.03, far_k, np.sqrt(total_variance(far_raw, far_k) / 0.03), np.full(33, 0.02)
        ),
    ]
    near, far = repair_slices(points, [fit_slice(p) for p in points])
    assert far.calendar_before == -np.inf
    assert far.calendar_after is not None
    assert far.calendar_after >= 0.0
    assert near.repaired.error < 0.5
    assert far.repaired.error < 0.5


def test_slices_out_of_order_are_refused() -> None:
    k = np.linspace(-0.5, 0.5, 11)
    points = [SlicePoints.of(tau, k, np.full(11, 0.5)) for tau in (0.5, 0.1)]
    with pytest.raises(DataError, match="expected rising ones"):
        repair_slices(points, [fit_slice(p) for p in points])
