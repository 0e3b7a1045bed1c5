"""What callers and operators see of a ledger that fails: 503, a reason, nothing acknowledged."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger import schema
from market.core.file_lock import exclusive_lock
from monitoring import ledger_probe
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def _probe_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_probe, "SHARED_SECONDS", 0.0)


def readiness(endpoint: Any) -> tuple[int, list[str]]:
    answer = endpoint.client.get("/health/ready")
    return answer.status_code, answer.json()["reasons"]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_ledger_file_that_goes_away_stops_acknowledging_at_once(
    serve: Any, champion: str, account: dict[str, Any], tmp_path: Path, how: str
) -> None:
    """Five decisions were acknowledged and lost here once."""
    endpoint = serve()
    assert endpoint.score(account).status_code == 200
    path = tmp_path / "ledger.db"
    path.rename(tmp_path / "away.db")
    if how == "replaced":
        path.write_bytes((tmp_path / "away.db").read_bytes())
    for _ in range(5):
        answer = endpoint.score(account)
        assert answer.status_code == 503
        assert answer.json()["type"].endswith(":ledger-unavailable")
    status, reasons = readiness(endpoint)
    assert status == 503
    assert "the file of the ledger was deleted or replaced" in reasons
    assert path.exists() == (how == "replaced")
    path.unlink(missing_ok=True)
    (tmp_path / "away.db").rename(path)
    assert endpoint.score(account).status_code == 200
    wait_for(lambda: readiness(endpoint)[0] == 200, "the next poll finds the file again")


def test_a_ledger_locked_for_longer_than_the_wait_is_503_and_heals(
    serve: Any,
    champion: str,
    account: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = serve()
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    with exclusive_lock(f"{tmp_path}/ledger.db.lock", 60.0):
        assert endpoint.score(account).status_code == 503
        assert readiness(endpoint)[0] == 503
    monkeypatch.setattr("monitoring.ledger_writer.UNHEALTHY_SECONDS", 0.0)
    assert endpoint.score(account).status_code == 200
    wait_for(lambda: readiness(endpoint)[0] == 200)


def test_a_full_disk_is_503_and_heals(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve()
    assert endpoint.score(account).status_code == 200
    full = threading.Event()
    full.set()

    def limit(connection: Any) -> None:
        count = 1 if full.is_set() else 10**9
        connection.connection.dbapi_connection.execute(f"PRAGMA max_page_count = {count}")

    transaction = endpoint.ledger.transaction

    @contextmanager
    def limited(*args: Any, **options: Any) -> Any:
        with transaction(*args, **options) as connection:
            limit(connection)
            yield connection

    monkeypatch.setattr(endpoint.ledger, "transaction", limited)
    big = account | {"history": {"noise": os.urandom(3_000).hex()}}
    statuses = [endpoint.score(big | {"account_id": f"a{n}"}).status_code for n in range(30)]
    assert 503 in statuses
    acknowledged = statuses.count(200)
    assert acknowledged == sum(bool(endpoint.ledger.decisions_of(f"a{n}", 5)[0]) for n in range(30))
    full.clear()
    assert endpoint.score(big).status_code == 200
