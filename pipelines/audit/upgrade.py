"""Upgrade the ledger to the tables of this version."""

from __future__ import annotations

from typing import Any

from ledger.migrations.ledger_upgrade import upgrade
from pipelines.cli.progress import Stages
from pipelines.config.config import Config


def upgrade_ledger(config: Config) -> dict[str, Any]:
    """Upgrade the configured ledger, see `ledger.migrations.ledger_upgrade`."""
    with Stages(1) as stages, stages.stage("upgrade the ledger"):
        done = upgrade(
            config.ledger.url, lambda rows, total: stages.within(rows / total if total else 1.0)
        )
    return {
        "before": done.before,
        "after": done.after,
        "records": done.records,
        "kept": None if done.kept is None else str(done.kept),
    }
