"""The thread that follows the market chain, and its part of readiness."""

from __future__ import annotations

import logging
import time
from typing import Self

from market.core.errors import AlteredError, MargincastError
from monitoring.background_thread import BackgroundThread
from monitoring.shared_market import NotFollowingError, SharedMarket

RETRY_SECONDS = 0.5
"""Time after an error until the chain is followed again."""

STALLED_SECONDS = 5.0
"""A process that has not read the chain for this long counts as not following."""

STOP_SECONDS = 5.0

_LOG = logging.getLogger("margincast.serving")


class Follower(BackgroundThread):
    """Follows the market chain in a thread of its own, from entering the block to leaving it.

    An error is logged once, and readiness states it until following resumes.

    Parameters
    ----------
    market:
        The market to keep up.
    """

    def __init__(self, market: SharedMarket) -> None:
        super().__init__("follow-market", STOP_SECONDS)
        self._market = market
        self._error: str | None = None
        self._looked = time.monotonic()

    def __enter__(self) -> Self:
        self._looked = time.monotonic()
        return super().__enter__()

    def look_age(self) -> float:
        """Seconds since the chain was looked at."""
        return time.monotonic() - self._looked

    def lag(self) -> int:
        """Records of the chain that are not applied yet, see `SharedMarket.lag`."""
        return self._market.lag()

    def health_error(self) -> str | None:
        """Why this process does not follow the market chain; None while it does."""
        if self._thread is None:
            return "the market chain is not followed: the application was not started"
        if self._error is not None:
            return f"the market chain is not followed: {self._error}"
        behind = self.look_age()
        if behind > STALLED_SECONDS:
            return f"the market chain was looked at {behind:.0f} s ago: this process is overloaded"
        return None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._market.follow(self._stop, self._note_look)
            except (NotFollowingError, AlteredError) as error:
                self._note(str(error), error)
            except MargincastError as error:
                # What the database said stays in the log, as readiness is open to everyone.
                self._note("the ledger cannot be read", error)
            except Exception as error:  # noqa: BLE001 - the market would be left behind silently
                self._note("an unexpected error, which is in the log", error)
            self._stop.wait(RETRY_SECONDS)

    def _note_look(self) -> None:
        self._looked = time.monotonic()
        if self._error is not None:
            _LOG.warning("the market chain is followed again")
            self._error = None

    def _note(self, reason: str, error: Exception) -> None:
        if reason != self._error:
            known = isinstance(error, MargincastError)
            _LOG.error(
                "the market chain is not followed: %s", error, exc_info=None if known else error
            )
        self._error = reason
