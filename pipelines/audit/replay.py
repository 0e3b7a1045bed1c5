"""Replay a recorded decision or evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decisions.replay import replay
from ledger.archive.archived import ArchivedRecords
from ledger.store import Ledger
from market.core.errors import LedgerError
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.evaluation.record.evaluation_state import EVALUATION
from monitoring.evaluation.record.replay import plain_replay, replay_evaluation
from pipelines.config.config import Config


def replay_record(
    config: Config, record_id: str, archive: Path | None = None, account: str | None = None
) -> dict[str, Any]:
    """Recompute a recorded decision or evaluation with its bundle and compare it with the record.

    `account` chooses one account of an evaluation.

    Raises
    ------
    LedgerError
        There is no such record, or what it rests on is missing.
    NotReplayableError
        It cannot be made again.
    """

    def load(sha: str) -> Forecaster:
        return Forecaster(load_bundle(config.serving.bundles / sha))

    with Ledger(config.ledger.url) as ledger:
        source = ledger if archive is None else ArchivedRecords(ledger, archive)
        if source.get_record(record_id).kind == EVALUATION:
            found = replay_evaluation(ledger, record_id, load, account)
            return {"evaluation_id": record_id, **plain_replay(found)}
        if account is not None:
            raise LedgerError(
                f"record {record_id!r} is of one account already; give --account with an evaluation"
            )
        result = replay(source, record_id, load)
    return {
        "decision_id": record_id,
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
