"""Bundles swapped, half-written and missing while the service answers: no call notices."""

from __future__ import annotations

from benchmarks.reliability import scenarios
from benchmarks.reliability.workspace import Workspace

SWAPS = 20


def test_twenty_swaps_of_the_champion_fail_no_call(workspace: Workspace) -> None:
    found = scenarios.swaps(workspace, workspace.sqlite, SWAPS, seed=10)
    outcome = found.outcome
    assert outcome.answers.total() == outcome.broken.total() == 0
    assert outcome.wrong == []
    assert found.evidence.is_sound, found.evidence
    answered = [call.model for call in sorted(outcome.acknowledged, key=lambda c: c.finished)]
    assert set(answered) == set(workspace.bundles)


def test_unusable_bundles_under_load_leave_the_old_champion_answering(
    workspace: Workspace,
) -> None:
    found = scenarios.bad_bundles(workspace, workspace.sqlite, 60, seed=11)
    outcome = found.outcome
    assert outcome.answers.total() == outcome.broken.total() == 0
    assert outcome.wrong == []
    assert found.evidence.is_sound, found.evidence
    assert {call.model for call in outcome.acknowledged} == set(workspace.bundles)
