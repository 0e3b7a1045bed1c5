"""SQL of the hot path: constant texts, which SQLAlchemy and the database compile only once.

A list of any length is one parameter: JSON text, which the database turns into rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection

RECORD_COLUMNS = (
    *("chain", "seq", "id", "kind", "account_id", "as_of", "recorded_at"),
    *("payload", "previous_hash", "hash"),
)
"""Columns of `ledger.schema.records`, as they are read and written here."""

ANSWER_COLUMNS = (
    *("owner", "key", "body_sha256", "status", "response", "answered_at", "record_id"),
)
CONTENT_COLUMNS = ("sha256", "kind", "content")


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements in the dialect of one database.

    Attributes
    ----------
    newest_ids:
        Account id, id and `recorded_at` of the newest decision of each account of a list.
    newest_decisions:
        All columns of the same records.
    answers:
        Answers of a list of pairs of owner and key.
    head:
        Sequence number, hash and `recorded_at` of the newest record of a chain.
    insert_record, insert_answer:
        One row each, by `RECORD_COLUMNS` and `ANSWER_COLUMNS`.
    insert_content:
        One row by `CONTENT_COLUMNS`; nothing where it is there.
    """

    newest_ids: str
    newest_decisions: str
    answers: str
    head: str
    insert_record: str
    insert_answer: str
    insert_content: str


def statements(connection: Connection) -> Statements:
    """The statements for the database of a connection."""
    return _BY_DIALECT[connection.dialect.name]


@cache
def _contents_present(mark: str, count: int) -> str:
    marks = ", ".join([mark] * count)
    return f"SELECT sha256 FROM contents WHERE sha256 IN ({marks})"  # noqa: S608  constants


def contents_present(connection: Connection, count: int) -> str:
    """The statement that selects which of a number of SHA-256 are stored."""
    return _contents_present("?" if connection.dialect.name == "sqlite" else "%s", count)


def json_list(values: Iterable[str] | Iterable[Sequence[str]]) -> tuple[str]:
    """Parameters of a statement over a list."""
    return (json.dumps(list(values)),)


def _statements(mark: str, row: str, texts: str, pairs: str, first: str, second: str) -> Statements:
    """The statements of a dialect.

    Parameters
    ----------
    mark:
        How a parameter is written.
    row:
        The column that finds a record fastest.
    texts, pairs:
        Table ``wanted`` with a column ``value`` for each item of a JSON list parameter.
    first, second:
        Items of a pair in ``wanted.value``.
    """
    newest = (
        f"FROM {texts} JOIN records ON records.{row} = ("  # noqa: S608  constants
        f"SELECT decision.{row} FROM records AS decision "
        "WHERE decision.kind = 'decision' AND decision.account_id = wanted.value "
        "ORDER BY decision.recorded_at DESC, decision.seq DESC, decision.chain DESC LIMIT 1)"
    )

    def insert(table: str, columns: Sequence[str]) -> str:
        marks = ", ".join([mark] * len(columns))
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608  constants

    def of(table: str, columns: Sequence[str]) -> str:
        return ", ".join(f"{table}.{column}" for column in columns)

    return Statements(
        newest_ids=f"SELECT records.account_id, records.id, records.recorded_at {newest}",
        newest_decisions=f"SELECT {of('records', RECORD_COLUMNS)} {newest}",
        answers=(
            f"SELECT {of('answers', ANSWER_COLUMNS)} FROM {pairs} "  # noqa: S608  constants
            f"JOIN answers ON answers.owner = {first} AND answers.key = {second}"
        ),
        head=(
            "SELECT seq, hash, recorded_at FROM records "  # noqa: S608  constants
            f"WHERE chain = {mark} ORDER BY seq DESC LIMIT 1"
        ),
        insert_record=insert("records", RECORD_COLUMNS),
        insert_answer=insert("answers", ANSWER_COLUMNS),
        insert_content=f"{insert('contents', CONTENT_COLUMNS)} ON CONFLICT DO NOTHING",
    )


_BY_DIALECT = {
    "sqlite": _statements(
        "?",
        "rowid",
        "json_each(?) AS wanted",
        "json_each(?) AS wanted",
        "json_extract(wanted.value, '$[0]')",
        "json_extract(wanted.value, '$[1]')",
    ),
    "postgresql": _statements(
        "%s",
        "id",
        "json_array_elements_text(CAST(%s AS json)) AS wanted(value)",
        "json_array_elements(CAST(%s AS json)) AS wanted(value)",
        "wanted.value ->> 0",
        "wanted.value ->> 1",
    ),
}
