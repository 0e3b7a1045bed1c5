"""One request to every documented route, with its documented example, in an order that works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert

from ledger.schema import outbox, writing
from tests.endpoint_fixtures import Endpoint
from tests.monitoring.evaluation.helpers import snapshot
from tests.serving.enforcement_fixtures import Desk

CALLED, CALM, LIQUIDATED = "fund-7", "fund-8", "fund-9"


@dataclass
class Walk:
    """Answers of a desk by operation; requests with a body send that of `request`."""

    desk: Desk
    request: Callable[[str], Any]
    answers: dict[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> Endpoint:
        return self.desk.endpoint

    def get(self, operation: str, path: str, **query: Any) -> Any:
        answer = self.endpoint.client.get(path, params=query, headers=self.desk.key("admin"))
        return self._keep(operation, answer)

    def send(self, operation: str, path: str, who: str = "admin", method: str = "POST") -> Any:
        body = self.request(operation)
        headers = self.desk.key(who)
        return self._keep(
            operation, self.endpoint.client.request(method, path, json=body, headers=headers)
        )

    def _keep(self, operation: str, answer: Any) -> Any:
        assert answer.status_code == 200, (operation, answer.text)
        assert operation not in self.answers
        is_json = answer.headers["content-type"].startswith("application/json")
        self.answers[operation] = answer.json() if is_json else answer.text
        return self.answers[operation]

    def everything(self) -> dict[str, Any]:
        """The answers of all routes."""
        updates = [
            snapshot(CALLED, 1, 1_000.0, BTC=0.5),
            snapshot(CALM, 1, 1e6, BTC=0.1),
            snapshot(LIQUIDATED, 1, 200.0, BTC=0.5),
        ]
        given = self.desk.post("/v1/accounts/updates", {"updates": updates}, "accounts")
        assert given.status_code == 200, given.text
        self.desk.watched.settle()
        with self.desk.leading():
            self._scores()
            self._calls()
            self._instructions()
            self._controls()
            self._deliveries()
            self._accounts()
        self.get("model", "/v1/model")
        self.get("rules_in_force", "/v1/ruleset")
        self.get("health_live", "/health/live")
        self.get("health_ready", "/health/ready")
        self.send("market_quotes", "/v1/market/quotes", "market")
        self.send("market_bars", "/v1/market/bars", "market")
        self.get("prometheus", "/metrics")
        return self.answers

    def _scores(self) -> None:
        (decided,) = self.send("score", "/v1/score", "score")["decisions"]
        self.send("what_if", "/v1/what-if", "score")
        path = f"/v1/decisions/{decided['decision_id']}"
        self.get("decision", path)
        self.get("decision_explanation", f"{path}/explanation")
        self.get("account_decisions", f"/v1/accounts/{decided['account_id']}/decisions", limit=1)

    def _calls(self) -> None:
        (call,) = self.get("list_calls", "/v1/calls", account=CALLED)["calls"]
        path = f"/v1/calls/{call['call_id']}"
        self.send("acknowledge_call", f"{path}/ack", "venue")
        self.send("dispute_call", f"{path}/dispute", "accounts")
        self.send("resolve_call", f"{path}/resolve", "approve")
        self.get("get_call", path)

    def _instructions(self) -> None:
        listed = self.get(
            "list_instructions", "/v1/instructions", account=LIQUIDATED, type="close", open="true"
        )
        path = f"/v1/instructions/{listed['instructions'][0]['instruction_id']}"
        self.send("acknowledge_instruction", f"{path}/ack", "venue")
        self.get("get_instruction", path)

    def _controls(self) -> None:
        path = "/v1/overrides"
        command = self.send("request_override", path, "approve")["command_id"]
        self.get("list_overrides", path)
        self.send("approve_override", f"{path}/{command}/approve", "approve-2")
        self.send("reject_override", f"{path}/{command}/reject", "approve")
        self.get("get_command", f"/v1/commands/{command}")
        self.send("set_mode", "/v1/admin/mode")
        self.get("get_mode", "/v1/admin/mode")

    def _deliveries(self) -> None:
        (call,) = self.answers["list_calls"]["calls"]
        event = f"{call['call_id']}-1"
        row = {
            "event_id": event,
            "sink": "risk-desk",
            "account_id": CALLED,
            "sequence": 1,
            "status": "dead",
            "created_at": self.desk.now(),
            "body": b"",
            "attempts": 5,
            "next_attempt_at": None,
            "detail": "HTTP 503",
        }
        with writing(self.endpoint.ledger.engine) as connection:
            connection.execute(insert(outbox), [row])
        self.get("list_deliveries", "/v1/admin/deliveries", status="dead")
        self.send("skip_delivery", f"/v1/admin/deliveries/{event}/skip")

    def _accounts(self) -> None:
        self.send("put_account", "/v1/accounts/fund-10", "accounts", "PUT")
        self.send("post_updates", "/v1/accounts/updates", "accounts")
        self.get("list_accounts", "/v1/accounts", search="fund", limit=1)
        self.get("get_account", "/v1/accounts/fund-7")
