"""Token buckets: rate limits per minute."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from serving.http.problems import ProblemError

MINUTE = 60.0

MOST_BUCKETS = 10_000
"""Most buckets; beyond it the least recently used one is dropped, which counts as full."""


class TokenBuckets:
    """One bucket for each name, of this process alone.

    A bucket of `per_minute` tokens is full at first and gains ``per_minute / 60`` tokens a second,
    so after a pause the requests of a whole minute may arrive at once.

    Parameters
    ----------
    clock:
        Seconds that never step back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, per_minute: int) -> float:
        """Take a token; returns 0, or the seconds until there is one."""
        now = self._clock()
        with self._lock:
            tokens = self._tokens(name, per_minute, now)
            if tokens < 1.0:
                return (1.0 - tokens) * MINUTE / per_minute
            self._buckets[name] = (tokens - 1.0, now)
            self._buckets.move_to_end(name)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        return 0.0

    def wait(self, name: str, per_minute: int) -> float:
        """The seconds until there is a token; none is taken."""
        with self._lock:
            tokens = self._tokens(name, per_minute, self._clock())
        return max(0.0, (1.0 - tokens) * MINUTE / per_minute)

    def _tokens(self, name: str, per_minute: int, now: float) -> float:
        tokens, since = self._buckets.get(name, (float(per_minute), now))
        return min(float(per_minute), tokens + (now - since) * per_minute / MINUTE)


def rate_limited(detail: str, per_minute: int, wait: float) -> ProblemError:
    """429: too many requests; Retry-After is `wait` seconds.

    References
    ----------
    RFC 9110, 10.2.3 (Retry-After); draft-ietf-httpapi-ratelimit-headers-10.
    """
    seconds = max(1, math.ceil(wait))
    return ProblemError(
        429,
        "rate-limited",
        f"{detail}; try again in {seconds} s",
        headers={
            "Retry-After": str(seconds),
            "RateLimit-Policy": f'"minute";q={per_minute};w=60',
            "RateLimit": f'"minute";r=0;t={seconds}',
        },
    )
