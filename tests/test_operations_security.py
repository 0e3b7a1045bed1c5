"""The commands and tables of docs/operations.md about keys and TLS do what the page says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.config import load_config
from pipelines.jobs.serve import serving_settings, transport

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
MARGINCAST = str(Path(sys.executable).parent / "margincast")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


KEYS, TLS = section("Keys, rotation and rate limits"), section("TLS, proxies, hosts and origins")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_commands_of_keys_do_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "margincast.toml").write_text('[ledger]\nurl = "sqlite:///ledger.db"\n')

    def run(command: str) -> str:
        words = [MARGINCAST, *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    commands = re.findall(r"\| `(margincast keys [^`]+)` \|", KEYS)
    add, rate, show, rotate, replace, revoke = commands
    secret = run(add)
    first = secret.split("_")[1]
    batch = run(rate).split("_")[1]
    second = run(rotate.replace("KEY_ID", first)).split("_")[1]
    third = run(replace.replace("KEY_ID", second)).split("_")[1]
    run(revoke.replace("KEY_ID", batch))
    shown = run(f"{show} --json keys.json")
    listed: dict[str, Any] = json.loads((tmp_path / "keys.json").read_text())
    assert secret.split("_", 2)[2] not in shown
    states = {key: listed[key]["state"] for key in listed}
    assert states == {first: "active", batch: "revoked", second: "expired", third: "active"}
    assert {listed[key]["label"] for key in (first, second, third)} == {"desk-7"}
    assert listed[third]["scopes"] == ["score", "read"]
    assert listed[third]["expires_at"] > listed[first]["expires_at"]
    assert listed[batch]["rate_per_minute"] == 600
    run("margincast ledger verify")


def test_the_certificate_of_the_page_serves_under_its_configuration(tmp_path: Path) -> None:
    (command,) = blocks(TLS, "sh")
    subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, check=True)
    (text,) = blocks(TLS, "toml")
    file = tmp_path / "margincast.toml"
    file.write_text(
        text.replace("risk.internal.pem", "tls.pem").replace("risk.internal.key", "tls.key")
    )
    config = load_config(file)
    assert transport(config).scheme == "https"
    assert serving_settings(config).hosts == ("risk.internal",)


@pytest.mark.parametrize("text", blocks(KEYS, "toml"))
def test_the_table_of_tokens_is_accepted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "margincast.toml"
    file.write_text(text)
    jwt = serving_settings(load_config(file)).jwt
    assert jwt is not None
    given = tomllib.loads(text)["serving"]["jwt"]
    assert (jwt.issuer, jwt.audience, jwt.key_file) == (
        given["issuer"],
        given["audience"],
        tmp_path / given["jwks"],
    )
