"""A small campaign under every rule set; ``python -m benchmarks.fuzz`` runs a large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz.campaign import run_campaign
from margin.rules.ruleset import list_rulesets

BODIES, SEED = 30, 1


@pytest.mark.parametrize("preset", list_rulesets())
def test_seeded_bodies_break_nothing(tmp_path: Path, preset: str) -> None:
    report = run_campaign(tmp_path, [preset], BODIES, SEED, minimise=False)
    found = {key: (one.fault, one.request.body()) for key, one in report.failures.items()}
    assert found == {}
    assert report.bodies == BODIES
    assert report.decisions > report.degraded
