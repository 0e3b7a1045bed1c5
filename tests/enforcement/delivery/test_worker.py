"""Delivery under faults: nothing is lost, and the order of an account holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from enforcement.delivery.outbox import count_rows, prune, skip
from enforcement.delivery.retries import RetryPolicy
from enforcement.delivery.sinks import Message, Outcome, Sink
from enforcement.delivery.topics import Subscription
from enforcement.delivery.webhook import WebhookSink
from enforcement.delivery.worker import DeliveryWorker
from ledger.schema import outbox
from ledger.store import Ledger
from market.core.errors import LedgerError
from tests.enforcement.delivery.receiver import (
    SECRET,
    Receiver,
    call_event,
    put,
    receiving,
    statuses,
)
from tests.waiting import wait_for

QUICK = RetryPolicy(attempts=3, first_seconds=0.01, cap_seconds=0.02)


def hook_sink(hook: Receiver, name: str = "venue", seconds: float = 5.0) -> WebhookSink:
    return WebhookSink(name, hook.url, SECRET, ("127.0.0.1",), seconds)


def worker(
    ledger: Ledger,
    *sinks: Sink,
    policy: RetryPolicy = QUICK,
    is_leader: Callable[[], bool] = lambda: True,
    concurrency: int = 4,
) -> DeliveryWorker:
    return DeliveryWorker(ledger, sinks, policy, is_leader, concurrency)


def all_are(ledger: Ledger, status: str, sink: str | None = None) -> Callable[[], bool]:
    return lambda: set(statuses(ledger, sink).values()) == {status}


class Told:
    """A sink in memory that answers as a function says."""

    def __init__(self, name: str, answer: Callable[[Message], bool] = lambda _: True) -> None:
        self.name, self._answer = name, answer
        self.got: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def send(self, message: Message) -> Outcome:
        with self._lock:
            self.got.append(message.event_id)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return Outcome(self._answer(message), "told")
        finally:
            with self._lock:
                self._at_once -= 1


def test_every_event_arrives_once_signed_and_in_the_order_of_its_account(ledger: Ledger) -> None:
    accounts = [f"acc/{number}" for number in range(12)]
    events = [call_event(name, number) for number in range(1, 6) for name in accounts]
    shuffled = np.random.default_rng(3).permutation(len(events)).tolist()
    events = [events[place] for place in shuffled]
    with receiving() as hook, worker(ledger, hook_sink(hook)):
        put(ledger, events[:30], ["venue"])
        put(ledger, events[30:], ["venue"])
        wait_for(all_are(ledger, "delivered"))
        hook.check()
        assert Counter(hook.events()).most_common(1)[0][1] == 1
        assert len(hook.got) == len(events)


def test_events_of_one_account_arrive_in_order_while_answers_are_lost_and_refused(
    ledger: Ledger,
) -> None:
    draw = np.random.default_rng(7)
    attempts = Counter[str]()
    lock = threading.Lock()

    def answer(event: Mapping[str, Any]) -> int:
        with lock:
            attempts[event["event_id"]] += 1
            if attempts[event["event_id"]] >= 4:
                return 200
            return int(draw.choice([200, 500, -1]))

    names = ["a", "b", "c"]
    events = [call_event(name, number) for name in names for number in range(1, 9)]
    patient = RetryPolicy(attempts=9, first_seconds=0.01, cap_seconds=0.02)
    with receiving(answer) as hook, worker(ledger, hook_sink(hook), policy=patient):
        put(ledger, events, ["venue"])
        wait_for(all_are(ledger, "delivered"))
    assert max(attempts.values()) > 1
    for name in names:
        # Repetitions of an event come before the next event: the first ones are in order.
        order = list(dict.fromkeys(hook.events(name)))
        assert order == [f"call-{name}-{number}" for number in range(1, 9)]
        assert hook.events(name) == sorted(hook.events(name))


def test_a_lost_answer_is_sent_again_under_the_same_id(ledger: Ledger) -> None:
    lost = iter([-1])
    with receiving(lambda _: next(lost, 204)) as hook, worker(ledger, hook_sink(hook)):
        put(ledger, [call_event("a", 1)], ["venue"])
        wait_for(all_are(ledger, "delivered"))
        assert hook.events() == ["call-a-1", "call-a-1"]
        assert hook.got[0][1] == hook.got[1][1]
        hook.check()


def test_a_slow_account_stops_no_other_one(ledger: Ledger) -> None:
    hold = threading.Event()

    def answer(event: Mapping[str, Any]) -> int:
        if event["account_id"] == "slow":
            hold.wait(60)
        return 204

    try:
        with receiving(answer) as hook, worker(ledger, hook_sink(hook, seconds=60), concurrency=2):
            slow = [call_event("slow", number) for number in range(1, 200)]
            put(ledger, slow, ["venue"])
            wait_for(lambda: hook.events("slow"))
            put(ledger, [call_event("quick", number) for number in range(1, 6)], ["venue"])
            wait_for(lambda: len(hook.events("quick")) == 5)
            assert hook.events("slow") == ["call-slow-1"]
            hold.set()
            wait_for(lambda: len(hook.events("slow")) == len(slow))
            assert hook.events("slow") == [event["event_id"] for event in slow]
    finally:
        hold.set()


def test_a_slow_receiver_stops_no_other_sink_and_takes_few_threads(ledger: Ledger) -> None:
    hold = threading.Event()
    slow, quick = Told("slow", lambda _: hold.wait(60)), Told("quick")
    try:
        with worker(ledger, slow, quick, concurrency=3):
            put(ledger, [call_event(f"a{n}", 1) for n in range(300)], ["slow", "quick"])
            wait_for(all_are(ledger, "delivered", "quick"))
            assert (len(slow.got), slow.most_at_once) == (3, 3)
            hold.set()
            wait_for(all_are(ledger, "delivered", "slow"))
            assert sorted(slow.got) == sorted(quick.got)
            assert slow.most_at_once == 3
    finally:
        hold.set()


def test_a_dead_letter_blocks_only_its_account_at_its_sink_until_it_is_skipped(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Told("bad", lambda message: message.event_id != "call-a-2")
    good = Told("good")
    with worker(ledger, bad, good):
        events = [call_event(name, number) for name in ("a", "b") for number in range(1, 5)]
        put(ledger, events, ["bad", "good"])
        wait_for(all_are(ledger, "delivered", "good"))
        wait_for(lambda: statuses(ledger, "bad")["call-a-2"] == "dead")
        wait_for(lambda: statuses(ledger, "bad")["call-b-4"] == "delivered")
        put(ledger, [call_event("a", 5), call_event("b", 5)], ["bad"])
        wait_for(lambda: statuses(ledger, "bad")["call-b-5"] == "delivered")
        found = statuses(ledger, "bad")
        assert [found[f"call-a-{n}"] for n in range(1, 6)] == [
            *("delivered", "dead", "pending", "pending", "pending"),
        ]
        assert bad.got.count("call-a-2") == QUICK.attempts
        assert "call-a-2 is a dead letter of sink 'bad' after 3 attempts" in caplog.text
        with ledger.transaction() as connection:
            assert not skip(connection, "call-a-2", "good", time.time_ns())
            assert not skip(connection, "call-a-3", "bad", time.time_ns())
            assert skip(connection, "call-a-2", "bad", time.time_ns(), "by ops")
        wait_for(lambda: statuses(ledger, "bad")["call-a-5"] == "delivered")
    assert statuses(ledger, "bad")["call-a-2"] == "skipped"
    assert [name for name in bad.got if name > "call-a-2" and name < "call-b"] == [
        f"call-a-{n}" for n in range(3, 6)
    ]


def test_a_failing_receiver_is_tried_less_and_less_often(ledger: Ledger) -> None:
    times: list[float] = []

    def answer(_: Message) -> bool:
        times.append(time.monotonic())
        return False

    policy = RetryPolicy(attempts=5, first_seconds=0.1, cap_seconds=0.4, jitter=0.0)
    with worker(ledger, Told("venue", answer), policy=policy):
        put(ledger, [call_event("a", 1)], ["venue"])
        wait_for(all_are(ledger, "dead"))
    pauses = [later - before for before, later in pairwise(times)]
    assert len(times) == 5
    for pause, least in zip(pauses, [0.1, 0.2, 0.4, 0.4], strict=True):
        assert pause >= least


def test_only_the_leader_delivers_and_a_new_one_goes_on(ledger: Ledger) -> None:
    leads = [False, False]
    first, second = Told("venue"), Told("venue")
    with (
        worker(ledger, first, is_leader=lambda: leads[0]),
        worker(ledger, second, is_leader=lambda: leads[1]),
    ):
        put(ledger, [call_event("a", 1)], ["venue"])
        time.sleep(0.6)
        assert first.got == second.got == []
        leads[0] = True
        wait_for(all_are(ledger, "delivered"))
        leads[:] = [False, True]
        time.sleep(0.6)
        put(ledger, [call_event("a", 2)], ["venue"])
        wait_for(all_are(ledger, "delivered"))
    assert (first.got, second.got) == (["call-a-1"], ["call-a-2"])


def test_two_that_believe_to_lead_spoil_no_row(ledger: Ledger) -> None:
    first, second = Told("venue"), Told("venue")
    events = [call_event(f"a{n % 5}", n) for n in range(1, 60)]
    with worker(ledger, first), worker(ledger, second):
        put(ledger, events, ["venue"])
        wait_for(all_are(ledger, "delivered"))
    assert set(first.got) | set(second.got) == {event["event_id"] for event in events}
    with ledger.engine.connect() as connection:
        assert set(connection.execute(select(outbox.c.attempts)).scalars()) == {1}


def test_results_that_cannot_be_recorded_are_kept_and_nothing_is_sent_twice(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Told("venue")
    real = ledger.transaction
    fails = [2]

    def transaction(*arguments: Any) -> Any:
        if sink.got and fails[0]:
            fails[0] -= 1
            raise LedgerError("the disk is full")
        return real(*arguments)

    monkeypatch.setattr("enforcement.delivery.worker.RETRY_SECONDS", 0.05)
    put(ledger, [call_event("a", n) for n in (1, 2, 3)], ["venue"])
    monkeypatch.setattr(ledger, "transaction", transaction)
    with worker(ledger, sink):
        wait_for(all_are(ledger, "delivered"))
    assert fails == [0]
    assert sink.got == ["call-a-1", "call-a-2", "call-a-3"]
    assert "events are not delivered: the disk is full" in caplog.text
    assert "events are delivered again" in caplog.text


def test_a_sink_that_raises_is_a_failed_attempt(ledger: Ledger) -> None:
    def answer(message: Message) -> bool:
        if sink.got.count(message.event_id) == 1:
            raise RuntimeError("a fault of the sink")
        return True

    sink = Told("venue", answer)
    with worker(ledger, sink):
        put(ledger, [call_event("a", 1)], ["venue"])
        wait_for(all_are(ledger, "delivered"))
    assert len(sink.got) == 2


def test_a_sink_gets_only_the_events_that_it_wants(ledger: Ledger) -> None:
    every, some = Told("every"), Told("some")
    events = [
        call_event("a", 1),
        call_event("a", 2, event="met"),
        {**call_event("a", 3), "instruction_id": "i-1", "event": "issued"},
    ]
    with worker(ledger, every, some):
        put(ledger, events, ["every", Subscription("some", frozenset({"call.met"}))])
        wait_for(all_are(ledger, "delivered"))
    assert every.got == ["call-a-1", "call-a-2", "call-a-3"]
    assert some.got == ["call-a-2"]


def test_delivered_rows_are_deleted_after_their_time_and_others_stay(ledger: Ledger) -> None:
    sink = Told("venue", lambda message: message.account_id == "a")
    with worker(ledger, sink):
        put(ledger, [call_event("a", 1), call_event("a", 2), call_event("b", 1)], ["venue"])
        wait_for(lambda: sorted(statuses(ledger).values()) == ["dead", "delivered", "delivered"])
    now = time.time_ns()
    with ledger.transaction() as connection:
        connection.execute(
            update(outbox).where(outbox.c.event_id == "call-a-2").values(next_attempt_at=now)
        )
        assert prune(connection, now) == 1
        assert prune(connection, now) == 0
    assert statuses(ledger) == {"call-a-2": "delivered", "call-b-1": "dead"}
    with ledger.engine.connect() as connection:
        found = count_rows(connection)
    assert found["venue"].by_status == {"dead": 1, "delivered": 1}
    assert found["venue"].oldest == 1


PROGRAM = """
import sys, time
from enforcement.delivery.retries import RetryPolicy
from enforcement.delivery.topics import Subscription
from enforcement.delivery.webhook import WebhookSink
from enforcement.delivery.worker import DeliveryWorker
from ledger.store import Ledger
ledger = Ledger(sys.argv[1])
sink = WebhookSink("venue", sys.argv[2], sys.argv[3].encode(), ("127.0.0.1",))
with DeliveryWorker(ledger, [sink], RetryPolicy(), lambda: True):
    print("started", flush=True)
    time.sleep(600)
