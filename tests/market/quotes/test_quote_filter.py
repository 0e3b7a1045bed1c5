"""Outlier filter of quoted prices: what passes, waits and is refused, and what confirms it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from market.bars.outlier_filter import OutlierFilter
from market.core.clock import HOUR, MINUTE
from market.quotes.quote_filter import CONFIRMATION, FilterInputs, TimedPrice, filter_quote

OUTLIER_FILTER = OutlierFilter()
NOW = 1_000 * HOUR
GOOD_PRICE = TimedPrice(NOW - MINUTE, 100.0)


def status(value: float, context: FilterInputs, ts: int = NOW) -> str:
    return filter_quote(TimedPrice(ts, value), context, OUTLIER_FILTER).status


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (100.0, "good"),
        (100.0 * math.exp(0.2499), "good"),
        (100.0 * math.exp(-0.2499), "good"),
        (65.0, "suspect"),
        (135.0, "suspect"),
        (499.0, "suspect"),
        (20.1, "suspect"),
        (501.0, "rejected"),
        (19.9, "rejected"),
        (1e-15, "rejected"),
        (1e12, "rejected"),
    ],
)
def test_bands_are_symmetric_in_logs(value: float, expected: str) -> None:
    assert status(value, FilterInputs(GOOD_PRICE)) == expected


@pytest.mark.parametrize("hours", [0.1, 23.0, 30.0, 24.0 * 400])
def test_no_gap_opens_the_hard_band(hours: float) -> None:
    context = FilterInputs(TimedPrice(NOW - int(hours * HOUR), 100.0))
    assert status(1e-15, context) == status(501.0, context) == "rejected"
    # The soft band widens with the root of the hours, for a day at most.
    band = 0.25 * math.sqrt(min(24.0, max(1.0, hours)))
    assert status(100.0 * math.exp(band - 1e-9), context) == "good"
    assert status(100.0 * math.exp(band + 1e-9), context) == "suspect"


def test_price_without_any_reference_is_good() -> None:
    assert status(1e-15, FilterInputs(None)) == "good"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, "good"), (0.96, "good"), (0.9, "suspect"), (1.1, "suspect"), (1e-15, "rejected")],
)
def test_cash_asset_has_a_tight_band_however_long_ago_its_price_was(
    value: float, expected: str
) -> None:
    assert status(value, FilterInputs(TimedPrice(0, 1.0), kind="cash")) == expected


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([65.0], "good"),
        ([71.0], "good"),
        ([73.0], "suspect"),
        ([100.0], "suspect"),
        ([65.0, 100.0], "good"),
        ([100.0, 40.0], "suspect"),  # the median, and nothing near it
        ([65.0, 100.0, 100.0], "suspect"),
        ([65.0, 66.0, 100.0], "good"),
    ],
)
def test_majority_of_the_sources_confirms(sources: list[float], expected: str) -> None:
    near = [TimedPrice(NOW, value) for value in sources]
    assert status(65.0, FilterInputs(GOOD_PRICE, sources=near)) == expected


def test_sources_that_agree_beyond_the_hard_band_do_not_open_it() -> None:
    near = [TimedPrice(NOW, 1e-15), TimedPrice(NOW, 1e-15)]
    assert status(1e-15, FilterInputs(GOOD_PRICE, sources=near)) == "rejected"


@pytest.mark.parametrize(
    ("value", "after", "expected"),
    [
        (66.0, CONFIRMATION, "good"),
        (66.0, CONFIRMATION - 1, "suspect"),
        (65.0, CONFIRMATION, "suspect"),  # the echo of a stuck feed
        (140.0, CONFIRMATION, "suspect"),  # the other side
        (15.0, CONFIRMATION, "good"),  # within the hard band of the one that waits
        (12.9, CONFIRMATION, "rejected"),
    ],
)
def test_next_quote_on_the_same_side_confirms_after_a_time(
    value: float, after: int, expected: str
) -> None:
    held = TimedPrice(NOW, 65.0)
    context = FilterInputs(GOOD_PRICE, held, NOW)
    assert status(value, context, NOW + after) == expected


def test_run_of_suspect_quotes_counts_from_its_first() -> None:
    context = FilterInputs(GOOD_PRICE, TimedPrice(NOW + MINUTE, 64.0), NOW)
    verdict = filter_quote(TimedPrice(NOW + 2 * MINUTE, 63.0), context, OUTLIER_FILTER)
    assert (verdict.status, verdict.since) == ("suspect", NOW)
    turned = filter_quote(TimedPrice(NOW + 2 * MINUTE, 150.0), context, OUTLIER_FILTER)
    assert (turned.status, turned.since) == ("suspect", NOW + 2 * MINUTE)


def test_verdict_says_how_far_from_what() -> None:
    detail = filter_quote(TimedPrice(NOW, 65.0), FilterInputs(GOOD_PRICE), OUTLIER_FILTER).detail
    assert "-35.0%" in detail
    assert "100 of 1970-02-11T15:59:00Z" in detail


@given(
    value=st.floats(1e-15, 1e12),
    reference=st.floats(1e-9, 1e9),
    sources=st.lists(st.floats(1e-15, 1e12), max_size=3),
    factor=st.floats(1e-2, 1e2),
)
def test_verdict_does_not_depend_on_the_unit_of_account(
    value: float, reference: float, sources: list[float], factor: float
) -> None:
    def verdict(unit: float) -> str:
        near = [TimedPrice(NOW, source * unit) for source in sources]
        context = FilterInputs(TimedPrice(NOW, reference * unit), sources=near)
        return status(value * unit, context)

    limits = (math.log(5), 0.25, 0.1)
    distances = [abs(math.log(value / other)) for other in (reference, *sources)]
    if all(abs(d - limit) > 1e-9 for d in distances for limit in limits):
        assert verdict(1.0) == verdict(factor)
