"""Ledgers with the tables of revision 0001."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text

from ledger.canonical import sha256_hex
from ledger.idempotency import IdempotentAnswer

DDL = (Path(__file__).parent / "revision-0001.sql").read_text("utf-8")
OWNER_BEFORE = "anonymous"
ANSWERED = IdempotentAnswer("local", "retry-7", "a" * 64, 200, b'{"decisions": []}')
"""The answer as it is after an upgrade; before it, it was of `OWNER_BEFORE`."""


def make_old(url: str, kept: dict[str, list[dict[str, Any]]], *, key: bool = True) -> None:
    """A ledger of revision 0001 with these rows, an answer and perhaps a key."""
    engine = create_engine(make_url(url))
    ddl = DDL if engine.dialect.name == "sqlite" else DDL.replace("BLOB", "BYTEA")
    answer = {
        "owner": OWNER_BEFORE,
        "key": ANSWERED.key,
        "body_sha256": ANSWERED.body_sha256,
        "status": ANSWERED.status,
        "response": ANSWERED.response,
    }
    api_key = {
        "key_id": "abc",
        "secret_sha256": sha256_hex(b"mck_abc_token"),
        "scopes": "score read",
        "created_at": 7,
        "revoked_at": None,
    }
    rows = {**kept, "answers": [answer], "api_keys": [api_key] if key else []}
    with engine.begin() as connection:
        for statement in ddl.split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        for table in ("records", "contents", "answers", "api_keys"):
            if not rows[table]:
                continue
            columns = list(rows[table][0])
            marks = ", ".join(f":{name}" for name in columns)
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
            connection.execute(text(insert), rows[table])
    engine.dispose()


def kept_rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    content = json.loads(path.read_text("utf-8"))
    return {name: content[name] for name in ("records", "contents")}
