"""The process of the monitor: by its verb, stopped by a signal, and kept alive by an endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.store import Ledger
from market.core.errors import LedgerError
from monitoring.evaluation.lease import holder_of
from monitoring.evaluation.monitor import LEASE
from pipelines.config.config import Config
from pipelines.config.monitoring_section import MonitoringConfig
from pipelines.jobs import monitor as jobs
from pipelines.jobs.monitor import monitor_child

STARTS = "MARGINCAST_TEST_STARTS"


def write_and_die(_: Config) -> None:
    with Path(os.environ[STARTS]).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    if Path(os.environ[STARTS]).read_text(encoding="utf-8").count("\n") >= 3:
        time.sleep(60.0)  # the third one stays
    sys.exit(1)


def until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_monitor_that_dies_is_started_again_and_ends_with_its_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setenv(STARTS, str(starts))
    monkeypatch.setattr(jobs, "_child", write_and_die)
    monkeypatch.setattr(jobs, "RESTART_SECONDS", (0.01, 0.02))
    config = Config(monitoring=MonitoringConfig(enabled=True))

    def pids() -> list[int]:
        return [int(line) for line in starts.read_text().split()] if starts.exists() else []

    with monitor_child(config) as start:
        assert not pids(), "it starts once the endpoint answers"
        start()
        until(lambda: len(pids()) >= 3, 60.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pids()[2], 0)


def test_without_monitoring_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_child", write_and_die)  # which needs a variable that is not set
    with monitor_child(Config()) as start:
        start()


def test_the_verb_evaluates_until_sigterm_and_gives_its_lease_back(tmp_path: Path) -> None:
    file = tmp_path / "margincast.toml"
    file.write_text(
        '[simulate]\ndays = 12\nsymbols = 2\n[serving]\nclock = "market"\n', encoding="utf-8"
    )
    program = (
        "import sys; from pipelines.cli.main import main; "
        f"sys.argv = ['margincast', 'monitor', '--config', {str(file)!r}]; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    url = f"sqlite:///{tmp_path}/var/ledger.db"

    def held() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the monitor ended with {process.returncode}")
        if not (tmp_path / "var" / "ledger.db").exists():
            return False
        try:
            with Ledger(url) as ledger:
                return holder_of(ledger, LEASE) is not None
        except LedgerError:
            return False  # its tables are being made

    try:
        until(held, 120.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30.0) == 0
    finally:
        process.kill()
    with Ledger(url) as ledger:
        assert holder_of(ledger, LEASE) is None
