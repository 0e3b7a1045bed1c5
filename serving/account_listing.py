"""The live book over HTTP: pages of accounts in a chosen order, and one account."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec
import numpy as np

from decisions.errors import NotFoundError, RequestError
from margin.add_on.bounds import BINDINGS
from margin.life_cycle.states import State
from market.core.arrays import Floats, Ints
from market.core.clock import format_time
from market.core.identity_cache import IdentityCache
from market.sources.http import account_message
from monitoring.evaluation.view import BookView, EvaluatedBook
from serving.account_filter import AccountFilter
from serving.cursors import NO_CURSOR, decode_cursor, encode_cursor
from serving.enforcement.call_listing import CallListing
from serving.recorded_decisions import DEFAULT_PAGE, check_account_id
from serving.schemas.account_messages import AccountDetail, AccountPage, AccountSummary, Sort
from serving.service import Service

_STATES = {state.label: int(state) for state in State}


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: its order, the key of its last account, and the account; of a way back
    those of its first one."""

    sort: str
    key: str
    account_id: str
    back: bool = False


@dataclass(frozen=True, slots=True)
class _Order:
    """All accounts in one order: their rows, keys by row, and names by row."""

    rows: Ints
    key: Floats


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What page is asked for.

    Attributes
    ----------
    sort:
        Order of the accounts, see `AccountListing.page`.
    state:
        Only accounts in this state; None: all.
    limit:
        Most accounts; None: `DEFAULT_PAGE`.
    cursor:
        `next_cursor` or `previous_cursor` of another page; None: the first page.
    only:
        Further conditions on the accounts.
    """

    sort: str = "deposit_to_meet"
    state: str | None = None
    limit: int | None = None
    cursor: str | None = None
    only: AccountFilter = field(default_factory=AccountFilter)


class AccountListing:
    """Reads the live book of an endpoint.

    Parameters
    ----------
    service:
        Market, rules and limits.
    view:
        The book and its evaluations.
    calls:
        Reads the calls of an account.
    """

    def __init__(self, service: Service, view: BookView, calls: CallListing) -> None:
        self._service, self._view, self._calls = service, view, calls
        self._orders = IdentityCache[dict[str, _Order]](2)
        self._ranks = IdentityCache[Ints](2)

    def page(self, request: PageRequest) -> AccountPage:
        """A page of accounts, the most pressing first.

        The largest first by deposit_to_meet, margin_ratio (equity that is not above 0 before all),
        equity and probability (of the longest horizon); the smallest first by headroom; by
        account_id in the order of its characters. Accounts without a figure come last. Equal ones
        are in the order of their ids, so that every account has one place, and a cursor leads to
        what comes after it, or before it, whatever has changed since.

        Raises
        ------
        RequestError
            Sort, state, a condition, limit or cursor is impossible.
        NoMarketError, NoRulesError, LedgerError
            The book cannot be evaluated now.
        """
        if request.sort not in get_args(Sort):
            raise RequestError(f"sort is {request.sort!r}; give one of {', '.join(get_args(Sort))}")
        if request.state is not None and request.state not in _STATES:
            raise RequestError(f"state is {request.state!r}; give one of {', '.join(_STATES)}")
        most = self._service.settings.max_page
        limit = min(DEFAULT_PAGE, most) if request.limit is None else request.limit
        if not 1 <= limit <= most:
            raise RequestError(f"limit is {limit}; give 1 to {most}")
        request.only.check()
        book = self.book()
        order = self._order(book, request.sort)
        rows = _chosen(book, order.rows, request)
        first = self._begin(book, order, rows, request, limit)
        shown = rows[first : first + limit].tolist()
        evaluated = book.state.evaluated_at

        def cursor(row: int, *, back: bool) -> str:
            key = float(order.key[row]).hex()
            return encode_cursor(_Cursor(request.sort, key, book.state.names[row], back))

        return AccountPage(
            format_time(book.as_of),
            None if evaluated is None else format_time(evaluated),
            len(rows),
            [self._summary(book, row) for row in shown],
            cursor(shown[-1], back=False) if first + limit < len(rows) else None,
            cursor(shown[0], back=True) if first > 0 and shown else None,
            first + 1 if shown else 0,
        )

    def account(self, account_id: str) -> AccountDetail:
        """One account as it stands.

        Raises
        ------
        RequestError
            The id cannot be one.
        NotFoundError
            The live book has no such account.
        NoMarketError, NoRulesError, LedgerError
            The book cannot be evaluated now.
        """
        check_account_id(account_id)
        book = self.book()
        row = book.state.index.get(account_id)
        account = self._view.account(account_id)
        if row is None or account is None:
            raise NotFoundError(
                f"the live book has no account {account_id!r}; give it by PUT /v1/accounts/ and "
                "its id"
            )
        evaluated = book.state.evaluated_at
        newest = self._service.ledger.last_decision_ids([account_id])
        return AccountDetail(
            format_time(book.as_of),
            None if evaluated is None else format_time(evaluated),
            account_message(account.account),
            account.expected,
            self._summary(book, row),
            newest.get(account_id),
            self._calls.of_account(account_id),
        )

    def riskiest(self, book: EvaluatedBook, count: int) -> list[AccountSummary]:
        """Accounts that are healthy or warned, by the probability of the longest horizon.

        The largest first, equal ones by id; accounts without a forecast are left out.

        Parameters
        ----------
        book:
            The book as it stands, see `book`.
        count:
            Most accounts.
        """
        order = self._order(book, "probability")
        state = book.state.states.state[order.rows]
        uncalled = (state == State.HEALTHY) | (state == State.WARNING)
        rows = order.rows[uncalled & np.isfinite(order.key[order.rows])]
        return [self._summary(book, row) for row in rows[:count].tolist()]

    def book(self) -> EvaluatedBook:
        """All accounts at the newest market; raises as `page`."""
        basis = self._service.basis_now()
        return self._view.at(basis.snapshot, basis.ruleset)

    def _order(self, book: EvaluatedBook, sort: str) -> _Order:
        """All accounts in an order; kept for the newest books."""
        kept = self._orders.get((book,), dict)
        order = kept.get(sort)
        if order is None:
            key = _key(book, sort)
            rank = self._rank(book)
            order = kept[sort] = _Order(np.lexsort((rank, key)), key)
        return order

    def _rank(self, book: EvaluatedBook) -> Ints:
        """Place of each account among all by its id."""

        def ranked() -> Ints:
            names = book.state.names
            by_name = sorted(range(len(names)), key=names.__getitem__)
            rank = np.empty(len(names), dtype=np.int64)
            rank[by_name] = np.arange(len(names))
            return rank

        return self._ranks.get((book.state.names,), ranked)

    def _begin(
        self, book: EvaluatedBook, order: _Order, rows: Ints, request: PageRequest, limit: int
    ) -> int:
        """Place among rows of the first account that is shown."""
        if request.cursor is None:
            return 0
        cursor = decode_cursor(request.cursor, _Cursor)
        if cursor.sort != request.sort:
            raise RequestError(
                f"the cursor is of pages sorted by {cursor.sort!r}, not by {request.sort!r}; begin "
                "with the first page"
            )
        try:
            key = float.fromhex(cursor.key)
        except (ValueError, OverflowError):
            raise RequestError(NO_CURSOR) from None
        names, keys = book.state.names, order.key[rows]
        begin = int(np.searchsorted(keys, key, side="left"))
        end = int(np.searchsorted(keys, key, side="right"))
        find = bisect_left if cursor.back else bisect_right
        equal = range(begin, end)
        place = begin + find(equal, cursor.account_id, key=lambda i: names[rows[i]])
        return max(0, place - limit) if cursor.back else place

    def _summary(self, book: EvaluatedBook, row: int) -> AccountSummary:
        columns, levels, states = book.columns, book.state.levels, book.state.states
        segment, inside = _place(book, row)
        problem = columns.problems.get(row)
        equity, maintenance = float(columns.equity[row]), float(columns.maintenance_margin[row])
        add_on = float(columns.add_on[row])
        code = int(levels.binding[row])
        return AccountSummary(
            account_id=book.state.names[row],
            state=State(int(states.state[row])).label,
            since=_time(int(states.since[row])),
            deadline=_time(int(states.deadline[row])),
            sequence=int(segment.sequence[inside]),
            in_sync=not bool(segment.out_of_sync[inside]),
            updated_at=format_time(int(segment.as_of[inside])),
            equity=_number(equity),
            maintenance_margin=_number(maintenance),
            initial_margin=_number(float(columns.initial_margin[row])),
            headroom=_number(float(columns.headroom[row])),
            margin_ratio=_number(maintenance / equity) if equity > 0.0 else None,
            add_on=_number(add_on),
            deposit_to_meet=_number(float(book.deposit[row])),
            total_requirement=_number(maintenance + add_on),
            probability=_probability(book, row, self._service.horizons()),
            binding=BINDINGS[code] if code >= 0 else None,
            level_at=_time(int(levels.as_of[row])),
            suspect=bool(columns.suspect_drives[row]),
            problem=None if problem is None else str(problem),
        )


def _chosen(book: EvaluatedBook, rows: Ints, request: PageRequest) -> Ints:
    """Those of some rows that meet the conditions of a request, in their order."""
    if request.state is not None:
        rows = rows[book.state.states.state[rows] == _STATES[request.state]]
    wanted = request.only.matching(book)
    return rows if wanted is None else rows[wanted[rows]]


def _key(book: EvaluatedBook, sort: str) -> Floats:
    """What accounts are sorted by, rising; infinite without a figure, shape (N,)."""
    columns = book.columns
    if sort == "account_id":
        return np.zeros(len(book.state))
    if sort == "headroom":
        key = columns.headroom
    elif sort == "equity":
        key = -columns.equity
    elif sort == "deposit_to_meet":
        key = -book.deposit
    elif sort == "probability":
        probability = book.state.levels.probability
        longest = probability.shape[1] - 1
        unknown = np.full(len(book.state), np.nan)
        key = -probability[:, longest].astype(np.float64) if longest >= 0 else unknown
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = columns.maintenance_margin / columns.equity
        key = np.where(columns.equity > 0.0, -ratio, -np.inf)
        key = np.where(np.isnan(columns.equity), np.nan, key)
    return np.where(np.isnan(key), np.inf, key)


def _place(book: EvaluatedBook, row: int) -> tuple[Any, int]:
    first = book.cut.first
    k = int(np.searchsorted(first, row, side="right")) - 1
    return book.cut.segments[k], row - first[k]


def _probability(
    book: EvaluatedBook, row: int, horizons: tuple[int, ...]
) -> dict[str, float] | None:
    values = book.state.levels.probability[row].tolist()
    if not values or len(values) != len(horizons) or any(value != value for value in values):
        return None
    return {str(hours): value for hours, value in zip(horizons, values, strict=True)}


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _time(nanoseconds: int) -> str | None:
    return None if nanoseconds < 0 else format_time(nanoseconds)
