"""The service killed and stopped while it answers: nothing that was acknowledged is lost.

Small seeded versions; ``python -m benchmarks reliability`` runs the large ones.
"""

from __future__ import annotations

from benchmarks.reliability import scenarios
from benchmarks.reliability.workspace import Workspace

DECISIONS, KILLS = 1_000, 4
CALLS = 1_000


def test_kill_9_under_load_loses_and_doubles_no_decision(
    workspace: Workspace, ledger_url: str
) -> None:
    found = scenarios.kills(workspace, ledger_url, DECISIONS, KILLS, seed=1)
    assert found.outcome.wrong == []
    assert found.outcome.given_up == 0
    assert found.outcome.broken["reset"] >= KILLS, "each kill cut calls off"
    assert any(call.attempts > 1 for call in found.outcome.acknowledged)
    assert found.evidence.is_sound, found.evidence
    assert found.evidence.acknowledged == found.evidence.recorded == DECISIONS


def test_sigterm_under_load_resets_no_call(workspace: Workspace, ledger_url: str) -> None:
    stopped = scenarios.stop_under_load(workspace, ledger_url, CALLS, clients=8, seed=2)
    outcome = stopped.found.outcome
    assert outcome.broken["reset"] == 0
    assert outcome.wrong == []
    assert len(outcome.acknowledged) * 2 > CALLS, "calls hold up to three decisions"
    assert stopped.found.evidence.is_sound, stopped.found.evidence
    assert stopped.found.evidence.recorded == stopped.found.evidence.acknowledged
    assert stopped.code in (0, -15)
