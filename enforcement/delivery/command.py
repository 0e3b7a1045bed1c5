"""The command sink: a program that gets the message on its standard input."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from enforcement.delivery.sinks import SHOWN, Message, Outcome

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Variables that a program gets; none of them is a secret of ours."""


class CommandSink:
    """Runs a program for each message; exit code 0 means that it has it.

    Parameters
    ----------
    name:
        Of the sink.
    command:
        The program and its arguments; no shell is involved.
    timeout_seconds:
        After this time the program and what it started are killed.
    """

    def __init__(self, name: str, command: Sequence[str], timeout_seconds: float = 10.0) -> None:
        self._name, self._command = name, tuple(command)
        self._timeout = timeout_seconds

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self._name

    def send(self, message: Message) -> Outcome:
        """Run the program once with the body of a message on its standard input."""
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            # Files, not pipes: a program that reads nothing or leaves a child behind blocks none.
            with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
                given.write(message.body)
                given.seek(0)
                process = subprocess.Popen(
                    self._command,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=environment,
                    start_new_session=True,
                )
                return self._outcome(process, said)
        except OSError as error:
            return Outcome(False, f"cannot be started ({error.strerror})")
        except ValueError as error:  # an argument with a NUL
            return Outcome(False, f"cannot be started ({error})", final=True)

    def _outcome(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> Outcome:
        try:
            code = process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Outcome(False, f"no end within {self._timeout:g} s")
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - 4 * SHOWN))
        output = said.read().decode(errors="replace").strip()[-SHOWN:]
        return Outcome(code == 0, f"exit {code}" + (f": {output}" if output else ""))
