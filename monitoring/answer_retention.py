"""The thread that deletes expired answers under idempotency keys."""

from __future__ import annotations

import logging
import time
from typing import Self

from ledger.idempotency import PRUNED_AT_ONCE
from ledger.store import Ledger
from market.core.clock import DAY
from market.core.errors import MargincastError
from monitoring.background_thread import BackgroundThread

LOOK_SECONDS = 60.0
"""Time between looks for old answers."""

PAUSE_SECONDS = 0.1
"""Between two transactions that delete, so that decisions are recorded meanwhile."""

WAIT_SECONDS = 5.0
"""Longest wait for the write lock; the next look tries again."""

STOP_SECONDS = 2.0

_LOG = logging.getLogger("margincast.serving")


class AnswerRetention(BackgroundThread):
    """Deletes answers after some days, in a thread from entering the block to leaving it.

    Several processes may do so on one ledger. After a failure, which is logged once, the next look
    tries again.

    Parameters
    ----------
    ledger:
        The ledger.
    days:
        How long answers are kept; 0: without limit, and there is no thread.
    """

    def __init__(self, ledger: Ledger, days: int) -> None:
        super().__init__("prune-answers", STOP_SECONDS)
        self._answers = ledger.answers
        self._days = days
        self._failed = False

    def __enter__(self) -> Self:
        return super().__enter__() if self._days else self

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
                self._failed = False
            except Exception as error:  # noqa: BLE001 - else the thread would end silently
                if not self._failed:
                    known = isinstance(error, MargincastError)
                    _LOG.error(
                        "old answers are not deleted: %s", error, exc_info=None if known else error
                    )
                self._failed = True

    def look(self) -> int:
        """Delete expired answers, until the block is left; returns how many.

        Raises
        ------
        LedgerError
            As `Answers.prune`; what was deleted before stays so.
        """
        before, deleted = time.time_ns() - self._days * DAY, 0
        while True:
            found = self._answers.prune(before, WAIT_SECONDS)
            deleted += found
            if found < PRUNED_AT_ONCE or self._stop.wait(PAUSE_SECONDS):
                return deleted
