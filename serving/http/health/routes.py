"""``GET /health/live`` and ``GET /health/ready`` on the event loop, outside the framework.

No thread that scores, asks what if or looks up is needed to answer, and no database is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from serving.http.answers import Answer
from serving.http.health.probe import Probe
from serving.http.server import STOPPING
from serving.schemas.read_messages import Alive, Readiness

READY_SECONDS = 1.5
"""Longest wait for a fresh readiness; after it the last one is answered, with its age."""

STALE_SECONDS = 10.0
"""Without a fresh readiness for this time, the endpoint is not ready."""

LIVE, READY = "/health/live", "/health/ready"

_LIVE = msgspec.json.encode(Alive("live"))
_STOPS = msgspec.json.encode(Readiness("unavailable", ["the endpoint stops"]))


class HealthRoutes:
    """Answers for health.

    Parameters
    ----------
    readiness:
        Finds out whether decisions can be made and recorded; may take its time.
    """

    def __init__(self, readiness: Callable[[], Readiness]) -> None:
        self._readiness = Probe("readiness", readiness)

    @staticmethod
    def takes(scope: Mapping[str, Any]) -> bool:
        """Whether a request asks for health."""
        return scope["path"] in (LIVE, READY) and scope["method"] == "GET"

    async def answer(self, scope: Mapping[str, Any]) -> Answer:
        """The answer: 200 or, where decisions cannot be made now, 503."""
        if scope["path"] == LIVE:
            return _answer(200, _LIVE)
        if scope.get("state", {}).get(STOPPING):
            return _answer(503, _STOPS)
        readiness = await self._ready()
        ready = readiness.status != "unavailable"
        return _answer(200 if ready else 503, msgspec.json.encode(readiness))

    async def _ready(self) -> Readiness:
        reading = await self._readiness.read(READY_SECONDS)
        if reading.unknown >= STALE_SECONDS or reading.value is None:
            why = "readiness cannot be found"
            if reading.unknown:
                why += f" since {reading.unknown:.0f} s: the ledger or the process hangs"
            return Readiness("unavailable", [why])
        if reading.age:
            return msgspec.structs.replace(reading.value, age_seconds=round(reading.age, 1))
        return reading.value


def _answer(status: int, body: bytes) -> Answer:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    return Answer(status, headers, body)
