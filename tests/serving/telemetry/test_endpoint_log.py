"""The access log, request ids and metrics of an endpoint, and what none of them shows."""

from __future__ import annotations

import json
import logging
import random
import string
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from ledger.store import Ledger
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet
from serving.http.app import ServingSettings, create_app
from serving.telemetry.logs.access_log import AccessLog
from serving.telemetry.logs.lines import LineWriter
from serving.telemetry.logs.records import LogSettings, configure_logs
from serving.telemetry.telemetry import Telemetry


class Log:
    """An endpoint whose log is kept."""

    def __init__(self, writer: LineWriter, client: TestClient[Any], parts: list[bytes]) -> None:
        self._writer, self.client, self._parts = writer, client, parts

    def text(self) -> str:
        self._writer.flush()
        return b"".join(self._parts).decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["logger"] == "margincast.access"]


@pytest.fixture
def logged(
    market: Any, ruleset: RuleSet, bundles: Any, ledger: Ledger, champion: str
) -> Iterator[Log]:
    parts: list[bytes] = []
    writer = LineWriter(parts.append)
    settings = LogSettings("json", "info", 2)
    root, ours = logging.getLogger(), logging.getLogger("margincast")
    handlers, level = list(root.handlers), ours.level
    configure_logs(settings, writer)
    telemetry = Telemetry(writer=writer, access_log=AccessLog(writer, settings))
    served = ServingSettings("127.0.0.1", 8000, bundles.root, clock="market", auth="off")
    app = create_app(served, ledger, RuleHistory.constant(ruleset), market.live(), telemetry)
    with TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield Log(writer, client, parts)
    root.handlers[:] = handlers
    ours.setLevel(level)
    logging.captureWarnings(False)
    writer.close()


def test_each_request_is_one_line_with_the_promised_fields(
    logged: Log, account: dict[str, Any]
) -> None:
    answer = logged.client.post("/v1/score", json={"accounts": [account]})
    found = logged.client.get("/v1/accounts/acc-1/decisions", headers={"X-Request-Id": "mine.7"})
    lost = logged.client.get("/acc-1/elsewhere", headers={"X-Request-Id": "not sane"})
    score, history, unmatched = logged.requests()
    for line in (score, history, unmatched):
        assert line["level"] == "info"
        assert line["worker"] == 2
        assert line["pid"] > 0
        assert line["milliseconds"] > 0.0
        assert line["time"].endswith("Z")
    assert (score["method"], score["route"], score["status"]) == ("POST", "/v1/score", 200)
    assert score["decisions"] == 1
    assert score["decision_ids"] == [answer.json()["decisions"][0]["decision_id"]]
    assert score["request_id"] == answer.headers["x-request-id"]
    assert history["route"] == "/v1/accounts/{account_id}/decisions"
    assert history["request_id"] == found.headers["x-request-id"] == "mine.7"
    assert (unmatched["route"], unmatched["status"]) == ("unmatched", 404)
    assert unmatched["request_id"] == lost.headers["x-request-id"] != "not sane"
    assert "acc-1" not in logged.text()


def test_a_large_call_names_its_first_decisions_and_the_number_of_all(
    logged: Log, account: dict[str, Any]
) -> None:
    accounts = [account | {"account_id": f"acc-{i}"} for i in range(30)]
    ids = [
        decision["decision_id"]
        for decision in logged.client.post("/v1/score", json={"accounts": accounts}).json()[
            "decisions"
        ]
    ]
    (line,) = logged.requests()
    assert line["decisions"] == 30
    assert line["decision_ids"] == ids[:8]


def test_a_call_that_fails_is_one_line_of_an_error_without_its_accounts(
    logged: Log, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError(account["account_id"])

    monkeypatch.setattr("monitoring.champion.decide", fail)
    answer = logged.client.post("/v1/score", json={"accounts": [account]})
    assert answer.status_code == 500
    *_, error = [line for line in logged.lines() if line["level"] == "error"]
    assert error["error"]["type"] == "CallFailedError"
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "KeyError" in error["error"]["stack"]
    assert "acc-1" not in logged.text()


def test_no_account_and_no_secret_shows_whatever_is_sent(
    logged: Log, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)  # noqa: S311  seeded
    names, secrets = list[str](), list[str]()
    for i in range(150):
        kinds = string.ascii_letters + string.digits + "éß'/ %{}"
        name = "acct" + "".join(rng.choices(kinds, k=12)) + "x"
        secret = "".join(rng.choices(string.ascii_letters, k=24))
        names.append(name)
        secrets.append(secret)
        broken: Any = rng.choice([{}, {"cash": "x"}, {"cash": 1e309}, {"positions": None}])
        body = {"accounts": [account | {"account_id": name, "cash": 987_654.25} | broken]}
        if i % 10 == 0:
            monkeypatch.setattr(
                "monitoring.champion.decide", lambda accounts, *_, **__: {}[accounts[0]]
            )
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": secret}
        path = rng.choice(
            ["/v1/score", "/v1/what-if", f"/v1/accounts/{name}/decisions", f"/{name}?key={secret}"]
        )
        if path.startswith(("/v1/acc", "/acct")):
            logged.client.get(path.replace("%", "%25"), headers=headers)
        else:
            logged.client.post(path, content=json.dumps(body), headers=headers | JSON)
        monkeypatch.undo()
    text = logged.text()
    assert len(logged.requests()) == 150
    assert not [name for name in names if name in text or json.dumps(name)[1:-1] in text]
    assert not [secret for secret in secrets if secret in text]
    assert "987654" not in text


def test_updates_of_accounts_show_none_in_the_most_detailed_log(
    logged: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("margincast").setLevel(logging.DEBUG)
    name = "desk/secret 7"
    path = "/v1/accounts/desk%2Fsecret%207"
    sent = [
        logged.client.put(path, json={"sequence": 1, "cash": 987_654.25}),
        logged.client.put(path, json={"sequence": 1, "cash": 1.0}),
        logged.client.put(path, json={"sequence": 2, "cash": "x"}),
        _post_deposit(logged, name, 2),
        _post_deposit(logged, name, 5),
        _post_deposit(logged, name, 0),
    ]

    def fail(_: object, updates: Any, *__: object) -> None:
        raise KeyError(updates[0].account_id)

    monkeypatch.setattr("monitoring.book.account_store.AccountStore.apply", fail)
    sent += [_post_deposit(logged, name, 6), logged.client.put(path, json=SNAPSHOT)]
    assert [one.status_code for one in sent] == [200, 409, 422, 200, 409, 422, 500, 500]
    routes = {line["route"] for line in logged.requests()}
    assert routes == {"/v1/accounts/{account_id}", "/v1/accounts/updates"}
    assert "KeyError" in logged.text()
    assert "secret" not in logged.text()
    assert "987654" not in logged.text()


SNAPSHOT = {"sequence": 6, "cash": 1.0}


def _post_deposit(logged: Log, name: str, number: int) -> Any:
    deposit = {"kind": "deposit", "asset": "USD", "amount": 987_654.25}
    update = {"account_id": name, "sequence": number, "deltas": [deposit]}
    return logged.client.post("/v1/accounts/updates", json={"updates": [update]})


JSON = {"Content-Type": "application/json"}
