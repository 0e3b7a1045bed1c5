"""The accounts of a request: those that can be decided on, and what is wrong with the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from decisions.decision import PreviousAddOn
from decisions.messages import AccountProblem
from decisions.records import LevelsInForce, levels_in_force
from ledger.canonical import canonical_bytes
from ledger.store import Ledger
from market.accounts.book import Account
from market.core.clock import format_time, parse_time
from market.core.errors import DataError, LedgerError
from market.sources.http import AccountIn, account_update


@dataclass(frozen=True, slots=True)
class Intake:
    """The accounts of one request.

    Attributes
    ----------
    asked:
        Ids in the order of the request.
    accounts:
        Those to decide on, by id in that order.
    given:
        Their add-on in force where the request says it.
    levels:
        That of the others by the ledger.
    problems:
        What is wrong with the others.
    as_of:
        Decision time.
    """

    asked: tuple[str, ...]
    accounts: dict[str, AccountIn]
    given: dict[str, PreviousAddOn]
    levels: LevelsInForce
    problems: list[AccountProblem]
    as_of: int

    @property
    def previous(self) -> dict[str, PreviousAddOn]:
        """The add-on in force of each account that has one."""
        return self.levels.previous | self.given

    def book(self) -> dict[str, Account]:
        """The accounts to decide on, as they stand."""
        return {
            name: account_update(account, self.as_of).account
            for name, account in self.accounts.items()
        }

    def all_problems(self, found: Sequence[AccountProblem]) -> list[AccountProblem]:
        """Problems of the intake and those found later, in the order of the request."""
        place = {name: i for i, name in enumerate(dict.fromkeys(self.asked))}
        return sorted([*self.problems, *found], key=lambda problem: place[problem.account_id])


def validate_accounts(
    accounts: Sequence[AccountIn], as_of: int, ledger: Ledger, max_history_bytes: int
) -> Intake:
    """Sort the accounts of a request.

    An account that is named twice is ambiguous and not decided on at all. A previous add-on must
    not be of a time after the decision.

    Raises
    ------
    LedgerError
        The recorded decisions cannot be read.
    """
    asked = tuple(account.account_id for account in accounts)
    times = Counter(asked)
    sound: dict[str, AccountIn] = {}
    given: dict[str, PreviousAddOn] = {}
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
            previous = _given_previous(account, as_of)
        except DataError as error:
            problems[name] = AccountProblem(name, "account", str(error))
            continue
        sound[name] = account
        if previous is not None:
            given[name] = previous
    levels = levels_in_force(ledger, [name for name in sound if name not in given])
    return Intake(asked, sound, given, levels, list(problems.values()), as_of)


def _check_named_once(account: AccountIn) -> None:
    """Two lines of one instrument are ambiguous: one position, or two of a hedge?"""
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


def _given_previous(account: AccountIn, as_of: int) -> PreviousAddOn | None:
    given = account.previous_add_on
    if given is None:
        return None
    decided = parse_time(given.as_of)
    if decided > as_of:
        raise DataError(
            f"account {account.account_id!r}: previous_add_on is of {given.as_of}, after the "
            f"decision time {format_time(as_of)}; give the one in force before it"
        )
    return PreviousAddOn(given.amount, decided)
