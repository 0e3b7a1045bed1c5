"""Delete expired answers under idempotency keys."""

from __future__ import annotations

import time
from typing import Any

from ledger.audit.heads import engine_of
from ledger.idempotency import PRUNED_AT_ONCE, Answers
from market.core.clock import DAY, format_time
from market.core.errors import ConfigError
from pipelines.config.config import Config


def prune_answers(config: Config) -> dict[str, Any]:
    """Delete the answers that are older than the configuration keeps them; their records stay.

    Raises
    ------
    ConfigError
        Answers are kept without limit.
    LedgerError
        There is no ledger, or it cannot be written.
    """
    days = config.ledger.answers_days
    if not days:
        raise ConfigError("ledger.answers_days is 0: answers are kept without limit; give a number")
    before = time.time_ns() - days * DAY
    deleted = 0
    with engine_of(config.ledger.url) as engine:
        answers = Answers(engine)
        while (found := answers.prune(before)) == PRUNED_AT_ONCE:
            deleted += found
    return {"deleted": deleted + found, "given_before": format_time(before)}
