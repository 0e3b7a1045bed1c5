"""Bars that the outlier filter suspects, and the quoted marks that confirm them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ledger.records import Entry
from market.core.clock import HOUR, MINUTE, SECOND
from tests.monitoring.quote_helpers import (
    BTC,
    PERP,
    bar,
    close_of,
    mark,
    post_bars,
    post_quotes,
    price_of,
    quote_of,
    start,
    statuses,
)


@pytest.mark.parametrize("minutes", [(1, 2), (30, 58)])
def test_bar_that_two_live_marks_agree_with_is_applied(
    market: Any, minutes: tuple[int, int]
) -> None:
    """Two agreeing marks 35% lower, then the bar: the crash counts at once."""
    live = start(market)
    at, price = close_of(live), 0.65 * price_of(live)
    for name, minute in zip((BTC, PERP), minutes, strict=True):
        post_quotes(live, [mark(name, price, at + minute * MINUTE)])
    assert statuses(post_bars(live, [bar(live, price * 0.99)])) == ["applied"]
    assert price_of(live) == price * 0.99
    assert not live.state.suspect.any()


def test_one_live_mark_and_the_bar_confirm_each_other(market: Any) -> None:
    live = start(market)
    entries: list[Entry] = []
    at, price = close_of(live), 0.65 * price_of(live)
    assert statuses(post_quotes(live, [mark(PERP, price, at + MINUTE)])) == ["suspect"]
    assert statuses(post_bars(live, [bar(live, price)], record=entries.append)) == ["applied"]
    assert quote_of(live, PERP).mark == price
    (entry,) = entries
    assert entry.payload["confirmed"] == [[PERP, "mark", at + MINUTE, price, at + HOUR]]


@pytest.mark.parametrize("marks_first", [True, False])
def test_bar_of_a_step_that_waits_for_a_quorum_is_confirmed_by_marks(
    market: Any, marks_first: bool
) -> None:
    live = start(market, quorum=0.5)
    at, before = close_of(live), price_of(live)
    price, close = 0.65 * before, at + HOUR
    marks = [mark(name, 1.01 * price, close + MINUTE) for name in (BTC, PERP)]
    if marks_first:
        post_quotes(live, marks)
    status = statuses(post_bars(live, [bar(live, price)]))
    assert status == ["applied" if marks_first else "suspect"]
    if not marks_first:
        waiting = live.snapshot(close)
        assert waiting.suspect_mark is not None
        assert waiting.mark[0] == before
        assert waiting.suspect_mark[0] == price
        assert [name for name, *_ in live.state.suspect_prices] == [f"bar of {BTC}"]
        details = str(post_quotes(live, marks).results)
        assert f"confirms the bar of {BTC}" in details
    found = live.snapshot(close + HOUR)
    assert found.mark[0] == price
    assert found.suspect_mark is None
    assert close_of(live) == at  # the step of the others still waits


@pytest.mark.parametrize("minute", [0, 61, 119])
def test_later_mark_releases_a_suspect_bar(market: Any, minute: int) -> None:
    live = start(market)
    before, at = price_of(live), close_of(live)
    price = 0.65 * before
    assert statuses(post_bars(live, [bar(live, price)])) == ["suspect"]
    assert price_of(live) == before
    snapshot = live.snapshot(at + HOUR)
    assert snapshot.suspect_mark is not None
    assert snapshot.suspect_ts is not None
    assert (snapshot.suspect_mark[0], snapshot.suspect_ts[0]) == (price, at + HOUR)
    assert np.isnan(snapshot.suspect_mark[1:]).all()
    response = post_quotes(live, [mark(PERP, 1.01 * price, at + HOUR + minute * MINUTE)])
    assert statuses(response) == ["applied"]
    assert f"confirms the bar of {BTC}" in str(response.results[0].detail)
    assert price_of(live) == price
    assert live.snapshot(close_of(live) + 2 * HOUR).suspect_mark is None
    # The same as if the mark had come first.
    other = start(market)
    post_quotes(other, [mark(PERP, 1.01 * price, at + HOUR)])
    assert statuses(post_bars(other, [bar(other, price)])) == ["applied"]
    for name, array in other.state.head.arrays.items():
        assert array.tobytes() == live.state.head.arrays[name].tobytes(), name


def test_mark_too_far_from_the_bar_in_time_releases_nothing(market: Any) -> None:
    live = start(market)
    at, price = close_of(live), 0.6 * price_of(live)
    post_bars(live, [bar(live, price)])
    late = mark(PERP, price, at + 3 * HOUR + SECOND)
    assert statuses(post_quotes(live, [late])) == ["suspect"]
    assert live.state.suspect[0]


def test_confirmed_bar_stays_so_when_marks_recover(market: Any) -> None:
    live = start(market)
    at, before = close_of(live), price_of(live)
    post_quotes(live, [mark(PERP, 0.65 * before, at + 59 * MINUTE)])
    post_bars(live, [bar(live, 0.65 * before)])
    back = [mark(name, before, at + 65 * MINUTE) for name in (BTC, PERP)]
    assert statuses(post_quotes(live, back)) == ["applied", "applied"]
    # Another symbol's bar of the step replays it.
    assert statuses(post_bars(live, [bar(live, price_of(live, 1), 0, "ETHUSDT")])) == ["applied"]
    assert price_of(live) == 0.65 * before
    assert not live.state.suspect.any()


def test_marks_do_not_carry_a_bar_beyond_the_hard_band(market: Any) -> None:
    live = start(market)
    entries: list[Entry] = []
    at, before = close_of(live), price_of(live)
    for i, name in enumerate((BTC, PERP)):
        post_quotes(live, [mark(name, before / 4.9, at + i * MINUTE)])
    assert quote_of(live, BTC).mark == before / 4.9
    response = post_bars(live, [bar(live, before / 5.1)], record=entries.append)
    assert statuses(response) == ["rejected"]
    assert "hard band" in str(response.results[0].detail)
    assert price_of(live) == before
    assert entries[0].payload["results"][0]["status"] == "rejected"
    assert statuses(post_bars(live, [bar(live, before / 5.1, 0)])) == ["duplicate"]
