"""Pages as tests read them."""

from __future__ import annotations

import html
import re
from typing import Any

from tests.serving.enforcement_fixtures import Desk


def page(desk: Desk, path: str, who: str = "read", **query: Any) -> str:
    """A page that is answered 200."""
    answer = desk.endpoint.client.get(path, params=query or None, headers=desk.key(who))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return str(answer.text)


def fragment(desk: Desk, path: str, name: str, **query: Any) -> Any:
    """The answer to a request for a part of a page."""
    headers = desk.key("read") | {"X-Fragment": name}
    return desk.endpoint.client.get(path, params=query or None, headers=headers)


def text(shown: str) -> str:
    """What a page says, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


def called_ids(shown: str) -> list[str]:
    """Ids of the calls that the work list links to, in their order."""
    listed = shown[shown.index('id="list"') :] if 'id="list"' in shown else shown
    return re.findall(r'href="/call\?id=([0-9a-f]{32})"', listed)
