"""What a final request closes, and how a correction of an older step counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ledger.records import Entry
from ledger.store import Ledger
from market.bars.panel import CLOSE, VOLUME
from market.core.clock import HOUR, format_time
from monitoring.market_state import steps as live_steps
from monitoring.market_state.bar_updates import Correction
from tests.monitoring.market_helpers import (
    START,
    assert_equals_batch,
    assert_same_market,
    at,
    column,
    post,
    statuses,
)

ADMIN = Correction("admin")


def test_final_request_counts_and_closes_its_steps_and_those_before(market: Any) -> None:
    live = market.head(START).live()
    first = post(live, [market.bar(START + 1, 0)], final=True)
    assert first.as_of == format_time(at(market, START + 1))
    late = [market.bar(START, 0), market.bar(START + 1, 1)]
    response = post(live, late)
    assert statuses(response) == ["late", "late"]
    assert '"correct": true' in str(response.results[0].detail)
    values = market.panel.values[: START + 2].copy()
    values[START:] = np.nan
    values[START + 1, 0] = market.panel.values[START + 1, 0]
    assert_equals_batch(live, market, values)


def test_final_request_with_known_bars_only_counts_and_is_recorded(
    market: Any, ledger: Ledger
) -> None:
    live, restarted = market.head(START).live(), market.head(START).live()

    def record(entry: Entry) -> None:
        ledger.append([entry])

    post(live, [market.bar(START, 0)], record=record)
    response = post(live, [market.bar(START, 0)], final=True, record=record)
    assert statuses(response) == ["duplicate"]
    assert live.newest_close == at(market, START)
    restarted.recover(ledger)
    assert_same_market(live, restarted)


def test_bar_of_an_older_step_is_not_replaced_without_a_correction(market: Any) -> None:
    live = market.head(START).live()
    post(live, market.bars(range(START, START + 2)))
    other = market.bar(START, 0) | {"volume": 1.0}
    assert statuses(post(live, [other])) == ["late"]
    assert_equals_batch(live, market, market.panel.values[: START + 2])


def test_correction_counts_from_the_next_step_as_in_the_batch(market: Any, ledger: Ledger) -> None:
    live, restarted = market.head(START).live(), market.head(START).live()

    def record(entry: Entry) -> None:
        ledger.append([entry])

    post(live, market.bars(range(START, START + 3)), final=True, record=record)
    decided = live.snapshot(at(market, START + 2)).content()
    changed = market.bar(START, 0)
    changed |= {"close": changed["low"], "volume": 5.0}
    newest = market.bar(START + 2, 1) | {"volume": 7.0}
    response = post(live, [changed, newest], correction=ADMIN, record=record)
    assert statuses(response) == ["corrected", "corrected"]
    assert "from the next step" in str(response.results[0].detail)
    assert live.snapshot(at(market, START + 2)).content() == decided
    assert statuses(post(live, [changed], correction=ADMIN, record=record)) == ["duplicate"]
    restarted.recover(ledger)
    assert_same_market(live, restarted)
    for each in (live, restarted):
        post(each, market.bars(range(START + 3, START + 4)), record=record)
        values = market.panel.values[: START + 4].copy()
        values[START, 0, CLOSE] = changed["close"]
        values[START, 0, VOLUME] = 5.0
        values[START + 2, 1, VOLUME] = 7.0
        assert_equals_batch(each, market, values)
    records = list(ledger.records("bars"))
    assert records[1].payload["correction"] == {"author": "admin"}
    reasons = [step["reason"] for step in records[2].payload["steps"]]
    assert reasons == ["correction", "correction", "quorum"]


def test_correction_brings_a_bar_that_a_final_step_lacks_and_its_mark(market: Any) -> None:
    live = market.head(START).live()
    post(live, market.bars(range(START, START + 1))[1:], final=True)
    mark = live.state.mark[0]
    bar = market.bar(START, 0)
    assert statuses(post(live, [bar])) == ["late"]
    assert statuses(post(live, [bar], correction=ADMIN)) == ["corrected"]
    assert live.state.mark[0] == mark
    post(live, market.bars(range(START + 1, START + 2))[1:])
    assert live.state.mark[0] == bar["close"]


def test_correction_older_than_the_kept_steps_stays_late_with_advice(market: Any) -> None:
    live = market.head(START).live()
    response = post(live, [market.bar(START - 1, 0) | {"volume": 1.0}], correction=ADMIN)
    assert statuses(response) == ["late"]
    assert "bar files" in str(response.results[0].detail)
    assert live.state.corrections == {}


def test_kept_steps_are_bounded_and_older_ones_are_late(
    market: Any, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    kept = 4
    monkeypatch.setattr(live_steps, "KEPT_STEPS", kept)
    live, restarted = market.head(START - 20).live(), market.head(START - 20).live()
    lacking, present = 3, slice(0, 3)
    for row in range(START - 20, START + 20):
        post(
            live,
            market.bars(range(row, row + 1))[present],
            record=lambda entry: ledger.append([entry]),
        )
        assert len(live.state.steps) <= 2 * kept
        assert len(live.state.checkpoints) <= 2
        if row >= START:
            oldest, newest = live.state.oldest_kept, live.state.head.last_open
            assert oldest is not None
            assert newest is not None
            assert kept <= (newest - oldest) // HOUR < 2 * kept
    values = market.panel.values[: START + 20].copy()
    values[START - 20 :, lacking] = np.nan
    assert_equals_batch(live, market, values)
    recovered = range(START + 20 - kept, START + 20)
    assert statuses(post(live, column(market, recovered, lacking))) == ["applied"] * kept
    values[recovered.start :, lacking] = market.panel.values[recovered.start : START + 20, lacking]
    assert_equals_batch(live, market, values)
    assert statuses(post(live, [market.bar(START, lacking)])) == ["late"]
    restarted.recover(ledger)
    post(restarted, column(market, recovered, lacking))
    post(restarted, [market.bar(START, lacking)])
    assert_same_market(live, restarted)
