"""The market as it is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from features.registry import ADV, WARM_UP_HOURS
from features.state.market_state import MarketFeatures
from features.state.snapshot import RULE_COLUMNS, MarketSnapshot
from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, INTERVALS
from market.core.errors import DataError
from market.quotes.quotes import InstrumentQuote, QuoteBoard

Floats = npt.NDArray[np.float64]
SameBits = Callable[[Floats, Floats], bool]
Market = tuple[MarketHistory, MarketFeatures]
ROWS = ("closes", "values", "correlation", "fast_correlation", "age", "history", "bar_hours")
"""Fields of the features with one entry a row."""


@pytest.fixture(scope="module")
def market(hazard_panel: BarPanel, advance: Callable[[BarPanel], MarketFeatures]) -> Market:
    return MarketHistory.from_panel(hazard_panel), advance(hazard_panel)


def at(market: Market, row: int, later: int = 0) -> MarketSnapshot:
    history, features = market
    return MarketSnapshot.of_history(history, features, int(features.closes[row]) + later)


@pytest.mark.parametrize("row", [10, 262, 430, -1])
def test_content_survives_json_to_the_last_bit(
    market: Market, same_bits: SameBits, row: int
) -> None:
    snapshot = at(market, row, later=1234567)
    text = json.dumps(snapshot.content(), allow_nan=False)
    read = MarketSnapshot.from_content(json.loads(text), snapshot.as_of)
    assert json.dumps(read.content(), allow_nan=False) == text
    assert (read.as_of, read.interval) == (snapshot.as_of, snapshot.interval)
    assert read.features.symbols == snapshot.features.symbols
    np.testing.assert_array_equal(read.features.closes, snapshot.features.closes)
    assert same_bits(read.mark, snapshot.mark)
    for name in ("values", "correlation", "age", "history"):
        assert same_bits(getattr(read.features, name), getattr(snapshot.features, name))


def test_quotes_and_the_age_limit_of_marks_reach_the_view_and_the_record(market: Market) -> None:
    history, features = market
    as_of = int(features.closes[430])
    quotes = QuoteBoard({}, {"USDT": InstrumentQuote(as_of, mark=0.99)})
    snapshot = MarketSnapshot.of_history(history, features, as_of, quotes, HOUR // 2)
    assert snapshot.view().quotes is quotes
    assert snapshot.view().mark_max_age_hours == 0.5
    content = json.loads(json.dumps(snapshot.content()))
    assert MarketSnapshot.from_content(content, as_of).view().mark_max_age_hours == 0.5
    assert at(market, 430).view().mark_max_age_hours is None


def test_later_as_of_only_ages_the_market(market: Market, same_bits: SameBits) -> None:
    now, later = at(market, -1), at(market, -1, later=90 * HOUR // 60)
    np.testing.assert_allclose(later.features.age, now.features.age + 1.5, rtol=1e-12)
    np.testing.assert_allclose(later.features.history, now.features.history + 1.5, rtol=1e-12)
    assert same_bits(later.features.values, now.features.values)
    assert same_bits(later.mark, now.mark)


@given(later=st.integers(0, 400 * HOUR), row=st.sampled_from([262, 430, -1]))
def test_a_snapshot_moved_in_time_is_the_one_made_at_that_time_to_the_last_bit(
    market: Market, same_bits: SameBits, later: int, row: int
) -> None:
    # Later than the next close `of_history` takes another row: it is cut off there.
    history, features = market
    close = int(features.closes[row])
    rows: dict[str, Any] = {name: getattr(features, name)[: row + 1 or None] for name in ROWS}
    features = replace(features, **rows)
    made = MarketSnapshot.of_history(history, features, close + later)
    moved = MarketSnapshot.of_history(history, features, close).at(close + later, None)
    read = MarketSnapshot.from_content(json.loads(json.dumps(moved.content())), close + later, None)
    expected = features.at(-1, close + later)
    for snapshot in (made, moved, read):
        assert snapshot.as_of == close + later
        for name in ("age", "history", "values"):
            assert same_bits(getattr(snapshot.features, name), getattr(expected, name))
        assert same_bits(snapshot.view().age_hours, expected.age[0])


def test_what_is_recorded_of_a_market_does_not_depend_on_the_decision_time(
    market: Market,
) -> None:
    texts = {json.dumps(at(market, -1, later).content()) for later in (0, 1, 1_234_567, 9 * HOUR)}
    assert len(texts) == 1
    snapshot = at(market, -1)
    moved = [snapshot.at(snapshot.as_of + later, None) for later in range(3)]
    assert len({tuple(map(id, snapshot.recorded_parts)) for snapshot in moved}) == 1


def test_a_time_before_the_close_is_refused(market: Market) -> None:
    snapshot = at(market, 300)
    with pytest.raises(DataError, match="not before its close"):
        snapshot.at(snapshot.as_of - 1, None)


def test_the_age_of_a_mark_counts_from_its_own_close(market: Market, same_bits: SameBits) -> None:
    snapshot = at(market, 430, later=1_234_567)
    closes = np.zeros(len(snapshot.mark), dtype=np.int64)
    closes[0] = snapshot.as_of - HOUR // 7
    snapshot = replace(snapshot, mark_close=closes)
    expected = snapshot.features.age[0].copy()
    expected[0] = (HOUR // 7) / HOUR
    read = MarketSnapshot.from_content(json.loads(json.dumps(snapshot.content())), snapshot.as_of)
    assert same_bits(snapshot.view().age_hours, expected)
    assert same_bits(read.view().age_hours, expected)


def test_a_market_recorded_with_its_decision_time_is_read_as_of_that_time_to_the_last_bit(
    market: Market, same_bits: SameBits
) -> None:
    snapshot = at(market, 430, later=1_234_567)
    age = snapshot.features.age[0]
    earlier = snapshot.content() | {
        "as_of": snapshot.as_of,
        "age": _plain(age),
        "history": _plain(snapshot.features.history[0]),
        "mark_age": _plain(age / 3.0),
    }
    read = MarketSnapshot.from_content(json.loads(json.dumps(earlier)), snapshot.as_of)
    assert read.as_of == snapshot.as_of
    assert same_bits(read.features.age, snapshot.features.age)
    assert same_bits(read.features.history, snapshot.features.history)
    assert same_bits(read.view().age_hours, age / 3.0)
    assert read.content() == earlier


def _plain(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def test_snapshot_holds_nothing_after_the_decision_time(market: Market) -> None:
    features = market[1]
    just_before = at(market, 300, later=-1)
    assert just_before.features.closes.tolist() == [features.closes[299]]
    assert at(market, 300).features.closes.tolist() == [features.closes[300]]


def test_symbol_without_new_bars_keeps_its_last_price(market: Market) -> None:
    history, features = market
    silent = np.where(np.arange(len(history.mark))[:, None] > 300, np.nan, history.mark)
    snapshot = MarketSnapshot.of_history(
        replace(history, mark=silent), features, int(features.closes[400])
    )
    known = MarketSnapshot.of_history(history, features, int(features.closes[300]))
    np.testing.assert_array_equal(snapshot.mark, known.mark)


def test_time_before_any_close_is_refused(market: Market) -> None:
    history, features = market
    with pytest.raises(DataError, match="later"):
        MarketSnapshot.of_history(history, features, int(features.closes[0]) - 1)


def test_two_intervals_of_age_are_usable_and_more_are_stale(market: Market) -> None:
    symbols = market[1].symbols
    full = symbols.index("FULL")
    assert at(market, -1, later=2 * HOUR).usable()[full]
    assert not at(market, -1, later=2 * HOUR + 1_000_000).usable()[full]


def test_warm_up_is_unusable_to_the_hour(market: Market) -> None:
    full = market[1].symbols.index("FULL")
    assert not at(market, WARM_UP_HOURS - 2).usable()[full]
    # One return more than bars are needed by the longest window, so the hour may be the next.
    assert at(market, WARM_UP_HOURS).usable()[full]


def test_dead_and_never_traded_symbols_are_unusable(market: Market) -> None:
    snapshot = at(market, -1)
    usable = dict(zip(snapshot.features.symbols, snapshot.usable().tolist(), strict=True))
    assert not usable["DEATH"]
    assert not usable["NEVER"]
    assert usable["FULL"]


def test_symbol_without_a_mark_is_unusable(market: Market) -> None:
    snapshot = at(market, -1)
    assert not replace(snapshot, mark=np.full_like(snapshot.mark, np.nan)).usable().any()


def test_view_equals_the_snapshot(market: Market, same_bits: SameBits) -> None:
    snapshot = at(market, 430, later=HOUR)
    view = snapshot.view()
    assert view.as_of == snapshot.as_of
    assert view.interval_hours == 1.0 / INTERVALS["1h"].per_hour
    assert same_bits(view.age_hours, snapshot.features.age[0])
    assert same_bits(view.mark, snapshot.mark)


def test_volatility_ratio_is_nan_in_warm_up_only(market: Market) -> None:
    assert np.isnan(at(market, 3).volatility_ratio())
    assert at(market, -1).volatility_ratio() > 0.0


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """The content as a version without some columns would have recorded it."""
    kept = [f for f, name in enumerate(content["columns"]) if name not in names]
    values = [[row[f] for f in kept] for row in content["values"]]
    return content | {"columns": [content["columns"][f] for f in kept], "values": values}


def test_columns_are_read_by_name_whatever_their_order_and_number(
    market: Market, same_bits: SameBits
) -> None:
    snapshot = at(market, -1)
    content = snapshot.content()
    turned = content | {
        "columns": ["older_feature", *content["columns"][::-1]],
        "values": [[1.0, *row[::-1]] for row in content["values"]],
    }
    read = MarketSnapshot.from_content(json.loads(json.dumps(turned)), snapshot.as_of)
    assert same_bits(read.features.values, snapshot.features.values)


def test_a_market_recorded_before_a_column_existed_is_read_without_it(
    market: Market, same_bits: SameBits
) -> None:
    snapshot = at(market, -1)
    content = without(snapshot.content(), "ewma_volatility_3h")
    read = MarketSnapshot.from_content(content, snapshot.as_of)
    assert np.isnan(read.features.column("ewma_volatility_3h")).all()
    assert read.features.missing_columns == ("ewma_volatility_3h",)
    assert same_bits(read.features.column(ADV), snapshot.features.column(ADV))
    np.testing.assert_array_equal(read.usable(), snapshot.usable())
    assert read.content() == without(snapshot.content(), "ewma_volatility_3h")
    read.check_columns(["book_return"])
    with pytest.raises(DataError, match="without ewma_volatility_3h, which the model needs"):
        read.check_columns(["book_return", "distance_ewma_volatility_3h"])


@pytest.mark.parametrize("name", sorted(RULE_COLUMNS))
def test_a_market_without_a_column_that_rules_read_is_refused_by_name(
    market: Market, name: str
) -> None:
    content = without(at(market, -1).content(), name)
    with pytest.raises(DataError, match=f"without {name}, which the rules need"):
        MarketSnapshot.from_content(content, 0)
