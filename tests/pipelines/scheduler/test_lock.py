"""The lock of a job: it dies with its process and names who has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from market.core.errors import BusyError
from pipelines.scheduler.lock import exclusive, is_held

HOLD = """
import sys, time
from pathlib import Path
from pipelines.scheduler.lock import exclusive
with exclusive(Path(sys.argv[1]), "retrain"):
    print("held", flush=True)
    time.sleep(600)
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """A process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_killed_process_releases_its_lock_and_a_running_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "retrain.lock"
    process = holding(path)
    try:
        assert is_held(path)
        with (
            pytest.raises(BusyError, match=rf"process {process.pid} on \S+ since 20"),
            exclusive(path, "retrain"),
        ):
            pass
        assert is_held(path), "asking has not freed it"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert path.exists(), "the file stays and means nothing"
    assert not is_held(path)
    with exclusive(path, "retrain"):
        assert is_held(path)
        assert f'"pid": {os.getpid()}' in path.read_text(), "the dead process's name is gone"


def test_lock_is_free_and_nameless_after_its_job_also_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "new" / "retrain.lock"
    with pytest.raises(ZeroDivisionError), exclusive(path, "retrain"):
        raise ZeroDivisionError
    assert path.read_text() == ""
    assert not is_held(path)
    with exclusive(path, "retrain"):
        pass


@pytest.mark.parametrize("text", ["", "garbage", '{"pid": "x"}', "[1]"])
def test_lock_without_a_readable_holder_is_still_locked(tmp_path: Path, text: str) -> None:
    path = tmp_path / "retrain.lock"
    with exclusive(path, "retrain"):
        path.write_text(text)
        with (
            pytest.raises(BusyError, match="left no name"),
            exclusive(path, "retrain"),
        ):
            pass


def test_missing_lock_file_is_not_locked(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "absent.lock")
    assert not (tmp_path / "absent.lock").exists()
