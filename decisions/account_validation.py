"""Validate the accounts of a request: those to decide on, and what is wrong with the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from decisions.book_scoring import PreviousAddOn
from decisions.messages import AccountProblem
from decisions.records import LevelsInForce, levels_in_force
from ledger.canonical import canonical_bytes
from ledger.store import Ledger
from market.accounts.book import Account
from market.core.clock import format_time, parse_time
from market.core.errors import DataError, LedgerError
from market.sources.http import AccountIn, account_update


@dataclass(frozen=True, slots=True)
class ValidatedAccounts:
    """The accounts of one request.

    Attributes
    ----------
    account_ids:
        Ids in the order of the request.
    requests:
        Those to decide on, by id in that order.
    accounts:
        The same in domain form.
    levels:
        Add-ons in force by the ledger, of the accounts without one in `stated`.
    stated:
        Add-ons in force that the request states, by account id.
    problems:
        What is wrong with the others.
    """

    account_ids: tuple[str, ...]
    requests: dict[str, AccountIn]
    accounts: dict[str, Account]
    levels: LevelsInForce
    stated: dict[str, PreviousAddOn]
    problems: list[AccountProblem]

    @property
    def previous(self) -> dict[str, PreviousAddOn]:
        """The add-on in force of each account that has one."""
        return self.levels.previous | self.stated

    def all_problems(self, later: Sequence[AccountProblem]) -> list[AccountProblem]:
        """Problems of the validation and later ones, in the order of the request."""
        place = {name: i for i, name in enumerate(dict.fromkeys(self.account_ids))}
        return sorted([*self.problems, *later], key=lambda problem: place[problem.account_id])


def validate_accounts(
    accounts: Sequence[AccountIn], as_of: int, ledger: Ledger, max_history_bytes: int
) -> ValidatedAccounts:
    """Validate the accounts of a request, and look up their add-ons in force.

    An account that is named twice is ambiguous and not decided on at all. A previous add-on must
    not be of a time after the decision.

    Raises
    ------
    LedgerError
        The recorded decisions cannot be read.
    """
    account_ids = tuple(account.account_id for account in accounts)
    times = Counter(account_ids)
    valid: dict[str, AccountIn] = {}
    stated: dict[str, PreviousAddOn] = {}
    problems: dict[str, AccountProblem] = {}
    for account in accounts:
        name = account.account_id
        if times[name] > 1:
            detail = f"account {name!r} is named {times[name]} times; name it once"
            problems[name] = AccountProblem(name, "duplicate", detail)
            continue
        try:
            _check_history(account, max_history_bytes)
            _check_named_once(account)
            previous = _stated_add_on(account, as_of)
        except DataError as error:
            problems[name] = AccountProblem(name, "account", str(error))
            continue
        valid[name] = account
        if previous is not None:
            stated[name] = previous
    levels = levels_in_force(ledger, [name for name in valid if name not in stated])
    domain = {name: account_update(valid[name], as_of).account for name in valid}
    return ValidatedAccounts(account_ids, valid, domain, levels, stated, list(problems.values()))


def _check_named_once(account: AccountIn) -> None:
    """Refuse an account that names an instrument or asset twice: is it one position or a hedge?"""
    positions = Counter(position.instrument for position in account.positions)
    balances = Counter(balance.asset for balance in account.collateral)
    repeated = [name for name, times in (positions | balances).items() if times > 1]
    if repeated:
        raise DataError(
            f"account {account.account_id!r} names {', '.join(map(repr, repeated))} more than "
            "once; give each instrument and each asset one line with its net amount"
        )


def _check_history(account: AccountIn, limit: int) -> None:
    if account.history is None:
        return
    try:
        size = len(canonical_bytes(account.history))
    except LedgerError as error:
        raise DataError(f"account {account.account_id!r}: history: {error}") from None
    if size > limit:
        raise DataError(
            f"account {account.account_id!r}: history has {size} bytes; at most {limit} are kept"
        )


def _stated_add_on(account: AccountIn, as_of: int) -> PreviousAddOn | None:
    stated = account.previous_add_on
    if stated is None:
        return None
    decided = parse_time(stated.as_of)
    if decided > as_of:
        raise DataError(
            f"account {account.account_id!r}: previous_add_on is of {stated.as_of}, after the "
            f"decision time {format_time(as_of)}; give the one in force before it"
        )
    return PreviousAddOn(stated.amount, decided)
