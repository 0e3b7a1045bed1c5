"""An endpoint beside a monitor that applies commands, as in another process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from enforcement.calls.instruction import Instruction
from enforcement.record.live_enforcement import LiveEnforcement
from enforcement.record.rows import write_instructions
from ledger.schema import writing
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time, parse_time
from tests.endpoint_fixtures import Bundles, Endpoint, Serve, SmallMarket
from tests.monitoring.evaluation.helpers import Watched, snapshot, watched

ROWS = 230
"""Bars that the market has at the start."""


@dataclass
class Desk:
    """A called account, the endpoint, and the monitor that leads."""

    endpoint: Endpoint
    watched: Watched
    keys: dict[str, dict[str, str]] = field(default_factory=dict)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Let the monitor step until the block ends."""
        stop = threading.Event()
        faults: list[BaseException] = []

        def lead() -> None:
            while not stop.is_set():
                try:
                    if not self.watched.monitor.step():
                        stop.wait(0.01)
                except BaseException as error:  # noqa: BLE001  raised again below
                    faults.append(error)
                    return

        thread = threading.Thread(target=lead, name="leader")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if faults:
            raise faults[0]

    def get(self, path: str, **query: Any) -> Any:
        answer = self.endpoint.client.get(path, params=query, headers=self._key("read"))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any, who: str, **headers: str) -> Any:
        """The response to a request of the key of a scope; ``approve-2`` is a second key of it."""
        client = self.endpoint.client
        return client.post(path, json=body, headers=self._key(who) | headers)

    def call(self) -> dict[str, Any]:
        (call,) = self.get("/v1/calls", account="desk/1", open="true")["calls"]
        return dict(call)

    def now(self) -> int:
        return parse_time(self.get("/v1/accounts")["as_of"])

    def later(self, hours: float) -> str:
        return format_time(self.now() + round(hours * HOUR))

    def _key(self, who: str) -> dict[str, str]:
        if who not in self.keys:
            self.keys[who] = self.endpoint.key(who.partition("-")[0])
        return self.keys[who]


def close_of(call_id: str, account_id: str, at: int) -> Instruction:
    """An instruction to close half a coin."""
    return Instruction(
        instruction_id="1" * 32,
        call_id=call_id,
        account_id=account_id,
        kind="close",
        parameters={"instrument": "BTCUSDT-PERP", "quantity": -0.5, "limit_price": 60_000.0},
        state="issued",
        issued_at=format_time(at),
        expires_at=format_time(at + 24 * HOUR),
        step=1,
    )


def store_instruction(ledger: Ledger, instruction: Instruction) -> None:
    with writing(ledger.engine) as connection:
        write_instructions(connection, [(instruction, 1)])


@pytest.fixture
def desk(
    market: SmallMarket,
    ruleset: RuleSet,
    bundles: Bundles,
    champion: str,
    ledger: Ledger,
    serve: Serve,
) -> Desk:
    w = watched(market, ruleset, bundles, ledger, ROWS, LiveEnforcement(ledger))
    w.update(snapshot("desk/1", 1, 1_000.0, BTC=0.5), snapshot("calm", 1, 1e6, BTC=0.1))
    w.settle()
    return Desk(serve(live=market.head(ROWS).live(), auth="keys"), w)
