from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import least_squares

from margin.surface.slice_fit import SlicePoints, fit_slice, measure_fit
from margin.surface.svi import check_raw, total_variance
from market.core.arrays import Floats
from market.core.errors import DataError

SCIPY_MARGIN = 1.005
"""scipy's best of many starts has an error at most so many times smaller than ours."""


def points_of(
    raw: Floats, tau: float, k: Floats, noise: Floats | None = None, width: float = 0.01
) -> SlicePoints:
    vol = np.sqrt(total_variance(raw, k) / tau)
    if noise is not None:
        vol = vol + noise
    return SlicePoints.of(tau, k, vol, np.full(k.shape, width))


@settings(max_examples=40)
@given(
    vol=st.floats(0.2, 1.5),
    tau=st.floats(0.003, 1.5),
    slope=st.floats(0.05, 0.5),
    rho=st.floats(-0.7, 0.7),
    middle=st.floats(-0.5, 0.5),
    width=st.floats(0.3, 2.0),
)
def test_known_parameters_come_back(
    vol: float, tau: float, slope: float, rho: float, middle: float, width: float
) -> None:
    """Whatever the expiry: parameters in units of the deviation to expiry."""
    w0, scale = vol**2 * tau, vol * np.sqrt(tau)
    raw = np.array([w0 * 0.6, slope * scale, rho, middle * scale, width * scale])
    fit = fit_slice(points_of(raw, tau, np.linspace(-4, 4, 41) * scale))
    assert fit.rmse < 1e-7
    np.testing.assert_allclose(
        fit.raw / [w0, scale, 1, scale, scale], raw / [w0, scale, 1, scale, scale], atol=2e-4
    )


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_the_order_of_points_changes_no_bit(random: object) -> None:
    k = np.linspace(-0.4, 0.5, 25)
    rng = np.random.default_rng(3)
    points = points_of(np.array([0.01, 0.1, -0.4, 0.0, 0.1]), 0.2, k, rng.normal(0, 0.01, 25))
    order = list(range(25))
    random.shuffle(order)  # type: ignore[attr-defined]
    mixed = SlicePoints.of(0.2, points.k[order], points.vol[order], points.width[order])
    np.testing.assert_array_equal(fit_slice(mixed).raw, fit_slice(points).raw)


@pytest.mark.parametrize("tau", [0.0005, 0.1, 2.0])
def test_a_flat_smile_stays_flat(tau: float) -> None:
    k = np.linspace(-3, 3, 15) * 0.6 * np.sqrt(tau)
    fit = fit_slice(SlicePoints.of(tau, k, np.full(15, 0.6)))
    assert fit.rmse < 1e-7
    outside = np.array([-10.0, 10.0]) * 0.6 * np.sqrt(tau)
    np.testing.assert_allclose(np.sqrt(total_variance(fit.raw, outside) / tau), 0.6, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_scipy_finds_nothing_much_better(seed: int) -> None:
    """Unconstrained least squares on raw parameters, from twenty starts and from ours."""
    rng = np.random.default_rng(seed)
    tau = float(rng.choice([0.02, 0.1, 0.5]))
    vol, scale = 0.5, 0.5 * np.sqrt(tau)
    raw = np.array([0.5 * scale**2, 0.25 * scale, rng.uniform(-0.5, 0.5), 0.1 * scale, scale])
    k = np.sort(rng.uniform(-3, 3, 30)) * scale
    points = points_of(raw, tau, k, rng.normal(0, 0.004, 30), 0.012)
    ours = fit_slice(points)
    unit = np.array([scale**2, scale, 1.0, scale, scale])

    def miss(p: Floats) -> Floats:
        model = np.sqrt(np.maximum(total_variance(p * unit, points.k), 1e-12) / tau)
        return np.asarray((model - points.vol) / points.deviation)

    low, high = [-50, 0, -0.999, -5, 0.01], [50, 1.999 / scale, 0.999, 5, 50]
    begins = [np.clip(ours.raw / unit, np.array(low) + 1e-9, np.array(high) - 1e-9)]
    begins += [
        np.array([1.0, rng.uniform(0.1, 1), rng.uniform(-0.8, 0.8), rng.uniform(-1, 1), 1.0])
        for _ in range(20)
    ]
    found = [least_squares(miss, begin, bounds=(low, high)) for begin in begins]
    errors = [
        measure_fit(points, result.x * unit).error
        for result in found
        if total_variance(result.x * unit, np.linspace(-10, 10, 201)).min() > 0.0
    ]
    assert ours.error <= SCIPY_MARGIN * min(errors)
    assert vol == 0.5
    check_raw(ours.raw, "ours")


def test_narrow_quotes_weigh_more() -> None:
    k = np.linspace(-0.5, 0.5, 21)
    vol = 0.5 + 0.2 * k**2
    vol[5] += 0.05
    width = np.full(21, 0.01)
    wide, narrow = width.copy(), width.copy()
    wide[5], narrow[5] = 0.2, 0.001
    misses = [
        abs(np.sqrt(total_variance(fit_slice(points).raw, points.k) / 0.25)[5] - vol[5])
        for points in (
            SlicePoints.of(0.25, k, vol, wide),
            SlicePoints.of(0.25, k, vol, width),
            SlicePoints.of(0.25, k, vol, narrow),
        )
    ]
    assert misses[0] > 1.1 * misses[1] > 1.1 * 1.1 * misses[2]


def test_unknown_widths_count_as_the_widest() -> None:
    points = SlicePoints.of(
        0.1, np.arange(6.0), np.full(6, 0.5), np.array([0.01, 0.02, np.nan, 0.04, 0.01, 9.0])
    )
    np.testing.assert_allclose(points.deviation, [0.005, 0.01, 0.2, 0.02, 0.005, 0.2])
    bare = SlicePoints.of(0.1, np.arange(6.0), np.full(6, 0.5))
    np.testing.assert_allclose(bare.deviation, 0.01)


@pytest.mark.parametrize(
    ("tau", "k", "vol", "width", "message"),
    [
        (0.1, [0.0, 0.1, 0.2, 0.3], [0.5] * 4, None, "4 strikes have a vol"),
        (0.1, [0.0] * 9, [0.5] * 9, None, "1 strikes have a vol"),
        (0.1, [0.0, 0.1, 0.2, 0.3, np.nan], [0.5] * 5, None, "no finite k"),
        (0.1, [0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 4 + [np.nan], None, "no vol above 0"),
        (0.1, [0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 4 + [0.0], None, "no vol above 0"),
        (0.1, [0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 5, [0.1] * 4 + [-0.1], "bid above its ask"),
        (0.1, [0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 4, None, "expected one length"),
        (0.0, [0.0, 0.1, 0.2, 0.3, 0.4], [0.5] * 5, None, "expected years above 0"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(
    tau: float, k: list[float], vol: list[float], width: list[float] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        SlicePoints.of(tau, np.array(k), np.array(vol), None if width is None else np.array(width))


def test_fitting_needs_no_scipy() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None; import numpy as np; "
        "from margin.surface.slice_fit import SlicePoints, fit_slice; "
        "from margin.surface import chain_points, repair, surface; "
        "k = np.linspace(-1, 1, 9); print(fit_slice(SlicePoints.of(1.0, k, 0.5 + k * k)).rmse < 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
