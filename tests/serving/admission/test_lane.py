"""Lanes: bounded in threads, queue and time, and what is refused is never run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from decisions.errors import RequestError
from serving.admission import DeadlineError, Lane, LaneFullError, call_seconds
from tests.waiting import WAIT_SECONDS


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, WAIT_SECONDS))


class Calls:
    """Calls that block until they are let go; counts how many run at once."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.started: list[int] = []
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def call(self, number: int) -> int:
        with self._lock:
            self.started.append(number)
            self._running += 1
            self.most = max(self.most, self._running)
        self.go_on.wait(WAIT_SECONDS)
        with self._lock:
            self._running -= 1
        return number


async def until_started(calls: Calls, count: int) -> None:
    while len(calls.started) < count:
        await asyncio.sleep(0.002)


def test_no_more_run_at_once_than_there_are_threads_and_in_order() -> None:
    async def check() -> None:
        calls, lane = Calls(), Lane("calls", 2, 10)
        jobs = [
            asyncio.ensure_future(lane.run(lambda number=i: calls.call(number), WAIT_SECONDS))  # type: ignore[misc]
            for i in range(8)
        ]
        await until_started(calls, 2)
        await asyncio.sleep(0.05)
        assert len(calls.started) == 2
        calls.go_on.set()
        assert await asyncio.gather(*jobs) == list(range(8))
        assert calls.most == 2
        assert sorted(calls.started[:2]) == [0, 1]
        assert sorted(calls.started) == list(range(8))
        lane.close()

    run(check())


def test_a_full_lane_refuses_and_does_not_run_what_it_refused() -> None:
    async def check() -> None:
        calls, lane = Calls(), Lane("calls", 1, 2)
        jobs = [
            asyncio.ensure_future(lane.run(lambda: calls.call(0), WAIT_SECONDS)) for _ in range(3)
        ]
        await until_started(calls, 1)
        await asyncio.sleep(0.02)
        with pytest.raises(LaneFullError, match="2 calls wait already"):
            await lane.run(lambda: calls.call(9), WAIT_SECONDS)
        calls.go_on.set()
        await asyncio.gather(*jobs)
        assert calls.started == [0, 0, 0]
        assert await lane.run(lambda: calls.call(1), WAIT_SECONDS) == 1, "there is room again"
        lane.close()

    run(check())


def test_a_call_that_waits_until_its_deadline_is_refused_then_and_never_run() -> None:
    async def check() -> None:
        calls, lane = Calls(), Lane("calls", 1, 2)
        first = asyncio.ensure_future(lane.run(lambda: calls.call(0), 1.0))
        await until_started(calls, 1)
        with pytest.raises(DeadlineError):
            await lane.run(lambda: calls.call(1), 1.2)
        calls.go_on.set()
        assert await first == 0, "a call that runs at its deadline is answered"
        assert await lane.run(lambda: calls.call(2), WAIT_SECONDS) == 2
        assert calls.started == [0, 2]
        lane.close()

    run(check())


def test_a_call_whose_caller_gave_up_is_not_run() -> None:
    async def check() -> None:
        calls, lane = Calls(), Lane("calls", 1, 2)
        first = asyncio.ensure_future(lane.run(lambda: calls.call(0), WAIT_SECONDS))
        await until_started(calls, 1)
        second = asyncio.ensure_future(lane.run(lambda: calls.call(1), WAIT_SECONDS))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        calls.go_on.set()
        assert await first == 0
        assert await lane.run(lambda: calls.call(2), WAIT_SECONDS) == 2
        assert calls.started == [0, 2]
        lane.close()

    run(check())


def test_what_a_call_raises_its_caller_raises_and_the_lane_goes_on() -> None:
    def fail() -> None:
        raise RequestError("no")

    async def check() -> None:
        lane = Lane("calls", 1, 2)
        with pytest.raises(RequestError, match="no"):
            await lane.run(fail, WAIT_SECONDS)
        assert await lane.run(lambda: 5, WAIT_SECONDS) == 5
        lane.close()

    run(check())


def test_a_closed_lane_refuses_and_what_waited_in_it_too() -> None:
    async def check() -> None:
        calls, lane = Calls(), Lane("calls", 1, 2)
        first = asyncio.ensure_future(lane.run(lambda: calls.call(0), WAIT_SECONDS))
        await until_started(calls, 1)
        second = asyncio.ensure_future(lane.run(lambda: calls.call(1), WAIT_SECONDS))
        await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(asyncio.to_thread(lane.close))
        with pytest.raises(LaneFullError, match="stops"):
            await second
        assert not closing.done(), "what runs is waited for"
        calls.go_on.set()
        assert await first == 0
        await closing
        with pytest.raises(LaneFullError, match="stops"):
            await lane.run(lambda: calls.call(2), WAIT_SECONDS)
        assert calls.started == [0]

    run(check())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 30.0), ("5", 5.0), ("0.25", 0.25), ("1e9", 30.0), ("inf", 30.0), (" 7 ", 7.0)],
)
def test_a_client_can_only_shorten_its_deadline(header: str | None, seconds: float) -> None:
    assert call_seconds(header, 30.0) == seconds


@pytest.mark.parametrize("header", ["", "soon", "0", "-1", "nan", "1,5"])
def test_a_deadline_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(RequestError, match="Request-Timeout"):
        call_seconds(header, 30.0)


def test_a_refused_call_is_told_to_come_back_when_the_running_one_may_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        calls, lane = Calls(), Lane("what-ifs", 1, 1)
        jobs = [
            asyncio.ensure_future(lane.run(lambda: calls.call(0), WAIT_SECONDS)) for _ in range(2)
        ]
        await until_started(calls, 1)
        ahead = time.monotonic() + 20.0
        monkeypatch.setattr("serving.admission.lane.time.monotonic", lambda: ahead)
        with pytest.raises(LaneFullError) as full:
            await lane.run(lambda: 0, 20.0)
        monkeypatch.undo()
        assert 39 <= full.value.retry_seconds <= 60, "20 s for each of two calls"
        calls.go_on.set()
        await asyncio.gather(*jobs)

    run(check())
