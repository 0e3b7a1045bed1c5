"""Retraining that is killed: nothing half done, and the next run goes through."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from models.bundle.bundle import load_bundle
from pipelines.scheduler.lock import is_held

# Fixtures live in conftest.py, which no test can import: their classes are Any here.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any

SECONDS = 300.0


@pytest.fixture
def killed(
    retraining: Callable[[Workspace], subprocess.Popen[bytes]],
) -> Callable[[Workspace, Callable[[], bool]], None]:
    """Starts a retraining and kills it, with no chance to clean up, once something is so."""

    def kill(workspace: Workspace, reached: Callable[[], bool]) -> None:
        process = retraining(workspace)
        try:
            deadline = time.monotonic() + SECONDS
            while not reached():
                assert process.poll() is None, "it ended before the point to kill it at"
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    return kill


def folders(bundles: Path) -> set[str]:
    return {path.name for path in bundles.iterdir() if path.is_dir()}


@pytest.mark.slow
def test_retraining_killed_at_any_stage_leaves_the_champion_and_a_free_lock(
    trained: TrainedMarket,
    workspace: Workspace,
    killed: Callable[[Workspace, Callable[[], bool]], None],
) -> None:
    lock, before = workspace.bundles / "retrain.lock", folders(workspace.bundles)
    # Other rows than the champion's, so that a bundle of another name would come out.
    text = workspace.config.read_text().replace("max_rows = 20000", "max_rows = 8000")
    workspace.config.write_text(text)
    records = workspace.sql("select count(*) from records")[0][0]
    stages: dict[str, Callable[[], bool]] = {
        "evaluation": lambda: any(
            name.startswith(".draft-") for name in folders(workspace.bundles)
        ),
        "registration": lambda: any(
            len(name) == 64 for name in folders(workspace.bundles) - before
        ),
    }
    for stage, reached in stages.items():
        killed(workspace, reached)
        assert not is_held(lock), stage
        assert workspace.champion == trained.champion, stage
        load_bundle(workspace.bundles / "champion")
        for name in folders(workspace.bundles):
            if len(name) == 64:
                load_bundle(workspace.bundles / name)
        assert workspace.sql("select count(*) from records")[0][0] == records, stage

    report = workspace.report("retrain", code=(0, 3))
    assert report["bundle"] not in before
    assert folders(workspace.bundles) == {*before, report["bundle"]}, "no drafts are left"
    assert report["champion_before"] == trained.champion
    assert report["drift"]["bundle"] == trained.champion
    assert report["change"]["accounts"] > 0
    assert workspace.champion == report["champion"]
    assert workspace.report("ledger", "verify")["intact"]
