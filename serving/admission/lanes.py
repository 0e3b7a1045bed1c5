"""The lanes of the endpoint: what-ifs, explanations, posts to the market, updates of accounts,
look-ups, long bodies, keys of scores."""

from __future__ import annotations

from serving.admission.lane import Lane

MARKET_THREADS = 2
ACCOUNT_THREADS = 2
READ_THREADS = 4
KEY_THREADS = 4
MOST_WAITING = 256
"""Posts, and look-ups, that may wait."""

MOST_KEYS_WAITING = 1_024
"""Score calls that may wait for the look-up of their key in a database server."""

MOST_SLOW_WAITING = 64
"""What-ifs, and explanations, that may wait. Each may take seconds: the deadline of calls bounds
how long they wait, and `[serving] max_pending_bytes` what they hold."""


class Lanes:
    """One lane for each kind of call that is answered in a thread, except scores.

    Parameters
    ----------
    what_if_calls:
        What-ifs that are computed at once.
    """

    def __init__(self, what_if_calls: int) -> None:
        self.what_if = Lane("what-ifs", what_if_calls, MOST_SLOW_WAITING)
        self.explain = Lane("explanations", 1, MOST_SLOW_WAITING)
        self.market = Lane("posts", MARKET_THREADS, MOST_WAITING)
        self.accounts = Lane("account updates", ACCOUNT_THREADS, MOST_WAITING)
        self.read = Lane("look-ups", READ_THREADS, MOST_WAITING)
        self.decode = Lane("long bodies", 1, MOST_WAITING)
        self.keys = Lane("keys", KEY_THREADS, MOST_KEYS_WAITING)

    def close(self) -> None:
        """Close all lanes; return when no call runs."""
        lanes = (
            *(self.what_if, self.explain, self.market, self.accounts),
            *(self.read, self.decode, self.keys),
        )
        for lane in lanes:
            lane.close()
