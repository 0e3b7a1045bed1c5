"""A wall clock that steps while the service answers: records stay in one order."""

from __future__ import annotations

import time

from benchmarks.reliability import scenarios
from benchmarks.reliability.workspace import Workspace
from ledger.store import Ledger

HOUR = 3_600.0


def test_steps_of_the_wall_clock_break_no_order(workspace: Workspace, ledger_url: str) -> None:
    steps = (HOUR, -HOUR, -24.0 * HOUR, 0.0)
    found = scenarios.clock_steps(workspace, ledger_url, 400, steps, seed=12)
    outcome = found.outcome
    assert outcome.answers.total() == outcome.broken.total() == 0
    assert outcome.wrong == []
    assert found.evidence.is_sound, found.evidence
    with Ledger(ledger_url) as ledger:
        newest = max(record.recorded_at for record in ledger.records("decision"))
    assert newest > (time.time() + 0.9 * HOUR) * 1e9, "the first step was seen by the service"
