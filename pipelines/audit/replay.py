"""Replay a recorded decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decisions.replay import replay
from ledger.archive.archived import ArchivedRecords
from ledger.store import Ledger
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.config.config import Config


def replay_decision(
    config: Config, decision_id: str, archive: Path | None = None
) -> dict[str, Any]:
    """Recompute a recorded decision with its bundle and compare it with the record."""

    def load(sha: str) -> Forecaster:
        return Forecaster(load_bundle(config.serving.bundles / sha))

    with Ledger(config.ledger.url) as ledger:
        source = ledger if archive is None else ArchivedRecords(ledger, archive)
        result = replay(source, decision_id, load)
    return {
        "decision_id": decision_id,
        "verdict": result.verdict,
        "superseded_by": [
            {"adr": change.adr, "title": change.title} for change in result.superseded_by
        ],
        "equal": result.equal,
        "equal_within": result.equal_within,
        "same_machine": result.same_machine,
        "differences": {
            key: {"recorded": recorded, "replayed": replayed}
            for key, (recorded, replayed) in result.differences.items()
        },
    }
