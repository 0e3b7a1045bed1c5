"""Every request of docs/monitoring.md, sent in its order: the answers are those of the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"
BLOCK = re.compile(r"^```http\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Exchange(NamedTuple):
    """One example of the page."""

    method: str
    path: str
    body: Any
    status: int
    answer: Any


def exchanges() -> list[Exchange]:
    found = []
    for block in BLOCK.findall(PAGE.read_text("utf-8")):
        request, _, response = block.partition("\nHTTP/1.1 ")
        line, _, body = request.partition("\n")
        method, path = line.split(" ")
        status, _, answer = response.partition("\n")
        sent = json.loads(body) if body.strip() else None
        found.append(Exchange(method, path, sent, int(status.split(" ")[0]), json.loads(answer)))
    return found


def test_the_page_shows_every_status_of_an_update() -> None:
    shown = {
        result["status"]
        for one in exchanges()
        if one.method != "GET"
        for result in one.answer.get("results", [one.answer])
    }
    assert shown == {"applied", "duplicate", "gap", "out_of_sync", "conflict"}


def test_every_example_is_answered_as_the_page_says(serve: Any) -> None:
    client = serve().client
    for one in exchanges():
        if one.method == "GET":
            continue
        answer = client.request(one.method, one.path, json=one.body)
        assert (answer.status_code, answer.json()) == (one.status, one.answer), one.path


def test_the_answers_of_reading_routes_have_the_shape_and_the_accounts_of_the_page(
    serve: Any,
) -> None:
    client = serve().client
    for one in exchanges():
        if one.method != "GET":
            client.request(one.method, one.path, json=one.body)
    reads = [one for one in exchanges() if one.method == "GET"]
    assert reads
    for one in reads:
        answer = client.get(one.path)
        assert answer.status_code == one.status
        body = answer.json()
        assert _shape(body) == _shape(one.answer)
        assert [a["account_id"] for a in body.get("accounts", [])] == [
            a["account_id"] for a in one.answer.get("accounts", [])
        ]
        assert body.get("account") == one.answer.get("account")


def _shape(value: Any) -> Any:
    """Keys at every depth, of the first element of a list."""
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    return [_shape(value[0])] if isinstance(value, list) and value else None
