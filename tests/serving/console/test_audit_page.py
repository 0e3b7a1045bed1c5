"""The pages of audit: what they show of the ledger, beside the ledger and its verification."""

from __future__ import annotations

import csv
import io
import json
import time
from html import unescape
from typing import Any

from sqlalchemy import text

from enforcement.whole_check import checks_of, verify_whole
from ledger.records import Entry
from ledger.store import Ledger
from serving.console.rendering import count
from serving.console.views import audit as view
from tests.endpoint_fixtures import Endpoint, Serve
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

HOSTILE = "a/b \"c\" <script>alert('1')</script>"


def page(endpoint: Endpoint, path: str, **rest: Any) -> str:
    answer = endpoint.client.get(path, **rest)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def scored(serve: Serve, account: dict[str, Any]) -> Endpoint:
    endpoint = serve()
    assert endpoint.score(account).status_code == 200
    assert endpoint.score(account | {"account_id": HOSTILE}).status_code == 200
    return endpoint


def verified(endpoint: Endpoint) -> str:
    """The part of the page once the verification that was asked for is done."""
    assert endpoint.client.post("/console/verify").status_code == 204
    for _ in range(400):
        part = page(endpoint, "/audit", headers={"X-Fragment": "verification"})
        if "records read" not in part:
            return part
        time.sleep(0.05)
    raise AssertionError(part)


def test_every_chain_is_listed_with_its_head(
    serve: Serve, champion: str, account: dict[str, Any], ledger: Ledger
) -> None:
    endpoint = scored(serve, account)
    html = page(endpoint, "/audit")
    found = verify_whole(str(ledger.engine.url), None, checks_of(0)).chains
    assert found
    shown = {row["name"]: (row["records"], row["hash"]) for row in view.chains(ledger)}
    assert shown == {name: (state.records, state.head) for name, state in found.items()}
    for name, state in found.items():
        assert f'<th scope="row">{name}</th><td>{count(state.records)}</td>' in html
        assert state.head in html


def test_an_empty_ledger_is_said_to_be_empty(serve: Serve) -> None:
    html = page(serve(), "/audit")
    assert "The ledger has no record yet." in html
    assert "No command is on record." in html
    assert "has not verified the ledger" in html


def test_the_ledger_is_verified_on_demand(
    serve: Serve, champion: str, account: dict[str, Any], ledger: Ledger
) -> None:
    part = verified(scored(serve, account))
    found = verify_whole(str(ledger.engine.url), None, checks_of(0))
    assert found.intact
    assert ">intact<" in part
    assert f"{sum(state.records for state in found.chains.values())} records" in part
    assert "by local" in part


def test_an_altered_record_is_found_and_neither_shown_nor_extracted(
    serve: Serve, champion: str, account: dict[str, Any], ledger: Ledger
) -> None:
    endpoint = scored(serve, account)
    with ledger.engine.begin() as connection:
        connection.execute(text("update records set account_id = 'other' where kind = 'decision'"))
    part = unescape(verified(endpoint))
    assert ">not intact<" in part
    problems = verify_whole(str(ledger.engine.url), None, checks_of(0)).problems
    assert problems
    assert all(problem in part for problem in problems)
    chain = view.chains(ledger)[0]["name"]
    answer = endpoint.client.get("/record", params={"chain": chain, "seq": 1})
    assert answer.status_code == 404
    assert "does not match its hash" in unescape(answer.text)


def test_a_record_is_found_by_place_and_by_id(
    serve: Serve, champion: str, account: dict[str, Any], ledger: Ledger
) -> None:
    endpoint = scored(serve, account)
    record = ledger.last_record("decision")
    assert record is not None
    assert record.account_id == HOSTILE
    by_place = page(endpoint, "/record", params={"chain": record.chain, "seq": record.seq})
    by_id = page(endpoint, "/record", params={"id": record.id})
    assert by_place == by_id
    said = endpoint.client.get(f"/v1/decisions/{record.id}").json()
    assert said["hash"] == record.hash
    assert f"<code>{said['hash']}</code>" in by_id
    assert f"<code>{record.previous_hash}</code>" in by_id
    shown = by_id.partition('aria-label="Payload">')[2].partition("</pre>")[0]
    assert json.loads(unescape(shown)) == record.payload
    assert "<script>alert" not in by_id
    assert f"/decision?id={record.id}&amp;replay=1" in by_id


