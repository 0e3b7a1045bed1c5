"""Rows of revision 0001 in the tables of revision 0002, each checked on its way.

Every record keeps its hash, so heads that were kept elsewhere stay valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, select, text, tuple_

from ledger.canonical import sha256_hex
from ledger.chain import extend_in_rounds, packed_row, to_record
from ledger.idempotency import IdempotentAnswer, entry_of, save
from ledger.packing import pack
from ledger.records import FIRST_PREVIOUS_HASH, record_hash
from ledger.schema import records
from ledger.statements import RECORD_COLUMNS, statements
from market.core.errors import LedgerError

Progress = Callable[[int], None]
"""Called with how many more rows are done."""

UPGRADE_CHAIN = "upgrade"
"""Chain of the records that cover answers from before answers had one."""

_OWNERS = {"anonymous": "local"}
"""Names of who asked without a key, before and now. Ids of keys are hexadecimal, never these."""

_PAGE = 500
_Heads = dict[str, tuple[int, str]]


def convert(connection: Connection, progress: Progress) -> None:
    """Copy all rows from the tables whose names end in ``_0001``, inside a write transaction.

    Raises
    ------
    LedgerError
        A record or a content does not fit its hash, before or after.
    """
    before = _copy_records(connection, progress)
    if _heads(connection, progress) != before:
        raise LedgerError("the upgraded records differ from the old ones; nothing was changed")
    _copy_contents(connection, progress)
    _copy_answers(connection, progress)
    connection.exec_driver_sql(
        "INSERT INTO api_keys (key_id, secret_sha256, scopes, created_at, revoked_at) "
        "SELECT key_id, secret_sha256, scopes, created_at, revoked_at FROM api_keys_0001"
    )


def _copy_records(connection: Connection, progress: Progress) -> _Heads:
    """Copy the records; gives seq and hash of the last one of each chain."""
    heads: _Heads = {}
    key = ("chain", "seq")
    for page in _pages(connection, "records_0001", ", ".join(RECORD_COLUMNS), key):
        for row in page:
            seq, previous = heads.get(row.chain, (0, FIRST_PREVIOUS_HASH))
            if not isinstance(row.payload, str) or record_hash(dict(row._mapping)) != row.hash:
                raise _altered(f"record {row.id!r} (chain {row.chain!r}, seq {row.seq})")
            if (row.seq, row.previous_hash) != (seq + 1, previous):
                raise _altered(f"chain {row.chain!r} after seq {seq}")
            heads[row.chain] = (row.seq, row.hash)
        packed = [packed_row(dict(row._mapping), pack(row.payload.encode())) for row in page]
        connection.exec_driver_sql(statements(connection).insert_record, packed)
        progress(len(page))
    return heads


def _heads(connection: Connection, progress: Progress) -> _Heads:
    """Seq and hash of the last record of each chain, every record read and checked."""
    heads: _Heads = {}
    place = tuple_(records.c.chain, records.c.seq)
    query = select(records).order_by(records.c.chain, records.c.seq).limit(_PAGE)
    page = connection.execute(query).all()
    while page:
        for row in page:
            record = to_record(row)
            heads[record.chain] = (record.seq, record.hash)
        progress(len(page))
        last = page[-1]
        page = connection.execute(query.where(place > (last.chain, last.seq))).all()
    return heads


def _copy_contents(connection: Connection, progress: Progress) -> None:
    for page in _pages(connection, "contents_0001", "sha256, kind, content", ("sha256",)):
        rows = []
        for row in page:
            content = str(row.content).encode()
            if sha256_hex(content) != row.sha256:
                raise _altered(f"content {row.sha256!r}")
            rows.append((bytes.fromhex(row.sha256), row.kind, pack(content)))
        connection.exec_driver_sql(statements(connection).insert_content, rows)
        progress(len(page))


def _copy_answers(connection: Connection, progress: Progress) -> None:
    """Copy the answers, each with the record that covers it from now on."""
    columns = "owner, key, body_sha256, status, response"
    for page in _pages(connection, "answers_0001", columns, ("owner", "key")):
        kept = [
            IdempotentAnswer(
                owner=_OWNERS.get(row.owner, row.owner),
                key=row.key,
                body_sha256=row.body_sha256,
                status=row.status,
                response=bytes(row.response),
            )
            for row in page
        ]
        covering = extend_in_rounds(connection, UPGRADE_CHAIN, [list(map(entry_of, kept))])
        save(connection, kept, covering)
        progress(len(page))


def _pages(
    connection: Connection, table: str, columns: str, key: tuple[str, ...]
) -> Iterator[list[Row[Any]]]:
    """All rows of a table in the order of its key."""
    order, marks = ", ".join(key), ", ".join(f":{name}" for name in key)
    head = f"SELECT {columns} FROM {table} "  # noqa: S608  constants
    tail = f"ORDER BY {order} LIMIT {_PAGE}"
    page = list(connection.execute(text(head + tail)))
    following = text(f"{head}WHERE ({order}) > ({marks}) {tail}")
    while page:
        yield page
        last = {name: page[-1]._mapping[name] for name in key}
        page = list(connection.execute(following, last))


def _altered(what: str) -> LedgerError:
    return LedgerError(
        f"{what} is not as it was recorded; an altered ledger is not upgraded: restore a copy that "
        "the previous version verifies, or start a new ledger and keep this one"
    )
