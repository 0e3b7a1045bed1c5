"""The scheduler: what it remembers, what it makes up for, and how it is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from market.core.errors import BusyError, ConfigError
from pipelines.cli.main import app
from pipelines.config.config import Config, load_config
from pipelines.scheduler.lock import RETRAIN_LOCK, exclusive
from pipelines.scheduler.schedule import Scheduler, first_start, next_starts
from pipelines.scheduler.schedule_state import Finished, JobState, ScheduleState
from pipelines.scheduler.trigger import cron_trigger

NOW = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
DAILY = "0 3 * * *"
SECONDS = 30.0

# A scheduler process whose job writes a line and, if requested, stays until it is ended.
PROGRAM = """
import sys
from pathlib import Path
from pipelines.config.config import load_config
from pipelines.scheduler.schedule import Scheduler

file, seconds = Path(sys.argv[1]), sys.argv[2]
job = (
    "import json, pathlib, sys, time; report, seconds = sys.argv[1:]; "
    "runs = pathlib.Path(report).parent / 'runs'; "
    "runs.open('a').write('run\\\\n'); time.sleep(float(seconds)); "
    "pathlib.Path(report).write_text(json.dumps({'verdict': 'kept', 'bundle': 'b'}))"
)
Scheduler(
    load_config(file), file, lambda name, report: [sys.executable, "-c", job, str(report), seconds]
).run_until_stopped()
"""


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def config_of(folder: Path, text: str) -> Path:
    file = folder / "margincast.toml"
    file.write_text(text)
    return file


def folder_of(config: Config) -> Path:
    return config.serving.bundles.parent / "schedule"


def stub(code: int, report: dict[str, Any] | None) -> Callable[[str, Path], list[str]]:
    """A job that writes a report and exits with a code; a negative one is its own signal."""

    def command(name: str, path: Path) -> list[str]:
        text = None if report is None else json.dumps(report)
        program = (
            "import os, pathlib, sys; "
            f"text = {text!r}; "
            f"text and pathlib.Path({str(path)!r}).write_text(text); "
            f"os.kill(os.getpid(), {-code}) if {code} < 0 else sys.exit({code})"
        )
        return [sys.executable, "-c", program]

    return command


def due_state(config: Config, due: datetime, cron: str = f"{DAILY} UTC") -> None:
    """As if a scheduler had planned a start and was then gone."""
    ScheduleState(folder_of(config) / "state.json").put(
        "retrain", JobState(cron=cron, next=due.isoformat())
    )


# --- by a clock of our own ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "still_running", "expected"),
    [
        (None, False, "2026-11-25T03:00:00+00:00"),
        (JobState("c", "2026-11-24T03:00:00+00:00"), False, "2026-11-24T03:00:00+00:00"),
        (JobState("c", "2026-11-25T03:00:00+00:00"), False, "2026-11-25T03:00:00+00:00"),
        (JobState("other", "2026-11-24T03:00:00+00:00"), False, "2026-11-25T03:00:00+00:00"),
        (
            JobState(
                "c",
                "2026-11-25T03:00:00+00:00",
                due="2026-11-24T03:00:00+00:00",
                running="2026-11-24T03:00:01+00:00",
            ),
            False,
            "2026-11-24T03:00:00+00:00",
        ),
        (
            JobState(
                "c",
                "2026-11-25T03:00:00+00:00",
                due="2026-11-24T03:00:00+00:00",
                running="2026-11-24T03:00:01+00:00",
            ),
            True,
            "2026-11-25T03:00:00+00:00",
        ),
        (JobState("c", "2031-01-01T03:00:00+00:00"), False, "2026-11-25T03:00:00+00:00"),
        (
            JobState("c", "2031-01-02T03:00:00+00:00", running="2031-01-01T03:00:01+00:00"),
            False,
            "2026-11-24T14:30:00+00:00",
        ),
    ],
    ids=[
        "new",
        "missed",
        "planned",
        "other line",
        "interrupted",
        "still running",
        "clock ran ahead",
        "interrupted while the clock ran ahead",
    ],
)
def test_restart_begins_where_the_last_scheduler_was_cut_off(
    saved: JobState | None, still_running: bool, expected: str
) -> None:
    start = first_start(saved, "c", cron_trigger(DAILY), NOW, still_running=still_running)
    assert start is not None
    assert start.isoformat() == expected


def test_state_survives_a_restart_and_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = ScheduleState(path)
    last = Finished("a", "b", "c", 3, "refused", "sha")
    state.put("retrain", JobState("c", "n", last=last))
    state.count("retrain", "missed")
    state.change("retrain", next="m")
    again = ScheduleState(path)
    assert again.get("retrain") == JobState("c", "m", last=last, missed=1)
    path.write_text(path.read_text().replace('"missed"', '"mist"'))
    with pytest.raises(ConfigError, match="is invalid"):
        ScheduleState(path)
    path.write_text('{"format": 2, "jobs": {}}')
    with pytest.raises(ConfigError, match="format 2"):
        ScheduleState(path)


def test_next_starts_are_listed_per_job_and_an_empty_line_is_no_job(tmp_path: Path) -> None:
    file = config_of(
        tmp_path, "[schedule]\ncron = '0 3 * * *'\ndrift_cron = '30 * * * *'\ntimezone = 'UTC'\n"
    )
    found = next_starts(load_config(file), 3)
    assert [text[11:16] for text in found["retrain"]] == ["03:00"] * 3
    assert all(text[14:16] == "30" for text in found["drift"])
    assert len(set(found["drift"])) == 3
    nothing = load_config(config_of(tmp_path, "[schedule]\ncron = ''\n"))
    with pytest.raises(ConfigError, match="both empty"):
        Scheduler(nothing, None)


def test_day_that_never_comes_is_refused(tmp_path: Path) -> None:
    config = load_config(config_of(tmp_path, "[schedule]\ncron = '0 0 31 feb *'\n"))
    with pytest.raises(ConfigError, match="no day that exists"):
        Scheduler(config, None, stub(0, None)).run_due()


# --- what is due now ----------------------------------------------------------------------------


def test_missed_start_runs_once_and_the_next_is_planned(tmp_path: Path) -> None:
    config = load_config(
        config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\nmisfire_grace = 90000")
    )
    due_state(config, datetime.now(UTC) - timedelta(days=5))
    scheduler = Scheduler(config, None, stub(0, {"verdict": "promoted", "bundle": "b"}))
    job = scheduler.run_due()["jobs"]["retrain"]
    assert (job["last"]["exit"], job["last"]["verdict"], job["last"]["bundle"]) == (
        0,
        "promoted",
        "b",
    )
    assert job["running"] is None
    assert datetime.fromisoformat(job["next"]) > datetime.now(UTC)
    again = Scheduler(config, None, stub(0, None)).run_due()["jobs"]["retrain"]
    assert again == job, "nothing is due any more"


def test_start_past_its_grace_is_dropped_and_counted(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    line = f"0 {(now - timedelta(hours=2)).hour} * * *"
    config = load_config(config_of(tmp_path, f"[schedule]\ncron = '{line}'\nmisfire_grace = 60\n"))
    due_state(config, now - timedelta(days=3), f"{line} UTC")
    job = Scheduler(config, None, stub(0, None)).run_due()["jobs"]["retrain"]
    assert job["last"] is None
    assert job["missed"] == 1


def test_first_start_ever_runs_nothing(tmp_path: Path) -> None:
    config = load_config(config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\n"))
    assert Scheduler(config, None, stub(0, None)).run_due()["jobs"]["retrain"]["last"] is None


@pytest.mark.parametrize(
    ("code", "report", "verdict", "message_sent"),
    [
        (3, {"verdict": "refused", "bundle": "b"}, "refused", False),
        (1, {"verdict": "failed"}, "failed", False),
        (-9, {"verdict": "promoted"}, "failed", True),
        (7, None, "failed", True),
    ],
)
def test_run_without_a_verdict_is_failed_and_notified_by_the_scheduler(
    tmp_path: Path, code: int, report: dict[str, Any] | None, verdict: str, message_sent: bool
) -> None:
    heard = tmp_path / "heard.json"
    program = f"import sys, pathlib; pathlib.Path({str(heard)!r}).write_text(sys.stdin.read())"
    config = load_config(
        config_of(
            tmp_path,
            f"[schedule]\ncron = '{DAILY}'\nmisfire_grace = 90000\n"
            f"[notify]\ncommand = {json.dumps([sys.executable, '-c', program])}\n",
        )
    )
    due_state(config, datetime.now(UTC) - timedelta(hours=1))
    job = Scheduler(config, None, stub(code, report)).run_due()["jobs"]["retrain"]
    assert (job["last"]["exit"], job["last"]["verdict"]) == (code, verdict)
    assert heard.exists() == message_sent, "a job that ended by itself has sent its verdict"
    if message_sent:
        assert json.loads(heard.read_text())["events"] == ["failed"]


def test_settings_broken_while_the_scheduler_runs_are_notified(tmp_path: Path) -> None:
    heard = tmp_path / "heard.json"
    program = f"import sys, pathlib; pathlib.Path({str(heard)!r}).write_text(sys.stdin.read())"
    text = (
        f"[schedule]\ncron = '{DAILY}'\nmisfire_grace = 90000\n"
        f"[notify]\ncommand = {json.dumps([sys.executable, '-c', program])}\n"
    )
    file = config_of(tmp_path, text)
    config = load_config(file)
    due_state(config, datetime.now(UTC) - timedelta(hours=1))
    scheduler = Scheduler(config, file)
    file.write_text(text + "[simulate]\ndays = 0\n")
    job = scheduler.run_due()["jobs"]["retrain"]
    assert (job["last"]["exit"], job["last"]["verdict"]) == (1, "failed")
    (reason,) = json.loads(heard.read_text())["reasons"]
    assert reason.startswith("ConfigError: simulate.days is 0")


def test_report_of_an_earlier_run_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    config = load_config(
        config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\nmisfire_grace = 90000")
    )
    due_state(config, datetime.now(UTC) - timedelta(hours=1))
    (folder_of(config) / "retrain.json").write_text('{"verdict": "promoted"}')
    job = Scheduler(config, None, stub(1, None)).run_due()["jobs"]["retrain"]
    assert job["last"]["verdict"] is None


def test_second_scheduler_on_the_same_state_is_refused_and_the_first_is_named(
    tmp_path: Path,
) -> None:
    config = load_config(config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\n"))
    with (
        exclusive(folder_of(config) / "schedule.lock", "scheduler"),
        pytest.raises(BusyError, match=f"another scheduler is running .process {os.getpid()} "),
    ):
        Scheduler(config, None, stub(0, None)).run_until_stopped()


def test_retraining_that_outlived_its_scheduler_is_not_started_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\n"))
    planned = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    begun = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    ScheduleState(folder_of(config) / "state.json").put(
        "retrain", JobState(f"{DAILY} UTC", planned, due=begun, running=begun)
    )
    with exclusive(config.serving.bundles / RETRAIN_LOCK, "retrain"):
        job = Scheduler(config, None, stub(0, None)).run_due()["jobs"]["retrain"]
    assert job["last"] is None
    assert job["next"] == planned
    assert "is still running" in caplog.text


def test_start_that_falls_into_the_stopping_is_due_again(tmp_path: Path) -> None:
    config = load_config(
        config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\nmisfire_grace = 90000")
    )
    due = datetime.now(UTC) - timedelta(hours=1)
    due_state(config, due)

    def stopped(name: str, report: Path) -> list[str]:
        os.kill(os.getpid(), signal.SIGTERM)  # our own handler: it ends nothing but the schedule
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    job = Scheduler(config, None, stopped).run_due()["jobs"]["retrain"]
    assert job["last"] is None
    assert job["running"] is not None
    assert job["due"] == due.isoformat()

    scheduler = Scheduler(config, None, stub(0, {"verdict": "kept"}))
    scheduler._stopping.set()
    state = ScheduleState(folder_of(config) / "state.json")
    state.change("retrain", running=None)
    scheduler._run(state, "retrain")
    saved = state.get("retrain")
    assert saved is not None
    assert saved.running is not None
    again = Scheduler(config, None, stub(0, {"verdict": "kept"})).run_due()["jobs"]["retrain"]
    assert again["last"]["verdict"] == "kept"


def test_once_that_was_stopped_does_not_pass_for_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"due": "d", "started": "s", "ended": "e", "exit": 0, "verdict": "kept"}
    job: dict[str, Any] = {"last": before, "running": "2026-11-24T03:00:00+00:00"}
    monkeypatch.setattr(
        Scheduler, "run_due", lambda _: {"jobs": {"retrain": job}, "ran": ["retrain"]}
    )
    file = config_of(tmp_path, f"[schedule]\ncron = '{DAILY}'\n")
    assert CliRunner().invoke(app, ["schedule", "--once", "--config", str(file)]).exit_code == 1
    job["running"] = None
    assert CliRunner().invoke(app, ["schedule", "--once", "--config", str(file)]).exit_code == 0


# --- as a process -------------------------------------------------------------------------------


class Process:
    """A scheduler as a process of its own."""

    def __init__(self, file: Path, seconds: float) -> None:
        self.folder = file.parent / "var" / "schedule"
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(file), str(seconds)], stderr=subprocess.DEVNULL
        )

    @property
    def runs(self) -> int:
        try:
            return len((self.folder / "runs").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return found["jobs"]["retrain"]  # type: ignore[no-any-return]

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if what():
                return
            assert self._process.poll() is None, "the scheduler ended"
            time.sleep(0.05)
        pytest.fail("the scheduler did not get there")

    def end(self, number: int) -> int:
        self._process.send_signal(number)
        return self._process.wait(SECONDS)


@pytest.fixture
def scheduler() -> Iterator[Callable[[Path, float], Process]]:
    started: list[Process] = []

    def start(file: Path, seconds: float = 0.0) -> Process:
        started.append(Process(file, seconds))
        return started[-1]

    yield start
    for process in started:
        process.end(signal.SIGKILL)


def test_killed_scheduler_starts_again_with_its_plan_and_its_results(
    tmp_path: Path, scheduler: Callable[..., Process]
) -> None:
    file = config_of(tmp_path, "[schedule]\ncron = '* * * * * *'\n")
    first = scheduler(file)
    first.wait_for(lambda: first.runs >= 2 and first.state()["last"] is not None)
    first.end(signal.SIGKILL)
    before, runs = first.state(), first.runs
    assert before["last"]["verdict"] == "kept"
    second = scheduler(file)
    second.wait_for(lambda: second.runs > runs)
    second.wait_for(lambda: second.state()["last"]["due"] > before["last"]["due"])
    assert second.state()["last"]["verdict"] == "kept"
    assert second.end(signal.SIGTERM) == 0


def test_run_cut_off_with_its_scheduler_is_made_up_for_at_once_and_only_once(
    tmp_path: Path, scheduler: Callable[..., Process]
) -> None:
    minute = (datetime.now(UTC) + timedelta(minutes=30)).minute
    line = f"{minute} * * * *"
    file = config_of(tmp_path, f"[schedule]\ncron = '{line}'\n")
    config = load_config(file)
    due_state(config, datetime.now(UTC) - timedelta(seconds=20), f"{line} UTC")
    first = scheduler(file, 60.0)
    first.wait_for(lambda: first.runs == 1 and first.state()["pid"] is not None)
    child = first.state()["pid"]
    first.end(signal.SIGKILL)
    os.kill(child, signal.SIGKILL)  # the machine went down with both
    assert first.state()["running"] is not None

    second = scheduler(file)
    second.wait_for(lambda: second.runs == 2 and second.state()["running"] is None)
    assert second.state()["last"]["verdict"] == "kept"
    time.sleep(1.5)
    assert second.runs == 2
    assert datetime.fromisoformat(second.state()["next"]).minute == minute
    assert second.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_scheduler_ends_its_run_and_remembers_that_it_was_cut_off(
    tmp_path: Path, scheduler: Callable[..., Process], number: int
) -> None:
    file = config_of(tmp_path, "[schedule]\ncron = '*/2 * * * * *'\n")
    process = scheduler(file, 60.0)
    process.wait_for(lambda: process.runs == 1 and process.state()["pid"] is not None)
    child = process.state()["pid"]
    assert process.end(number) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert process.state()["running"] is not None
    assert process.state()["last"] is None


def test_start_that_falls_into_a_long_run_is_left_out_and_counted(
    tmp_path: Path, scheduler: Callable[..., Process]
) -> None:
    process = scheduler(config_of(tmp_path, "[schedule]\ncron = '* * * * * *'\n"), 60.0)
    process.wait_for(lambda: process.runs == 1 and process.state()["skipped"] >= 1)
    assert process.runs == 1
    assert process.end(signal.SIGTERM) == 0
