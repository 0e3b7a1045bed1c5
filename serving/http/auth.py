"""Authorisation: bearer keys and tokens with scopes, checked on every request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal, NamedTuple, get_args

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from ledger.keys import KeyExpiredError, Keys, is_key
from serving.http.problems import ProblemError
from serving.http.security.json_web_tokens import JsonWebTokens, TokenError
from serving.http.security.rate_limits import TokenBuckets, rate_limited
from serving.settings import ServingSettings

LOCAL = "local"
"""Requester of everything where keys are not asked for."""

FAILURES_PER_MINUTE = 60
"""Requests of one address that carry no valid key; more are answered 429."""

MOST_KNOWN = 10_000
"""Most secrets, by their hash, that are remembered as having been valid."""

AccessScope = Literal["score", "market", "accounts", "read", "venue", "approve", "admin"]
SCOPES: tuple[AccessScope, ...] = get_args(AccessScope)
"""All scopes."""

_ADMIN = "admin"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="margincast"'}
_INVALID = {"WWW-Authenticate": 'Bearer realm="margincast", error="invalid_token"'}
_MISSING = (
    "the request carries no key; send Authorization: Bearer mck_…, `margincast keys add` makes one"
)
_UNKNOWN = "the key is unknown or was revoked; `margincast keys add` makes one"


class Requester(NamedTuple):
    """A requester, its scopes, and its requests a minute (0: without limit)."""

    name: str
    scopes: tuple[str, ...]
    per_minute: int

    def may(self, scope: AccessScope) -> bool:
        """Whether it has a scope; `admin` includes all."""
        return scope in self.scopes or _ADMIN in self.scopes


class Access:
    """Checks the keys of requests. No key is cached: a revoked one is refused at once.

    An address that failed `FAILURES_PER_MINUTE` times within a minute is answered 429, before its
    next secret is looked up; keys that were valid before still work from there, as other
    clients may share the address.

    Parameters
    ----------
    settings:
        Whether keys are asked for, and the limits.
    keys:
        The keys of the ledger.
    tokens:
        What is accepted beside keys; None: nothing.

    Attributes
    ----------
    blocks:
        Whether `owner` waits for a database server, so that an event loop must not call it.
    """

    def __init__(
        self, settings: ServingSettings, keys: Keys, tokens: JsonWebTokens | None = None
    ) -> None:
        self._open = settings.auth == "off"
        self._per_minute = settings.rate_per_minute
        self._metrics_auth = settings.metrics_auth
        self._keys, self._tokens = keys, tokens
        self._rates, self._failures = TokenBuckets(), TokenBuckets()
        self._known_lock = threading.Lock()
        self._known: OrderedDict[int, None] = OrderedDict()
        self.blocks = not self._open and not keys.is_local

    def close(self) -> None:
        """Close the connection of look-ups."""
        self._keys.close()

    def owner(
        self,
        authorization: str | None,
        scope: AccessScope,
        address: str,
        *,
        counts: bool = True,
    ) -> str:
        """Name of the requester, see `requester`."""
        return self.requester(authorization, scope, address, counts=counts).name

    def requester(
        self,
        authorization: str | None,
        scope: AccessScope,
        address: str,
        *,
        counts: bool = True,
    ) -> Requester:
        """The requester; its name is the id of its key, ``jwt:<subject>``, or `LOCAL` without keys.

        Parameters
        ----------
        authorization:
            The header.
        scope:
            What the request needs.
        address:
            Where it comes from.
        counts:
            Whether it counts towards the rate limit; not where one request is checked again.

        Raises
        ------
        ProblemError
            401: there is no valid key; 403: the key lacks the scope; 429: too many requests of
            this key, or too many of this address without one.
        LedgerError
            The keys cannot be read.
        """
        if self._open:
            requester = Requester(LOCAL, (_ADMIN,), self._per_minute)
        else:
            requester = self._authenticated(authorization, address)
        name, scopes, per_minute = requester
        if not requester.may(scope):
            raise ProblemError(
                403,
                "forbidden",
                f"key {name} has the scopes {', '.join(scopes)}; this needs {scope}",
            )
        if per_minute and counts:
            wait = self._rates.take(name, per_minute)
            if wait:
                detail = f"{name} may send {per_minute} requests a minute"
                raise rate_limited(detail, per_minute, wait)
        return requester

    def check_metrics(self, authorization: str | None, address: str) -> None:
        """Check access to the metrics: open, or with ``metrics_auth`` by the scope read.

        Raises as `owner`.
        """
        if self._metrics_auth:
            self.owner(authorization, "read", address)

    def _authenticated(self, authorization: str | None, address: str) -> Requester:
        kind, _, secret = (authorization or "").partition(" ")
        secret = secret.strip() if kind.lower() == "bearer" else ""
        network, fingerprint = _network(address), hash(secret)
        if fingerprint not in self._known:
            wait = self._failures.wait(network, FAILURES_PER_MINUTE)
            if wait:
                detail = f"{FAILURES_PER_MINUTE} requests of this address had no valid key"
                raise rate_limited(detail, FAILURES_PER_MINUTE, wait)
        try:
            requester = self._requester(secret)
        except ProblemError:
            self._failures.take(network, FAILURES_PER_MINUTE)
            raise
        self._remember(fingerprint)
        return requester

    def _requester(self, secret: str) -> Requester:
        if not secret:
            raise _unauthenticated(_MISSING, _CHALLENGE)
        if self._tokens is not None and not is_key(secret):
            try:
                subject, scopes = self._tokens.read(secret)
            except TokenError as error:
                raise _unauthenticated(str(error), _INVALID) from None
            return Requester(f"jwt:{subject}", scopes, self._per_minute)
        try:
            key = self._keys.authenticate(secret)
        except KeyExpiredError as error:
            raise _unauthenticated(str(error), _INVALID) from None
        if key is None:
            raise _unauthenticated(_UNKNOWN, _INVALID)
        rate = self._per_minute if key.rate_per_minute is None else key.rate_per_minute
        return Requester(key.key_id, key.scopes, rate)

    def _remember(self, fingerprint: int) -> None:
        with self._known_lock:
            self._known[fingerprint] = None
            self._known.move_to_end(fingerprint)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


def requires(scope: AccessScope) -> Guard:
    """A guard for routes that need a scope; it sets the owner of the request.

    It is synchronous, so the framework runs its look-up in a thread, before the body is read.
    """

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        access: Access = connection.app.state["access"]
        connection.scope["user"] = access.owner(
            connection.headers.get("authorization"), scope, address_of(connection.scope)
        )

    return guard


def require_also(connection: ASGIConnection[Any, Any, Any, Any], scope: AccessScope) -> None:
    """Check that a request that passed its guard has a further scope; raises as `Access.owner`."""
    access: Access = connection.app.state["access"]
    authorization = connection.headers.get("authorization")
    access.owner(authorization, scope, address_of(connection.scope), counts=False)


def guard_metrics(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard for the metrics; raises as `Access.check_metrics`."""
    access: Access = connection.app.state["access"]
    access.check_metrics(connection.headers.get("authorization"), address_of(connection.scope))


def address_of(scope: Mapping[str, Any]) -> str:
    """Address of a request: that of its peer, or the one that a trusted proxy states."""
    client = scope.get("client")
    return client[0] if client else ""


def _network(address: str) -> str:
    """The address; for IPv6 its /64 network, which commonly belongs to one customer."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed.packed[:8] + bytes(8), 64)))


def _unauthenticated(detail: str, headers: Mapping[str, str]) -> ProblemError:
    return ProblemError(401, "unauthenticated", detail, headers=headers)
