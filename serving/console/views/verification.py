"""Verification of the whole ledger on demand, in a thread of its own, with its progress."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

from enforcement.whole_check import checks_of, verify_whole
from ledger.store import Ledger
from ledger.verify import Verification
from market.core.clock import format_time
from market.core.errors import MargincastError

_WORKERS = 1
"""Processes: this one. Its thread takes turns with those that answer; further processes would take
the cores that scores need."""

_LOG = logging.getLogger("margincast.serving")


@dataclass(frozen=True, slots=True)
class VerificationState:
    """Where the verification stands.

    Attributes
    ----------
    running:
        Whether one runs now.
    started_at:
        When the one that runs, or the newest, was started, ISO 8601; None: none was.
    read:
        Records that were read so far.
    by:
        Who started it.
    seconds:
        How long the newest took; None before the first is done.
    result:
        Of the newest that is done; None before, or where it failed.
    failure:
        Why the newest could not be done; empty otherwise.
    """

    running: bool = False
    started_at: str | None = None
    read: int = 0
    by: str = ""
    seconds: float | None = None
    result: Verification | None = None
    failure: str = ""


class LedgerVerifier:
    """Verifies a ledger in a thread, one at a time; safe to use from several threads.

    The result is kept in this process.

    Parameters
    ----------
    ledger:
        What is verified.
    answers_days:
        Days for which answers are kept, 0: for good.
    """

    def __init__(self, ledger: Ledger, answers_days: int) -> None:
        self._ledger, self._answers_days = ledger, answers_days
        self._lock = threading.Lock()
        self._state = VerificationState()

    @property
    def state(self) -> VerificationState:
        """Where it stands."""
        return self._state

    def start(self, by: str) -> bool:
        """Start a verification; false, and nothing is done, while one runs.

        Parameters
        ----------
        by:
            Who asks for it.
        """
        with self._lock:
            if self._state.running:
                return False
            now = format_time(time.time_ns())
            self._state = VerificationState(running=True, started_at=now, by=by)
        threading.Thread(target=self._run, name="verify-ledger", daemon=True).start()
        return True

    def _run(self) -> None:
        started, begun = self._state, time.monotonic()
        checks = replace(checks_of(self._answers_days), workers=_WORKERS)
        url = self._ledger.engine.url.render_as_string(hide_password=False)
        result, failure = None, ""
        try:
            result = verify_whole(url, None, checks, self._progress)
        except MargincastError as error:
            failure = str(error)
        except Exception:  # noqa: BLE001 - else it would seem to run for ever
            _LOG.exception("the verification of the ledger ended with an unexpected error")
            failure = "an unexpected error ended it; the log has it"
        self._state = VerificationState(
            started_at=started.started_at,
            read=self._state.read,
            by=started.by,
            seconds=time.monotonic() - begun,
            result=result,
            failure=failure,
        )

    def _progress(self, read: int) -> None:
        state = self._state
        self._state = VerificationState(True, state.started_at, read, state.by)
