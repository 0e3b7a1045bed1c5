"""When a failed delivery is tried again.

References: Brooker (2015), "Exponential Backoff and Jitter", AWS Architecture Blog.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with a cap and jitter.

    Attributes
    ----------
    attempts:
        After so many failed attempts an event is a dead letter.
    first_seconds:
        Longest pause after the first failure; it doubles with every further one.
    cap_seconds:
        Longest pause of all.
    jitter:
        A pause is shortened by up to this share of it, in [0, 1].
    seed:
        Of the jitter: the same event at the same attempt pauses equally long in every process.
    """

    attempts: int = 20
    first_seconds: float = 1.0
    cap_seconds: float = 300.0
    jitter: float = 0.5
    seed: int = 0

    def pause(self, event_id: str, sink: str, failures: int, asked: float | None = None) -> float:
        """Seconds until the next attempt.

        ``min(cap, first * 2 ** (failures - 1)) * (1 - jitter * u)`` with ``u`` uniform in [0, 1),
        and not less than the receiver asked for, which counts up to the cap.

        Parameters
        ----------
        event_id, sink:
            Of the delivery.
        failures:
            How many attempts have failed, at least 1.
        asked:
            Seconds that the receiver asked for; None if it did not.
        """
        longest = min(self.cap_seconds, self.first_seconds * 2.0 ** min(failures - 1, 64))
        text = f"{self.seed}:{sink}:{event_id}:{failures}".encode()
        draw = int.from_bytes(hashlib.sha256(text).digest()[:8]) / 2.0**64
        pause = longest * (1.0 - self.jitter * draw)
        return max(pause, min(asked or 0.0, self.cap_seconds))
