"""Half a minute of load with swaps, killed workers and bad clients; the full run has 15 minutes."""

from __future__ import annotations

from benchmarks.reliability.soak import soak
from benchmarks.reliability.workspace import Workspace

SECONDS = 30.0
DESCRIPTORS = 40
"""More at the end than early on: connections of bad clients that are not closed yet."""

MEGABYTES = 250.0
"""More at the end than early on: caches and pools that fill; a worker that was killed is new."""


def test_a_short_soak_fails_no_call_and_leaks_nothing(
    workspace: Workspace, ledger_url: str
) -> None:
    found = soak(workspace, ledger_url, SECONDS)
    assert found.outcome.wrong == []
    assert found.outcome.given_up == 0
    assert set(found.outcome.answers) <= {503}
    assert found.evidence.lost == found.evidence.broken_levels == 0
    assert found.evidence.problems == ()
    assert found.swaps > 0
    assert found.kills > 0
    assert found.bad > 10
    assert found.probes > 5
    assert found.failures.total() <= found.kills, found.failures
    assert found.descriptors[1] < found.descriptors[0] + DESCRIPTORS
    assert found.megabytes[1] < found.megabytes[0] + MEGABYTES
