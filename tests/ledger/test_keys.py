from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.canonical import sha256_hex
from ledger.keys import Keys
from ledger.store import Ledger
from ledger.verify import verify
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


def test_changes_are_on_the_chain_and_revoking_twice_is_one(ledger: Ledger, keys: Keys) -> None:
    key_id, _ = keys.add_key(["admin"])
    keys.revoke(key_id)
    keys.revoke(key_id)
    assert [record.payload for record in ledger.records("keys")] == [
        {"action": "add", "key_id": key_id, "scopes": ["admin"]},
        {"action": "revoke", "key_id": key_id},
    ]
    assert verify(ledger.engine).intact


def test_neither_secret_nor_its_hash_reaches_a_record(
    ledger: Ledger, keys: Keys, tmp_path: Path
) -> None:
    key_id, secret = keys.add_key(["score"])
    keys.revoke(key_id)
    token = secret.removeprefix(f"mck_{key_id}_")
    ledger.close()
    connection = sqlite3.connect(tmp_path / "ledger.db")
    dump = "\n".join(connection.iterdump())
    records = str(connection.execute("SELECT * FROM records").fetchall())
    connection.close()
    assert token not in dump
    assert sha256_hex(secret.encode()) in dump
    assert sha256_hex(secret.encode()) not in records


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
