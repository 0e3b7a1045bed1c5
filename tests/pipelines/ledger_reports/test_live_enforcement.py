"""Reports on calls that a monitor really made: every field is found under its recorded name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from enforcement.record.live_enforcement import LiveEnforcement
from enforcement.record.rows import read_open_calls
from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.core.clock import format_time
from pipelines.ledger_reports.kinds import make_report
from pipelines.ledger_reports.request import ReportRequest, Span
from tests.endpoint_fixtures import Bundles, SmallMarket
from tests.enforcement.calls.test_live_commands import command
from tests.monitoring.evaluation.helpers import Watched, deltas, snapshot, watched

FIRST = 230


@pytest.fixture
def called(
    market: SmallMarket, ruleset: RuleSet, bundles: Bundles, ledger: Ledger
) -> tuple[Watched, Span]:
    """An account that met its call by a deposit, one that was not able to."""
    w = watched(market, ruleset, bundles, ledger, FIRST, LiveEnforcement(ledger))
    start = w.market.live.state.newest_close
    assert start is not None
    w.update(snapshot("met", 1, 1_000.0, BTC=0.5), snapshot("missed", 1, 1_000.0, BTC=0.5))
    w.settle()
    missing = {call.account_id: call.outstanding for call in read_open_calls(ledger)}
    amount = round(missing["met"] + 0.005, 2)
    deposit = {"kind": "deposit", "asset": "USD", "amount": amount}
    w.update(deltas("met", 2, deposit) | {"ts": format_time(start)})
    w.settle()
    for row in range(FIRST, FIRST + 26):
        w.bars(row)
        w.settle()
    end = w.market.live.state.newest_close
    assert end is not None
    return w, Span(start - 1, end)


def test_a_call_from_its_opening_to_its_end(called: tuple[Watched, Span], ledger: Ledger) -> None:
    _, span = called
    plain = make_report(ledger, "calls", ReportRequest(span)).to_dict()["tables"]
    calls = {row["account_id"]: row for row in plain["calls"]}
    recorded = [r for r in ledger.records("call") if r.account_id == "met"]
    first = calls["met"]["call_id"]
    events = [r.payload["event"] for r in recorded if r.payload["call_id"] == first]
    assert events[0] == "opened"
    assert calls["met"]["events"] == len(events)
    missed = next(r for r in ledger.records("call") if r.payload["event"] == "deadline_missed")
    due = next(
        r.payload["deadline"]
        for r in ledger.records("call")
        if r.payload["call_id"] == missed.payload["call_id"] and r.payload["event"] == "opened"
    )
    assert calls["missed"]["missed_at"] == calls["missed"]["deadline"] == due
    assert sum(row["past_deadline"] for row in plain["ageing"]) >= 1
    figures = {row["figure"]: row["value"] for row in plain["summary"]}
    assert figures["opened"] == len({r.payload["call_id"] for r in ledger.records("call")})
    assert figures["missed_deadline"] >= 1
    notice = make_report(ledger, "call-notice", ReportRequest(span, None, first)).to_dict()
    named = {row["figure"]: row for row in notice["tables"]["figures"]}
    assert named["maintenance_margin"]["when_opened"] > 0.0
    assert [row["event"] for row in notice["tables"]["events"]] == events


def test_the_statement_and_the_overrides_of_a_live_book(
    called: tuple[Watched, Span], ledger: Ledger
) -> None:
    _, span = called
    found = make_report(ledger, "client-statement", ReportRequest(span, "met")).to_dict()["tables"]
    # No book was evaluated before the span: the snapshot that made the account is in it.
    assert [row["kind"] for row in found["movements"]] == ["snapshot (applied)", "deposit"]
    assert found["calls"]
    assert make_report(ledger, "overrides", ReportRequest(span)).to_dict()["rows_controls"] == 0


def test_a_dispute_that_a_stop_out_ended_is_over(
    called: tuple[Watched, Span], ledger: Ledger
) -> None:
    w, span = called
    w.update(snapshot("contested", 1, 1_000.0, BTC=0.5))
    w.settle()
    (call,) = (one for one in read_open_calls(ledger) if one.account_id == "contested")
    command(w, "dispute", call_id=call.call_id, reason="price")
    w.update(snapshot("contested", 2, 100.0, BTC=0.5))
    w.settle()
    end = w.market.live.state.newest_known
    assert end is not None
    found = make_report(ledger, "overrides", ReportRequest(Span(span.start, end))).to_dict()
    (dispute,) = found["tables"]["disputes"]
    assert (dispute["outcome"], dispute["hours"]) == ("stop_out", 0.0)


def test_the_first_model_of_a_book_changes_nothing(
    champion: str, called: tuple[Watched, Span], ledger: Ledger
) -> None:
    _, span = called
    assert {r.payload["model"] for r in ledger.records("evaluation")} == {None, champion}
    found = make_report(ledger, "change-events", ReportRequest(span)).to_dict()["tables"]
    assert found["changes"] == []


def test_a_position_without_volume_is_named_as_the_slowest(
    called: tuple[Watched, Span], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, span = called

    def without_volume(self: MarketSnapshot) -> MarketView:
        view = plain(self)
        return replace(view, adv=np.where(np.array(view.symbols) == "BTCUSDT", 0.0, view.adv))

    plain = MarketSnapshot.view
    monkeypatch.setattr(MarketSnapshot, "view", without_volume)
    found = make_report(ledger, "concentration", ReportRequest(span)).to_dict()["tables"]
    for row in found["by_account"]:
        assert (row["slowest_instrument"], row["days_to_close"]) == ("BTCUSDT-PERP", None)
    (coin,) = found["by_underlying"]
    assert (coin["average_daily_volume"], coin["days_to_close_net"]) == (0.0, None)
