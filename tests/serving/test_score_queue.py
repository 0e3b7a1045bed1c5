"""The queue before the scoring thread: order, batches, limits, failures, and the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from decisions.batch import EncodedResponse, ScoreCall
from decisions.messages import ScoreRequest
from market.core.errors import LedgerError
from market.sources.http import AccountIn
from serving import score_queue
from serving.score_queue import (
    MAX_BATCH_ACCOUNTS,
    MAX_BATCH_CALLS,
    MAX_WAITING_BYTES,
    MAX_WAITING_CALLS,
    QueueRefusedError,
    ScoreQueue,
)
from tests.waiting import WAIT_SECONDS

ACCOUNT = AccountIn(account_id="a", cash=1.0, positions=[])


def call(name: int, accounts: int = 1) -> ScoreCall:
    return ScoreCall(ScoreRequest([ACCOUNT] * accounts), str(name), None, "")


def named(response: Any) -> str:
    assert isinstance(response, EncodedResponse)
    return response.body.decode()


class Scorer:
    """Answers each call with its name, one batch after the other once it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.waited: list[int] = []
        self.may = threading.Event()
        self.entered = threading.Event()

    def score_many(self, calls: Sequence[ScoreCall]) -> list[Any]:
        self.entered.set()
        assert self.may.wait(WAIT_SECONDS)
        self.batches.append([each.owner for each in calls])
        return [EncodedResponse(each.owner.encode()) for each in calls]

    def watch_pending(self, pending: Callable[[], float]) -> None:
        self.pending = pending

    def batch(self, calls: int, waited: Sequence[float]) -> None:
        assert len(waited) == calls
        assert all(0.0 <= seconds < WAIT_SECONDS for seconds in waited)
        self.waited.append(calls)


@contextmanager
def queue_of(scorer: Scorer, score_many: Any = None) -> Iterator[ScoreQueue]:
    queue = ScoreQueue(score_many or scorer.score_many, scorer)
    try:
        yield queue
    finally:
        scorer.may.set()
        queue.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), WAIT_SECONDS))


async def begin(queue: ScoreQueue, scorer: Scorer, first: ScoreCall) -> asyncio.Future[Any]:
    """Submit a call and wait until the thread is at work on it alone."""
    result = queue.submit(first, 1)
    assert await asyncio.to_thread(scorer.entered.wait, WAIT_SECONDS)
    return result


def test_a_lone_call_is_a_batch_of_its_own() -> None:
    scorer = Scorer()
    scorer.may.set()

    async def main() -> None:
        for n in range(3):
            assert named(await queue.submit(call(n), 1)) == str(n)

    with queue_of(scorer) as queue:
        run(main)
    assert scorer.batches == [["0"], ["1"], ["2"]]
    assert scorer.waited == [1, 1, 1]


def test_a_lone_caller_is_never_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        score_queue, "LINGER_SECONDS", 10 * WAIT_SECONDS
    )  # the test would not end in time
    scorer = Scorer()
    scorer.may.set()

    async def main() -> None:
        for n in range(20):
            assert named(await queue.submit(call(n), 1)) == str(n)

    with queue_of(scorer) as queue:
        run(main)
    assert [len(batch) for batch in scorer.batches] == [1] * 20


def test_callers_of_the_last_batches_are_waited_for_when_one_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(score_queue, "LINGER_SECONDS", 20.0)
    scorer, came_back = Scorer(), threading.Event()

    def score_many(calls: Sequence[ScoreCall]) -> list[Any]:
        results = scorer.score_many(calls)
        if len(scorer.batches) == 2:
            assert came_back.wait(WAIT_SECONDS)
        return results

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        others = [queue.submit(call(n), 1) for n in (1, 2)]
        scorer.may.set()
        await first
        again = queue.submit(call(3), 1)  # three were open at once again
        came_back.set()
        await asyncio.gather(*others)
        late = []
        for n in (4, 5, 6):
            await asyncio.sleep(0.02)
            late.append(queue.submit(call(n), 1))
        await asyncio.gather(again, *late)

    with queue_of(scorer, score_many) as queue:
        run(main)
    assert scorer.batches[0] == ["0"]
    assert [name for batch in scorer.batches[1:] for name in batch] == list("123456")
    assert len(scorer.batches) <= 3, "those that came one by one went together"


def test_a_caller_that_does_not_come_back_is_waited_for_no_longer_than_the_limit() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        others = [queue.submit(call(n), 1) for n in range(1, 9)]
        scorer.may.set()
        await asyncio.gather(first, *others)
        assert named(await queue.submit(call(9), 1)) == "9"

    with queue_of(scorer) as queue:
        run(main)
    assert scorer.batches[-1] == ["9"]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from([1, 2, 300, 700, MAX_BATCH_ACCOUNTS, 3_000]), min_size=1, max_size=150)
)
def test_what_waits_goes_together_in_order_within_the_limits(sizes: list[int]) -> None:
    scorer = Scorer()
    accounts = {str(n): size for n, size in enumerate(sizes)}

    async def main() -> None:
        first = await begin(queue, scorer, call(-1))
        waiting = [queue.submit(call(n, size), 1) for n, size in enumerate(sizes)]
        scorer.may.set()
        assert named(await first) == "-1"
        assert [named(await each) for each in waiting] == list(accounts)

    with queue_of(scorer) as queue:
        run(main)
    first, *batches = scorer.batches
    assert first == ["-1"]
    assert [name for batch in batches for name in batch] == list(accounts)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        total = sum(accounts[name] for name in batch)
        assert len(batch) == 1 or total <= MAX_BATCH_ACCOUNTS
        assert len(batch) <= MAX_BATCH_CALLS
        # A batch is as large as it may be.
        if following is not None and len(batch) < MAX_BATCH_CALLS:
            assert total + accounts[following[0]] > MAX_BATCH_ACCOUNTS


