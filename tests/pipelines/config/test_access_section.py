"""Who may call: impossible values are refused by key, possible ones reach the endpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from market.core.errors import ConfigError
from pipelines.config.config import Config, load_config
from pipelines.jobs.serve import serving_settings, transport
from serving.settings import JwtSettings, ServingSettings

Load = Callable[[str], Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def read(text: str) -> Config:
        file = tmp_path / "margincast.toml"
        file.write_text(text)
        return load_config(file)

    return read


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *((f"hosts = ['{host}']", "hosts") for host in ("http://a", "a:80", "a/b", "", "*", "a b")),
        *((f"origins = ['{o}']", "origins") for o in ("a", "https://a/", "*", "null", "ftp://a")),
        ("tls_cert = 'a.pem'", "tls_key"),
        ("tls_key = 'a.pem'", "tls_key"),
        *(
            (f"proxies = ['{p}']", "proxies")
            for p in ("*", "0.0.0.0/0", "::/0", "proxy", "10.0.0.1/8")
        ),
        *((f"rate_per_minute = {rate}", "rate_per_minute") for rate in ("-1", "1.5", "2_000_000")),
        ("metrics_auth = true\nauth = 'off'", "auth"),
        ("auth = 'off'\njwt = {jwks = 'k', issuer = 'i', audience = 'a'}", "auth"),
        ("jwt = {jwks = 'k', audience = 'a'}", "jwt.issuer"),
        ("jwt = {jwks = 'k', issuer = 'i'}", "jwt.audience"),
        ("jwt = {issuer = 'i', audience = 'a'}", "jwt.issuer"),
        ("jwt = {jwks = 'k', public_key = 'p', issuer = 'i', audience = 'a'}", "jwt.public_key"),
        ("jwt = {algorithms = ['none']}", "jwt.algorithms"),
        ("jwt = {leeway = 3600}", "jwt.leeway"),
        ("jwt = {scope_claim = ''}", "jwt.scope_claim"),
    ],
)
def test_impossible_access_is_refused_by_its_key(load: Load, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?m)^serving\.{key} is "):
        load(f"[serving]\n{text}\n")


def test_access_reaches_the_endpoint_with_paths_from_the_folder_of_the_file(
    load: Load, tmp_path: Path
) -> None:
    config = load(
        "[serving]\nhosts = ['risk.internal', '10.0.0.1']\norigins = ['https://desk.example:8443']\n"
        "rate_per_minute = 90\nmetrics_auth = true\n"
        "[serving.jwt]\npublic_key = 'keys/issuer.pem'\nissuer = 'i'\naudience = 'a'\n"
    )
    settings = serving_settings(config)
    assert settings.hosts == ("risk.internal", "10.0.0.1")
    assert settings.origins == ("https://desk.example:8443",)
    assert (settings.rate_per_minute, settings.metrics_auth) == (90, True)
    expected = JwtSettings("i", "a", tmp_path / "keys" / "issuer.pem", is_jwks=False)
    assert settings.jwt == expected
    assert serving_settings(load("")).jwt is None


def test_a_missing_certificate_is_refused_before_anything_starts(
    load: Load, tmp_path: Path
) -> None:
    config = load("[serving]\ntls_cert = 'c.pem'\ntls_key = 'k.pem'\nproxies = ['10.0.0.0/8']\n")
    with pytest.raises(ConfigError, match=rf"tls_cert '{tmp_path}/c.pem' cannot be read"):
        transport(config)
    assert transport(load("[serving]\nproxies = ['10.0.0.0/8']\n")).proxies == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    "impossible",
    [
        {"rate_per_minute": -1},
        {"auth": "off", "metrics_auth": True},
        {"auth": "off", "jwt": JwtSettings("i", "a", Path("k"), is_jwks=True)},
    ],
)
def test_settings_that_would_not_count_are_refused(impossible: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServingSettings("127.0.0.1", 8000, Path(), **impossible)


def test_tables_in_the_environment_are_json(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINCAST__SERVING__HOSTS", '["a.example"]')
    monkeypatch.setenv(
        "MARGINCAST__SERVING__JWT", '{"jwks": "/k.json", "issuer": "i", "audience": "a"}'
    )
    serving = load("").serving
    assert serving.hosts == ("a.example",)
    assert serving.jwt.jwks == Path("/k.json")
