"""Passwords in addresses: no verb shows one, on the terminal, in a report or in a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipelines.registry.promotion
from market.core.errors import ModelError
from pipelines.cli.main import main
from pipelines.config.config import Config, load_config
from pipelines.jobs.run import print_addresses
from pipelines.registry.promotion import promote, rollback
from pipelines.scheduler.notify import run_and_notify, send

SECRET = "hunter2"  # noqa: S105  the point of the tests is that it is not shown
DATABASE = f"postgresql+psycopg://risk:{SECRET}@127.0.0.1:1/margin?sslpassword={SECRET}"
SERVER = f"https://risk:{SECRET}@127.0.0.1:1/mlflow"
TRACKING = (
    DATABASE,
    f"postgresql+psycopg://risk:{SECRET}%40home@127.0.0.1:1/margin",
    f"mysql+nodriver://risk:{SECRET}@127.0.0.1:1/margin",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, with the variables that the command line sets put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARGINCAST_DEBUG", raising=False)
    monkeypatch.setenv("MARGINCAST_DEBUG", "")
    return tmp_path


def configure(folder: Path, text: str) -> Path:
    file = folder / "margincast.toml"
    file.write_text(text, encoding="utf-8")
    return file


def fail(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: Any) -> str:
    """All that a verb writes to stdout and stderr before it exits with code 1."""
    monkeypatch.setattr(sys, "argv", ["margincast", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    output: str = "".join(capfd.readouterr())
    assert output.strip()
    return output


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["line", "traceback"])
@pytest.mark.parametrize(
    "verb",
    [
        ["keys", "list"],
        ["keys", "add", "--scopes", "read"],
        ["ledger", "verify"],
        ["ledger", "heads", "--out", "heads.json"],
        ["ledger", "replay", "x"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    "address", [DATABASE, f"postgresql+nodriver://risk:{SECRET}@127.0.0.1:1/margin"]
)
def test_ledger_out_of_reach(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    verb: list[str],
    debug: list[str],
    address: str,
) -> None:
    configure(folder, f"[ledger]\nurl = '{address}'\n")
    output = fail([*debug, *verb], monkeypatch, capfd)
    assert SECRET not in output
    assert ("Traceback" in output) == bool(debug)


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["line", "traceback"])
@pytest.mark.parametrize("verb", [["promote"], ["review"]], ids=" ".join)
@pytest.mark.parametrize("address", TRACKING)
def test_tracking_out_of_reach(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    verb: list[str],
    debug: list[str],
    address: str,
) -> None:
    configure(folder, f"[tracking]\nuri = '{address}'\n")
    output = fail([*debug, *verb], monkeypatch, capfd)
    assert SECRET not in output
    assert "127.0.0.1" in output
    assert ("Traceback" in output) == bool(debug)


def test_unforeseen_error_shows_its_traceback_without_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def break_down(*_: object) -> Config:
        raise KeyError(f"cannot use {DATABASE}")

    monkeypatch.setattr("pipelines.cli.keys.load_config", break_down)
    output = fail(["keys", "list"], monkeypatch, capfd)
    assert "Traceback" in output
    assert "KeyError" in output
    assert SECRET not in output


@pytest.mark.parametrize("address", [DATABASE, SERVER])
def test_bundle_that_is_not_registered_names_the_store_without_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    config = load_config(configure(folder, f"[tracking]\nuri = '{address}'\n"))
    monkeypatch.setattr(pipelines.registry.promotion, "load_bundle", lambda _: None)
    monkeypatch.setattr(pipelines.registry.promotion, "Forecaster", lambda _: None)
    monkeypatch.setattr(pipelines.registry.promotion, "list_versions", lambda _: [])
    monkeypatch.setattr(pipelines.registry.promotion, "read_pointer", lambda *_: "0" * 64)
    verbs: list[Callable[[], object]] = [
        lambda: promote(config, "0" * 64),
        lambda: rollback(config),
    ]
    for verb in verbs:
        with pytest.raises(ModelError, match="is not registered at") as error:
            verb()
        assert "127.0.0.1" in str(error.value)
        assert SECRET not in str(error.value)


@pytest.mark.parametrize("address", [DATABASE, SERVER])
def test_run_prints_addresses_without_the_password(folder: Path, capfd: Any, address: str) -> None:
    config = load_config(configure(folder, f"[tracking]\nuri = '{address}'\n"))
    print_addresses(config, serving=True)
    output = "".join(capfd.readouterr())
    assert "mlflow ui" in output
    assert SECRET not in output


def test_report_of_a_failed_retraining_and_its_notification_hold_no_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    sink = folder / "told.json"
    command = json.dumps([sys.executable, "-c", f"open({str(sink)!r}, 'w').write(input())"])
    file = configure(
        folder, f"[notify]\ncommand = {command}\n[ledger]\nurl = 'sqlite:///ledger.db'\n"
    )

    def break_down() -> dict[str, Any]:
        raise ModelError(f"MLflow at {SERVER} failed")

    monkeypatch.setattr(
        "pipelines.jobs.retrain.retrain",
        lambda config, accepted: run_and_notify(config, "retrain", break_down),
    )
    out = folder / "report.json"
    arguments = ["retrain", "--config", str(file), "--json", str(out)]
    output = fail(arguments, monkeypatch, capfd)
    texts = (output, out.read_text(), sink.read_text())
    assert all("127.0.0.1" in text for text in texts)
    assert all(SECRET not in text for text in texts)


def test_unreachable_webhook_is_reported_without_its_path(folder: Path, capfd: Any) -> None:
    config = load_config(
        configure(
            folder,
            f"[notify]\nwebhook = 'http://127.0.0.1:1/services/{SECRET}?token={SECRET}'\n"
            "attempts = 1\n[ledger]\nurl = 'sqlite:///ledger.db'\n",
        )
    )
    message = {"events": ["failed"], "job": "retrain", "bundle": None, "id": "x"}
    (outcome,) = send(config, message)
    assert outcome["ok"] is False
    assert SECRET not in str(outcome) + "".join(capfd.readouterr())
