"""Tokens of an issuer: what is accepted is signed by one of its keys, for us, now, with a scope."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from market.core.errors import ConfigError, MissingExtraError
from serving.http.security import json_web_tokens
from serving.http.security.json_web_tokens import JsonWebTokens, TokenError
from serving.settings import JwtSettings

ISSUER, AUDIENCE = "https://id.example", "margincast"
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
PRIVATE: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def jwk(algorithm: str, **more: Any) -> dict[str, Any]:
    public = PRIVATE[algorithm].public_key()
    kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    return {**json.loads(kinds[algorithm].to_jwk(public)), "kid": algorithm, **more}


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "desk-7",
        "exp": now + 600,
        "scope": "score read",
    }
    return {name: value for name, value in (usual | more).items() if value is not None}


def token(key: Any = EC, algorithm: str = "ES256", kid: str | None = "ES256", **more: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**more), key, algorithm, headers=headers)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(name) for name in PRIVATE]}))
    return file


@pytest.fixture
def settings(key_file: Path) -> JwtSettings:
    return JwtSettings(ISSUER, AUDIENCE, key_file, is_jwks=True)


@pytest.fixture
def pem_file(tmp_path: Path) -> Path:
    file = tmp_path / "issuer.pem"
    public = RSA.public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_each_algorithm_of_the_list_is_accepted(settings: JwtSettings, algorithm: str) -> None:
    subject, scopes = JsonWebTokens(settings).read(token(PRIVATE[algorithm], algorithm, algorithm))
    assert (subject, scopes) == ("desk-7", ("score", "read"))


def unsigned() -> str:
    parts = ({"alg": "none", "kid": "ES256"}, claims())
    text = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join(text).decode() + "."


def signed_with_the_public_key() -> str:
    """HS256 with the public key as the secret, which a careless reader would verify."""
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = ({"alg": "HS256", "kid": "RS256", "typ": "JWT"}, claims())
    text = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts
    )
    mac = base64.urlsafe_b64encode(hmac.new(pem, text, hashlib.sha256).digest()).rstrip(b"=")
    return (text + b"." + mac).decode()


FORGED: dict[str, Callable[[], str]] = {
    "none": unsigned,
    "shared secret": signed_with_the_public_key,
    "another key": lambda: token(OTHER),
    "unknown kid": lambda: token(kid="nobody"),
    "no kid among several": lambda: token(kid=None),
    "kid of another kind": lambda: token(kid="RS256"),
    "expired": lambda: token(exp=int(time.time()) - 31),
    "without expiry": lambda: token(exp=None),
    "not yet": lambda: token(nbf=int(time.time()) + 120),
    "another issuer": lambda: token(iss="https://evil.example"),
    "without issuer": lambda: token(iss=None),
    "another audience": lambda: token(aud="mlflow"),
    "without audience": lambda: token(aud=None),
    "without subject": lambda: token(sub=None),
    "subject that breaks lines": lambda: token(sub="a\nb"),
    "long subject": lambda: token(sub="a" * 201),
    "no scope": lambda: token(scope="openid email"),
    "scope of another type": lambda: token(scope={"score": True}),
    "truncated": lambda: token()[:-4],
    "too long": lambda: token(x="y" * 20_000),
    "no token": lambda: "abc",
    "empty parts": lambda: "..",
    "not base64": lambda: "é.é.é",
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_not_a_sound_token_is_refused(settings: JwtSettings, name: str) -> None:
    with pytest.raises(TokenError):
        JsonWebTokens(settings).read(FORGED[name]())


def test_an_hmac_token_is_refused_with_a_public_key_file_too(pem_file: Path) -> None:
    tokens = JsonWebTokens(JwtSettings(ISSUER, AUDIENCE, pem_file, is_jwks=False))
    assert tokens.read(token(RSA, "RS256", None))[0] == "desk-7"
    assert tokens.read(token(RSA, "RS256", "any"))[0] == "desk-7"
    for forged in (signed_with_the_public_key(), unsigned(), token()):
        with pytest.raises(TokenError):
            tokens.read(forged)


def test_clocks_may_differ_by_the_leeway_and_scopes_may_be_a_list(key_file: Path) -> None:
    settings = JwtSettings(ISSUER, AUDIENCE, key_file, is_jwks=True, scope_claim="scp", leeway=60)
    recent = token(exp=int(time.time()) - 20, scp=["admin", "other"])
    assert JsonWebTokens(settings).read(recent) == ("desk-7", ("admin",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"keys": 1}',
        '{"keys": []}',
        '{"keys": ["x"]}',
        json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}),
        json.dumps({"keys": [jwk("ES256", use="enc")]}),
        json.dumps({"keys": [jwk("RS256", alg="RS512")]}),
        json.dumps({"keys": [json.loads(ECAlgorithm.to_jwk(EC))]}),
    ],
)
def test_a_file_without_a_usable_public_key_is_refused_at_the_start(
    settings: JwtSettings, key_file: Path, text: str
) -> None:
    key_file.write_text(text)
    with pytest.raises(ConfigError, match=r"\[serving.jwt\] key file"):
        JsonWebTokens(settings)


def test_a_new_key_set_counts_and_a_broken_one_does_not(
    settings: JwtSettings,
    key_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(json_web_tokens, "LOOK_SECONDS", 0.0)
    tokens = JsonWebTokens(settings)
    key_file.write_text("broken")
    assert tokens.read(token())[0] == "desk-7"
    assert "stay as they were" in caplog.text
    key_file.write_text(json.dumps({"keys": [jwk("RS256")]}))
    assert tokens.read(token(RSA, "RS256", "RS256"))[0] == "desk-7"
    with pytest.raises(TokenError):
        tokens.read(token())


def test_a_token_is_a_requester_with_its_scopes_and_keys_go_on_working(
    serve: Any, settings: JwtSettings, account: dict[str, Any]
) -> None:
    endpoint = serve(auth="keys", jwt=settings)
    headers = {"authorization": f"Bearer {token()}", "idempotency-key": "k"}
    body = {"accounts": [account]}
    first, second = (
        endpoint.client.post("/v1/score", json=body, headers=headers) for _ in range(2)
    )
    assert first.status_code == 200
    assert second.content == first.content
    bars = endpoint.client.post("/v1/market/bars", json={}, headers=headers)
    assert bars.status_code == 403
    assert "jwt:desk-7" in bars.json()["detail"]
    assert endpoint.client.get("/v1/ruleset", headers=endpoint.key("read")).status_code == 200
    stale = {"authorization": f"Bearer {token(exp=1)}"}
    refused = endpoint.client.get("/v1/ruleset", headers=stale)
    assert refused.status_code == 401
    assert "expired" in refused.json()["detail"]
    assert refused.headers["www-authenticate"].endswith('error="invalid_token"')


def test_without_the_extra_the_start_says_what_to_install(
    settings: JwtSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(MissingExtraError, match=r"install margincast\[jwt\]"):
        JsonWebTokens(settings)
