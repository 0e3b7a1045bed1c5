"""Credentials taken out of what is shown: addresses in messages, reports, logs and tracebacks.

An address may hold a password (``postgresql://user:password@host/db``), a token in place of the
user (``https://token@host``) or one among its options (``?password=…``). The configuration takes
addresses without blanks only, so that one always ends where a blank begins.

Ids of accounts are withheld from logs as well: code that works on accounts declares their ids
(`withholding`), and the log takes them out of its lines (`withhold`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

_PASSWORD = re.compile(r"([A-Za-z][\w+.-]{0,30}://[^\s:/?#@]*):\S*@")
_TOKEN = re.compile(r"([A-Za-z][\w+.-]{0,30}://)[^\s:/?#@]+@")
_OPTIONS = re.compile(r"([A-Za-z][\w+.-]{0,30}://[^\s?]*\?)[^\s'\"]+")
_WEB_HOST = re.compile(
    r"(https?://)(?:[^\s/]*@)?((?:[\w.-]+|\[[\dA-Fa-f:]+\])(?::\d+)?)(?=[/?#]|$)"
)

_SHORT = 4
"""An id of fewer characters is only taken out where it stands alone."""

_WITHHELD: ContextVar[Callable[[], Iterable[str]] | None] = ContextVar("withheld", default=None)


def redact(text: str, *addresses: str) -> str:
    """The text with the credentials of every address in it replaced by ``***``.

    Parameters
    ----------
    text:
        Any text; what looks like an address ends at a blank. User and options are cut off
        generously: what follows a password up to the last ``@`` goes with it.
    addresses:
        Addresses in use, whose passwords and options are hidden wherever else they stand.
    """
    for secret in sorted({s for a in addresses for s in _secrets(a)}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\1{HIDDEN}@", text)
    return _OPTIONS.sub(rf"\1{HIDDEN}", text)


def redact_all(value: Any) -> Any:
    """Plain values, like a report's, with every text in them redacted, keys left as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_all(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(inner) for inner in value]
    return value


def display_address(address: str) -> str:
    """An address fit to be shown: scheme, user, host and path, without password and options.

    Also of a text that should be an address and is none: what stands before an ``@`` is hidden.
    """
    joined = "%20".join(address.split())
    if "://" not in joined and "@" in joined:
        joined = f"{HIDDEN}@{joined.rpartition('@')[2]}"
    return redact(joined)


def display_host(address: str) -> str:
    """Scheme and host of an address whose path is a secret, as that of a webhook can be."""
    found = _WEB_HOST.match(address)
    return f"{found[1]}{found[2]}/{HIDDEN}" if found else HIDDEN


@contextmanager
def withholding(ids: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Keep account ids out of what is logged meanwhile, in this thread or task.

    Parameters
    ----------
    ids:
        Gives the ids; called only when something is logged.
    """
    token = _WITHHELD.set(ids)
    try:
        yield
    finally:
        _WITHHELD.reset(token)


def withhold(text: str) -> str:
    """The text with ``***`` for the account ids that are in work, quoted or not."""
    ids = _WITHHELD.get()
    if ids is None:
        return text
    forms = {form for name in ids() for form in (name, repr(name)[1:-1], json.dumps(name)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        if form not in text:
            continue
        if len(form) < _SHORT:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", HIDDEN, text)
        else:
            text = text.replace(form, HIDDEN)
    return text


def _secrets(address: str) -> set[str]:
    """Password and option values of an address, as written and decoded."""
    _, _, rest = address.partition("://")
    user, at, tail = rest.rpartition("@")
    found = {user.partition(":")[2]} if at else set()
    options = (tail if at else rest).partition("?")[2].split("&")
    found |= {value for name, _, value in (o.partition("=") for o in options) if "pass" in name}
    return {text for secret in found for text in (secret, unquote(secret)) if text}