@pytest.mark.parametrize("error", [KeyError("x"), LedgerError("full"), SystemExit(3)])
def test_a_failure_is_the_result_of_every_call_of_its_batch_and_of_no_other(
    error: BaseException,
) -> None:
    scorer = Scorer()

    def score_many(calls: Sequence[ScoreCall]) -> list[Any]:
        results = scorer.score_many(calls)
        if len(scorer.batches) == 2:
            raise error
        return results

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        failing = [queue.submit(call(n), 1) for n in (1, 2)]
        scorer.may.set()
        assert named(await first) == "0"
        assert [await each for each in failing] == [error, error]
        assert named(await queue.submit(call(3), 1)) == "3"

    with queue_of(scorer, score_many) as queue:
        run(main)


def test_a_missing_result_is_an_error_and_no_other_calls_result() -> None:
    scorer = Scorer()
    scorer.may.set()

    async def main() -> None:
        assert isinstance(await queue.submit(call(0), 1), ValueError)

    with queue_of(scorer, lambda calls: scorer.score_many(calls)[1:]) as queue:
        run(main)


def test_a_full_queue_refuses_until_calls_are_decided() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        waiting = [queue.submit(call(n), 1) for n in range(1, MAX_WAITING_CALLS)]
        with pytest.raises(QueueRefusedError, match="try again later"):
            queue.submit(call(-1), 1)
        assert scorer.pending() == MAX_WAITING_CALLS
        scorer.may.set()
        await asyncio.gather(first, *waiting)
        assert scorer.pending() == 0
        assert named(await queue.submit(call(-2), 1)) == "-2"

    with queue_of(scorer) as queue:
        run(main)
    assert sum(map(len, scorer.batches)) == MAX_WAITING_CALLS + 1


def test_bytes_are_bounded_but_one_call_is_always_accepted() -> None:
    scorer = Scorer()

    async def main() -> None:
        large = queue.submit(call(0), MAX_WAITING_BYTES + 1)
        with pytest.raises(QueueRefusedError):
            queue.submit(call(1), 1)
        scorer.may.set()
        assert named(await large) == "0"
        assert named(await queue.submit(call(2), MAX_WAITING_BYTES)) == "2"

    with queue_of(scorer) as queue:
        run(main)


def test_closing_answers_what_was_accepted_and_refuses_what_comes_after() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        waiting = [queue.submit(call(n, 600), 1) for n in range(1, 5)]
        closing = asyncio.create_task(asyncio.to_thread(queue.close))
        while True:
            try:
                waiting.append(queue.submit(call(5 + len(waiting)), 1))
            except QueueRefusedError:
                break
            await asyncio.sleep(0.001)
        assert not closing.done()
        scorer.may.set()
        await closing
        names = [named(await each) for each in (first, *waiting)]
        assert names == [name for batch in scorer.batches for name in batch]

    with queue_of(scorer) as queue:
        run(main)
        queue.close()


def test_a_caller_that_gave_up_costs_the_others_nothing() -> None:
    scorer = Scorer()

    async def main() -> None:
        first = await begin(queue, scorer, call(0))
        leaving, staying = queue.submit(call(1), 1), queue.submit(call(2), 1)
        leaving.cancel()
        scorer.may.set()
        assert named(await first) == "0"
        assert named(await staying) == "2"

    with queue_of(scorer) as queue:
        run(main)


def test_event_loops_each_get_their_own_results() -> None:
    scorer = Scorer()

    def other(name: int) -> None:
        async def main() -> None:
            assert named(await queue.submit(call(name), 1)) == str(name)

        run(main)

    async def gone() -> None:
        queue.submit(call(99), 1)

    with queue_of(scorer) as queue:
        run(gone)  # its loop is closed before the result is there
        threads = [threading.Thread(target=other, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        scorer.may.set()
        for thread in threads:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()
    assert sorted(name for batch in scorer.batches for name in batch) == ["0", "1", "2", "3", "99"]


class BrokenMetrics(Scorer):
    """Metrics that fail for every batch."""

    def batch(self, calls: int, waited: Sequence[float]) -> None:
        raise IndexError("no such bucket")


def test_metrics_that_fail_cost_no_call_its_result(caplog: pytest.LogCaptureFixture) -> None:
    scorer = BrokenMetrics()
    scorer.may.set()

    async def main() -> None:
        for n in range(3):
            assert named(await queue.submit(call(n), 1)) == str(n)

    with queue_of(scorer) as queue:
        run(main)
        assert queue.health_error() is None
    assert "no such bucket" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_scoring_thread_that_ended_is_named_and_accepts_no_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = Scorer()

    def fail(_: ScoreQueue) -> None:
        raise MemoryError

    async def main() -> None:
        queue.submit(call(0), 1)  # nobody decides on it any more
        while queue.health_error() is None:
            await asyncio.sleep(0.001)
        with pytest.raises(QueueRefusedError, match="scoring thread ended"):
            queue.submit(call(1), 1)

    monkeypatch.setattr(ScoreQueue, "_next_batch", fail)
    with queue_of(scorer) as queue:
        assert queue.health_error() is None, "it starts with the first call"
        run(main)
