"""Telling of verdicts: a real command and a real server on this machine."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from enforcement.delivery.signature import SIGNATURE, verify_signature
from ledger.store import Ledger
from market.core.errors import BusyError
from pipelines.config.config import Config, load_config
from pipelines.scheduler.notify import SECRET, message, run_and_notify, send

Make = Callable[[str], Config]

REPORT: dict[str, Any] = {
    "verdict": "promoted",
    "reasons": ["all gates passed"],
    "bundle": "b" * 64,
    "champion_before": None,
    "champion": "b" * 64,
    "data_sha256": "d" * 64,
    "ruleset_sha256": "e" * 64,
    "mlflow_run": "run",
    "change": None,
    "drift": {"verdict": "drift", "drifted": ["herfindahl"], "undecided": [], "monitors": {}},
    "evaluation": {
        "horizons": {
            "1": {"best_baseline": "x", "log_loss_skill": 0.04, "log_loss_skill_ci95": [0.0, 0.1]}
        }
    },
}


@dataclass
class Server:
    """Answers with the given statuses in turn, the last one for ever, and keeps what it got."""

    statuses: list[int]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    started: list[HTTPServer] = []

    def start(*statuses: int) -> Server:
        own = Server(list(statuses))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                own.got.append((dict(self.headers), body))
                status = own.statuses.pop(0) if len(own.statuses) > 1 else own.statuses[0]
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        http = HTTPServer(("127.0.0.1", 0), Handler)
        started.append(http)
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        own.url = f"http://127.0.0.1:{http.server_address[1]}/hook"
        return own

    yield start
    for http in started:
        http.shutdown()
        http.server_close()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.delenv(SECRET, raising=False)
    monkeypatch.setattr("pipelines.scheduler.notify._PAUSE_SECONDS", 0.01)

    def config(notify: str) -> Config:
        file = tmp_path / "margincast.toml"
        file.write_text(f"[notify]\n{notify}\n")
        return load_config(file)

    return config


def recorded(config: Config) -> list[dict[str, Any]]:
    with Ledger(config.ledger.url) as ledger:
        return [record.payload for record in ledger.records("notification")]


def writer(path: Path, tail: str = "") -> str:
    """A command, as TOML, that writes its stdin and environment to a file."""
    program = (
        "import json, os, pathlib, sys; "
        f"pathlib.Path({str(path)!r}).write_text(json.dumps([json.load(sys.stdin), "
        f"dict(os.environ), sys.argv[1:]])); {tail}"
    )
    return json.dumps([sys.executable, "-c", program, "$(touch x); echo"])


def test_command_gets_the_verdict_on_stdin_no_shell_and_none_of_our_secrets(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "s3cret")
    monkeypatch.setenv("MARGINCAST__SERVING__PORT", "9000")
    monkeypatch.chdir(tmp_path)
    config = make(f"command = {writer(tmp_path / 'got.json')}")
    (outcome,) = send(config, message("retrain", REPORT))
    assert outcome["ok"], outcome
    got, environment, arguments = json.loads((tmp_path / "got.json").read_text())
    assert got["events"] == ["promoted", "drift"]
    assert got["bundle"] == got["champion"] == "b" * 64
    assert got["champion_before"] is None
    assert got["data_sha256"] == "d" * 64
    assert got["log_loss_skill"]["1"]["skill"] == 0.04
    assert got["drift"] == {"verdict": "drift", "drifted": ["herfindahl"], "undecided": []}
    assert not [name for name in environment if name.startswith("MARGINCAST")]
    assert arguments == ["$(touch x); echo"]
    assert not (tmp_path / "x").exists()
    (payload,) = recorded(config)
    assert payload["outcomes"] == [
        {"channel": "command", "ok": True, "detail": "exit 0", "attempts": 1}
    ]
    assert payload["message_id"] == got["id"]


@pytest.mark.parametrize(
    ("command", "seconds", "output"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no route')"], 120, "exit 1: no route"),
        (["/nowhere/at/all"], 120, "cannot be started"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 1, "no end within 1 s"),
    ],
)
def test_failing_command_is_logged_and_recorded_and_fails_nothing(
    make: Make, caplog: pytest.LogCaptureFixture, command: list[str], seconds: int, output: str
) -> None:
    config = make(f"command = {json.dumps(command)}\ntimeout = {seconds}")
    assert run_and_notify(config, "retrain", lambda: REPORT) == REPORT
    assert output in caplog.text
    (payload,) = recorded(config)
    assert payload["outcomes"][0]["ok"] is False
    assert output in payload["outcomes"][0]["detail"]


def test_webhook_is_signed_over_the_very_body(
    make: Make, server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "s3cret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    hook = server(204)
    config = make(f"webhook = '{hook.url}'")
    (outcome,) = send(config, message("retrain", REPORT))
    assert outcome == {
        "channel": "webhook",
        "ok": True,
        "detail": "status 204",
        "attempts": 1,
        "signed": True,
    }
    ((headers, body),) = hook.got
    assert verify_signature(b"s3cret", headers, body, time.time()) == json.loads(body)["id"]
    assert json.loads(body)["verdict"] == "promoted"
    assert "s3cret" not in json.dumps(recorded(config))


@pytest.mark.parametrize(
    ("statuses", "ok", "tries"),
    [
        ((503, 429, 200), True, 3),
        ((500,), False, 3),
        ((400, 200), False, 1),
        ((302, 200), False, 1),
    ],
)
def test_webhook_is_tried_again_while_it_may_help_and_never_led_elsewhere(
    make: Make, server: Callable[..., Server], statuses: tuple[int, ...], ok: bool, tries: int
) -> None:
    hook = server(*statuses)
    (outcome,) = send(make(f"webhook = '{hook.url}'"), message("retrain", REPORT))
    assert (outcome["ok"], outcome["attempts"], len(hook.got)) == (ok, tries, tries)
    assert outcome["signed"] is False
    assert SIGNATURE not in hook.got[0][0]


def test_unreachable_webhook_is_logged_and_both_channels_are_tried(
    make: Make, server: Callable[..., Server], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make(
        f"webhook = 'http://127.0.0.1:1/'\nattempts = 2\ncommand = {writer(tmp_path / 'got.json')}"
    )
    command, webhook = send(config, message("retrain", REPORT))
    assert command["ok"]
    assert not webhook["ok"]
    assert webhook["attempts"] == 2
    assert "notification of retrain by webhook" in caplog.text


def test_secret_of_any_bytes_signs_and_fails_nothing(
    make: Make, server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, os.fsdecode(b"s3\xffcret"))
    hook = server(204)
    assert run_and_notify(make(f"webhook = '{hook.url}'"), "retrain", lambda: REPORT) == REPORT
    ((headers, body),) = hook.got
    assert verify_signature(b"s3\xffcret", headers, body, time.time()) == json.loads(body)["id"]


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1:1/S3CRET path", "https://127.0.0.1:1/S3CRET\xe9"]
)
def test_address_that_cannot_be_sent_to_fails_nothing_and_is_not_repeated(
    make: Make, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    # The configuration refuses such addresses; the notification does not rest on that.
    config = make("")
    unsound = config.notify.model_copy(update={"webhook": address, "command": ("a\0",)})
    config = config.model_copy(update={"notify": unsound})
    assert run_and_notify(config, "retrain", lambda: REPORT) == REPORT
    output = caplog.text
    assert "by webhook" in output
    assert "by command: cannot be started" in output
    assert "S3CRET" not in output + json.dumps(recorded(config))


def test_failed_job_is_notified_and_still_fails(make: Make, server: Callable[..., Server]) -> None:
    hook = server(200)

    def job() -> dict[str, Any]:
        raise BusyError("another retrain is running")

    with pytest.raises(BusyError):
        run_and_notify(make(f"webhook = '{hook.url}'"), "retrain", job)
    notification = json.loads(hook.got[0][1])
    assert (notification["events"], notification["verdict"]) == (["failed"], "failed")
    assert notification["reasons"] == ["BusyError: another retrain is running"]
    assert notification["bundle"] is None


@pytest.mark.parametrize(
    ("events", "verdict", "drifted", "expected"),
    [
        (["refused"], "promoted", False, 0),
        (["refused"], "refused", False, 1),
        (["drift"], "kept", True, 1),
        (["drift"], "kept", False, 0),
        ([], "failed", True, 0),
    ],
)
def test_only_configured_events_are_sent(
    make: Make,
    server: Callable[..., Server],
    events: list[str],
    verdict: str,
    drifted: bool,
    expected: int,
) -> None:
    hook = server(200)
    config = make(f"webhook = '{hook.url}'\non = {json.dumps(events)}")
    drift: dict[str, Any] = {
        "verdict": "drift" if drifted else "stable",
        "drifted": [],
        "undecided": [],
    }
    send(config, message("retrain", REPORT | {"verdict": verdict, "drift": drift}))
    assert len(hook.got) == expected


def test_drift_check_sends_only_drift(make: Make, server: Callable[..., Server]) -> None:
    hook = server(200)
    config = make(f"webhook = '{hook.url}'")
    send(config, message("drift", {"verdict": "stable", "bundle": "b", "drifted": []}))
    send(config, message("drift", {"verdict": "drift", "bundle": "b", "drifted": ["book_return"]}))
    (notification,) = [json.loads(body) for _, body in hook.got]
    assert notification["events"] == ["drift"]
    assert notification["drift"]["drifted"] == ["book_return"]


def test_unwritable_ledger_is_logged_and_fails_nothing(
    tmp_path: Path, server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    hook = server(200)
    file = tmp_path / "margincast.toml"
    (tmp_path / "ledger.db").write_text("no database")
    file.write_text(f"[notify]\nwebhook = '{hook.url}'\n[ledger]\nurl = 'sqlite:///ledger.db'\n")
    assert run_and_notify(load_config(file), "retrain", lambda: REPORT) == REPORT
    assert "is not recorded" in caplog.text


def test_without_channels_nothing_is_sent_or_recorded(make: Make) -> None:
    config = make("")
    assert send(config, message("retrain", REPORT)) == []
    assert recorded(config) == []
