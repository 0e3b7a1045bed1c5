"""The time of requests that name none."""

from __future__ import annotations

import time

from decisions.errors import NoMarketError
from serving.service import Service


def time_now(service: Service, without: str) -> int:
    """Nanoseconds of the clock of `[serving] clock`.

    Parameters
    ----------
    service:
        Whose clock.
    without:
        What to do where the market's clock stands still, for the error.

    Raises
    ------
    NoMarketError
        The market's clock has no time yet.
    """
    if service.settings.clock == "wall":
        return time.time_ns()
    newest = service.live.state.newest_close
    if newest is None:
        raise NoMarketError(
            f"the market's clock stands still until there are bars; post bars, {without}"
        )
    return newest
