"""Every kind of report: reproducible in every format, and the same while the ledger grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.records import Entry
from ledger.store import Ledger
from market.core.errors import ConfigError
from pipelines.cli.report import LEDGER_REPORTS
from pipelines.ledger_reports.formats.document import Report
from pipelines.ledger_reports.formats.write import FORMATS, write_report
from pipelines.ledger_reports.kinds import KINDS, make_report
from pipelines.ledger_reports.request import ReportRequest, Span
from tests.pipelines.ledger_reports.helpers import RecordedDays, call


def made(days: RecordedDays, kind: str, span: Span | None = None) -> Report:
    account = "client-03" if kind == "client-statement" else None
    named = "c" * 32 if kind == "call-notice" else None
    return make_report(days.ledger, kind, ReportRequest(span or days.span, account, named))


def test_the_command_line_has_every_kind() -> None:
    assert list(LEDGER_REPORTS) == list(KINDS)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_same_bytes(days: RecordedDays, tmp_path: Path, kind: str, ending: str) -> None:
    files = []
    for folder in ("first", "second"):
        written = write_report(made(days, kind), tmp_path / folder / f"report{ending}")
        files.append({path.name: path.read_bytes() for path in written})
    assert files[0] == files[1]
    assert all(files[0].values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_names_what_it_rests_on(days: RecordedDays, kind: str) -> None:
    report = made(days, kind)
    plain = report.to_dict()
    json.dumps(plain, allow_nan=False)
    assert plain["span_from"] < plain["span_to"]
    assert any(name.startswith("head_") and name.endswith("_hash") for name in plain)
    assert any("ruleset" in name and name.endswith("sha256") for name in plain)
    for table in report.tables:
        assert plain[f"rows_{table.name}"] == len(table.rows)
        assert all(len(row) == len(table.columns) for row in table.rows), table.name
    assert plain["tables"][report.main]


@pytest.mark.parametrize("kind", KINDS)
def test_a_past_report_stays_the_same_while_the_ledger_grows(days: RecordedDays, kind: str) -> None:
    span = Span(days.span.start, days.middle + 2 * 3600 * 10**9)
    before = made(days, kind, span).to_dict()
    with Ledger(days.url, chain="enforcement") as ledger:
        later = days.span.end + len(kind) * 3600 * 10**9
        ledger.append([call(f"later-{kind}", 1, "opened", later, "client-03")])
    with Ledger(days.url, chain=f"later-{kind}") as ledger:
        ledger.append([Entry("drift", {"verdict": "stable"}, as_of=days.span.end + 10**15)])
    assert made(days, kind, span).to_dict() == before


def test_accounts_and_calls_are_asked_only_of_the_kinds_that_have_them(days: RecordedDays) -> None:
    for kind, account, named in (
        ("coverage", "client-03", None),
        ("client-statement", None, None),
        ("call-notice", None, None),
        ("calls", None, "c" * 32),
        ("unknown", None, None),
    ):
        with pytest.raises(ConfigError):
            make_report(days.ledger, kind, ReportRequest(days.span, account, named))


@pytest.mark.parametrize(
    ("day", "start", "end"),
    [
        (None, None, None),
        ("2025-04-01", "2025-04-01", None),
        (None, "2025-04-01", None),
        ("2025-02-30", None, None),
        ("2025-04-01T00:00:00Z", None, None),
        (None, "2025-04-02", "2025-04-01T00:00:00Z"),
    ],
)
def test_spans_that_are_refused(day: str | None, start: str | None, end: str | None) -> None:
    with pytest.raises(ConfigError):
        Span.of(day, start, end)


def test_a_date_is_its_24_hours_and_the_last_date_is_whole() -> None:
    assert Span.of("2025-04-01", None, None) == Span.of(None, "2025-04-01", "2025-04-01")
    two = Span.of(None, "2025-04-01", "2025-04-02T12:00:00Z")
    assert [time % (24 * 3600 * 10**9) for time in two.days()] == [0, 12 * 3600 * 10**9]
