"""The deadline of a call: a call that still waits then is refused and not decided."""

from __future__ import annotations

import math

from decisions.errors import RequestError
from market.core.errors import MargincastError

HEADER = "Request-Timeout"
"""Seconds that the client will wait; it only shortens ``[serving] call_seconds``."""


class DeadlineError(MargincastError):
    """A call still waited at its deadline; nothing was decided or recorded.

    Attributes
    ----------
    retry_seconds:
        Seconds after which a retry is sensible.
    """

    def __init__(self, seconds: float, retry_seconds: int = 1) -> None:
        self.retry_seconds = retry_seconds
        super().__init__(
            f"the call still waited after {seconds:g} s; nothing was decided or recorded, "
            "try again later"
        )


def call_seconds(header: str | None, most: float) -> float:
    """How long a call may wait.

    Parameters
    ----------
    header:
        Value of `HEADER`, if any.
    most:
        The longest time.

    Raises
    ------
    RequestError
        The header is no number of seconds above 0.
    """
    if header is None:
        return most
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not seconds > 0.0:
        raise RequestError(f"{HEADER} is {header[:40]!r}; give the seconds to wait, more than 0")
    return min(seconds, most)
