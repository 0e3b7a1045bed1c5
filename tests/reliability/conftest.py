"""A workspace of its own for each test, and a PostgreSQL cluster that tests may stop and kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reliability.postgres import Cluster, find_binaries, running_cluster
from benchmarks.reliability.workspace import Workspace, make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "work")


@pytest.fixture
def cluster(postgres_property: None) -> Iterator[Cluster]:
    """PostgreSQL for one test; skipped where it is not installed."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed that a test could stop and kill")
    with running_cluster(binaries) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    """An empty ledger of each kind in turn."""
    if request.param == "sqlite":
        return workspace.sqlite
    url: str = request.getfixturevalue("postgres_url")
    return url
