"""Append to the ledger, and know whether it is writable now."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from ledger.contents import CanonicalContent
from ledger.decisions import Draft
from ledger.idempotency import IdempotentAnswer, LedgerConflictError, LedgerDuplicateError
from ledger.records import Entry, Record
from ledger.schema import records
from ledger.store import Ledger
from market.core.errors import LedgerError, UnrecordableError

UNHEALTHY_SECONDS = 30.0
"""The ledger does not count as writable for so long after a failed record."""

PROBE_SECONDS = 1.0
"""A probe waits for other writers no longer than this, so that a health check ends."""

_LOG = logging.getLogger("margincast.serving")


class LedgerWriter:
    """Appends to a ledger and remembers whether the last attempt failed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._failed: float | None = None

    def append(
        self,
        entries: Sequence[Entry],
        contents: Sequence[tuple[str, dict[str, Any] | CanonicalContent]] = (),
        answer: IdempotentAnswer | None = None,
    ) -> None:
        """Record, see `Ledger.append`."""
        with self._noting_failures():
            self._ledger.append(entries, contents=contents, answer=answer)

    def append_decisions(
        self, draft: Draft, renew: Callable[[Mapping[str, Record]], Draft]
    ) -> Draft:
        """Record decisions, see `Ledger.append_decisions`."""
        with self._noting_failures():
            return self._ledger.append_decisions(draft, renew)

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        """Remember a failure of the database, not one of what a request holds."""
        try:
            yield
        except (LedgerDuplicateError, LedgerConflictError, UnrecordableError):
            raise
        except LedgerError:
            self._failed = time.monotonic()
            raise
        self._failed = None

    def health_error(self) -> str | None:
        """Why nothing could be recorded now; None if something could."""
        failed = self._failed
        if failed is not None and time.monotonic() - failed < UNHEALTHY_SECONDS:
            return "the ledger refused the last record"
        try:
            # Takes the write lock and gives it back: read-only and unreachable databases fail.
            with self._ledger.transaction(wait_seconds=PROBE_SECONDS) as connection:
                connection.execute(select(records.c.seq).limit(1))
        except LedgerError as error:
            _LOG.error("the ledger is not writable: %s", error)
            return "the ledger is not writable"
        return None
