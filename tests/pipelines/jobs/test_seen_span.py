"""What a bundle has seen: its training rows, and the data behind its volatility forecast."""

from __future__ import annotations

import pytest

from features.identity import coefficients_end
from features.market.volatility.forecast.coefficients import shipped_coefficients
from pipelines.jobs.evaluate import seen_span, training_end


def training(coefficients: int | None) -> dict[str, object]:
    return {
        "span_ns": [100, 900],
        "ends_ns": [500, 1000, 2000],
        "coefficients_end_ns": coefficients,
    }


@pytest.mark.parametrize(
    ("coefficients", "real", "span", "end"),
    [
        (None, True, (100, 900), 1000),
        (1500, True, (0, 1499), 1500),
        (1500, False, (100, 900), 1000),
        (700, True, (0, 900), 1000),
    ],
    ids=["no forecast", "coefficients end later", "simulated market", "coefficients end earlier"],
)
def test_the_later_of_both_ends_counts_on_real_prices(
    coefficients: int | None, real: bool, span: tuple[int, int], end: int
) -> None:
    found = training(coefficients)
    assert seen_span(found, real=real) == span
    assert training_end(found, real=real) == end


def test_bundles_of_before_the_forecast_have_seen_their_rows_only() -> None:
    found = training(None)
    del found["coefficients_end_ns"]
    assert training_end(found, real=True) == 1000


def test_columns_of_the_bars_alone_have_no_coefficients() -> None:
    assert coefficients_end(["net_share", "herfindahl"]) is None
    assert shipped_coefficients().end > 0
