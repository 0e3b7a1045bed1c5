"""Account ids in paths: one segment each, though they may hold slashes."""

from __future__ import annotations

from urllib.parse import quote, unquote

PREFIX = "/v1/accounts/"
SUFFIXES = ("/decisions",)
"""What may follow an account id."""

_ROUTES = {"updates": "%75pdates"}
"""Ids that are the name of a route, and how they are encoded where the route is not meant."""


def one_segment(path: str, raw_path: bytes | None, method: str = "GET") -> str:
    """A path with its account id encoded, so that a router takes the id as one segment.

    Servers decode ``%2F`` before they route, and routers join double slashes: the id is taken from
    the path as it was sent.

    Parameters
    ----------
    path:
        Decoded path of the request.
    raw_path:
        The path as sent, perhaps with the query; None where the server does not say.
    method:
        Of the request: ``POST /v1/accounts/updates`` is a route, and no account is posted to.

    Returns
    -------
    ``/v1/accounts/<encoded id>`` or ``/v1/accounts/<encoded id>/decisions``; any other path as it
    is.
    """
    if not path.startswith(PREFIX):
        return path
    sent = quote(path) if raw_path is None else raw_path.partition(b"?")[0].decode("latin-1")
    for suffix in SUFFIXES:
        if sent.startswith(PREFIX) and sent.endswith(suffix):
            account_id = unquote(sent[len(PREFIX) : -len(suffix)])
            if account_id:
                return f"{PREFIX}{quote(account_id, safe='')}{suffix}"
    account_id = unquote(sent[len(PREFIX) :]) if sent.startswith(PREFIX) else ""
    nothing = not account_id or f"/{account_id.strip('/')}" in SUFFIXES
    if nothing or (method == "POST" and account_id in _ROUTES):
        return path
    return PREFIX + _ROUTES.get(account_id, quote(account_id, safe=""))
