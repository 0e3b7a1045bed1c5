"""A private PostgreSQL cluster for the tests, and an empty database for each test that asks.

``MARGINCAST_TEST_POSTGRES`` names a server that is there already, by the address of a database
whose role may create others. Without it a session starts a cluster of its own from the binaries
of the system, and without these the tests are skipped by name.

``python -m tests.postgres`` starts a cluster, prints its address on one line and stops it again at
SIGTERM: what ``.ci/run`` does for all processes of a run.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from benchmarks.reliability.postgres import connect, find_binaries, running_cluster

SERVER = "MARGINCAST_TEST_POSTGRES"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of a database of a server on which the tests make their own."""
    given = os.environ.get(SERVER)
    if given:
        yield given
        return
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL server is installed, and {SERVER} names none")
    with running_cluster(binaries) as cluster:
        yield cluster.address()


@pytest.fixture
def postgres_property(request: pytest.FixtureRequest) -> None:
    """Names the test in the JUnit report as one that needs PostgreSQL, also where it is skipped."""
    request.node.user_properties.append(("postgres", "true"))


@pytest.fixture
def postgres_url(postgres_property: None, postgres_server: str) -> Iterator[str]:
    """An empty database, dropped with the test."""
    name = f"test_{uuid.uuid4().hex}"
    with connect(postgres_server) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with connect(postgres_server) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def main() -> None:
    """Run a cluster until SIGTERM."""
    binaries = find_binaries()
    if binaries is None:
        sys.exit("no PostgreSQL server is installed: initdb and postgres were not found")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with running_cluster(binaries) as cluster:
        sys.stdout.write(cluster.address() + "\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
