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
