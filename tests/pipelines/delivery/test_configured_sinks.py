"""The sinks of a configuration, their secrets, and delivery from the monitor's side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ledger.store import Ledger
from market.core.errors import ConfigError
from pipelines.config.config import Config, load_config
from pipelines.delivery.configured_sinks import delivering, sinks_of, subscriptions_of
from tests.enforcement.delivery.receiver import (
    SECRET,
    call_event,
    put,
    receiving,
    statuses,
)
from tests.waiting import wait_for


def configured(folder: Path, lines: str) -> Config:
    file = folder / "margincast.toml"
    file.write_text(f"[monitoring]\nenabled = true\n[enforcement]\n{lines}\n", "utf-8")
    return load_config(file)


def webhook(url: str) -> str:
    return (
        f'enabled = true\nallow_hosts = ["127.0.0.1"]\nwebhooks = [{{name = "venue", '
        f'url = "{url}", secret_env = "VENUE_SECRET"}}]'
    )


@pytest.mark.parametrize(("secret", "found"), [(None, "is not set"), ("short", "has 5 bytes")])
def test_a_secret_that_is_missing_or_short_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str | None, found: str
) -> None:
    monkeypatch.delenv("VENUE_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("VENUE_SECRET", secret)
    config = configured(tmp_path, webhook("http://127.0.0.1:1/"))
    with pytest.raises(ConfigError, match=f"VENUE_SECRET {found}") as refused:
        sinks_of(config.enforcement)
    assert "short" not in str(refused.value)


def test_a_password_that_is_missing_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAIL_PASSWORD", raising=False)
    mail = (
        'smtp = {host = "mail.example", user = "margin", password_env = "MAIL_PASSWORD", '
        'sender = "margin@example.com", recipients = ["desk@example.com"]}'
    )
    settings = configured(tmp_path, mail).enforcement
    with pytest.raises(ConfigError, match="MAIL_PASSWORD is not set"):
        sinks_of(settings)
    monkeypatch.setenv("MAIL_PASSWORD", "secret")
    assert [sink.name for sink in sinks_of(settings)] == ["smtp"]


def test_every_sink_gets_what_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENUE_SECRET", SECRET.decode())
    out = tmp_path / "told.json"
    program = f"import pathlib, sys; pathlib.Path({str(out)!r}).write_text(sys.stdin.read())"
    command = json.dumps([sys.executable, "-c", program])
    with receiving() as hook, Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        config = configured(
            tmp_path, f'{webhook(hook.url)}\ncommand = {command}\ncommand_events = ["call.met"]'
        )
        sinks = subscriptions_of(config.enforcement)
        put(ledger, [call_event("a", 1), call_event("a", 2, event="met")], [*sinks])
        with delivering(config, ledger, lambda: True):
            wait_for(lambda: set(statuses(ledger).values()) == {"delivered"})
        hook.check()
        assert hook.events() == ["call-a-1", "call-a-2"]
    told = json.loads(out.read_text("utf-8"))
    assert (told["event_id"], told["topic"]) == ("call-a-2", "call")


def test_nothing_is_delivered_unless_it_is_enabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VENUE_SECRET", raising=False)
    lines = webhook("http://127.0.0.1:1/").replace("enabled = true", "enabled = false")
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        put(ledger, [call_event("a", 1)], ["venue"])
        with delivering(configured(tmp_path, lines), ledger, lambda: True):
            assert statuses(ledger) == {"call-a-1": "pending"}