def test_impossible_and_unknown_records_are_refused(serve: Serve, champion: str) -> None:
    client = serve().client
    for query, status in (
        ({}, 422),
        ({"chain": "score"}, 422),
        ({"seq": "1"}, 422),
        ({"chain": "score", "seq": "0"}, 422),
        ({"chain": "score", "seq": str(2**63)}, 422),
        ({"chain": "score", "seq": "1", "id": "a"}, 422),
        ({"chain": HOSTILE, "seq": "1"}, 404),
        ({"id": HOSTILE}, 404),
        ({"id": "0" * 32}, 404),
    ):
        answer = client.get("/record", params=query)
        assert answer.status_code == status, (query, answer.text)
        assert "<script>alert" not in answer.text


def test_an_extract_holds_every_record_of_its_kind_and_span(
    serve: Serve, champion: str, account: dict[str, Any], ledger: Ledger
) -> None:
    endpoint = scored(serve, account)
    many = [Entry(kind="test", payload={"n": n, "text": HOSTILE}) for n in range(1_201)]
    ledger.append(many)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    for kind in ("decision", "test"):
        answer = endpoint.client.get(
            "/audit/extract", params={"kind": kind, "from": day, "to": day}
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        expected = list(ledger.records(kind))
        assert len(rows) == len(expected) > 0
        for row, record in zip(rows, expected, strict=True):
            assert (row["hash"], row["previous_hash"]) == (record.hash, record.previous_hash)
            assert json.loads(row["payload"]) == record.payload


def test_an_extract_that_is_too_long_is_refused_and_not_cut(
    serve: Serve, champion: str, ledger: Ledger, monkeypatch: Any
) -> None:
    ledger.append([Entry(kind="test", payload={"n": n}) for n in range(6)])
    client, day = serve().client, time.strftime("%Y-%m-%d", time.gmtime())
    asked = {"kind": "test", "from": day, "to": day}
    monkeypatch.setattr(view, "MOST_ROWS", 6)
    assert client.get("/audit/extract", params=asked).status_code == 200
    monkeypatch.setattr(view, "MOST_ROWS", 5)
    answer = client.get("/audit/extract", params=asked)
    assert answer.status_code == 422
    assert "over 5 records" in unescape(answer.text)
    for wrong in ({"from": "x"}, {"to": "2020-01-01"}, {"from": "2020-01-01"}):
        assert client.get("/audit/extract", params=asked | wrong).status_code == 422


def test_commands_name_who_requested_them(desk: Desk) -> None:
    call = desk.call()
    with desk.leading():
        body = {"reason": "price", "note": HOSTILE}
        answer = desk.post(f"/v1/calls/{call['call_id']}/dispute", body, "accounts")
    assert answer.status_code in (200, 202), answer.text
    html = page(desk.endpoint, "/audit", headers=desk.key("read"))
    record = desk.endpoint.ledger.last_record("command")
    assert record is not None
    assert record.payload["requester"] in html
    assert f"/record?chain={record.chain}&amp;seq={record.seq}" in html
    assert "<script>alert" not in html


def test_verification_and_extracts_need_the_scope_read(serve: Serve, champion: str) -> None:
    endpoint = serve(auth="keys")
    client, day = endpoint.client, "2026-01-01"
    asked = {"kind": "decision", "from": day, "to": day}
    refused = client.post("/console/verify", follow_redirects=False)
    assert refused.status_code == 401
    assert refused.json()["detail"], "the script of the page shows it"
    assert client.post("/console/verify", headers=endpoint.key("score")).status_code == 403
    assert client.post("/console/verify", headers=endpoint.key("read")).status_code == 204
    assert client.get("/audit/extract", params=asked, follow_redirects=False).status_code == 303
    refused = client.get("/audit/extract", params=asked, headers=endpoint.key("score"))
    assert refused.status_code == 403
