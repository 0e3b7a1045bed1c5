"""The database fails while the service answers: 503 meanwhile, and nothing lost afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.reliability import scenarios
from benchmarks.reliability.evidence import examine
from benchmarks.reliability.load import Load, Plan
from benchmarks.reliability.postgres import Cluster
from benchmarks.reliability.scenarios import Found
from benchmarks.reliability.service import Service
from benchmarks.reliability.workspace import Workspace

DECISIONS = 600


def check(found: Found) -> None:
    """Every call was acknowledged in the end, and each decision is on record once."""
    assert found.outcome.wrong == []
    assert found.outcome.given_up == 0
    assert found.evidence.is_sound, found.evidence
    assert found.evidence.recorded == found.evidence.acknowledged


def test_postgres_restarted_stopped_and_killed_under_load_loses_nothing(
    workspace: Workspace, cluster: Cluster
) -> None:
    found = scenarios.database_faults(
        workspace, cluster, cluster.create_database(), DECISIONS, seed=3
    )
    check(found)
    assert found.outcome.answers[503] > 0, "the faults were felt"
    assert found.outcome.broken.total() == 0, "the service itself answered throughout"


def test_a_full_disk_refuses_decisions_and_ends_with_the_space(workspace: Workspace) -> None:
    found = scenarios.full_disk(workspace, workspace.sqlite, 100, seed=4)
    check(found)
    assert set(found.outcome.answers) == {503}
    assert found.outcome.broken.total() == 0


def test_calls_wait_while_another_program_holds_the_lock(workspace: Workspace) -> None:
    found = scenarios.locked(workspace, workspace.sqlite, 2.0, 100, seed=5)
    check(found)
    assert found.outcome.broken.total() == 0
    assert max(call.milliseconds for call in found.outcome.acknowledged) > 2_000.0


@pytest.mark.parametrize("replaced", [False, True])
def test_a_ledger_file_moved_away_under_load_acknowledges_nothing_that_is_lost(
    workspace: Workspace, replaced: bool
) -> None:
    found = scenarios.moved_away(workspace, workspace.sqlite, 100, seed=9, replaced=replaced)
    check(found)
    assert set(found.outcome.answers) == {503}


def read_only_service(workspace: Workspace) -> Service:
    """Without the right of root to write what its permissions forbid."""
    return Service(
        workspace.folder,
        variables={"MARGINCAST__LEDGER__URL": workspace.sqlite},
        wrapper=("setpriv", "--bounding-set=-dac_override"),
    )


def set_writable(database: Path, writable: bool) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.chmod(0o600 if writable else 0o400)
    database.parent.chmod(0o700 if writable else 0o500)


def test_a_ledger_that_becomes_read_only_refuses_decisions_until_it_is_writable(
    workspace: Workspace,
) -> None:
    with read_only_service(workspace).wait() as service, Load(service.port, Plan(seed=6)) as load:
        load.more(100)
        set_writable(workspace.database, writable=False)
        service.wait_for(lambda: load.outcome.answers[503] > 20, "writes are refused")
        set_writable(workspace.database, writable=True)
        load.more(100)
        outcome = load.finish()
        service.wait()
    check(Found(outcome, examine(workspace.sqlite, outcome)))
    assert set(outcome.answers) == {503}


def test_a_start_on_a_read_only_ledger_says_so_in_one_line(workspace: Workspace) -> None:
    with scenarios.serve(workspace, workspace.sqlite) as service:
        service.kill()  # which leaves a log of writes: one that was closed is refused elsewhere
    set_writable(workspace.database, writable=False)
    try:
        refused = read_only_service(workspace)
        assert refused.process.wait(600.0) == 1
    finally:
        set_writable(workspace.database, writable=True)
    (line,) = refused.log().splitlines()
    assert str(workspace.database.name) in line


def test_a_real_full_file_system_refuses_decisions(workspace: Workspace, tmp_path: Path) -> None:
    """A file system of 3 MB in memory, where mounting is allowed."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    url = f"sqlite:///{small}/ledger.db"
    try:
        with scenarios.serve(workspace, url) as service:
            with Load(service.port, Plan(seed=7)) as load:
                load.more(50)
                (small / "filler").write_bytes(b"")
                fill(small / "filler")
                service.wait_for(lambda: load.outcome.answers[503] > 20, "writes are refused")
                (small / "filler").unlink()
                load.more(50)
                outcome = load.finish()
            found = Found(outcome, examine(url, outcome))
            service.kill()
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    check(found)
    assert set(outcome.answers) == {503}


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            return


def test_the_lock_of_a_reader_delays_nothing(workspace: Workspace) -> None:
    """As of a backup or an audit: readers and the writer do not wait for each other."""
    plan = Plan(seed=8, repeat=False)
    with scenarios.serve(workspace, workspace.sqlite) as service, Load(service.port, plan) as load:
        load.more(50)
        with closing(sqlite3.connect(workspace.database)) as reader:
            reader.execute("BEGIN")
            (before,) = reader.execute("SELECT count(*) FROM records").fetchone()
            load.more(200)
            (after,) = reader.execute("SELECT count(*) FROM records").fetchone()
        outcome = load.finish()
    assert before == after, "the reader sees one state"
    assert outcome.answers.total() == outcome.broken.total() == 0
    assert max(call.milliseconds for call in outcome.acknowledged[50:]) < 10_000.0
