"""What the supervisor says of a worker that ends before it listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.http.ports import free_port
from market.core.errors import ConfigError, WorkerError
from pipelines.config.config import Config, load_config
from pipelines.jobs.workers import Answer, WorkerPlace, serve_with_workers


def answer_that_refuses(
    config: Config, listener: socket.socket, place: WorkerPlace, listens: Callable[[], None]
) -> None:
    """The first worker listens, the second is refused."""
    if place.metrics.worker == 1:
        listens()
        listener.listen()
        listener.accept()
    raise ConfigError("[ledger] url cannot be reached; start the database")


def answer_that_dies(
    config: Config, listener: socket.socket, place: WorkerPlace, listens: Callable[[], None]
) -> None:
    """Ends without a word."""
    os._exit(7)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            answer_that_refuses,
            r"worker 2 could not start \(exit code 1: \[ledger\] url cannot be reached; "
            r"start the database\)",
        ),
        (answer_that_dies, r"worker [12] could not start \(exit code 7\)"),
    ],
)
def test_a_worker_that_cannot_start_ends_the_service_with_its_cause(
    answer: Answer, message: str, tmp_path: Path
) -> None:
    (tmp_path / "margincast.toml").write_text("[serving]\nworkers = 2\n")
    config = load_config(tmp_path / "margincast.toml")
    serving = config.serving.model_copy(update={"port": free_port()})
    with pytest.raises(WorkerError, match=f"^{message}$"):
        serve_with_workers(config.model_copy(update={"serving": serving}), answer)
