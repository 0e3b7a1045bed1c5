"""Who may do what: bearer keys with scopes, checked in the ledger on every request."""

from __future__ import annotations

from typing import Any, Literal

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from ledger.keys import Keys
from serving.http.problems import ProblemError

ANONYMOUS = "anonymous"
"""Owner of everything where keys are not asked for."""

AccessScope = Literal["score", "market", "read", "admin"]
_ADMIN = "admin"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="margincast"'}


class Access:
    """Checks the keys of requests. Nothing is cached: a revoked key is useless at once.

    Parameters
    ----------
    keys:
        The keys of the ledger; None: everybody may do everything.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def owner(self, authorization: str | None, scope: AccessScope) -> str:
        """Whose request this is: the id of its key.

        Raises
        ------
        ProblemError
            401: there is no valid key; 403: the key lacks the scope.
        LedgerError
            The keys cannot be read.
        """
        if self._keys is None:
            return ANONYMOUS
        kind, _, secret = (authorization or "").partition(" ")
        key = self._keys.authenticate(secret.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise ProblemError(
                401,
                "unauthenticated",
                "the request carries no valid key; send Authorization: Bearer mck_…, "
                "`margincast keys add` makes one",
                headers=_CHALLENGE,
            )
        if scope not in key.scopes and _ADMIN not in key.scopes:
            raise ProblemError(
                403,
                "forbidden",
                f"key {key.key_id} has the scopes {', '.join(key.scopes)}; this needs {scope}",
            )
        return key.key_id


def requires(scope: AccessScope) -> Guard:
    """A guard for routes that need a scope; it sets the owner of the request.

    It is synchronous, so the framework runs its look-up in a thread, before the body is read.
    """

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        connection.scope["user"] = require(connection, scope)

    return guard


def require(connection: ASGIConnection[Any, Any, Any, Any], scope: AccessScope) -> str:
    """Owner of a request that needs a scope; raises as `Access.owner` does."""
    access: Access = connection.app.state["access"]
    return access.owner(connection.headers.get("authorization"), scope)
