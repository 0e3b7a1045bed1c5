"""Colours, progress and the notice of compilation, on a terminal and in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest
from numba.core import event

from pipelines.cli.usage import compilation
from pipelines.cli.usage.compilation import CompilationNotice

MARGINCAST = str(Path(sys.executable).parent / "margincast")
CASES = (
    ("--help",),
    ("rulesets", "list"),
    ("retrian",),
)
"""Help, a table and an error."""

VARIABLES = ("CI", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS")


def environment(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    return kept | {"TERM": "xterm-256color"} | variables


def in_a_terminal(folder: Path, words: tuple[str, ...], **variables: str) -> str:
    """What a run writes on a terminal of 80 columns, stdout and stderr."""
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [MARGINCAST, *words],
        cwd=folder,
        env=environment(variables),
        stdin=end,
        stdout=end,
        stderr=end,
    ):
        os.close(end)
        text = b"".join(_blocks(screen))
    os.close(screen)
    return text.decode()


def _blocks(screen: int) -> Iterator[bytes]:
    while True:
        try:
            block = os.read(screen, 65_536)
        except OSError:  # the other end is closed
            return
        if not block:
            return
        yield block


def in_a_pipe(folder: Path, words: tuple[str, ...], **variables: str) -> str:
    done = subprocess.run(
        [MARGINCAST, *words],
        cwd=folder,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("words", CASES)
def test_no_escape_sequences_without_a_terminal_or_with_no_color(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    texts = (
        in_a_pipe(tmp_path, words),
        in_a_pipe(tmp_path, words, COLUMNS="80"),
        in_a_pipe(tmp_path, words, NO_COLOR="1", FORCE_COLOR="1"),
        in_a_terminal(tmp_path, words, NO_COLOR="1"),
        in_a_terminal(tmp_path, words, TERM="dumb"),
    )
    for text in texts:
        assert text.strip()
        assert "\x1b" not in text
        if words[0] in ("--help", "rulesets"):
            assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("words", [("--help",), ("rulesets", "list")])
def test_colours_on_a_terminal_and_where_they_are_forced(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert "\x1b[" in in_a_terminal(tmp_path, words)
    assert "\x1b[" in in_a_terminal(tmp_path, words, NO_COLOR=""), "empty is not set"
    assert "\x1b[" in in_a_pipe(tmp_path, words, FORCE_COLOR="1")


def test_numba_does_not_reset_the_terminal_at_the_end_of_a_verb(tmp_path: Path) -> None:
    text = in_a_terminal(tmp_path, ("data", "--accounts", "nowhere"))
    assert text.startswith("margincast: account folder nowhere does not exist")
    assert "\x1b" not in text


def progress_of(folder: Path, *, terminal: bool, **variables: str) -> str:
    """The stderr of a job that fails in its second stage, on a terminal or in a pipe."""
    (folder / "margincast.toml").write_text("[simulate]\ndays = 45\nsymbols = 2\n")
    words = ("score", "--accounts", "nowhere", "--out", "out.csv")
    return (in_a_terminal if terminal else in_a_pipe)(folder, words, **variables)


def test_a_bar_only_on_a_terminal_with_colours(tmp_path: Path) -> None:
    assert "━" in progress_of(tmp_path, terminal=True)
    assert "\x1b" not in progress_of(tmp_path, terminal=True, NO_COLOR="1")
    assert "\x1b" not in progress_of(tmp_path, terminal=False, FORCE_COLOR="1")


@pytest.fixture
def notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompilationNotice:
    """A listener of a process with an empty kernel cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels-empty"))
    monkeypatch.delenv("MARGINCAST_QUIET", raising=False)
    return CompilationNotice()


def seconds(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    """Times that the listener reads, and nothing else in this process."""
    clock = iter(times)
    monkeypatch.setattr(compilation, "time", SimpleNamespace(monotonic=lambda: next(clock)))


@contextmanager
def compiles(notice: CompilationNotice) -> Iterator[None]:
    """A compilation that only this listener hears of: one of an earlier verb may be registered."""
    notice.on_start(None)
    yield
    notice.on_end(None)


def test_the_notice_waits_until_kernels_took_two_seconds(
    notice: CompilationNotice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds(monkeypatch, *(0.0, 0.0, 1.5), *(100.0, 100.0, 100.4), *(200.0, 200.0, 200.2))
    for _ in range(2):
        with compiles(notice):
            pass
        assert capsys.readouterr().err == "", "time between kernels does not count"
    with compiles(notice):
        pass
    said = capsys.readouterr().err
    assert said.startswith("progress: compiling kernels once, about a minute; later runs use them")
    assert "margincast warm-up" in said
    assert len(said.splitlines()) == 1
    seconds(monkeypatch, 300.0, 300.0, 309.0)
    with compiles(notice):
        pass
    assert capsys.readouterr().err == "", "once"


def test_the_notice_is_due_while_a_kernel_compiles_others(
    notice: CompilationNotice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds(monkeypatch, 0.0, 0.0, 2.5, 3.0, 3.5)
    with compiles(notice), compiles(notice):
        assert "compiling kernels once" in capsys.readouterr().err


def test_only_kernels_that_the_cache_lacks_count(
    notice: CompilationNotice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compilation, "SHORT_SECONDS", 0.0)
    kernel = numba.njit(lambda x: x + 1)
    event.register("numba:compile", notice)  # type: ignore[no-untyped-call]
    assert kernel(1) == 2
    event.unregister("numba:compile", notice)  # type: ignore[no-untyped-call]
    assert "compiling kernels once" in capsys.readouterr().err
    again = CompilationNotice()
    event.register("numba:compile", again)  # type: ignore[no-untyped-call]
    assert kernel(1) == 2
    event.unregister("numba:compile", again)  # type: ignore[no-untyped-call]
    assert capsys.readouterr().err == ""


def test_quiet_and_a_partly_filled_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kernel.nbc").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compilation, "SHORT_SECONDS", 0.0)
    monkeypatch.setenv("MARGINCAST_QUIET", "1")
    CompilationNotice().on_start(None)
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("MARGINCAST_QUIET")
    CompilationNotice().on_start(None)
    said = capsys.readouterr().err
    assert "compiling kernels once; later" in said
    assert "minute" not in said
