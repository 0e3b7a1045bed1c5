"""More connections than there is room for: the service goes on, and health is answered."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest

from market.core.errors import ConfigError
from serving.http.connections import ConnectionLimits, open_connections
from serving.http.connections.limits import MOST_CONNECTIONS, connection_limit
from serving.http.connections.open_connections import HEALTH_RESERVE
from tests.serving.http.small_endpoint import LAST, WHOLE, Endpoint, read_all, read_answer
from tests.waiting import wait_for

Start = Callable[..., Endpoint]
HALF_HEAD = b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-"
HEALTH = b"GET /health/live?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"


def test_beyond_the_limit_only_health_is_answered(start: Start) -> None:
    endpoint = start(max_connections=5, head_seconds=60.0)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(closing(endpoint.connect(HALF_HEAD)))
        endpoint.until_open(5)
        answer = endpoint.exchange(WHOLE)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert b'"urn:margincast:problem:overloaded"' in answer
        assert endpoint.exchange(HEALTH).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: answered(endpoint, LAST))


def test_a_crowd_of_half_sent_requests_is_gone_in_time_and_health_before(start: Start) -> None:
    endpoint = start(max_connections=5, head_seconds=12.0)
    began = time.monotonic()
    with ExitStack() as stack:
        crowd = [endpoint.connect(HALF_HEAD) for _ in range(40)]
        for client in crowd:
            stack.enter_context(closing(client))
        wait_for(lambda: answered(endpoint, HEALTH))
        assert time.monotonic() - began < 12.0, "the reserve is free again after two seconds"
        wait_for(lambda: answered(endpoint, LAST))


def answered(endpoint: Endpoint, sent: bytes) -> bool:
    try:
        return endpoint.exchange(sent).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


def test_connections_beyond_the_reserve_are_closed_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_connections, "SPARE_SECONDS", 60.0)
    endpoint = start(max_connections=5, head_seconds=60.0)
    with ExitStack() as stack:
        for _ in range(5 + HEALTH_RESERVE):
            stack.enter_context(closing(endpoint.connect(HALF_HEAD)))
        endpoint.until_open(5 + HEALTH_RESERVE)
        began = time.monotonic()
        assert endpoint.exchange(b"").startswith(b"HTTP/1.1 503 ")
        assert time.monotonic() - began < 30.0


def test_the_longest_idle_connection_makes_room(start: Start) -> None:
    endpoint = start(max_connections=5)
    with ExitStack() as stack:
        idle = []
        for _ in range(5):
            client = stack.enter_context(closing(endpoint.connect(WHOLE)))
            assert read_answer(client, b"/whole 0")
            idle.append(client)
            time.sleep(0.25)
        assert endpoint.exchange(LAST).startswith(b"HTTP/1.1 200 ")
        assert read_all(idle[0]) == b"", "the oldest one was closed"
        idle[1].sendall(LAST)
        assert read_all(idle[1]).startswith(b"HTTP/1.1 200 "), "and no other"


def test_the_limit_leaves_descriptors_for_everything_else() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, hard), hard))
        assert 700 < connection_limit(0) < 1_000
        assert connection_limit(0) == connection_limit(5_000)
        assert connection_limit(100) == 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
        assert connection_limit(0) == MOST_CONNECTIONS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "impossible",
    [
        {"max_connections": -1},
        {"head_seconds": 0.0},
        {"body_seconds": -1.0},
        {"idle_seconds": 0.0},
        {"write_seconds": 0.0},
        {"max_pending_bytes": 0},
        {"drain_seconds": -1.0},
        {"stop_seconds": 0.0},
    ],
)
def test_impossible_limits_are_refused_by_name(impossible: dict[str, float]) -> None:
    (name,) = impossible
    with pytest.raises(ConfigError, match=name):
        ConnectionLimits(**impossible)  # type: ignore[arg-type]
