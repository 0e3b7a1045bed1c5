"""Every page of the console by a path that shows something of the book at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from serving.console.routes import PAGES

Get = Callable[[str], Any]
"""Asks the API for a path and gives the JSON of its answer."""


def page_paths(get: Get) -> dict[str, str]:
    """Paths of all pages, by the names that files of theirs have.

    The account is the healthy one with the largest probability of a call, the call the open one
    that is due first, the decision one on either account, the what-if a fall of all prices by a
    tenth. A page that needs what the book does not have (a call, a decision) is left out.

    Parameters
    ----------
    get:
        Asks the endpoint.
    """
    healthy = get("/v1/accounts?sort=probability&state=healthy&limit=1")["accounts"]
    (account,) = healthy or get("/v1/accounts?sort=probability&limit=1")["accounts"]
    account_id = str(account["account_id"])
    calls = get("/v1/calls?open=true&sort=due&limit=1")["calls"]
    decided = [account_id, *(call["account_id"] for call in calls)]
    decisions = [
        one
        for name in decided
        for one in get(f"/v1/accounts/{quote(name, safe='')}/decisions?limit=1")["decisions"]
    ]
    queries: dict[str, dict[str, str] | None] = {
        "/account": {"id": account_id},
        "/what-if": {"account": account_id, "p": "-10"},
        "/call": {"id": calls[0]["call_id"]} if calls else None,
        "/decision": {"id": decisions[0]["decision_id"]} if decisions else None,
        "/record": {"chain": "monitoring", "seq": "1"},
    }
    found: dict[str, str] = {}
    for path in sorted(path for route in PAGES for path in route.paths):
        query = queries.get(path, {})
        if query is not None:
            name = path.strip("/").replace("/", "-") or "overview"
            found[name] = f"{path}?{urlencode(query)}" if query else path
    return found
