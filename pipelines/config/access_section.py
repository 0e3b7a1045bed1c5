"""Keys of ``[serving]`` about access: hosts, origins, TLS, proxies, rates and tokens."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from pipelines.config.fields import OptionalPath, Section, invalid

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")
_ORIGIN = re.compile(r"https?://([^/?#@\s:\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class JwtConfig(Section):
    """The issuer whose tokens are accepted beside keys."""

    jwks: OptionalPath = None
    """JWK set with the public keys of the issuer; not beside public_key."""
    public_key: OptionalPath = None
    """One public key in PEM; not beside jwks. Without either no token is accepted."""
    issuer: str = ""
    """Required issuer (`iss`) of a token."""
    audience: str = ""
    """Required audience (`aud`) of a token."""
    scope_claim: Annotated[str, Field(min_length=1)] = "scope"
    """Claim that holds the scopes."""
    leeway: Annotated[int, Field(strict=True, ge=0, le=300)] = 30
    """Seconds by which clocks may differ."""

    @property
    def key_file(self) -> Path | None:
        """The file of the public keys, whichever is given."""
        return self.jwks or self.public_key

    @field_validator("public_key")
    @classmethod
    def _one_file(cls, public_key: Path | None, info: ValidationInfo) -> Path | None:
        if public_key is not None and info.data.get("jwks") is not None:
            raise invalid("left out, as serving.jwt.jwks is given")
        return public_key

    @field_validator("issuer", "audience")
    @classmethod
    def _named(cls, text: str, info: ValidationInfo) -> str:
        has_keys = info.data.get("jwks") or info.data.get("public_key")
        if bool(text) != bool(has_keys):
            raise invalid("a text with jwks or public_key, and left out without them")
        return text


class AccessConfig(Section):
    """Part of ``[serving]``: access to the endpoint."""

    hosts: tuple[str, ...] = ()
    """Further names of the endpoint; with auth = "off" other Host headers are refused."""
    origins: tuple[str, ...] = ()
    """Web pages that may call it, like https://desk.example; others are refused."""
    tls_cert: OptionalPath = None
    """PEM file of the certificate with its chain; empty: plain HTTP."""
    tls_key: OptionalPath = None
    """PEM file of its key."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are trusted."""
    rate_per_minute: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    """Requests a minute of each requester whose key has no limit of its own; 0: no limit."""
    metrics_auth: bool = False
    """/metrics needs a key with the scope read."""
    jwt: JwtConfig = JwtConfig()

    @field_validator("hosts")
    @classmethod
    def _names_without_port(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _NAME.fullmatch(host) and not _is_address(host):
                raise invalid(
                    f"a list of names or addresses without scheme and port, which {host!r} is not"
                )
        return hosts

    @field_validator("origins")
    @classmethod
    def _origins_of_pages(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise invalid(
                    f"a list of origins like https://desk.example, which {origin!r} is not"
                )
        return origins

    @field_validator("tls_key")
    @classmethod
    def _both_or_none(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_cert" in info.data and (key is None) != (info.data["tls_cert"] is None):
            raise invalid("given with serving.tls_cert: both, or none")
        return key

    @field_validator("proxies")
    @classmethod
    def _addresses_of_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            if not _is_network(proxy):
                raise invalid(f"a list of addresses or networks, which {proxy!r} is not")
        return proxies


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        return ip_network(text).prefixlen > 0
    except ValueError:
        return False
