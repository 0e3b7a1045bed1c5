"""Validate the accounts of a request: those to decide on, and the problems of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from decisions.book_scoring import PreviousAddOn
from decisions.messages import AccountProblem
from ledger.canonical import canonical_bytes
from market.accounts.book import Account
from market.core.clock import format_time, parse_time
from market.core.errors import DataError
from market.sources.http import (
    AccountIn,
    AccountMessage,
    History,
    account_update,
    read_history,
)


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
    stated:
        Add-ons in force that the request states, by account id.
    problems:
        What is wrong with the others.
    """

    account_ids: tuple[str, ...]
    requests: Mapping[str, AccountMessage]
    accounts: Mapping[str, Account]
    stated: Mapping[str, PreviousAddOn]
    problems: Sequence[AccountProblem]

    @property
    def unstated(self) -> list[str]:
        """Ids of the accounts to decide on whose add-on in force is the one in the ledger."""
        return [name for name in self.accounts if name not in self.stated]

    def without(self, problems: Collection[AccountProblem]) -> ValidatedAccounts:
        """These accounts without some that cannot be decided on."""
        if not problems:
            return self
        refused = {problem.account_id for problem in problems}
        return replace(
            self,
            requests={n: one for n, one in self.requests.items() if n not in refused},
            accounts={n: one for n, one in self.accounts.items() if n not in refused},
            problems=[*self.problems, *problems],
        )

    def all_problems(self, later: Sequence[AccountProblem]) -> list[AccountProblem]:
        """Problems of the validation and later ones, in the order of the request."""
        if not self.problems and not later:
            return []
        place = {name: i for i, name in enumerate(dict.fromkeys(self.account_ids))}
        return sorted([*self.problems, *later], key=lambda problem: place[problem.account_id])


def validate_accounts(
    accounts: Sequence[AccountIn], as_of: int, max_history_bytes: int
) -> ValidatedAccounts:
    """Validate the accounts of a request.

    An account that is named twice is ambiguous and not decided on at all. A previous add-on must
    not be of a time after the decision.
    """
    account_ids = tuple(account.account_id for account in accounts)
    times = Counter(account_ids)
    valid: dict[str, AccountMessage] = {}
    stated: dict[str, PreviousAddOn] = {}
    problems: dict[str, AccountProblem] = {}
    for account in accounts:
        name = account.account_id
        if times[name] > 1:
            detail = f"account {name!r} is named {times[name]} times; name it once"
            problems[name] = AccountProblem(name, "duplicate", detail)
            continue
        try:
            history = _history(account, max_history_bytes)
            _check_named_once(account)
            previous = _stated_add_on(account, as_of)
        except DataError as error:
            problems[name] = AccountProblem(name, "account", str(error))
            continue
        valid[name] = AccountMessage(
            name,
            account.cash,
            account.positions,
            account.collateral,
            account.previous_add_on,
            history,
        )
        if previous is not None:
            stated[name] = previous
    domain = {name: account_update(valid[name], as_of).account for name in valid}
    return ValidatedAccounts(account_ids, valid, domain, stated, list(problems.values()))


def _check_named_once(account: AccountIn) -> None:
    """Refuse an account that names an instrument or asset twice: is it one position or a hedge?"""
    named = [position.instrument for position in account.positions]
    assets = [balance.asset for balance in account.collateral]
    if len(set(named)) == len(named) and len(set(assets)) == len(assets):
        return
    positions, balances = Counter(named), Counter(assets)
    repeated = [name for name, times in (positions | balances).items() if times > 1]
    if repeated:
        raise DataError(
            f"account {account.account_id!r} names {', '.join(map(repr, repeated))} more than "
            "once; give each instrument and each asset one line with its net amount"
        )


def _history(account: AccountIn, limit: int) -> History:
    """The history of an account: short enough as sent, and as it is recorded."""
    try:
        history = read_history(account.history, limit)
    except DataError as error:
        raise DataError(f"account {account.account_id!r}: {error}") from None
    if history is None:
        return None
    size = len(canonical_bytes(history, text_keys=True))
    if size > limit:
        raise DataError(
            f"account {account.account_id!r}: history has {size} bytes as it is recorded; at most "
            f"{limit} are kept"
        )
    return history


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