"""


def test_what_is_killed_resumes_with_nothing_lost_and_the_order_kept(ledger: Ledger) -> None:
    url = ledger.engine.url.render_as_string(hide_password=False)
    root = str(Path(__file__).parents[3])
    events = [call_event(f"a{n % 20}", n) for n in range(1, 801)]
    put(ledger, events, ["venue"])
    kills = 0
    with receiving() as hook:
        while "pending" in statuses(ledger).values():
            before = len(hook.got)
            running = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, url, hook.url, SECRET.decode()],
                env=os.environ | {"PYTHONPATH": root},
                stdout=subprocess.PIPE,
            )
            enough = before + 150
            wait_for(
                lambda enough=enough: (  # type: ignore[misc]
                    len(hook.got) > enough or "pending" not in statuses(ledger).values()
                )
            )
            running.send_signal(signal.SIGKILL)
            running.communicate()
            kills += 1
        hook.check()
        seen = hook.events()
    assert kills >= 3
    assert set(seen) == {event["event_id"] for event in events}
    # What was sent twice was under way at a kill: at most the attempts that may run at once.
    assert len(seen) - len(set(seen)) <= 8 * kills
    for name in {event["account_id"] for event in events}:
        numbers = [int(one.rpartition("-")[2]) for one in hook.events(name)]
        assert list(dict.fromkeys(numbers)) == sorted(set(numbers))
