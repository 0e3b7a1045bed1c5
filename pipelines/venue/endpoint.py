"""Ask the endpoint as a venue does: one connection, patient while it starts or stops."""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Mapping
from typing import Any

import msgspec

from market.core.errors import MargincastError

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before a request is tried again; the last one is repeated."""

ANSWER_SECONDS = 60.0
"""Longest wait for an answer."""

_ANSWERS = (200, 202, 404, 409, 422)

_LOG = logging.getLogger("margincast.venue")


class RefusedError(MargincastError):
    """The endpoint refused a request for a reason that a repetition does not cure."""

    @classmethod
    def of(cls, path: str, status: int, answer: object, method: str = "POST") -> RefusedError:
        """The error of an answer."""
        return cls(f"{method} {path} was answered {status}: {str(answer)[:500]}")


class Endpoint:
    """The endpoint at an address, plain HTTP.

    A request that is not answered, or is answered 429 or 503, is repeated after a pause, each time
    a longer one, until `stop` is set: posts of bars and quotes can be repeated without effect.

    Parameters
    ----------
    host, port:
        Where it listens.
    stop:
        Ends all waiting.
    """

    def __init__(self, host: str, port: int, stop: threading.Event) -> None:
        self._host, self._port, self._stop = host, port, stop
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Post JSON; the status, 200, 202, 404, 409 or 422, and the answer. None: `stop` was set.

        Raises
        ------
        RefusedError
            Another status came.
        """
        return self._ask("POST", path, msgspec.json.encode(body))

    def get(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """Get JSON; answers and errors as of `post`."""
        return self._ask("GET", path, None)

    def another(self) -> Endpoint:
        """The same endpoint over a connection of its own, for another thread."""
        return Endpoint(self._host, self._port, self._stop)

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(
        self, method: str, path: str, content: bytes | None
    ) -> tuple[int, dict[str, Any]] | None:
        for attempt in range(10**9):
            if self._stop.is_set():
                return None
            try:
                status, answer = self._exchange(method, path, content)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                status, answer = 0, str(error).encode()
            if status in _ANSWERS:
                return status, msgspec.json.decode(answer, type=dict[str, Any])
            if status not in (0, 429, 503):
                raise RefusedError.of(path, status, answer.decode(errors="replace"), method)
            if attempt == len(RETRY_SECONDS):
                _LOG.warning(
                    "%s %s is not answered (%s); trying on", method, path, status or answer
                )
            self._stop.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        return None

    def _exchange(self, method: str, path: str, content: bytes | None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._host, self._port, timeout=ANSWER_SECONDS
            )
        headers = {} if content is None else {"content-type": "application/json"}
        self._connection.request(method, path, content, headers)
        response = self._connection.getresponse()
        return response.status, response.read()
