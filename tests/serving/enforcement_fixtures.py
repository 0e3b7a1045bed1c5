"""An endpoint beside a monitor that applies commands, as in another process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from enforcement.record.live_enforcement import LiveEnforcement
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
        answer = self.endpoint.client.get(path, params=query, headers=self.key("read"))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any, who: str, **headers: str) -> Any:
        """The response to a request with a key, see `key`."""
        client = self.endpoint.client
        return client.post(path, json=body, headers=self.key(who) | headers)

    def call(self) -> dict[str, Any]:
        (call,) = self.get("/v1/calls", account="desk/1", open="true")["calls"]
        return dict(call)

    def now(self) -> int:
        return parse_time(self.get("/v1/accounts")["as_of"])

    def later(self, hours: float) -> str:
        return format_time(self.now() + round(hours * HOUR))

    def key(self, who: str) -> dict[str, str]:
        """Headers with the key of a scope; ``approve-2`` is a second key of it."""
        if who not in self.keys:
            self.keys[who] = self.endpoint.key(who.partition("-")[0])
        return self.keys[who]


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
