"""Linear and inverse contracts by hand-worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from margin.pricing.contracts import inverse_option_value, inverse_pnl, linear_pnl
from market.core.errors import DataError


def test_linear() -> None:
    np.testing.assert_array_equal(linear_pnl([2.0, -2.0], 100.0, 110.0), [20.0, -20.0])


def test_inverse() -> None:
    # 10 000 USD long from 50 000: 0.2 coin at the entry, 0.16 at 62 500; 0.04 coin are won.
    assert float(inverse_pnl(10_000.0, 50_000.0, 62_500.0)) == pytest.approx(0.04, rel=1e-14)
    assert float(inverse_pnl(-10_000.0, 50_000.0, 40_000.0)) == pytest.approx(0.05, rel=1e-14)


def test_inverse_option() -> None:
    assert float(inverse_option_value(1_500.0, 60_000.0)) == 0.025


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e5), st.floats(1.0, 1e5))
def test_inverse_pnl_at_the_mark_is_the_return_on_its_size(
    size: float, entry: float, mark: float
) -> None:
    in_quote = float(inverse_pnl(size, entry, mark)) * mark
    assert in_quote == pytest.approx(size * (mark / entry - 1.0), rel=1e-9, abs=1e-9 * size)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf])
def test_price_that_is_no_price_is_named(wrong: float) -> None:
    with pytest.raises(DataError, match=r"mark .*above 0"):
        linear_pnl(1.0, 100.0, wrong)
    with pytest.raises(DataError, match=r"entry .*above 0"):
        inverse_pnl(1.0, wrong, 100.0)
    with pytest.raises(DataError, match=r"spot .*above 0"):
        inverse_option_value(1.0, wrong)


def test_nan_stays_nan() -> None:
    assert math.isnan(float(inverse_pnl(1.0, math.nan, 2.0)))
