"""Clients that score without pause, repeat what was not answered, and keep what was."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

REQUEST_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_SCORE = "/v1/score"
_LARGEST_CALL = 3


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A call that was answered 200.

    Attributes
    ----------
    key:
        Its idempotency key.
    accounts, decisions:
        Names of the accounts and the ids of their decisions.
    model:
        The bundle that decided; None where none did.
    attempts:
        How often it was sent.
    milliseconds:
        Of the last attempt.
    finished:
        On the monotonic clock.
    """

    key: str
    accounts: tuple[str, ...]
    decisions: tuple[str, ...]
    model: str | None
    attempts: int
    milliseconds: float
    finished: float


@dataclass
class Outcome:
    """What the clients saw.

    Attributes
    ----------
    acknowledged:
        The calls answered 200.
    answers:
        Number of other answers by status.
    broken:
        Number of attempts by the way in which they got no answer: ``refused`` before a
        connection was made, ``reset`` after.
    wrong:
        Answers that no promise allows, as text.
    given_up:
        Calls that were not acknowledged when their time was over.
    """

    acknowledged: list[Acknowledged] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    given_up: int = 0

    @property
    def decisions(self) -> int:
        """Decisions that were acknowledged."""
        return sum(len(call.decisions) for call in self.acknowledged)


@dataclass(frozen=True)
class Plan:
    """What the clients send.

    Attributes
    ----------
    clients:
        How many connections, each in a thread.
    accounts:
        How many accounts they share, so that levels are passed on between clients.
    seed:
        Of positions, accounts and sizes of calls.
    decisions:
        Stop after so many; None: until `Load.stop`.
    repeat:
        Whether a call that was not acknowledged is repeated under its key until it is.
    pause:
        Seconds between two calls of a client.
    """

    clients: int = 6
    accounts: int = 40
    seed: int = 1
    decisions: int | None = None
    repeat: bool = True
    pause: float = 0.0


class Load:
    """Runs the clients of a plan against a port.

    Each call has a key of its own, and the model's whole answer is kept. `finish` returns once
    every call that was begun is acknowledged or given up.
    """

    def __init__(self, port: int, plan: Plan) -> None:
        self.outcome = Outcome()
        self._port, self._plan = port, plan
        self._lock = threading.Lock()
        self._stop, self._abandon = threading.Event(), threading.Event()
        self._promised = 0
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(plan.clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._abandon.set()
        for thread in self._threads:
            thread.join(REQUEST_SECONDS)

    def wait_for(self, decisions: int, seconds: float = 300.0) -> None:
        """Until so many decisions are acknowledged in all.

        Raises
        ------
        RuntimeError
            Too few were within the time.
        """
        deadline = time.monotonic() + seconds
        while self.outcome.decisions < decisions and any(t.is_alive() for t in self._threads):
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self.outcome.decisions} decisions of {decisions} in {seconds:g} s: "
                    f"{self.outcome.answers}, {self.outcome.broken}, {self.outcome.wrong[:3]}"
                )
            time.sleep(0.005)

    def more(self, decisions: int, seconds: float = 300.0) -> None:
        """Until so many further decisions are acknowledged."""
        self.wait_for(self.outcome.decisions + decisions, seconds)

    def finish(self, seconds: float = 300.0) -> Outcome:
        """Begin no further call, and wait for those that were begun."""
        if self._plan.decisions is None:
            self._stop.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.__exit__()
        return self.outcome

    def _run(self, number: int) -> None:
        draw = random.Random(f"{self._plan.seed}-{number}")  # noqa: S311 - no secret
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=REQUEST_SECONDS)
        count = 0
        with contextlib.closing(connection):
            while not self._stop.is_set():
                size = self._reserve(draw.choice((1, 1, 1, _LARGEST_CALL)))
                if not size:
                    return
                names = draw.sample(range(self._plan.accounts), size)
                accounts = [account(f"account-{name}", draw.uniform(0.01, 0.4)) for name in names]
                self._call(connection, f"{self._plan.seed}-{number}-{count}", accounts)
                count += 1
                if self._plan.pause:
                    self._stop.wait(self._plan.pause)

    def _reserve(self, size: int) -> int:
        with self._lock:
            if self._plan.decisions is not None:
                size = min(size, self._plan.decisions - self._promised)
            self._promised += size
            return size

    def _call(
        self, connection: http.client.HTTPConnection, key: str, accounts: Sequence[dict[str, Any]]
    ) -> None:
        body = json.dumps({"accounts": accounts}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        attempts = 0
        while True:
            attempts += 1
            begun = time.monotonic()
            status, answer = self._attempt(connection, body, headers)
            if status == 200:
                self._keep(key, accounts, answer, attempts, begun)
                return
            if status not in (0, 429, 503):
                self.outcome.wrong.append(f"{status}: {answer[:300]!r}")
                return
            if not self._plan.repeat or self._abandon.wait(_PAUSE_SECONDS):
                with self._lock:
                    self.outcome.given_up += 1
                # Nobody listens any more: a client that does not repeat is done.
                if connection.sock is None:
                    self._stop.wait(_PAUSE_SECONDS)
                return

    def _attempt(
        self, connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        way = "refused"
        try:
            if connection.sock is None:
                connection.connect()
            way = "reset"
            connection.request("POST", _SCORE, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            with self._lock:
                self.outcome.broken[way] += 1
            return 0, b""
        if response.status != 200:
            with self._lock:
                self.outcome.answers[response.status] += 1
        return response.status, answer

    def _keep(
        self,
        key: str,
        accounts: Sequence[dict[str, Any]],
        answer: bytes,
        attempts: int,
        begun: float,
    ) -> None:
        now = time.monotonic()
        content = json.loads(answer, parse_constant=_refuse)
        decisions = content["decisions"]
        names = tuple(account["account_id"] for account in accounts)
        if content["errors"] or tuple(d["account_id"] for d in decisions) != names:
            self.outcome.wrong.append(f"not every account is decided on: {answer[:300]!r}")
        self.outcome.wrong += [fault for d in decisions for fault in decision_faults(d)]
        ids = tuple(decision["decision_id"] for decision in decisions)
        call = Acknowledged(
            key, names, ids, decisions[0]["model"], attempts, 1e3 * (now - begun), now
        )
        with self._lock:
            self.outcome.acknowledged.append(call)


def account(name: str, quantity: float) -> dict[str, Any]:
    """A levered account of one position."""
    positions = [{"instrument": "BTCUSDT-PERP", "quantity": quantity}]
    return {"account_id": name, "cash": 5_000.0, "positions": positions}


def decision_faults(decision: dict[str, Any]) -> list[str]:
    """Broken promises of one decision: bounds of the add-on and of the probabilities."""
    faults = []
    floor, cap = decision["floor"], decision["cap"]
    if not floor <= decision["add_on"] <= max(floor, cap):
        faults.append(f"add-on {decision['add_on']} is outside {floor} … max(floor, {cap})")
    ladder = list((decision["probability"] or {}).values())
    if any(not 0.0 <= p <= 1.0 for p in ladder) or ladder != sorted(ladder):
        faults.append(f"probabilities {ladder} are no ladder within 0 … 1")
    return faults


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def at_each(
    load: Load, count: int, decisions: int, event: Callable[[int], None], rng: random.Random
) -> None:
    """Let an event happen so often, spread over so many decisions, at drawn moments."""
    step = decisions / (count + 1)
    for number in range(count):
        load.wait_for(round(step * (number + rng.uniform(0.6, 1.4))))
        event(number)
