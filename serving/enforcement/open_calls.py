"""All open calls of a ledger, kept current: what sums and counts over them are made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sqlalchemy import Select, select

from enforcement.calls.call import Call
from enforcement.record.rows import CHAIN
from ledger.following import ChainHead, SharedChain
from ledger.schema import calls, database_errors, in_batches
from ledger.store import Ledger


class OpenCalls:
    """Follows the open calls: only calls that changed since are read again.

    Safe to use from several threads.

    Parameters
    ----------
    ledger:
        Where they are.
    read:
        Gives the calls of a query of the table of calls.
    """

    def __init__(self, ledger: Ledger, read: Callable[[Select[tuple[object]]], list[Call]]) -> None:
        self._ledger, self._read = ledger, read
        self._chain = SharedChain(ledger, CHAIN)
        self._lock = threading.Lock()
        self._head: ChainHead | None = None
        self._known: dict[str, tuple[int, Call]] = {}
        self._calls: Mapping[str, Call] = MappingProxyType({})

    def now(self) -> Mapping[str, Call]:
        """The open calls by their ids.

        Raises
        ------
        LedgerError
            They cannot be read, or were altered.
        """
        with self._lock:
            head = self._chain.head()  # before the rows: what comes later is read the next time
            if head != self._head:
                self._known = self._followed()
                found = {name: call for name, (_, call) in self._known.items()}
                self._calls = MappingProxyType(found)
                self._head = head
            return self._calls

    def _followed(self) -> dict[str, tuple[int, Call]]:
        query = select(calls.c.call_id, calls.c.record_seq).where(calls.c.is_open == 1)
        with database_errors("read"), self._ledger.engine.connect() as connection:
            newest = {row.call_id: int(row.record_seq) for row in connection.execute(query)}
        known = {name: entry for name, entry in self._known.items() if newest.get(name) == entry[0]}
        for names in in_batches(newest.keys() - known.keys()):
            for call in self._read(select(calls).where(calls.c.call_id.in_(names))):
                known[call.call_id] = newest[call.call_id], call
        return {name: entry for name, entry in known.items() if entry[1].is_open}
