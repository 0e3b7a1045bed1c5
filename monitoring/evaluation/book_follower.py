"""The thread that follows the live book and its evaluations, and what readiness says of them."""

from __future__ import annotations

import logging
import time

from ledger.store import Ledger
from market.core.clock import SECOND
from market.core.errors import MargincastError
from monitoring.background_thread import BackgroundThread
from monitoring.evaluation.lease import holder_of
from monitoring.evaluation.monitor import LEASE
from monitoring.evaluation.view import BookView

LOOK_SECONDS = 1.0
"""Time between two looks at the chains."""

STARTING_SECONDS = 30.0
"""So long after its start a service is not said to lack a monitor."""

STOP_SECONDS = 5.0

_LOG = logging.getLogger("margincast.serving")


class BookFollower(BackgroundThread):
    """Keeps a view of the live book current from entering the block to leaving it.

    Parameters
    ----------
    ledger:
        Where the book is.
    view:
        What is kept current.
    """

    def __init__(self, ledger: Ledger, view: BookView) -> None:
        super().__init__("follow-book", STOP_SECONDS)
        self._ledger, self._view = ledger, view
        self._error: str | None = None
        self._held = time.monotonic()

    def health_warning(self) -> str | None:
        """Why the live book is not evaluated; None while a monitor evaluates it."""
        if self._error is not None:
            return self._error
        idle = time.monotonic() - self._held
        if idle <= STARTING_SECONDS:
            return None
        return (
            f"no monitor has evaluated the live book for {idle:.0f} s: states, levels and "
            "probabilities are old; start `margincast monitor`"
        )

    def age_seconds(self) -> float | None:
        """Seconds since the newest evaluation was recorded; None before any."""
        state = self._view.state
        recorded = [] if state is None else [f.recorded_at for f in state.newest.values()]
        return (time.time_ns() - max(recorded)) / SECOND if recorded else None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if holder_of(self._ledger, LEASE) is not None:
                    self._held = time.monotonic()
                self._view.follow()
            except MargincastError as error:
                self._note("the live book cannot be read", error)
            except Exception as error:  # noqa: BLE001  the book would be left behind silently
                self._note("the live book is not followed: the log has the cause", error)
            else:
                self._error = None
            self._stop.wait(LOOK_SECONDS)

    def _note(self, reason: str, error: Exception) -> None:
        if reason != self._error:
            known = isinstance(error, MargincastError)
            _LOG.error("%s: %s", reason, error, exc_info=None if known else error)
        self._error = reason
