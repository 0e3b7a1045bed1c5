"""Settings of the endpoint, limits included."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from market.errors import ConfigError

CLOCKS = ("wall", "market")
AUTH = ("keys", "off")


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
    max_body_bytes: int = 16 * 2**20
    max_history_bytes: int = 64 * 2**10
    max_page: int = 500

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


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
