"""Decisions of an account over HTTP: every chain, page by page, under any id."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from hypothesis import given, strategies as st

from ledger.records import Entry
from ledger.store import Ledger
from margin.rules.history import RuleHistory
from serving.http.account_paths import one_segment
from serving.http.app import create_app
from serving.settings import ServingSettings

ODD_IDS = (
    "desk/7",
    "/leading",
    "trailing/",
    "two//slashes",
    "a%2Fb",
    "x/decisions",
    "decisions",
    "../up",
    "./here",
    "ünï/cødé",
    "question?mark#hash",
    "plus+and space",
    "a" * 128,
)


def decision(name: str, number: int) -> Entry:
    return Entry(
        "decision",
        {
            "decision": {
                "account_id": name,
                "decision_id": f"{name} {number}",
                "add_on": number,
                "binding": "fallback",
            },
            "previous": None,
        },
        account_id=name,
    )


def record(ledger: Ledger, name: str, count: int = 1) -> None:
    for number in range(count):
        ledger.append([decision(name, number)])


@pytest.fixture
def wire(
    market: Any, ruleset: Any, bundles: Any, ledger: Ledger
) -> Iterator[tuple[httpx.Client, Ledger]]:
    """A client over a socket: the server decodes paths, as it does in operation."""
    settings = ServingSettings("127.0.0.1", 8000, bundles.root, "market", "off")
    app = create_app(settings, ledger, RuleHistory.constant(ruleset), market.live())
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 120.0
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.01)
            host, port = listener.getsockname()
            with httpx.Client(base_url=f"http://{host}:{port}") as client:
                yield client, ledger
        finally:
            server.should_exit = True
            thread.join(120)


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [found["account_id"] for found in answer.json()["decisions"]]


def test_ids_with_slashes_and_other_characters_are_looked_up_on_the_wire(
    wire: tuple[httpx.Client, Ledger],
) -> None:
    client, ledger = wire
    for name in ODD_IDS:
        record(ledger, name)
    for name in ODD_IDS:
        path = f"/v1/accounts/{quote(name, safe='')}/decisions"
        assert names(client.get(path)) == [name], path
        assert names(client.get(path, params={"limit": 1})) == [name], path
    for path, name in (
        ("/v1/accounts/desk/7/decisions", "desk/7"),
        ("/v1/accounts/desk%2f7/decisions", "desk/7"),
        ("/v1/accounts/two//slashes/decisions", "two//slashes"),
        ("/v1/accounts/x/decisions/decisions", "x/decisions"),
    ):
        assert names(client.get(path)) == [name], path
    assert client.get("/v1/accounts/desk/7").status_code == 404
    assert client.get("/v1/accounts//decisions").status_code == 404
    assert client.post("/v1/accounts/desk/7/decisions").status_code == 405


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\x7f", "a" * 129])
def test_ids_that_no_account_can_have_are_refused_on_the_wire(
    name: str, wire: tuple[httpx.Client, Ledger]
) -> None:
    client, _ = wire
    answer = client.get(f"/v1/accounts/{quote(name, safe='')}/decisions")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert "control characters" in answer.json()["detail"]


def test_bytes_that_are_no_text_are_refused_or_unknown(wire: tuple[httpx.Client, Ledger]) -> None:
    client, _ = wire
    assert client.get("/v1/accounts/a%FF%FEb/decisions").status_code in (200, 422)
    assert client.get("/v1/accounts/a%ED%A0%80b/decisions").status_code in (200, 422)


def test_ids_with_slashes_are_looked_up_in_process(serve: Any, ledger: Ledger) -> None:
    endpoint = serve()
    for name in ("desk/7", "a%2Fb"):
        record(ledger, name)
        path = f"/v1/accounts/{quote(name, safe='')}/decisions"
        assert names(endpoint.client.get(path)) == [name]
    assert names(endpoint.client.get("/v1/accounts/desk/7/decisions?limit=5")) == ["desk/7"]


def test_decisions_of_the_score_job_are_among_those_of_an_account(
    serve: Any, tmp_path: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    ids = []
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", chain="score") as job:
        for number in range(7):
            if number % 2:
                ids += [endpoint.score(account).json()["decisions"][0]["decision_id"]]
            else:
                job.append([decision("acc-1", number)])
                ids += [f"acc-1 {number}"]
    found, before, pages = [], None, 0
    while pages == 0 or before is not None:
        params = {"limit": 2} | ({} if before is None else {"before": before})
        page = endpoint.client.get("/v1/accounts/acc-1/decisions", params=params).json()
        found += [one["decision_id"] for one in page["decisions"]]
        before, pages = page["next_before"], pages + 1
        assert pages < 9
    assert found == ids[::-1]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_id_becomes_one_segment(name: str) -> None:
    encoded = quote(name, safe="")
    whole = f"/v1/accounts/{encoded}/decisions"
    assert one_segment(f"/v1/accounts/{name}/decisions", whole.encode()) == whole
    assert one_segment(f"/v1/accounts/{name}/decisions", f"{whole}?limit=2".encode()) == whole
    assert one_segment(f"/v1/accounts/{name}/decisions", None) == whole


@pytest.mark.parametrize(
    "path", ["/v1/score", "/v1/accounts/", "/v1/accounts/a", "/v1/accounts//decisions", "/"]
)
def test_other_paths_stay(path: str) -> None:
    assert one_segment(path, path.encode()) == path
    assert one_segment(path, None) == path


def test_the_documentation_states_the_bounds_of_a_page(serve: Any) -> None:
    client = serve(max_page=7).client
    document = client.get("/docs/openapi.json").json()
    route = document["paths"]["/v1/accounts/{account_id}/decisions"]["get"]
    stated = {p["name"]: p["schema"] for p in route["parameters"] if p["in"] == "query"}
    for name, most in (("limit", 7), ("before", 2**53)):
        number, nothing = stated[name]["oneOf"]
        assert number == {"type": "integer", "minimum": 1, "maximum": most}
        assert nothing == {"type": "null"}
        for value, status in ((0, 422), (1, 200), (most, 200), (most + 1, 422)):
            answer = client.get("/v1/accounts/a/decisions", params={name: value})
            assert answer.status_code == status, (name, value)
