"""Figures of single kinds against what the ledger holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from ledger.verify import verify
from market.core.errors import DataError
from pipelines.ledger_reports.concentration import herfindahl, largest_share
from pipelines.ledger_reports.coverage import traffic_light
from pipelines.ledger_reports.formats.document import Report
from pipelines.ledger_reports.formats.html import html_page
from pipelines.ledger_reports.formats.tabular import METADATA
from pipelines.ledger_reports.formats.write import write_report
from pipelines.ledger_reports.kinds import make_report
from pipelines.ledger_reports.procyclicality import max_increase, peak_to_trough
from pipelines.ledger_reports.request import ReportRequest, Span
from tests.pipelines.ledger_reports.helpers import RecordedDays

HOUR = 3600 * 10**9


def tables(days: RecordedDays, kind: str, **request: Any) -> dict[str, list[dict[str, Any]]]:
    plain = make_report(days.ledger, kind, ReportRequest(**{"span": days.span, **request}))
    found: dict[str, list[dict[str, Any]]] = plain.to_dict()["tables"]
    return found


def test_calls_their_cures_and_the_age_of_the_open_one(days: RecordedDays) -> None:
    early = Span(days.span.start, days.span.start + 20 * HOUR)
    found = tables(days, "calls", span=early)
    met, disputed = found["calls"]
    assert (met["event"], met["age_hours"], met["cured"]) == ("met", 3.0, 200.0)
    assert met["cured_by"] == "deposit 120.00, price_move 80.00"
    assert (disputed["event"], disputed["outstanding"], disputed["ended_at"]) == (
        "disputed",
        500.0,
        None,
    )
    assert disputed["age_hours"] == pytest.approx(17.0)
    figures = {row["figure"]: row["value"] for row in found["summary"]}
    assert (figures["opened"], figures["met"], figures["open_at_end"]) == (2, 1, 1)
    assert figures["largest_call"] == 500.0
    (aged,) = [row for row in found["ageing"] if row["calls"]]
    assert (aged["age"], aged["outstanding"], aged["past_deadline"]) == ("up to 24 h", 500.0, 1)
    assert found["default_resources"] == []
    whole = tables(days, "calls")
    assert [row["uncovered"] for row in whole["default_resources"]] == [0.0]
    assert {row["figure"]: row["value"] for row in whole["summary"]}["missed_deadline"] == 1
    assert [r["account_id"] for r in tables(days, "calls", account="client-03")["calls"]] == [
        "client-03"
    ]


def test_overrides_with_both_keys_and_disputes_with_their_end(days: RecordedDays) -> None:
    found = tables(days, "overrides")
    (override,) = found["overrides"]
    assert (override["requester"], override["approver"], override["state"]) == (
        "key-1",
        "key-2",
        "active",
    )
    assert [row["result"] for row in found["controls"]] == ["pending", "applied", "refused"]
    assert found["controls"][2]["refused"] == "no such market"
    (dispute,) = found["disputes"]
    assert (dispute["reason"], dispute["amount"], dispute["by"]) == ("price", 120.0, "key-3")
    assert (dispute["outcome"], dispute["hours"]) == ("dispute_expired", 24.0)


def test_the_change_of_rules_is_an_event_and_isolates_it_from_the_market(
    days: RecordedDays,
) -> None:
    found = tables(days, "change-events")
    (event,) = found["changes"]
    assert event["changed"] == "rules"
    assert event["ruleset_before"] != event["ruleset_after"]
    assert event["model_before"] == event["model_after"]
    assert event["change"] == pytest.approx(
        event["requirement_after"] - event["requirement_before"]
    )
    # Maintenance margin is the same on both sides: only the add-on moved.
    assert event["change"] == pytest.approx(event["add_on_after"] - event["add_on_before"])
    assert abs(event["relative_change"]) > 0.01
    assert event["accounts_up"] + event["accounts_down"] > 0
    assert sum(row["change"] for row in found["accounts"]) == pytest.approx(event["change"])
    quiet = Span(days.span.start, days.span.start + 20 * HOUR)
    assert tables(days, "change-events", span=quiet)["changes"] == []


def test_coverage_counts_falls_beyond_the_recorded_levels(days: RecordedDays) -> None:
    found = tables(days, "coverage")
    by_day, tests = found["by_day"], found["tests"]
    assert len(by_day) == 2 * 2
    for measure in ("add_on", "total_requirement"):
        mine = [row for row in by_day if row["measure"] == measure]
        pooled, book = [row for row in tests if row["measure"] == measure]
        assert pooled["observations"] == sum(row["accounts"] for row in mine)
        assert pooled["exceedances"] == sum(row["exceedances"] for row in mine)
        assert book["observations"] == len(mine)
        assert book["exceedances"] == sum(row["worst_fall"] > row["level"] for row in mine)
        accounts = [row for row in found["by_account"] if row["measure"] == measure]
        assert sum(row["exceedances"] for row in accounts) == pooled["exceedances"]
    assert any(row["worst_fall"] > 0.0 for row in by_day)


def test_the_zones_of_the_traffic_light_are_those_of_250_days() -> None:
    zones = [traffic_light(count, 250) for count in range(12)]
    assert zones == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2
    assert binom.cdf(4, 250, 0.01) < 0.95 < binom.cdf(5, 250, 0.01)


def test_measures_of_procyclicality_and_concentration() -> None:
    values = np.array([100.0, 80.0, 120.0, 90.0])
    assert peak_to_trough(values) == 1.5
    ends = [day * 24 * HOUR for day in (1, 2, 3, 4)]
    assert max_increase(values, ends, 1) == 0.5
    assert max_increase(values, ends, 5) is None
    # The third day is missing: the rise from 80 to 120 took two days.
    gap = [day * 24 * HOUR for day in (1, 2, 4, 5)]
    assert max_increase(values, gap, 1) == pytest.approx(-0.2)
    assert max_increase(values, gap, 2) == 0.5
    assert herfindahl(np.array([1.0, 1.0, 2.0])) == 0.375
    assert largest_share(np.array([1.0, 1.0, 2.0]), 1) == 0.5
    assert herfindahl(np.zeros(2)) is None


def test_procyclicality_shows_days_with_an_evaluation_in_the_span_alone(
    days: RecordedDays,
) -> None:
    end = days.span.end
    late = Span(end, end + 144 * HOUR)
    with pytest.raises(DataError, match="was not evaluated after"):
        make_report(days.ledger, "procyclicality", ReportRequest(late))
    inside = tables(days, "procyclicality")["daily"]
    longer = tables(days, "procyclicality", span=Span(days.span.start, late.end))["daily"]
    assert longer == inside
    after = tables(days, "procyclicality", span=Span(end - HOUR, late.end))["daily"]
    assert [row["day_end"] for row in after] == [inside[-1]["day_end"]]


def test_the_concentration_of_the_book(days: RecordedDays) -> None:
    found = tables(days, "concentration")
    for row in found["by_underlying"]:
        assert row["long_notional"] - row["short_notional"] == pytest.approx(row["net_notional"])
        expected = abs(row["net_notional"]) / (0.1 * row["average_daily_volume"])
        assert row["days_to_close_net"] == pytest.approx(expected)
    shares = {row["figure"]: row for row in found["shares"]}
    assert shares["initial_margin"]["largest_10_share"] <= 1.0
    assert 1.0 / 11 <= shares["initial_margin"]["herfindahl_index"] <= 1.0


def test_a_statement_shows_payments_and_calls_of_its_client_alone(days: RecordedDays) -> None:
    found = tables(days, "client-statement", account="client-03")
    assert [(r["kind"], r["amount"]) for r in found["movements"]] == [("deposit", 250.0)]
    assert {row["account_id"] for row in found["calls"]} == {"client-03"}
    summary = {row["figure"]: row for row in found["summary"]}
    closing = summary["total_requirement"]["closing"]
    daily = tables(days, "daily-margin", account="client-03")["by_account"][0]
    assert closing == daily["total_requirement"]
    assert len(found["positions"]) == daily["positions"]
    cash = found["balances"][0]
    assert cash["value_post_haircut"] == pytest.approx(daily["equity"], rel=0.5)


def test_a_notice_names_what_is_due(days: RecordedDays) -> None:
    found = tables(days, "call-notice", call="d" * 32)
    notice = {row["name"]: row["value"] for row in found["notice"]}
    assert (notice["outstanding"], notice["state"]) == (500.0, "reduce_only")
    assert [row["event"] for row in found["events"]] == [
        *("opened", "disputed", "dispute_expired", "deadline_missed")
    ]


def test_an_outsider_verifies_the_extract(days: RecordedDays, tmp_path: Path) -> None:
    report = make_report(days.ledger, "audit-extract", ReportRequest(days.span))
    out = tmp_path / "extract.csv"
    write_report(report, out)
    previous: dict[str, str] = {}
    with out.open(encoding="utf-8", newline="") as file:
        csv.field_size_limit(10**9)
        rows = list(csv.DictReader(file))
    for row in rows:
        digest = hashlib.sha256(row["payload"].encode()).hexdigest()
        header = {
            **{name: row[name] for name in ("chain", "id", "kind", "previous_hash")},
            **{name: int(row[name]) for name in ("seq", "recorded_at")},
            "account_id": row["account_id"] or None,
            "as_of": int(row["as_of"]) if row["as_of"] else None,
            "payload_sha256": digest,
        }
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == row["hash"]
        assert previous.get(row["chain"], row["previous_hash"]) == row["previous_hash"]
        previous[row["chain"]] = row["hash"]
    assert {"monitoring", "accounts", "enforcement"} <= set(previous)
    chains = verify(days.ledger.engine).chains
    assert (
        previous["enforcement"] == chains["enforcement"].head
        or len([row for row in rows if row["chain"] == "enforcement"])
        < chains["enforcement"].records
    )


def test_files_hold_all_tables_and_the_facts(days: RecordedDays, tmp_path: Path) -> None:
    report = make_report(days.ledger, "daily-margin", ReportRequest(days.span))
    written = write_report(report, tmp_path / "margin.parquet")
    assert [path.name for path in written] == [
        *("margin.book.parquet", "margin.by_underlying.parquet", "margin.parquet"),
        "margin.facts.parquet",
    ]
    main = pq.read_table(tmp_path / "margin.parquet")
    plain = report.to_dict()
    assert main.to_pylist() == plain["tables"]["by_account"]
    assert json.loads(main.schema.metadata[METADATA])["ruleset_sha256"] == plain["ruleset_sha256"]
    write_report(report, tmp_path / "margin.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "margin.csv").read_text("utf-8"))))
    assert [float(row["add_on"]) for row in rows] == [r["add_on"] for r in main.to_pylist()]


def test_the_page_escapes_what_clients_wrote() -> None:
    report = Report("calls", "<b>x</b>", {"account_id": "<script>"}, (), "none", (), ("a & b",))
    page = html_page(report)
    assert "<script>" not in page
    assert "<b>x" not in page
    assert "a &amp; b" in page
