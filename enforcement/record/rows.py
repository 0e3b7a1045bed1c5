"""Rows of calls, instructions and enforcement's state: what follows from the chain `CHAIN`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from enforcement.calls.call import Call, time_or_none
from enforcement.calls.instruction import Instruction
from ledger.canonical import canonical_bytes
from ledger.packing import pack, unpack
from ledger.schema import calls, database_errors, enforcement_state, instructions
from ledger.store import Ledger
from market.core.clock import parse_time
from market.core.errors import AlteredError

CHAIN = "enforcement"
"""Chain of what enforcement did."""

_Content = TypeVar("_Content", Call, Instruction)


class _Numbered(msgspec.Struct):
    """The one field of a call that a restart needs of those that have ended."""

    sequence: int


def write_calls(connection: Connection, changed: Iterable[tuple[Call, int]]) -> None:
    """Write rows of calls, each with the number of the record that covers it."""
    rows = [
        {
            "call_id": call.call_id,
            "account_id": call.account_id,
            "state": call.state,
            "is_open": int(call.is_open),
            "opened_at": parse_time(call.opened_at),
            "due_at": None if call.clock_stopped else time_or_none(call.deadline),
            "record_seq": seq,
            "content": pack(canonical_bytes(call.content())),
        }
        for call, seq in changed
    ]
    _upsert(connection, calls, "call_id", rows)


def write_instructions(connection: Connection, changed: Iterable[tuple[Instruction, int]]) -> None:
    """Write rows of instructions, each with the number of the record that covers it."""
    rows = [
        {
            "instruction_id": one.instruction_id,
            "account_id": one.account_id,
            "call_id": one.call_id,
            "kind": one.kind,
            "state": one.state,
            "is_open": int(one.is_open),
            "issued_at": parse_time(one.issued_at),
            "expires_at": parse_time(one.expires_at),
            "record_seq": seq,
            "content": pack(canonical_bytes(one.content())),
        }
        for one, seq in changed
    ]
    _upsert(connection, instructions, "instruction_id", rows)


def write_state(connection: Connection, name: str, seq: int, content: Mapping[str, Any]) -> None:
    """Write one part of enforcement's state, such as its controls."""
    row = {"name": name, "record_seq": seq, "content": pack(canonical_bytes(dict(content)))}
    _upsert(connection, enforcement_state, "name", [row])


def read_open_calls(ledger: Ledger) -> list[Call]:
    """The open calls; raises `AlteredError` where a row cannot be read."""
    query = select(calls.c.call_id, calls.c.content).where(calls.c.is_open == 1)
    return [_content(Call, row) for row in _rows(ledger, query)]


def read_open_instructions(ledger: Ledger) -> list[Instruction]:
    """The open instructions; raises `AlteredError` where a row cannot be read."""
    query = select(instructions.c.instruction_id, instructions.c.content)
    return [
        _content(Instruction, row)
        for row in _rows(ledger, query.where(instructions.c.is_open == 1))
    ]


def read_sequences(ledger: Ledger) -> dict[str, int]:
    """Number of the newest event of each account that ever had a call."""
    newest: dict[str, int] = {}
    decoder = msgspec.json.Decoder(_Numbered)
    for table in (calls, instructions):
        for row in _rows(ledger, select(table.c.account_id, table.c.content)):
            number = decoder.decode(unpack(row.content)).sequence
            newest[row.account_id] = max(newest.get(row.account_id, 0), number)
    return newest


def read_state(ledger: Ledger, name: str) -> dict[str, Any] | None:
    """One part of enforcement's state; None where none was written."""
    query = select(enforcement_state.c.content).where(enforcement_state.c.name == name)
    rows = _rows(ledger, query)
    return dict(msgspec.json.decode(unpack(rows[0].content))) if rows else None


def _rows(ledger: Ledger, query: Any) -> Sequence[Row[Any]]:
    with database_errors("read"), ledger.engine.connect() as connection:
        return connection.execute(query).all()


def _content(kind: type[_Content], row: Row[Any]) -> _Content:
    try:
        return kind.of_content(msgspec.json.decode(unpack(row.content)))
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise AlteredError(
            f"the row {row[0]!r} of enforcement cannot be read ({error}): it was altered, or a "
            "newer version wrote it; verify the ledger"
        ) from error


def _upsert(
    connection: Connection, table: Table, key: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement: Any = dialect.insert(table)
    others = {column.name: statement.excluded[column.name] for column in table.columns}
    del others[key]
    connection.execute(
        statement.on_conflict_do_update(index_elements=[key], set_=others), list(rows)
    )
