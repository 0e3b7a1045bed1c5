"""A program gets a message on its standard input, no secret of ours, and no more than its time."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from enforcement.delivery.command import CommandSink
from enforcement.delivery.sinks import Message
from tests.waiting import wait_for

MESSAGE = Message("call-1", "a", b'{"event":"opened"}')


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_program_gets_the_message_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENUE_SECRET", "s3cret")
    out = tmp_path / "got.json"
    program = (
        "import json, os, pathlib, sys; "
        f"pathlib.Path({str(out)!r}).write_text(json.dumps([sys.stdin.read(), dict(os.environ)]))"
    )
    outcome = CommandSink("desk", python(program)).send(MESSAGE)
    assert (outcome.ok, outcome.detail) == (True, "exit 0")
    text, environment = json.loads(out.read_text("utf-8"))
    assert text.encode() == MESSAGE.body
    assert "s3cret" not in environment.values()
    assert environment["PATH"] == os.environ["PATH"]


def is_gone(stat: Path) -> bool:
    """Whether a process has ended, also one that nobody has waited for."""
    try:
        return stat.read_text("utf-8").split()[2] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        (python("import sys; sys.exit('no route')"), "exit 1: no route"),
        (python("pass"), "exit 0"),
        (["/nowhere/at/all"], "cannot be started"),
        (["a\0b"], "cannot be started"),
    ],
)
def test_what_became_of_a_program_is_an_outcome(command: list[str], detail: str) -> None:
    large = Message("call-1", "a", b" " * 2**20)  # more than a pipe holds
    outcome = CommandSink("desk", command).send(large)
    assert outcome.ok == (detail == "exit 0")
    assert detail in outcome.detail


def test_a_program_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = (
        "import pathlib, subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    began = time.monotonic()
    outcome = CommandSink("desk", python(program), 1.5).send(MESSAGE)
    assert time.monotonic() - began < 30.0
    assert outcome.detail == "no end within 1.5 s"
    child = Path(f"/proc/{pid.read_text('utf-8')}/stat")
    wait_for(lambda: is_gone(child), "the child of the program lives on")


def test_a_child_that_a_program_leaves_behind_delays_nothing() -> None:
    program = (
        "import subprocess, sys; "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    )
    began = time.monotonic()
    assert CommandSink("desk", python(program), 15.0).send(MESSAGE).ok
    assert time.monotonic() - began < 15.0
