"""Settings of the endpoint, limits included."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from decisions.messages import MAX_ACCOUNTS
from market.core.errors import ConfigError

CLOCKS = ("wall", "market")
AUTH = ("keys", "off")

MAX_BODY_BYTES = 16 * 2**20
MAX_HISTORY_BYTES = 64 * 2**10
MAX_PAGE = 500
MAX_WHAT_IF_ACCOUNTS = MAX_ACCOUNTS
"""Limits where the configuration has none (0)."""


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """The issuer whose tokens are accepted, and its keys.

    Attributes
    ----------
    issuer, audience:
        What a token must name as ``iss`` and among ``aud``.
    key_file:
        The issuer's public keys.
    is_jwks:
        Whether the file is a JWK set, rather than one key in PEM.
    scope_claim:
        Claim with the scopes.
    leeway:
        Seconds by which clocks may differ.
    """

    issuer: str
    audience: str
    key_file: Path
    is_jwks: bool
    scope_claim: str = "scope"
    leeway: int = 30


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
        Longest `history` of an account as JSON, as sent and as recorded.
    max_page:
        Most decisions in one page of an account's decisions.
    mark_max_age:
        A quoted mark older than this many nanoseconds is not used; None: two bar intervals.
    call_seconds:
        Seconds after which a waiting call is answered 503 and not decided.
    what_if_calls:
        What-ifs that are computed at once; each takes a thread, and memory by its accounts.
    what_if_accounts:
        Most accounts of a what-if, those to be explained counted twice.
    hosts:
        Further names by which it is asked, without port; see `serving.http.security`.
    origins:
        Origins of pages that may call it, as ``https://desk.example``.
    rate_per_minute:
        Requests a minute of a requester whose key names no other rate; 0: without limit.
    metrics_auth:
        Whether the metrics need a key with the scope read.
    jwt:
        The issuer whose tokens are accepted beside keys; None: none is.
    answers_days:
        How long answers under idempotency keys are kept; 0: without limit.
    monitoring:
        Whether a monitor is to evaluate the live book: readiness says where none does.

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
    call_seconds: float = 30.0
    what_if_calls: int = 1
    what_if_accounts: int = MAX_WHAT_IF_ACCOUNTS
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    rate_per_minute: int = 0
    metrics_auth: bool = False
    jwt: JwtSettings | None = None
    answers_days: int = 0
    monitoring: bool = False

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise ConfigError(f"[serving] clock is {self.clock!r}; choose one of {CLOCKS}")
        if self.auth not in AUTH:
            raise ConfigError(f"[serving] auth is {self.auth!r}; choose one of {AUTH}")
        if self.auth == "off" and not is_loopback(self.host):
            raise ConfigError(
                f'[serving] auth is off and host is {self.host!r}; use auth = "keys" or listen '
                "on a loopback address like 127.0.0.1"
            )
        counts = ("max_body_bytes", "max_history_bytes", "max_page")
        for name in (*counts, "what_if_calls", "what_if_accounts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not self.call_seconds > 0.0:
            raise ConfigError(f"call_seconds is {self.call_seconds}; expected more than 0")
        if self.mark_max_age is not None and self.mark_max_age < 1:
            raise ConfigError(f"mark_max_age is {self.mark_max_age} ns; expected more than 0")
        if self.rate_per_minute < 0:
            raise ConfigError(f"rate_per_minute is {self.rate_per_minute}; expected 0 or more")
        if self.auth == "off" and (self.metrics_auth or self.jwt is not None):
            name = "metrics_auth" if self.metrics_auth else "jwt"
            raise ConfigError(f'[serving] auth is off, but {name} is given; use auth = "keys"')


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
