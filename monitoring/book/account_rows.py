"""Rows of the table ``accounts``: what they hold, and what the chain says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from ledger.canonical import canonical_bytes, sha256_hex
from ledger.chain import to_record
from ledger.packing import pack, unpack
from ledger.records import Record
from ledger.schema import accounts, in_batches, records
from market.accounts.book import Account
from market.core.errors import AlteredError
from market.sources.http import account_message
from monitoring.book.book_account import BookAccount

CHAIN = "accounts"
"""Chain of the records of updates."""

_COLUMNS = tuple(column.name for column in accounts.columns)
_FIXED = ("account_id", "place")
_UPSERT = (
    f"INSERT INTO accounts ({', '.join(_COLUMNS)}) VALUES ({{marks}}) "  # noqa: S608  constants
    "ON CONFLICT (account_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _FIXED)
)


class _Stored(msgspec.Struct, frozen=True):
    """The content of a row, as its canonical JSON has it."""

    account: Account
    sequence: int
    as_of: int
    expected: int | None
    update_sha256: str


_DECODER = msgspec.json.Decoder(_Stored)


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as the table holds it.

    Attributes
    ----------
    account:
        The account.
    place:
        0, 1, 2, … in the order in which accounts first appeared.
    content:
        Canonical JSON of the account.
    sha256:
        Of `content`, as the record of the account's newest update names it.
    """

    account: BookAccount
    place: int
    content: bytes
    sha256: str

    @classmethod
    def of(cls, account: BookAccount, place: int) -> AccountRow:
        """The row of an account."""
        content = canonical_bytes(
            {
                "account": msgspec.to_builtins(account_message(account.account)),
                "sequence": account.sequence,
                "as_of": account.as_of,
                "expected": account.expected,
                "update_sha256": account.update_sha256,
            },
            text_keys=True,
        )
        return cls(account, place, content, sha256_hex(content))

    @classmethod
    def read(cls, row: Row[Any]) -> AccountRow:
        """A stored row; raises `AlteredError` where it was never written like this."""
        try:
            content = unpack(row.state)
            stored = _DECODER.decode(content)
        except (AlteredError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _altered(row.place, str(error)) from None
        columns = (row.account_id, row.sequence, row.as_of, row.out_of_sync)
        sha256 = bytes(row.update_sha256).hex()
        if (*columns, sha256) != (
            stored.account.account_id,
            stored.sequence,
            stored.as_of,
            stored.expected,
            stored.update_sha256,
        ):
            raise _altered(row.place, "its columns are not what its state says")
        account = BookAccount(
            stored.account,
            stored.sequence,
            stored.as_of,
            stored.expected,
            stored.update_sha256,
        )
        return cls(account, row.place, content, sha256_hex(content))

    def values(self, record_seq: int, place: int, packed: bytes) -> tuple[Any, ...]:
        """The columns at a place, as the record of this `seq` writes them."""
        account = self.account
        values = {
            "account_id": account.account.account_id,
            "place": place,
            "sequence": account.sequence,
            "as_of": account.as_of,
            "out_of_sync": account.expected,
            "state": packed,
            "update_sha256": bytes.fromhex(account.update_sha256),
            "record_seq": record_seq,
        }
        return tuple(values[name] for name in _COLUMNS)

    def packed(self) -> bytes:
        """The content as it is stored."""
        return pack(self.content)


def write_rows(connection: Connection, values: Sequence[tuple[Any, ...]]) -> None:
    """Insert or replace rows, each as `AccountRow.values` gives it; a place never changes."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    statement = _UPSERT.format(marks=", ".join([mark] * len(_COLUMNS)))
    connection.exec_driver_sql(statement, list(values))


def read_rows(connection: Connection, account_ids: Iterable[str]) -> dict[str, AccountRow]:
    """The rows of some accounts, those that there are."""
    found: dict[str, AccountRow] = {}
    for batch in in_batches(account_ids):
        query = select(accounts).where(accounts.c.account_id.in_(batch))
        found |= {row.account_id: AccountRow.read(row) for row in connection.execute(query)}
    return found


def changed_rows(connection: Connection, after: int) -> Iterator[AccountRow]:
    """The rows that records after a `seq` wrote, by place, each checked against its record.

    Raises
    ------
    AlteredError
        A row is not what its record says, or none of the chain wrote it; where `after` is 0 also
        if a row is missing.
    """
    newer = accounts.c.record_seq > after
    writers = select(accounts.c.record_seq).where(newer)
    covered: dict[tuple[int, str], str] = {}
    query = select(records).where(records.c.chain == CHAIN, records.c.seq.in_(writers))
    for row in connection.execute(query):
        record = to_record(row)
        for written in record.payload["updates"]:
            covered[record.seq, written["account_id"]] = written["state_sha256"]
    rows = connection.execute(select(accounts).where(newer).order_by(accounts.c.place)).all()
    for number, row in enumerate(rows):
        found = AccountRow.read(row)
        if covered.get((row.record_seq, row.account_id)) != found.sha256:
            raise _altered(
                row.place, f"record {row.record_seq} of chain {CHAIN!r} did not write it"
            )
        if not after and row.place != number:
            raise _altered(row.place, f"expected at place {number}")
        yield found


def row_problems(connection: Connection, written: Iterable[Record]) -> Iterator[str]:
    """How the table differs from what all records of the chain, in their order, say of it."""
    covered: dict[str, tuple[int, str]] = {}
    for record in written:
        for update in record.payload["updates"]:
            name = update["account_id"]
            before = covered[name][1] if name in covered else None
            if update.get("previous_sha256") != before:
                yield (
                    f"account {name!r} of the live book: update {update['sequence']} was applied "
                    f"to a row that chain {CHAIN!r} does not contain: it was altered before"
                )
            covered[name] = record.seq, update["state_sha256"]
    places = {name: place for place, name in enumerate(covered)}
    for row in connection.execute(select(accounts).order_by(accounts.c.place)):
        name = f"account {row.account_id!r} of the live book"
        said = covered.pop(row.account_id, None)
        if said is None:
            yield f"{name} is in no record of chain {CHAIN!r}: it was inserted"
            continue
        try:
            found = AccountRow.read(row)
        except AlteredError as error:
            yield f"{name}: {error}"
            continue
        if (row.record_seq, found.sha256, row.place) != (*said, places[row.account_id]):
            yield f"{name} is not what chain {CHAIN!r} says: it was altered"
    for missing in covered:
        yield (
            f"account {missing!r} of the live book is in chain {CHAIN!r} and has no row: it was "
            "deleted"
        )


def _altered(place: int, problem: str) -> AlteredError:
    # Logs of those that follow the book have no account ids to withhold: none is named.
    return AlteredError(
        f"the account at place {place} of the live book: {problem}: it was altered or rows are "
        "missing; `ledger verify` names it, restore a copy that was not"
    )
