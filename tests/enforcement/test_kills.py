"""Enforcement on real prices while its process is killed: nothing lost, doubled or late."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reliability.chaos import compare, run_span
from benchmarks.workloads.real_span import real_span


@pytest.mark.realdata
@pytest.mark.slow
def test_a_killed_monitor_records_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    """Two days of the sell-off of April 2025; ``python -m benchmarks chaos`` runs all ten."""
    span = real_span("2025-04-06T00:00:00Z", "2025-04-08T00:00:00Z", days_before=20, coins=8)
    runs = [run_span(span, 150, kills, 3, tmp_path / str(kills)) for kills in (0, 4)]
    assert {name: ids for name, ids in compare(*runs).items() if ids} == {}
    assert runs[0].events["call.opened"] > 20
    assert {"call.met", "call.stop_out", "instruction.filled"} <= runs[0].events.keys()
    assert runs[1].late_hours <= 1.0
