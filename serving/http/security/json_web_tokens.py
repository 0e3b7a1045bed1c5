"""JSON Web Tokens of an identity provider, accepted beside keys; the extra ``jwt``.

The provider's public keys come from a file, never over the network, and each is used with the one
algorithm of its kind, so that neither ``none`` nor a shared secret is accepted as a signature.

References
----------
RFC 7519, RFC 7517; RFC 8725 (best current practices), 3.1 and 3.9-3.12.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from ledger.keys import SCOPES
from market.core.errors import ConfigError, MargincastError, MissingExtraError
from market.core.files import file_stamp
from serving.settings import JwtSettings

LOOK_SECONDS = 10.0
"""Time between checks of the key file for a change."""

MOST_TOKEN_BYTES = 16_384

_LOG = logging.getLogger("margincast.serving")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,200}")
_ALGORITHMS = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""Algorithm by kind and curve of a public key."""

_LEAST_RSA_BITS = 2048


class TokenError(MargincastError):
    """A token is not accepted; the message says why."""


class JsonWebTokens:
    """Checks tokens against the public keys of their issuer.

    A token must be signed by one of the keys, and name issuer, audience, subject and expiry. Its
    scopes are in one claim, as a list or a space-separated text; unknown scopes are ignored. The
    file is read again when it changes; if it is then invalid, this is logged and the previous keys
    stay in use.

    Parameters
    ----------
    settings:
        Issuer, audience, key file, claim and leeway.

    Raises
    ------
    ConfigError
        The file cannot be read or has no usable key.
    MissingExtraError
        The extra is not installed.
    """

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._stamp = file_stamp(settings.key_file)
        self._keys = _read_keys(settings)
        self._looked = time.monotonic()

    def read(self, token: str) -> tuple[str, tuple[str, ...]]:
        """Subject and scopes of a token.

        Raises
        ------
        TokenError
            It is malformed, expired, of another issuer or audience, signed by none of the keys,
            or names no scope of ours.
        """
        import jwt

        if len(token) > MOST_TOKEN_BYTES:
            raise TokenError(f"the token is longer than {MOST_TOKEN_BYTES} bytes")
        settings = self._settings
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key, algorithm = self._key_of(kid)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=settings.leeway,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise TokenError(f"the token is not accepted: {error}") from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise TokenError("the token is not accepted: it is malformed") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise TokenError("the token's subject should have 1 to 200 visible ASCII characters")
        scopes = _scopes(claims.get(settings.scope_claim))
        if not scopes:
            raise TokenError(
                f"the token's claim {settings.scope_claim!r} names no scope of {', '.join(SCOPES)}"
            )
        return subject, scopes

    def _key_of(self, kid: object) -> tuple[Any, str]:
        self._look()
        keys = self._keys
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        # A single public key file names no kid: it is the key of any.
        found = keys.get(str(kid)) or (keys.get("") if len(keys) == 1 else None)
        if found is None:
            raise TokenError("the token is signed by a key that the key file does not name")
        return found

    def _look(self) -> None:
        """Read the file again if it changed."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            self._looked = now
            stamp = file_stamp(self._settings.key_file)
            if stamp != self._stamp:
                self._stamp = stamp
                self._keys = _read_keys(self._settings)
        except ConfigError as error:
            _LOG.error("the keys of tokens stay as they were: %s", error)
        finally:
            self._lock.release()


def _scopes(claim: object) -> tuple[str, ...]:
    named = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return tuple(scope for scope in SCOPES if scope in named)


def _read_keys(settings: JwtSettings) -> dict[str, tuple[Any, str]]:
    """Public keys by kid, each with its algorithm; a PEM file has one, under the empty kid."""
    try:
        import cryptography  # noqa: F401 - PyJWT without it knows shared secrets only
        from jwt import PyJWTError
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"[serving.jwt] needs the jwt extra ({error}); install margincast[jwt]"
        ) from None
    file = settings.key_file
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"[serving.jwt] key file {str(file)!r} cannot be read ({error.strerror}); give the "
            "public keys of the issuer"
        ) from None
    try:
        found = _jwks(text) if settings.is_jwks else _pem(text)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        form = "a JWK set" if settings.is_jwks else "a public key in PEM"
        raise ConfigError(
            f"[serving.jwt] key file {str(file)!r} should be {form} ({error or 'it is not'}); "
            "write the public keys of the issuer there"
        ) from None
    if not found:
        raise ConfigError(
            f"[serving.jwt] key file {str(file)!r} has no key for RS256 (RSA of "
            f"{_LEAST_RSA_BITS} bits or more), ES256 (EC P-256) or EdDSA (Ed25519)"
        )
    return found


def _jwks(text: bytes) -> dict[str, tuple[Any, str]]:
    from jwt import PyJWK

    found: dict[str, tuple[Any, str]] = {}
    for entry in json.loads(text)["keys"]:
        algorithm = _ALGORITHMS.get((entry.get("kty"), entry.get("crv", "")))
        if algorithm is None or not _may_verify(entry, algorithm):
            continue
        key = PyJWK({**entry, "alg": algorithm}).key
        if getattr(key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS and algorithm == "RS256":
            continue
        found[str(entry.get("kid", ""))] = key, algorithm
    return found


def _may_verify(entry: Mapping[str, Any], algorithm: str) -> bool:
    """Whether a JWK is a public key that its issuer meant for signatures of our algorithm."""
    return (
        "d" not in entry
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) == algorithm
    )


def _pem(text: bytes) -> dict[str, tuple[Any, str]]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(text)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return {"": (key, "RS256")}
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return {"": (key, "ES256")}
    if isinstance(key, ed25519.Ed25519PublicKey):
        return {"": (key, "EdDSA")}
    return {}
