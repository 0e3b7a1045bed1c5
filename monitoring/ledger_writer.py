"""Append to the ledger, and track whether it is writable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ledger.decisions import Draft, Meanwhile
from ledger.following import AlreadyAnsweredError, ChainHead, ChainMovedError, SharedChain
from ledger.idempotency import IdempotentAnswer
from ledger.records import Entry, Record
from ledger.store import Ledger
from market.core.errors import AlteredError, LedgerError, UnrecordableError
from market.core.file_identity import LedgerReplacedError
from monitoring.ledger_probe import REPLACED, LedgerProbe

UNHEALTHY_SECONDS = 30.0
"""Time after a failed record for which the ledger counts as not writable."""


class LedgerWriter:
    """Appends to a ledger and remembers whether the last attempt failed.

    Parameters
    ----------
    ledger:
        The ledger.
    on_append:
        Called after each attempt with its seconds and whether the database failed.
    """

    def __init__(
        self,
        ledger: Ledger,
        on_append: Callable[[float, bool], object] = lambda seconds, failed: None,
    ) -> None:
        self._ledger, self._on_append = ledger, on_append
        self._probe = LedgerProbe(ledger)
        self._failed: float | None = None
        self._reason = ""

    def append_to(
        self,
        chain: SharedChain,
        head: ChainHead,
        entries: Sequence[Entry],
        answer: IdempotentAnswer | None = None,
    ) -> list[Record]:
        """Record at the head of a chain, see `SharedChain.append`."""
        with self._noting_failures():
            return chain.append(head, entries, answer)

    def append_decisions(self, draft: Draft, renew: Callable[[Meanwhile], Draft]) -> Draft:
        """Record decisions, see `Ledger.append_decisions`."""
        with self._noting_failures():
            return self._ledger.append_decisions(draft, renew)

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        """Remember a failure of the database, not one of what a request holds or of its turn."""
        began = time.monotonic()
        try:
            yield
        except (AlreadyAnsweredError, AlteredError, ChainMovedError, UnrecordableError):
            raise
        except LedgerError as error:
            both = (error, error.__cause__)  # the cause of a commit that went into a gone file
            replaced = any(isinstance(one, LedgerReplacedError) for one in both)
            self._reason = REPLACED if replaced else "the ledger refused the last record"
            self._failed = time.monotonic()
            self._on_append(self._failed - began, True)
            raise
        self._failed = None
        self._on_append(time.monotonic() - began, False)

    def health_error(self) -> str | None:
        """Why nothing could be recorded now; None if something could."""
        failed = self._failed
        if failed is not None and time.monotonic() - failed < UNHEALTHY_SECONDS:
            return self._reason
        return self._probe.error()
