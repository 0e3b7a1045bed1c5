"""What every page has in common: where one is, and whose accounts no log may name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from litestar import Response

from serving.console.console import Console
from serving.telemetry.exchange import CURRENT
from tests.serving.console.pages import page
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]


@pytest.mark.parametrize(
    ("path", "section", "kind"),
    [
        ("/", "/", "page"), ("/accounts", "/accounts", "page"), ("/calls", "/calls", "page"),
        ("/account?id=calm", "/accounts", "true"), ("/overrides", "/calls", "true"),
        ("/call?id={call}", "/calls", "true"), ("/record?chain=monitoring&seq=1", "/audit", "true"),
    ],
)  # fmt: skip
def test_the_navigation_says_where_one_is(desk: Desk, path: str, section: str, kind: str) -> None:
    shown = page(desk, path.format(call=desk.call()["call_id"]))
    assert re.findall(r'<a href="([^"]+)" aria-current="(\w+)"', shown) == [(section, kind)]


@pytest.mark.parametrize(
    "path", ["/account?id=desk/1", "/accounts?search=desk/1", "/calls?account=desk/1",
             "/what-if?account=desk/1"],
)  # fmt: skip
def test_an_account_that_is_asked_for_is_kept_out_of_logs(
    desk: Desk, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    withheld: list[list[str]] = []

    async def note(*_: Any) -> Response[bytes]:
        exchange = CURRENT.get()
        assert exchange is not None
        withheld.append(list(exchange.account_ids()))
        return Response(b"")

    monkeypatch.setattr(Console, "page", note)
    assert desk.endpoint.client.get(path, headers=desk.key("read")).status_code == 200
    assert withheld == [["desk/1"]]
