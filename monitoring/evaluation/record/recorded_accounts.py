"""Accounts of the live book as they were at a place of its chain, made again from its records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ledger.following import ChainHead, SharedChain
from ledger.store import Ledger
from market.accounts.book import Account
from monitoring.book.account_rows import CHAIN
from monitoring.book.account_store import AccountStore
from monitoring.book.book_account import BookAccount, apply_update


@dataclass(frozen=True, slots=True)
class RecordedAccounts:
    """Accounts at one place of the chain.

    Attributes
    ----------
    accounts:
        The newest of each by its id.
    earlier:
        Accounts as they were when they had the sequence number that was asked for.
    """

    accounts: Mapping[str, BookAccount]
    earlier: Mapping[str, Account]


def updated_since(ledger: Ledger, head: ChainHead) -> set[str]:
    """Ids of the accounts that were updated after a record of the chain.

    Raises
    ------
    LedgerError
        The records cannot be read, or were altered.
    """
    return {
        update["account_id"]
        for record in SharedChain(ledger, CHAIN).after(head)
        for update in record.payload["updates"]
    }


def read_accounts(
    ledger: Ledger,
    until: ChainHead,
    names: Collection[str] | None = None,
    sequence: Mapping[str, int] | None = None,
) -> RecordedAccounts:
    """Apply the recorded updates up to `until` once more.

    Parameters
    ----------
    ledger:
        Where they are.
    until:
        The last record that counts.
    names:
        Only these accounts; None: all of them.
    sequence:
        For each account the number at which it is kept in `RecordedAccounts.earlier` too.

    Raises
    ------
    LedgerError
        The records cannot be read, or were altered.
    """
    wanted = dict(sequence or {})
    accounts: dict[str, BookAccount] = {}
    earlier: dict[str, Account] = {}
    for update, as_of in AccountStore(ledger).updates(until) if until.seq else ():
        name = update.account_id
        if names is not None and name not in names:
            continue
        after = apply_update(accounts.get(name), update, as_of).after
        if after is None:
            continue
        accounts[name] = after
        if wanted.get(name) == after.sequence:
            earlier[name] = after.account
    return RecordedAccounts(accounts, earlier)
