"""Archive old decisions of the ledger, and back up a ledger that is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger.archive.archiver import Archiver
from ledger.audit.backup import back_up
from ledger.store import Ledger
from market.core.clock import parse_time
from pipelines.audit.heads import signer
from pipelines.audit.verify import ledger_checks, verification_report
from pipelines.config.config import Config


def archive_ledger(config: Config, before: str, out: Path) -> dict[str, Any]:
    """Move decisions that were recorded before a time into parquet files."""
    boundary, key = parse_time(before), signer("the manifests are")
    with Ledger(config.ledger.url) as ledger:
        done, contents = Archiver(ledger, out, key).run(boundary)
    return {
        "chains": {
            chain: {
                "archived_to_seq": archived.segment.last_seq,
                "file_sha256": archived.segment.file_sha256,
                "deleted": archived.deleted,
            }
            for chain, archived in done.items()
        },
        "deleted_contents": contents,
        "signed": key is not None,
    }


def back_up_ledger(config: Config, out: Path) -> dict[str, Any]:
    """Copy an SQLite ledger into a file, and verify the copy."""
    return {
        "file": str(out),
        **verification_report(back_up(config.ledger.url, out, ledger_checks(config))),
    }
