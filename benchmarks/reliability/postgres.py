"""A private PostgreSQL cluster that can be stopped, killed and started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL, make_url

ROLE = "margincast"
WAIT_SECONDS = 300.0
"""A cluster that takes longer hangs; this is no measure of speed, as machines are shared."""

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    # Nothing here outlives the machine: what a killed process has written stays in the page cache.
    "fsync": "off",
    "full_page_writes": "off",
}


def find_binaries() -> Path | None:
    """The folder of the newest server of the system, or none."""
    found = [
        path
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if path.parent.name.isdigit()
        and (path / "initdb").exists()
        and (path / "postgres").exists()
    ]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    installed = shutil.which("initdb")
    return Path(installed).resolve().parent if installed and shutil.which("postgres") else None


def unprivileged() -> str | None:
    """Who the server runs as: it refuses root. None stands for the user of this process."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Cluster:
    """A server of its own, with its socket in its own folder and no port.

    Parameters
    ----------
    binaries:
        Folder with ``initdb`` and ``postgres``.
    settings:
        Settings of the server in place of those above.
    """

    def __init__(self, binaries: Path, settings: dict[str, str] | None = None) -> None:
        self._binaries = binaries
        self._settings = SETTINGS | (settings or {})
        self._user = unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="mc-pg-", dir="/tmp"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.process: subprocess.Popen[bytes] | None = None
        done = subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={self.data}",
                f"--username={ROLE}",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            cwd="/",
            user=self._user,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            self.remove()
            raise RuntimeError(f"initdb failed with exit code {done.returncode}: {done.stderr}")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def address(self, database: str = "postgres") -> str:
        """A database as the ledger's URL names it."""
        url = URL.create(
            "postgresql+psycopg", ROLE, database=database, query={"host": str(self.folder)}
        )
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start it, also after a stop or a kill, and wait until it answers."""
        options = self._settings | {"unix_socket_directories": str(self.folder)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self.data),
                    *(each for item in options.items() for each in ("-c", "=".join(item))),
                ],
                cwd="/",
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C ends the tests, which then stop the server themselves.
                start_new_session=True,
            )
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                connect(self.address()).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    text = self.log.read_text(errors="replace")
                    raise RuntimeError(f"the PostgreSQL server did not start: {text}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """A fast shutdown: open connections are cut, what was committed is written."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(WAIT_SECONDS)
            self.process = None

    def stop_at_once(self) -> None:
        """An immediate shutdown: nothing is written any more; the next start recovers."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(WAIT_SECONDS)
            self.process = None

    def kill(self) -> None:
        """End all its processes at once, as a loss of power does; the next start recovers."""
        if self.process is None:
            return
        parent = self.process.pid
        # Left alone, they would hold the shared memory for a moment and refuse a new server.
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (parent, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(WAIT_SECONDS)
        self.process = None

    def create_database(self) -> str:
        """Address of a new, empty database."""
        name = f"made_{uuid.uuid4().hex}"
        with connect(self.address()) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.address(name)

    def remove(self) -> None:
        """Delete its folder, once it has stopped."""
        shutil.rmtree(self.folder, ignore_errors=True)


def connect(address: str) -> psycopg.Connection[tuple[object, ...]]:
    """A plain connection to a database that the ledger's URL names, each statement by itself."""
    url = make_url(address).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


DURABLE = {"fsync": "on", "full_page_writes": "on"}
"""Settings as in production, for what is measured rather than tested."""


@contextmanager
def running_cluster(binaries: Path, settings: dict[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster that is stopped and deleted at the end."""
    cluster = Cluster(binaries, settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        cluster.remove()
