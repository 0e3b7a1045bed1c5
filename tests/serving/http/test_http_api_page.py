"""The page on the HTTP API: its tables are those of the code, and its examples work."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from decisions.messages import MAX_ACCOUNTS
from market.sources.http import MAX_HISTORY_DEPTH, MAX_POSITIONS
from monitoring.book.messages import MAX_UPDATES
from monitoring.market_state.messages import MAX_BARS
from monitoring.quotes.messages import MAX_QUOTES
from serving.http.auth import SCOPES
from serving.http.connections.limits import MAX_HEAD_BYTES, MAX_HEADERS
from serving.http.problems import bad_request, problem_of, too_large
from serving.recorded_decisions import DEFAULT_PAGE
from serving.settings import MAX_BODY_BYTES, MAX_HISTORY_BYTES, MAX_PAGE
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "http-api.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").split("\ncurl ")
]


def table(mark: str) -> list[list[str]]:
    """Cells of the rows of the table below a mark."""
    text = PAGE.partition(f"<!-- {mark} -->\n\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return rows[2:]


def statuses_of_code() -> Iterator[tuple[int, str]]:
    """Status and kind of each problem that the code of the endpoint names, without the console."""
    for path in (ROOT / "serving").rglob("*.py"):
        if "console" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ProblemError":
                values = node.args[:2]
            elif isinstance(node, ast.Tuple):
                values = node.elts
            match [getattr(value, "value", None) for value in values]:
                case [int(status), str(kind)] if status >= 400:
                    yield status, kind
    for error in (bad_request(""), too_large(), ZeroDivisionError()):
        problem = problem_of(error)[0]
        yield problem.status, problem.type.rpartition(":")[2]


def test_the_table_of_problems_names_those_of_the_code(desk: Desk) -> None:
    unknown = desk.endpoint.client.delete("/v1/model").json()
    code = {*statuses_of_code(), (unknown["status"], unknown["type"].rpartition(":")[2])}
    rows = table("problems")
    named = [(int(status), kind.strip("`")) for kind, status, _, _ in rows]
    assert set(named) == code
    assert [status for status, _ in named] == sorted(status for status, _ in named)
    assert len(rows) == len(code)
    assert all(means and remedy for _, _, means, remedy in rows)


def test_the_table_of_scopes_is_complete() -> None:
    assert [row[0].strip("`") for row in table("scopes")] == list(SCOPES)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    limits = [row[1] for row in table("limits")]
    assert limits[0] == f"{MAX_BODY_BYTES // 2**20} MiB (`max_body_bytes`)"
    assert limits[1:6] == [
        f"{MAX_ACCOUNTS:,}",
        f"{MAX_POSITIONS:,} each",
        f"{MAX_UPDATES:,}",
        f"{MAX_BARS:,}",
        f"{MAX_QUOTES:,}",
    ]
    history = f"{MAX_HISTORY_BYTES // 2**10} KiB (`max_history_bytes`)"
    assert limits[6] == f"{history}, nested {MAX_HISTORY_DEPTH} deep"
    assert limits[7] == f"{MAX_HEAD_BYTES // 2**10} KiB, {MAX_HEADERS} headers"
    assert f"by default {DEFAULT_PAGE}, at most {MAX_PAGE}" in PAGE


def carried_out(desk: Desk, line: str) -> Any:
    """The answer to a line that calls curl."""
    words = shlex.split(line.removeprefix("curl "))
    values = list(pairwise(words))
    secret = desk.key("admin")["Authorization"].removeprefix("Bearer ")
    headers = [value.replace("$KEY", secret) for option, value in values if option == "-H"]
    body = next((value for option, value in values if option == "-d"), None)
    (address,) = [word for word in words if word.startswith("localhost:")]
    asked = urlsplit(f"http://{address}")
    return desk.endpoint.client.request(
        "GET" if body is None else "POST",
        asked.path,
        params=asked.query,
        content=body,
        headers=dict(header.split(": ", 1) for header in headers),
    )


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_answered(desk: Desk, champion: str, line: str) -> None:
    answer = carried_out(desk, line)
    assert answer.status_code == 200, answer.text
    assert not answer.json().get("errors")
    assert ("Idempotent-Replayed" in carried_out(desk, line).headers) == ("Idempotency" in line)
    assert champion


def test_the_problem_on_the_page_is_a_real_one(desk: Desk) -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    answer = desk.endpoint.client.get("/v1/accounts?limit=0", headers=desk.key("read"))
    assert json.loads(shown) == answer.json()
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_what_the_page_says_of_times_numbers_and_unknown_fields_holds(desk: Desk) -> None:
    account: dict[str, Any] = {"account_id": "a", "cash": 1e4, "positions": []}
    later = desk.later(1)

    def score(**changed: Any) -> Any:
        return desk.post("/v1/score", {"accounts": [account]} | changed, "score")

    for as_of in (later, later.removesuffix("Z"), later.replace("Z", "+00:00")):
        assert score(as_of=as_of).json()["decisions"][0]["as_of"] == later
    for wrong in ({"accounts": [account | {"cash": "1"}]}, {"accounts": [account], "more": 1}):
        assert desk.post("/v1/score", wrong, "score").status_code == 422
    for text in ("NaN", "Infinity", '1, "cash": 2'):
        answer = desk.endpoint.client.post(
            "/v1/score",
            content=json.dumps({"accounts": [account | {"cash": 0.5}]}).replace("0.5", text),
            headers=desk.key("score") | {"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, text
