"""The daily margin report is the evaluated book."""

from __future__ import annotations

import numpy as np
import pytest

from market.core.errors import DataError
from monitoring.evaluation.record.evaluation_state import restore
from pipelines.ledger_reports.kinds import make_report
from pipelines.ledger_reports.request import ReportRequest, Span
from tests.pipelines.ledger_reports.helpers import RecordedDays


def test_sums_of_accounts_and_underlyings_are_those_of_the_book(days: RecordedDays) -> None:
    report = make_report(days.ledger, "daily-margin", ReportRequest(days.span))
    tables = report.to_dict()["tables"]
    book = {row["figure"]: row for row in tables["book"]}
    assert len(tables["by_account"]) == 11
    for name in ("total_requirement", "add_on", "maintenance_margin", "gross_notional"):
        expected = pytest.approx(book[name]["value"], rel=1e-12)
        assert sum(row[name] for row in tables["by_account"]) == expected
        assert sum(row[name] for row in tables["by_underlying"]) == expected
    assert book["total_requirement"]["before"] > 0.0


def test_levels_are_the_recorded_ones_within_floor_and_cap(days: RecordedDays) -> None:
    report = make_report(days.ledger, "daily-margin", ReportRequest(days.span))
    state = restore(days.ledger)
    for row in report.to_dict()["tables"]["by_account"]:
        level = float(state.levels.amount[state.index[row["account_id"]]])
        assert np.isfinite(level)
        assert row["add_on"] >= row["floor"]
        if row["binding"] not in ("floor", "cap"):
            assert row["add_on"] == pytest.approx(level) or row["add_on"] == row["floor"]


def test_one_account_alone(days: RecordedDays) -> None:
    report = make_report(days.ledger, "daily-margin", ReportRequest(days.span, "client-é/漢"))
    (row,) = report.to_dict()["tables"]["by_account"]
    assert row["account_id"] == "client-é/漢"
    with pytest.raises(DataError, match="not in the live book"):
        make_report(days.ledger, "daily-margin", ReportRequest(days.span, "nobody"))


def test_a_span_before_the_first_evaluation_has_no_report(days: RecordedDays) -> None:
    early = Span(days.span.start - 48 * 3600 * 10**9, days.span.start - 3600 * 10**9)
    with pytest.raises(DataError, match="no evaluation"):
        make_report(days.ledger, "daily-margin", ReportRequest(early))
