"""The examples of the page about delivery work as they are printed."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from enforcement.delivery.signature import signed_headers
from pipelines.config.config import load_config
from pipelines.delivery.configured_sinks import sinks_of, subscriptions_of
from tests.enforcement.delivery.receiver import SECRET, call_event

PAGE = Path(__file__).parents[3] / "docs" / "delivery.md"


def example(language: str) -> str:
    (text,) = re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return str(text)


def test_the_configuration_is_accepted_and_names_all_its_sinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VENUE_SECRET", "CRM_SECRET", "MAIL_PASSWORD"):
        monkeypatch.setenv(f"MARGINCAST_{name}", SECRET.decode())
    file = tmp_path / "margincast.toml"
    file.write_text(example("toml"), "utf-8")
    settings = load_config(file).enforcement
    assert [sink.name for sink in sinks_of(settings)] == ["venue", "crm", "command", "smtp"]
    wants = {one.sink: one.wants("call", "opened") for one in subscriptions_of(settings)}
    assert wants == {"venue": True, "crm": True, "command": False, "smtp": True}


def test_the_receiver_takes_an_event_once_and_only_a_signed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, Any] = {}
    exec(compile(example("python"), str(PAGE), "exec"), names)  # noqa: S102  the page's own text
    receive, seen = names["receive"], set[str]()
    body = json.dumps(call_event("a", 1, topic="call")).encode()
    headers = signed_headers(SECRET, "call-a-1", body, time.time())
    assert receive(headers, body + b" ", SECRET, seen) == 401
    assert receive(headers, body, b"another secret", seen) == 401
    assert [receive(headers, body, SECRET, seen) for _ in range(2)] == [200, 200]
    assert capsys.readouterr().out == "call opened a\n"
