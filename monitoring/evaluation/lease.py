"""A lease in the ledger: one process at a time may do a thing, and writes only while it may.

A lease has a holder, a time at which it expires, and a fencing token that rises with every new
holder. Who appends under a lease checks the token inside the transaction that appends: a holder
that was stopped for longer than its lease and goes on finds another token there, and writes
nothing.

References
----------
Kleppmann (2016), "How to do distributed locking", section "Making the lock safe with fencing".
"""

from __future__ import annotations

import os
import secrets
import socket
import time

from sqlalchemy import Connection, insert, select, update

from ledger.schema import database_errors, leases, lock
from ledger.store import Ledger
from market.core.clock import SECOND
from market.core.errors import LedgerError

LEASE_SECONDS = 4.0
"""A holder that has not renewed its lease for this long may be followed by another one."""


class LeaseLostError(LedgerError):
    """Another process holds the lease; nothing was recorded."""


class Lease:
    """A lease as one process sees it.

    Parameters
    ----------
    ledger:
        Where it is.
    name:
        What it allows.
    seconds:
        After this long without renewal it expires.
    """

    def __init__(self, ledger: Ledger, name: str, seconds: float = LEASE_SECONDS) -> None:
        self._ledger, self._name = ledger, name
        self._nanoseconds = round(seconds * SECOND)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._token: int | None = None
        self._renewed = 0.0

    @property
    def held(self) -> bool:
        """Whether this process took it and has not found it lost."""
        return self._token is not None

    def acquire(self) -> bool:
        """Take the lease if nobody holds it, or renew it; whether it is held then.

        Raises
        ------
        LedgerError
            The ledger cannot be written.
        """
        self._renewed = time.monotonic()
        if not self.held and holder_of(self._ledger, self._name) is not None:
            return False  # known without a write lock
        with self._ledger.transaction() as connection:
            lock(connection, f"lease:{self._name}")
            self._token = self._take(connection, time.time_ns())
        return self.held

    def _take(self, connection: Connection, now: int) -> int | None:
        row = connection.execute(select(leases).where(leases.c.name == self._name)).one_or_none()
        values = {"holder": self._holder, "expires_at": now + self._nanoseconds}
        if row is None:
            connection.execute(insert(leases).values(name=self._name, token=1, **values))
            return 1
        if row.holder != self._holder and row.expires_at > now:
            return None
        token = int(row.token) + (0 if row.token == self._token else 1)
        change = update(leases).where(leases.c.name == self._name)
        connection.execute(change.values(token=token, **values))
        return token

    def renew_if_due(self) -> bool:
        """Renew or take the lease where a third of its time is over; whether it is held."""
        due = (time.monotonic() - self._renewed) * SECOND >= self._nanoseconds / 3
        return self.acquire() if due else self.held

    def check(self, connection: Connection) -> None:
        """Refuse to write without the lease; to be called inside the transaction that writes.

        Raises
        ------
        LeaseLostError
            Another process took it, or this one never did.
        """
        lock(connection, f"lease:{self._name}")
        query = select(leases.c.token).where(leases.c.name == self._name)
        token = connection.execute(query).scalar_one_or_none()
        if self._token is None or token != self._token:
            mine, self._token = self._token, None
            raise LeaseLostError(
                f"the lease {self._name!r} has token {token} and this process has {mine}: another "
                "process took over; nothing was recorded"
            )

    def release(self) -> None:
        """Let another process take it at once; nothing where it is not held.

        Raises
        ------
        LedgerError
            The ledger cannot be written: the lease expires by itself.
        """
        token, self._token = self._token, None
        if token is None:
            return
        mine = (leases.c.name == self._name) & (leases.c.token == token)
        with self._ledger.transaction() as connection:
            connection.execute(update(leases).where(mine).values(expires_at=0))


def holder_of(ledger: Ledger, name: str) -> tuple[str, int] | None:
    """Holder and time of expiry of a lease that is in force, nanoseconds; None where none is."""
    with database_errors("read"), ledger.engine.connect() as connection:
        row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    if row is None or row.expires_at <= time.time_ns():
        return None
    return str(row.holder), int(row.expires_at)
