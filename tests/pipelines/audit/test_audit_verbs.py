"""Verbs of the ledger, run as an operator does: exit codes, secrets, schedule."""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.audit.signing import KEY_VARIABLE, make_key_pair
from ledger.decisions import Draft, Meanwhile
from ledger.idempotency import IdempotentAnswer
from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import DAY
from pipelines.audit.verify import VerifyOptions, verify_ledger
from pipelines.cli.main import app
from pipelines.config.config import load_config
from pipelines.scheduler.schedule import Scheduler
from pipelines.scheduler.schedule_state import JobState, ScheduleState

PAIR = make_key_pair()
HOURLY = "0 * * * *"
ANSWER = IdempotentAnswer("owner", "old", "a" * 64, 422, b"{}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    (tmp_path / "margincast.toml").write_text(config_text())
    with Ledger(f"sqlite:///{tmp_path}/var/ledger.db") as ledger:
        ledger.append([Entry("decision", {"n": n}, account_id="a") for n in range(3)])
    return tmp_path


def never(meanwhile: Meanwhile) -> Draft:
    raise AssertionError(meanwhile)


def config_text(*, command: str = "[]", more: str = "") -> str:
    return (
        f'[ledger]\nheads_dir = "heads"\nheads_cron = "{HOURLY}"\nheads_command = {command}\n'
        f'heads_attempts = 2\nheads_public_keys = ["{PAIR.public}"]\n'
        f'[schedule]\ncron = ""\n{more}'
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ledger", *arguments])


def report_of(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = run(*arguments, "--json", "out.json")
    return result.exit_code, json.loads(Path("out.json").read_text())


def test_heads_are_signed_copied_and_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "margincast.toml").write_text(config_text(command='["cp", "{file}", "outside/"]'))
    (folder / "outside").mkdir()
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    for counter in (1, 2):
        code, report = report_of("heads")
        assert (code, report["verdict"], report["signed"]) == (0, "written", True)
        assert report["counter"] == counter
    code, report = report_of("verify", "--heads", "outside", "--require-covered", "1h")
    assert (code, report["problems"]) == (0, [])
    assert report["heads"] | {"at": ""} == {
        "at": "",
        "files": 2,
        "signed": True,
        "uncovered_records": 0,
        "uncovered_since": None,
    }
    with closing(sqlite3.connect("var/ledger.db")) as connection, connection:
        connection.execute("DELETE FROM records WHERE seq = 3")
    code, report = report_of("verify", "--heads", "outside")
    assert code == 4
    assert "truncated" in report["problems"][0]
    code, _ = report_of("verify", "--heads", "outside", "--public-key", make_key_pair().public)
    assert code == 4


@pytest.fixture
def json_log(folder: Path) -> Iterator[Path]:
    """The folder with a JSON log; other tests get the log back as it was."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    with (folder / "margincast.toml").open("a") as config:
        config.write('\n[logging]\nformat = "json"\n')
    yield folder
    root.handlers[:] = handlers
    logging.captureWarnings(False)


def test_with_a_json_log_warnings_and_altered_ledgers_are_json_lines(json_log: Path) -> None:
    (json_log / "series").mkdir()
    assert run("heads", "--out", "series").exit_code == 0
    with closing(sqlite3.connect("var/ledger.db")) as connection, connection:
        connection.execute("DELETE FROM records WHERE seq = 3")
    result = run("heads", "--out", "series")
    assert result.exit_code == 4
    levels = [json.loads(line)["level"] for line in result.stderr.splitlines()]
    assert levels == ["warning", "error"]


def test_unsigned_heads_are_said_to_be_unsigned(folder: Path) -> None:
    result = run("heads", "--out", "kept.json")
    assert result.exit_code == 0
    assert "not signed" in result.output
    assert "signature" not in json.loads(Path("kept.json").read_text())
    assert run("verify", "--heads", "kept.json").exit_code == 4
    result = run("verify", "--require-covered", "1h")
    assert result.exit_code == 1
    assert "--heads" in str(result.exception)


def test_keygen_shows_the_private_key_once_and_never_in_json(folder: Path) -> None:
    result = run("keygen", "--json", "key.json")
    private = result.output.splitlines()[0].removeprefix(f"{KEY_VARIABLE}=")
    public = json.loads(Path("key.json").read_text())["public_key"]
    assert len(private) == len(public) == 44
    assert private not in Path("key.json").read_text()
    assert public in result.output.splitlines()[1]


def test_the_command_never_sees_the_private_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = folder / "copy.sh"
    script.write_text('#!/bin/sh\nenv > "$(dirname "$1")/env.txt"\n')
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    (folder / "margincast.toml").write_text(config_text(command=f'["{script}", "{{file}}"]'))
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    assert run("heads").exit_code == 0
    environment = (folder / "heads" / "env.txt").read_text()
    assert "PATH=" in environment
    assert PAIR.private not in environment
    assert "MARGINCAST" not in environment


def test_a_command_that_fails_is_tried_again_and_its_failure_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.audit.heads._PAUSE_SECONDS", 0.0)
    notify = '[notify]\ncommand = ["tee", "message.json"]\n'
    (folder / "margincast.toml").write_text(
        config_text(command='["cp", "{file}", "nowhere/"]', more=notify)
    )
    result = run("heads")
    assert result.exit_code == 1
    assert "failed 2 times" in str(result.exception)
    assert "attempt 1" in result.output
    assert (folder / "heads" / "heads-00000001.json").is_file()
    message = json.loads(Path("message.json").read_text())
    assert (message["job"], message["verdict"]) == ("heads", "failed")
    assert "heads_command" in message["reasons"][0]


def test_heads_of_a_rewritten_ledger_are_not_signed_and_the_failure_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify = '[notify]\ncommand = ["tee", "message.json"]\n'
    (folder / "margincast.toml").write_text(config_text(command="[]", more=notify))
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    assert run("heads").exit_code == 0
    with closing(sqlite3.connect("var/ledger.db")) as connection, connection:
        connection.execute("DELETE FROM records WHERE seq = 3")
    result = run("heads")
    assert result.exit_code == 4
    assert "is gone" in result.output
    message = json.loads(Path("message.json").read_text())
    assert (message["job"], message["verdict"]) == ("heads", "failed")
    assert len(list((folder / "heads").glob("heads-*.json"))) == 1


def test_the_scheduler_runs_the_job_of_the_heads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    file = folder / "margincast.toml"
    config = load_config(file)
    due = datetime.now(UTC) - timedelta(minutes=90)
    state = folder / "var" / "schedule" / "state.json"
    ScheduleState(state).put("heads", JobState(f"{HOURLY} UTC", due.isoformat()))
    report = Scheduler(config, file).run_due()
    assert report["ran"] == ["heads"]
    last = report["jobs"]["heads"]["last"]
    assert (last["exit"], last["verdict"]) == (0, "written")
    kept = json.loads((folder / "heads" / "heads-00000001.json").read_text())
    assert kept["public_key"] == PAIR.public


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[ledger]\nheads_cron = "0 * * * *"\n', "heads_dir"),
        ('[ledger]\nheads_dir = "h"\nheads_cron = "often"\n', "ledger.heads_cron"),
        ('[ledger]\nheads_dir = "h"\nheads_command = ["cp"]\n', "{file}"),
        ('[ledger]\nheads_dir = "h"\nheads_command = [" ", "{file}"]\n', "the program to run"),
        ('[ledger]\nheads_public_keys = ["x"]\n', "ledger.heads_public_keys"),
        ("[ledger]\nheads_attempts = 0\n", "ledger.heads_attempts"),
        ("[ledger]\nheads_timeout = 0\n", "ledger.heads_timeout"),
        ("[ledger]\nanswers_days = -1\n", "ledger.answers_days"),
        ("[ledger]\nanswers_days = 3651\n", "ledger.answers_days"),
    ],
)
def test_impossible_keys_are_refused_with_their_name(folder: Path, text: str, said: str) -> None:
    (folder / "margincast.toml").write_text(text)
    result = run("verify")
    assert result.exit_code == 1
    assert said in str(result.exception)


def test_prune_deletes_what_is_older_than_the_configuration_keeps(folder: Path) -> None:
    old, new = ANSWER, dataclasses.replace(ANSWER, key="new")
    with Ledger(f"sqlite:///{folder}/var/ledger.db") as ledger:
        ledger.append_decisions(Draft([], answers=[old, new]), never)
        with ledger.transaction() as connection:
            connection.exec_driver_sql("UPDATE answers SET answered_at = 1 WHERE key = 'old'")
        code, report = report_of("prune")
        assert (code, report["deleted"]) == (0, 1)
        assert list(ledger.answers.lookup([old.request, new.request])) == [new.request]
        code, report = report_of("verify")
        assert code == 4, "an answer went before its time, by a date that was changed"
        (problem,) = report["problems"]
        assert "'old'" in problem


@pytest.mark.parametrize("days", [0, 1, 30])
def test_verify_misses_an_answer_while_the_configuration_keeps_it(folder: Path, days: int) -> None:
    (folder / "margincast.toml").write_text(f"[ledger]\nanswers_days = {days}\n")
    with Ledger(f"sqlite:///{folder}/var/ledger.db") as ledger:
        ledger.append_decisions(Draft([], answers=[ANSWER]), never)
        assert run("verify").exit_code == 0
        ledger.answers.prune(time.time_ns())
    assert run("verify").exit_code == 4
    if days:
        later = time.time_ns() + days * DAY
        config = load_config(folder / "margincast.toml")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ledger.verify.time.time_ns", lambda: later)
            assert verify_ledger(config, VerifyOptions())["intact"]


def test_prune_is_refused_where_answers_are_kept_for_ever(folder: Path) -> None:
    (folder / "margincast.toml").write_text("[ledger]\nanswers_days = 0\n")
    result = run("prune")
    assert result.exit_code == 1
    assert "ledger.answers_days is 0" in str(result.exception)


def test_archive_and_backup_by_their_verbs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, PAIR.private)
    code, report = report_of("archive", "--before", "2100-01-01", "--out", "archive")
    assert code == 0
    assert report["chains"]["main"]["deleted"] == 2  # the end, newest of the account, stays
    code, report = report_of("verify", "--archive", "archive")
    assert (code, report["problems"]) == (0, [])
    code, report = report_of("backup", "--out", "backup/ledger.db")
    assert (code, report["intact"]) == (0, True)
    assert run("verify", "--archive", "elsewhere").exit_code == 1
