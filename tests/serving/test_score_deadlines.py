"""Deadlines of score calls: who waits too long is refused then, and never decided."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from decisions.batch import ScoreCall
from decisions.messages import ScoreRequest
from market.sources.http import AccountIn
from serving.admission import DeadlineError
from serving.score_queue import MAX_WAITING_BYTES, ScoreQueue
from tests.serving.test_score_queue import ACCOUNT, Scorer, begin, call, named, queue_of
from tests.waiting import WAIT_SECONDS


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), WAIT_SECONDS))


async def deadline_of(result: asyncio.Future[Any]) -> None:
    assert isinstance(await result, DeadlineError)


def test_a_call_that_waits_until_its_deadline_is_answered_then_and_never_decided() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        late = [queue.submit(call(n), 1, 0.05) for n in (1, 2)]
        patient = queue.submit(call(3), 1, WAIT_SECONDS)
        for result in late:
            await deadline_of(result)
        assert not scorer.batches, "it was answered while the thread was still at work"
        assert scorer.pending() == 2
        scorer.may.set()
        assert named(await first) == "0"
        assert named(await patient) == "3"

    with queue_of(scorer) as queue:
        run(main)
    assert scorer.batches == [["0"], ["3"]]
    assert scorer.pending() == 0


def test_a_call_that_is_being_decided_at_its_deadline_is_answered_when_it_is_done() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = queue.submit(call(0), 1, 1.0)
        assert await asyncio.to_thread(scorer.entered.wait, WAIT_SECONDS)
        await asyncio.sleep(1.4)
        assert not first.done()
        scorer.may.set()
        assert named(await first) == "0"

    with queue_of(scorer) as queue:
        run(main)


def test_what_expired_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer()

    async def main() -> None:
        await begin(queue, scorer, call(0))
        await deadline_of(queue.submit(call(1), MAX_WAITING_BYTES - 1, 0.05))
        accepted = queue.submit(call(2), MAX_WAITING_BYTES - 1, WAIT_SECONDS)
        scorer.may.set()
        assert named(await accepted) == "2"

    with queue_of(scorer) as queue:
        run(main)


class Accounts(list[AccountIn]):
    """A decoded body whose end shows."""


def test_an_expired_call_is_not_kept_while_the_scoring_thread_is_busy() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        bodies = []
        for n in range(1, 6):
            body = Accounts([ACCOUNT])
            bodies.append(weakref.ref(body))
            late = ScoreCall(ScoreRequest(body), str(n), None, "")
            waiting = queue.submit(late, MAX_WAITING_BYTES // 8, 0.02)
            del body, late
            await deadline_of(waiting)
            del waiting
        gc.collect()
        assert [body() for body in bodies] == [None] * 5
        scorer.may.set()
        await first

    with queue_of(scorer) as queue:
        run(main)


def test_a_queue_whose_calls_all_expired_goes_on_and_closes() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        for n in range(1, 6):
            await deadline_of(queue.submit(call(n), 1, 0.02))
        scorer.may.set()
        await first
        assert named(await queue.submit(call(9), 1, WAIT_SECONDS)) == "9"

    with queue_of(scorer) as queue:
        run(main)
    assert scorer.batches == [["0"], ["9"]]


def test_every_event_loop_watches_its_own_calls() -> None:
    scorer = Scorer()
    results: list[object] = []

    async def other(queue: ScoreQueue) -> None:
        results.append(await queue.submit(call(1), 1, 0.05))

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        late = queue.submit(call(2), 1, 0.3)
        await asyncio.to_thread(lambda: asyncio.run(other(queue)))
        assert isinstance(results[0], DeadlineError)
        await deadline_of(late)
        scorer.may.set()
        await first

    with queue_of(scorer) as queue:
        run(main)
