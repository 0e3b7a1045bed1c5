"""Verify the ledger and replay its decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decisions.replay import replay
from ledger.heads import heads, read_heads, write_heads
from ledger.store import Ledger
from ledger.verify import verify
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from pipelines.config.config import Config


def verify_ledger(config: Config, heads_file: Path | None) -> dict[str, Any]:
    """Check every chain; against heads stored elsewhere also for truncation and rewriting."""
    result = verify(config.ledger.url, read_heads(heads_file) if heads_file else None)
    return {
        "intact": result.intact,
        "chains": {
            name: {"records": state.records, "head": state.head}
            for name, state in result.chains.items()
        },
        "problems": list(result.problems),
    }


def write_ledger_heads(config: Config, out: Path) -> dict[str, Any]:
    """Write the heads of all chains to a file, to be stored away from the ledger."""
    current = heads(config.ledger.url)
    write_heads(out, current)
    return dict(current)


def replay_decision(config: Config, decision_id: str) -> dict[str, Any]:
    """Recompute a recorded decision with its bundle and compare it with the record."""

    def load(sha: str) -> Forecaster:
        return Forecaster(load_bundle(config.serving.bundles / sha))

    with Ledger(config.ledger.url) as ledger:
        result = replay(ledger, decision_id, load)
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
