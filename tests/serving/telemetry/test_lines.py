"""Lines on their way to stderr: order, whole lines, drops, the end of the process."""

from __future__ import annotations

import threading
import time

import pytest

from serving.telemetry.logs import lines
from serving.telemetry.logs.lines import MOST_BYTES, LineWriter
from tests.waiting import wait_for


class Sink:
    """Takes writes, and can stand still like a pipe that nobody reads."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, data: bytes) -> None:
        assert self.open.wait(120.0)
        self.writes.append(data)

    def lines(self) -> list[bytes]:
        return b"".join(self.writes).splitlines()


def test_lines_of_several_threads_come_whole_and_in_order() -> None:
    sink = Sink()
    writer = LineWriter(sink)

    def put(name: int) -> None:
        for i in range(500):
            writer.put(b"%d %d" % (name, i), of_request=True)

    threads = [threading.Thread(target=put, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    found = [tuple(map(int, line.split())) for line in sink.lines()]
    assert sorted(found) == [(name, i) for name in range(4) for i in range(500)]
    for name in range(4):
        assert [i for who, i in found if who == name] == list(range(500))


def test_every_write_ends_with_a_line_and_fits_into_a_pipe_at_once() -> None:
    sink = Sink()
    writer = LineWriter(sink)
    for size in (10, 1_000, MOST_BYTES - 1, 3_000, 3_000):
        writer.put(b"x" * size)
    writer.close()
    assert all(len(data) <= MOST_BYTES and data.endswith(b"\n") for data in sink.writes)
    assert [len(line) for line in sink.lines()] == [10, 1_000, MOST_BYTES - 1, 3_000, 3_000]


def test_lines_that_do_not_fit_are_dropped_and_counted_and_errors_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "MOST_LINES", 10)
    monkeypatch.setattr(lines, "MORE_LINES", 5)
    sink, dropped = Sink(), list[int]()
    sink.open.clear()
    writer = LineWriter(sink)
    writer.on_drop(dropped.append)
    writer.put(b"first")
    wait_for(lambda: not writer._lines)  # the writer stands at the sink
    began = time.perf_counter()
    for i in range(100):
        writer.put(b"request %d" % i, of_request=True)
    for i in range(10):
        writer.put(b"error %d" % i)
    assert time.perf_counter() - began < 60.0, "whoever logs does not wait for stderr"
    sink.open.set()
    writer.flush()
    writer.close()
    written = sink.lines()
    assert written[1:] == [b"request %d" % i for i in range(10)] + [
        b"error %d" % i for i in range(5)
    ]
    assert sum(dropped) == 90 + 5


def test_lines_that_stderr_refuses_are_counted() -> None:
    dropped: list[int] = []

    def closed(data: bytes) -> None:
        raise OSError("closed")

    writer = LineWriter(closed)
    writer.on_drop(dropped.append)
    writer.put(b"one")
    writer.put(b"two")
    writer.close()
    assert sum(dropped) == 2


def test_a_line_that_cannot_be_encoded_or_counted_does_not_end_the_log() -> None:
    class Broken:
        def encode(self) -> bytes:
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    sink, dropped = Sink(), list[int]()

    def count(number: int) -> None:
        dropped.append(number)
        if len(dropped) == 1:
            raise OSError("the folder of metrics is gone")

    writer = LineWriter(sink)
    writer.on_drop(count)
    writer.put(Broken())
    writer.put(b"one")
    writer.flush()
    writer.put(b"two")
    writer.close()
    assert sink.lines() == [b"one", b"two"]
    assert dropped == [1, 1]
