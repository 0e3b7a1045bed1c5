"""An endpoint with a monitor, as processes, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.fuzz.wire import MONITORED
from benchmarks.reliability import scenarios
from benchmarks.reliability.service import Service
from benchmarks.reliability.workspace import make_workspace


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    workspace = make_workspace(tmp_path_factory.mktemp("fuzzed") / "work")
    with scenarios.serve(workspace, workspace.sqlite, variables=MONITORED) as service:
        yield service
        assert service.process.poll() is None, service.log()
