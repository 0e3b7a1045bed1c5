from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ledger.canonical import sha256_hex
from ledger.keys import KeyExpiredError, Keys
from ledger.schema import api_keys
from ledger.store import Ledger
from ledger.verify import verify
from market.core.clock import HOUR
from market.core.errors import LedgerError


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    return Keys(ledger)


def test_life_of_a_key(url: str, keys: Keys) -> None:
    key_id, secret = keys.add_key(["read", "score", "read"])
    assert secret.startswith(f"mck_{key_id}_")
    info = keys.authenticate(secret)
    assert info is not None
    assert (info.key_id, info.scopes, info.revoked_at) == (key_id, ("score", "read"), None)
    with Ledger(url) as reopened:
        assert Keys(reopened).authenticate(secret) == info
    keys.revoke(key_id)
    assert keys.authenticate(secret) is None
    (listed,) = keys.list_keys()
    assert listed.key_id == key_id
    assert listed.revoked_at is not None
    assert listed.revoked_at >= listed.created_at


def rebuilt(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The rows of the table as the records of the chain give them."""
    rows: dict[str, dict[str, Any]] = {}
    for record in ledger.records("keys"):
        change = dict(record.payload)
        action = change.pop("action")
        if action == "add":
            change["scopes"] = " ".join(change["scopes"])
            rows[change["key_id"]] = change | {"revoked_at": None}
        elif action == "expire":
            rows[change["key_id"]]["expires_at"] = change["expires_at"]
            assert change["successor"] in rows
        else:
            assert action == "revoke"
            rows[change["key_id"]]["revoked_at"] = change["revoked_at"]
    return rows


def test_the_chain_holds_all_that_the_table_holds_and_revoking_twice_is_one(
    ledger: Ledger, keys: Keys
) -> None:
    key_id, _ = keys.add_key(["admin"])
    other, _ = keys.add_key(["read"], label="desk", lifetime=10**15, rate_per_minute=0)
    keys.revoke(key_id)
    keys.revoke(key_id)
    keys.rotate(other, 10**9)
    assert len(list(ledger.records("keys"))) == 5
    with ledger.engine.connect() as connection:
        rows = {row.key_id: dict(row._mapping) for row in connection.execute(select(api_keys))}
    assert rows == rebuilt(ledger)
    assert verify(ledger.engine).intact


def test_a_secret_reaches_no_table_and_its_hash_alone_the_chain(
    ledger: Ledger, keys: Keys, tmp_path: Path
) -> None:
    key_id, secret = keys.add_key(["score"])
    _, successor = keys.rotate(key_id, 0)
    (added, *_) = ledger.records("keys")
    ledger.close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    dump = "\n".join(connection.iterdump())
    connection.close()
    for known in (secret, successor):
        assert known.split("_", 2)[2] not in dump
    assert added.payload["secret_sha256"] == sha256_hex(secret.encode())
    assert secret.split("_", 2)[2] not in str(added.payload)


def test_an_expired_key_is_refused_and_says_when(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, secret = keys.add_key(["score"], lifetime=HOUR)
    now = time.time_ns()
    assert keys.authenticate(secret) is not None
    monkeypatch.setattr("ledger.keys.time.time_ns", lambda: now + 2 * HOUR)
    with pytest.raises(KeyExpiredError, match=f"key {key_id} expired at 20"):
        keys.authenticate(secret)
    assert keys.authenticate(secret + "x") is None, "only who has the secret is told"
    keys.revoke(key_id)
    assert keys.authenticate(secret) is None


def test_both_keys_of_a_rotation_work_until_its_overlap_is_over(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, secret = keys.add_key(["read", "score"], label="desk", rate_per_minute=7)
    new_id, successor = keys.rotate(key_id, HOUR)
    old, new = keys.authenticate(secret), keys.authenticate(successor)
    assert old is not None
    assert new is not None
    assert (new.key_id, new.scopes, new.label, new.rate_per_minute) == (
        new_id,
        ("score", "read"),
        "desk",
        7,
    )
    assert new.expires_at is None
    later = time.time_ns() + HOUR
    monkeypatch.setattr("ledger.keys.time.time_ns", lambda: later)
    assert keys.authenticate(successor) is not None
    with pytest.raises(KeyExpiredError):
        keys.authenticate(secret)


def test_a_rotation_neither_lengthens_a_life_nor_revives_a_key(keys: Keys) -> None:
    key_id, _ = keys.add_key(["score"], lifetime=HOUR)
    new_id, _ = keys.rotate(key_id, 1_000 * HOUR)
    by_id = {key.key_id: key for key in keys.list_keys()}
    assert by_id[key_id].expires_at == by_id[key_id].created_at + HOUR
    assert by_id[new_id].expires_at == by_id[new_id].created_at + HOUR
    keys.revoke(key_id)
    with pytest.raises(LedgerError, match="is revoked"):
        keys.rotate(key_id, HOUR)
    with pytest.raises(LedgerError, match="no key 'nobody'"):
        keys.rotate("nobody", HOUR)
    assert len(keys.list_keys()) == 2


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"label": "a\nb"}, "printable"),
        ({"label": "x" * 101}, "at most 100"),
        ({"lifetime": 0}, "never works"),
        ({"rate_per_minute": -1}, "rate_per_minute is -1"),
    ],
)
def test_impossible_facts_of_a_key_are_refused(keys: Keys, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(LedgerError, match=why):
        keys.add_key(["score"], **wrong)
    assert keys.list_keys() == []


@pytest.mark.parametrize(
    "forged",
    [
        lambda secret: secret + "x",
        lambda secret: secret[:-1],
        lambda secret: secret.replace("mck_", "mcx_"),
        lambda secret: "mck_000000000000_" + secret.split("_", 2)[2],
        lambda secret: "_".join(secret.split("_", 2)[:2]),
        lambda secret: "",
        lambda secret: "mck__",
        lambda secret: secret + "é",
        lambda secret: "mck_' OR 1=1 --_x",
    ],
)
def test_wrong_secrets_are_nobody(keys: Keys, forged: Callable[[str], str]) -> None:
    _, secret = keys.add_key(["score"])
    assert keys.authenticate(forged(secret)) is None


def test_tokens_may_hold_underscores(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.keys.secrets.token_urlsafe", lambda size: "_a_b_" * size)
    key_id, secret = keys.add_key(["score"])
    found = keys.authenticate(secret)
    assert found is not None
    assert found.key_id == key_id


def test_unknown_and_absent_scopes_are_refused(ledger: Ledger, keys: Keys) -> None:
    with pytest.raises(LedgerError, match="'root' is unknown; choose among score, market"):
        keys.add_key(["score", "root"])
    with pytest.raises(LedgerError, match="needs a scope"):
        keys.add_key([])
    assert keys.list_keys() == []
    assert list(ledger.records("keys")) == []


def test_revoking_an_unknown_key_is_refused(keys: Keys) -> None:
    with pytest.raises(LedgerError, match="no key 'nobody'"):
        keys.revoke("nobody")


def test_a_look_up_needs_no_connection_of_the_pool(ledger: Ledger, keys: Keys) -> None:
    """Else requests would wait for whatever holds the pool's connections."""
    _, secret = keys.add_key(["score"])
    pool = ledger.engine.pool
    held = [pool.connect() for _ in range(15)]
    try:
        assert keys.authenticate(secret) is not None
    finally:
        for connection in held:
            connection.close()
    keys.close()
    assert keys.authenticate(secret) is not None


def test_a_failed_look_up_is_a_ledger_error_and_the_next_one_connects_again(
    ledger: Ledger, keys: Keys
) -> None:
    _, secret = keys.add_key(["score"])
    assert keys.authenticate(secret) is not None
    with ledger.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO lost")
    with pytest.raises(LedgerError, match="check a key"):
        keys.authenticate(secret)
    with ledger.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE lost RENAME TO api_keys")
    assert keys.authenticate(secret) is not None
