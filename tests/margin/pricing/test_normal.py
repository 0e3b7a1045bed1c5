"""The normal distribution of the kernels against the standard library's and scipy's."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
from numba import njit
from scipy import special, stats

from margin.pricing.normal import normal_cdf, normal_pdf
from market.core.arrays import Floats

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def cdf(x: Floats) -> Floats:
    return np.asarray(_cdf(x))


@njit
def _cdf(x):  # type: ignore[no-untyped-def]
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = normal_cdf(x[i])
    return out


def dense() -> Floats:
    """Every part of the line: between nodes, at them, one float beside them, and far out."""
    nodes = np.arange(-10 * 256, 10 * 256 + 1) / 256
    return np.unique(
        np.concatenate(
            [
                np.linspace(-10.0, 10.0, 400_001),
                nodes,
                np.nextafter(nodes, -np.inf),
                np.nextafter(nodes, np.inf),
                [-1e300, -40.0, -1e-300, 0.0, 5e-324, 1e-17, 40.0, 1e300],
            ]
        )
    )


def exact(x: float) -> Decimal:
    """The same to fifty digits: ``1 / 2 + phi(x) * sum x^(2k + 1) / (2k + 1)!!``."""
    with localcontext() as context:
        context.prec = 60
        at = Decimal(x)
        term = total = at
        k = 0
        while abs(term) > Decimal("1e-50"):
            k += 1
            term *= at * at / (2 * k + 1)
            total += term
        return Decimal("0.5") + (-at * at / 2).exp() / (2 * PI).sqrt() * total


def test_cdf_is_right_to_the_last_bit() -> None:
    x = np.random.default_rng(1).uniform(-9.0, 9.0, 1_000)
    x = np.concatenate([x, np.arange(-9 * 256, 9 * 256 + 1, 5) / 256])  # nodes, ends
    error = np.array([abs(float(Decimal(float(normal_cdf(at))) - exact(float(at)))) for at in x])
    assert error.max() <= 1.3e-16
    assert error[x < -1.0].max() <= 6e-17  # here the floats are finer


def test_cdf_is_scipys_everywhere() -> None:
    x = dense()
    assert np.abs(cdf(x) - special.ndtr(x)).max() <= 2.7e-16  # scipy is off by 1.6e-16 itself


def test_cdf_never_falls_by_more_than_a_rounding() -> None:
    values = cdf(dense())
    assert np.diff(values).min() >= -1.2e-16


def test_cdf_is_symmetric() -> None:
    x = dense()
    np.testing.assert_array_equal(cdf(x)[x > 0] + cdf(-x)[x > 0], 1.0)


def test_cdf_at_infinity_and_nan() -> None:
    values = cdf(np.array([-np.inf, np.inf, np.nan, 0.0]))
    np.testing.assert_array_equal(values, [0.0, 1.0, np.nan, 0.5])


def test_cdf_stays_a_probability() -> None:
    values = cdf(dense())
    assert values.min() >= 0.0
    assert values.max() <= 1.0


def test_pdf() -> None:
    x = np.linspace(-40.0, 40.0, 1_001)
    ours = [normal_pdf(value) for value in x]
    np.testing.assert_allclose(ours, stats.norm.pdf(x), rtol=1e-13, atol=1e-300)
    assert normal_pdf(math.inf) == 0.0
    assert math.isnan(normal_pdf(math.nan))
