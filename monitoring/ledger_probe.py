"""Whether the ledger can be written now, probed by taking and releasing its write lock."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import select

from ledger.schema import records
from ledger.store import Ledger
from market.core.errors import LedgerError
from market.core.file_identity import LedgerReplacedError

PROBE_SECONDS = 1.0
"""A question waits for a probe no longer than this, so that a health check ends."""

SHARED_SECONDS = 1.0
"""Time for which the result of a probe is reused."""

HELD_SECONDS = 10.0
"""A writer with a large batch holds the write lock for a second or two; one that holds it for
longer than this hangs."""

NOT_WRITABLE = "the ledger is not writable"
REPLACED = "the file of the ledger was deleted or replaced"

_LOG = logging.getLogger("margincast.serving")


class LedgerProbe:
    """Probes a ledger in a thread, one probe at a time. Safe to use from threads.

    A lock that another writer holds is no failure: the probe waits for its turn, across questions,
    and counts as one only after `HELD_SECONDS`. A database that is read-only, full or unreachable
    fails at once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changed = threading.Condition()
        self._running = False
        self._began = 0.0  # the first probe since the last one that succeeded
        self._ended: float | None = None
        self._error: str | None = None

    def error(self) -> str | None:
        """Why nothing could be recorded now; None if something could."""
        with self._changed:
            now = time.monotonic()
            if not self._running and not self._is_fresh(now):
                if self._error is None:
                    self._began = now
                threading.Thread(target=self._probe, name="ledger-probe", daemon=True).start()
                self._running = True
            self._changed.wait_for(lambda: not self._running, PROBE_SECONDS)
            waited = time.monotonic() - self._began
            if self._running and self._error is None and waited > HELD_SECONDS:
                return f"the ledger is not writable: a probe has waited for {waited:.0f} s"
            return self._error

    def _is_fresh(self, now: float) -> bool:
        return self._ended is not None and now - self._ended < SHARED_SECONDS

    def _probe(self) -> None:
        found: str | None = NOT_WRITABLE
        try:
            # Read-only and unreachable databases fail here.
            with self._ledger.transaction() as connection:
                connection.execute(select(records.c.seq).limit(1))
            if self._error is not None:
                _LOG.warning("the ledger is writable again")
            found = None
        except LedgerReplacedError as error:
            found = REPLACED
            self._log_once(REPLACED, error)
        except LedgerError as error:
            self._log_once(NOT_WRITABLE, error)
        except Exception:  # noqa: BLE001 - an unexpected error is reported as well
            _LOG.exception("the ledger cannot be probed")
        finally:
            with self._changed:
                self._error, self._running = found, False
                self._ended = time.monotonic()
                self._changed.notify_all()

    def _log_once(self, found: str, error: LedgerError) -> None:
        if found != self._error:
            _LOG.error("%s: %s", found, error)
