"""Verification of a whole ledger: its chains, and the tables that say the same as they do."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from enforcement.delivery.outbox_check import outbox_problems
from ledger.audit.heads_series import KeptHeads
from ledger.schema import database_errors
from ledger.store import Ledger
from ledger.verify import Checks, Verification, verify
from market.core.clock import DAY, HOUR
from monitoring.book.account_rows import CHAIN
from monitoring.book.account_store import AccountStore

_EARLY = HOUR


def verify_whole(
    url: str,
    kept: KeptHeads | None,
    checks: Checks,
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Verify as `ledger.verify.verify`, then compare the rows of the live book and of the outbox.

    These are compared only where the chains are intact.

    Parameters
    ----------
    url:
        Of the ledger.
    kept, checks, progress:
        As of `ledger.verify.verify`.

    Raises
    ------
    LedgerError
        As `ledger.verify.verify`.
    """
    result = verify(url, kept, checks, progress=progress)
    if CHAIN not in result.chains or not result.intact:
        return result
    with Ledger(url) as ledger:
        problems = AccountStore(ledger).problems()
        with database_errors("read"), ledger.engine.connect() as connection:
            problems += outbox_problems(connection)
    return dataclasses.replace(result, intact=not problems, problems=problems)


def checks_of(answers_days: int) -> Checks:
    """Checks of a ledger that keeps answers for so many days; 0: for good.

    Answers may go a little before their time: clocks differ, and the endpoint deletes old ones
    while the ledger is verified.
    """
    return Checks(answers_kept=answers_days * DAY - _EARLY if answers_days else time.time_ns())
