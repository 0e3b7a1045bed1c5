"""Enforcement on real prices while its process is killed: nothing lost, doubled or late."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.enforcement.chaos import april, run_both
from benchmarks.enforcement.deadline_delays import longest_delay
from benchmarks.enforcement.record_comparison import compare

ACCOUNTS, KILLS, DAYS = 10_000, 10, 10


@pytest.mark.realdata
@pytest.mark.slow
def test_a_killed_monitor_records_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    """1 to 10 April 2025; ``python -m benchmarks chaos`` does it with 100,000 accounts."""
    runs = run_both(april(DAYS), ACCOUNTS, KILLS, 3, tmp_path)
    found = compare(*(run.ledger for run in runs))
    assert found.differs == {}
    expected = {"call.opened", "call.met", "call.deadline_missed", "call.bad_debt"}
    assert {*expected, "instruction.filled", "instruction.rejected"} <= found.events.keys()
    # Steps and deadlines are on whole hours, so each is processed at the step of its hour.
    assert [longest_delay(run.ledger) for run in runs] == [0.0, 0.0]
