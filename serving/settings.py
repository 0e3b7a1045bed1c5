"""Settings of the endpoint, limits included."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from market.core.errors import ConfigError

CLOCKS = ("wall", "market")
AUTH = ("keys", "off")

MAX_BODY_BYTES = 16 * 2**20
MAX_HISTORY_BYTES = 64 * 2**10
MAX_PAGE = 500
"""Limits where the configuration has none (0)."""


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """Where the endpoint listens, what it serves and how much it takes at once.

    Attributes
    ----------
    host, port:
        Where it listens.
    bundles:
        Folder of the bundles and of the pointer file ``champion``.
    clock:
        Decision time where a request names none: the ``wall`` clock, or the close of the newest
        bar (``market``), for markets of the past and simulated ones.
    auth:
        ``keys``, or ``off`` on a loopback host only.
    max_body_bytes:
        Longest request body; a longer one is answered 413.
    max_history_bytes:
        Longest `history` of an account as JSON.
    max_page:
        Most decisions in one page of an account's decisions.
    mark_max_age:
        A quoted mark older than this many nanoseconds is not used; None: two bar intervals.

    Raises
    ------
    ConfigError
        A value is impossible.
    """

    host: str
    port: int
    bundles: Path
    clock: Literal["wall", "market"] = "wall"
    auth: Literal["keys", "off"] = "keys"
    max_body_bytes: int = MAX_BODY_BYTES
    max_history_bytes: int = MAX_HISTORY_BYTES
    max_page: int = MAX_PAGE
    mark_max_age: int | None = None

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise ConfigError(f"[serving] clock is {self.clock!r}; choose one of {CLOCKS}")
        if self.auth not in AUTH:
            raise ConfigError(f"[serving] auth is {self.auth!r}; choose one of {AUTH}")
        if self.auth == "off" and not _is_loopback(self.host):
            raise ConfigError(
                f'[serving] auth is off and host is {self.host!r}; use auth = "keys" or listen '
                "on a loopback address like 127.0.0.1"
            )
        for name in ("max_body_bytes", "max_history_bytes", "max_page"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.mark_max_age is not None and self.mark_max_age < 1:
            raise ConfigError(f"mark_max_age is {self.mark_max_age} ns; expected more than 0")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
