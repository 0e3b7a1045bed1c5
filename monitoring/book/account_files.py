"""Account files as a source of the live book: each snapshot counts once the clock passes it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from market.accounts.account_files import FOREVER, AccountHistory, read_accounts
from market.accounts.book import Account
from market.core.clock import format_time
from market.core.errors import DataError
from market.sources.http import BalanceIn, PositionIn
from monitoring.book.account_store import AccountStore
from monitoring.book.messages import MAX_UPDATES, AccountUpdateIn, SnapshotIn

REQUESTER = "files"
"""Whose the updates of files are, as their records name it."""

_MICROSECOND = 1_000

_LOG = logging.getLogger("margincast.monitor")


class AccountFileFeed:
    """Brings the snapshots of account files into the live book.

    The number of a snapshot is its time in microseconds since 1970, so that it takes the place of
    every earlier one of the file and of no later update, and counts once whatever the restarts. An
    account that the files close is emptied at its closing.

    Parameters
    ----------
    store:
        The live book.
    folder:
        The files, see `market.accounts.account_files`; read once.

    Raises
    ------
    DataError
        The files cannot be used.
    """

    def __init__(self, store: AccountStore, folder: Path) -> None:
        self._store = store
        self._history: AccountHistory = read_accounts(folder)
        self._until: int | None = None

    def advance(self, now: int) -> int:
        """Apply what the files hold up to a time; gives how many updates counted.

        A snapshot that differs from what the live book holds at the same number is left out and
        logged: the evaluation of the others goes on.

        Raises
        ------
        DataError
            An account cannot be in the live book.
        LedgerError
            The updates cannot be recorded; the next call tries again.
        """
        updates = self._opened(now) + self._closed(now)
        counted = contradicted = 0
        for start in range(0, len(updates), MAX_UPDATES):
            try:
                results = self._store.apply(updates[start : start + MAX_UPDATES], now, REQUESTER)
            except msgspec.ValidationError as error:
                raise DataError(
                    f"account files: the name of an account or asset cannot be one ({error}); "
                    "names have 1 to 128 characters and no control characters"
                ) from error
            counted += sum(result.status == "applied" for result in results)
            for result in results:
                if result.status == "invalid":
                    raise DataError(f"account files: {result.detail}")
                if result.status == "conflict":
                    contradicted += 1
        if contradicted:
            _LOG.error(
                "%d accounts of the account files are not what the live book holds at the same "
                "number, and are left as they are; give a changed snapshot a later time",
                contradicted,
            )
        self._until = now
        return counted

    def _opened(self, now: int) -> list[AccountUpdateIn]:
        """The snapshots in force now that came since the last call."""
        segments = self._history.segments
        fresh = (segments.begin <= now) & (now < segments.end)
        if self._until is not None:
            fresh &= segments.begin > self._until
        chosen = np.flatnonzero(fresh)
        accounts = self._history.book_of(chosen).accounts()
        return [
            _update(account, begin)
            for account, begin in zip(accounts, segments.begin[chosen].tolist(), strict=True)
        ]

    def _closed(self, now: int) -> list[AccountUpdateIn]:
        """Accounts that were closed since the last call and are not opened again."""
        segments = self._history.segments
        # Segments are sorted by account, then time: the last one that has begun says what holds.
        begun = np.flatnonzero(segments.begin <= now)
        account = segments.account[begun]
        last = begun[np.append(account[1:] != account[:-1], True)] if len(begun) else begun
        end = segments.end[last]
        gone = (end <= now) & (end != FOREVER)
        if self._until is not None:
            gone &= end > self._until
        ids = [self._history.account_ids[i] for i in segments.account[last][gone].tolist()]
        known = self._store.known(ids)
        return [
            _update(Account(name, 0.0), ended)
            for name, ended in zip(ids, end[gone].tolist(), strict=True)
            if name in known
        ]


def _update(account: Account, ts: int) -> AccountUpdateIn:
    positions: Sequence[PositionIn] = [
        PositionIn(leg.instrument, leg.quantity, leg.entry_price) for leg in account.positions
    ]
    collateral = [BalanceIn(one.asset, one.amount) for one in account.collateral]
    return AccountUpdateIn(
        account.account_id,
        ts // _MICROSECOND,
        format_time(ts),
        SnapshotIn(account.cash, list(positions), collateral),
    )
