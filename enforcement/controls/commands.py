"""The chain of commands: any process appends to it, the leader applies it in its order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from ledger.canonical import canonical_bytes, sha256_hex
from ledger.chain import to_record
from ledger.following import ChainMovedError, SharedChain
from ledger.idempotency import RequestKey
from ledger.packing import pack_id
from ledger.records import Entry, Record, new_id
from ledger.schema import database_errors, records
from ledger.store import Ledger
from market.core.clock import format_time
from market.core.errors import LedgerError

CHAIN = "enforcement-commands"
"""Chain of the commands."""

COMMAND = "command"
"""Kind of its records."""

CONTROL = "control"
"""Kind of the records, in chain ``enforcement``, of what a command changed."""

MOST_ATTEMPTS = 100
"""So often an append is tried while other processes append first."""


def control_id(command_id: str) -> str:
    """Id of the record of what a command changed."""
    return f"{command_id}-control"


@dataclass(frozen=True, slots=True)
class Appended:
    """A command on record.

    Attributes
    ----------
    command_id:
        Its id.
    repeated:
        Whether the request of its key appended it before.
    """

    command_id: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """An Idempotency-Key, and the hash of the request that it came with."""

    key: RequestKey
    body_sha256: str

    @property
    def command_id(self) -> str:
        """Id of the command of the key: the same for the same owner and key."""
        return sha256_hex(canonical_bytes([CHAIN, *self.key]))[:32]


class CommandLog:
    """The commands of a ledger. Safe to use from several threads and processes.

    Parameters
    ----------
    ledger:
        Where they are.

    Raises
    ------
    LedgerError
        In every method: the database failed or refused.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._chain = SharedChain(ledger, CHAIN)

    def append(
        self, payload: Mapping[str, Any], now: int, keyed: KeyedRequest | None = None
    ) -> Appended:
        """Append a command, once for each Idempotency-Key of its requester.

        The id of a command that came with a key is a hash of requester and key, and its record
        holds the hash of the request: a repeated request finds it, on any process and for ever.

        Parameters
        ----------
        payload:
            The command with its ``requester``, see `enforcement.controls.messages`.
        now:
            Its time, nanoseconds.
        keyed:
            The key that it came with.

        Raises
        ------
        LedgerConflictError
            The key came with another request.
        """
        command_id = new_id() if keyed is None else keyed.command_id
        content = {**payload, "time": format_time(now)}
        if keyed is not None:
            content["body_sha256"] = keyed.body_sha256
        entry = Entry(COMMAND, content, command_id, as_of=now)
        for _ in range(MOST_ATTEMPTS):
            head = self._chain.head()
            if keyed is not None and self.find(keyed) is not None:
                return Appended(command_id, repeated=True)
            try:
                self._chain.append(head, [entry])
            except ChainMovedError:
                continue
            return Appended(command_id, repeated=False)
        raise LedgerError(
            f"a command could not be appended in {MOST_ATTEMPTS} attempts, as other processes "
            "append all the time; try again"
        )

    def find(self, keyed: KeyedRequest) -> Record | None:
        """The command that a key appended before; raises as `append`."""
        known = self.get(keyed.command_id)
        if known is None:
            return None
        conflict = keyed.key.conflict(known.payload["body_sha256"], keyed.body_sha256)
        if conflict is not None:
            raise conflict
        return known

    def get(self, command_id: str) -> Record | None:
        """The record of a command; None where there is none."""
        return self._record(command_id, CHAIN)

    def outcome(self, command_id: str) -> Record | None:
        """The record of what a command changed; None until the leader has applied it."""
        return self._record(control_id(command_id), None)

    def after(self, seq: int) -> Iterator[dict[str, Any]]:
        """Commands after one in their order, as `ControlState.apply` takes them.

        Parameters
        ----------
        seq:
            Number of the newest applied one; 0 before any.

        Raises
        ------
        AlteredError
            The chain was cut or altered.
        """
        for record in self._chain.after(self._chain.before(seq + 1)):
            yield {**record.payload, "command_id": record.id, "seq": record.seq}

    def newest(self) -> int:
        """Number of the newest command; 0 before any."""
        return self._chain.head().seq

    def _record(self, record_id: str, chain: str | None) -> Record | None:
        query = select(records).where(records.c.id == pack_id(record_id))
        if chain is not None:
            query = query.where(records.c.chain == chain)
        with database_errors("read"), self._ledger.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else to_record(row)
