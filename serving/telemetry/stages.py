"""How long a batch of score calls takes in each of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from ledger.decisions import Draft, Meanwhile
from serving.telemetry.metrics.metrics import Metrics, Stage

Append = Callable[[Draft, Callable[[Meanwhile], Draft]], Draft]


class StageTime(NamedTuple):
    """When a stage began and ended, by `time.perf_counter_ns`."""

    stage: Stage
    began: int
    ended: int


STAGES: ContextVar[list[StageTime] | None] = ContextVar("stages", default=None)
"""Where the stages of the current batch are noted; None if they are not traced."""


class BatchClock:
    """The clock of one batch: it decides, then commits, then encodes its responses.

    Where calls are recorded one by one, `commit` lasts from the first record to the last one.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter_ns()
        self._commit: tuple[int, int] | None = None

    def timed(self, append: Append) -> Append:
        """The same way to record, with its time taken."""

        def timed_append(draft: Draft, renew: Callable[[Meanwhile], Draft]) -> Draft:
            began = time.perf_counter_ns()
            first = self._commit[0] if self._commit is not None else began
            try:
                return append(draft, renew)
            finally:
                self._commit = (first, time.perf_counter_ns())

        return timed_append

    def finish(self, metrics: Metrics) -> None:
        """Count the stages of a batch that has its responses."""
        ended = time.perf_counter_ns()
        if self._commit is None:  # nothing was recorded: all of it was refused or answered before
            times = [StageTime("decide", self._began, ended)]
        else:
            first, last = self._commit
            times = [
                StageTime("decide", self._began, first),
                StageTime("commit", first, last),
                StageTime("encode", last, ended),
            ]
        for stage, began, end in times:
            metrics.stage(stage, (end - began) / 1e9)
        noted = STAGES.get()
        if noted is not None:
            noted.extend(times)
