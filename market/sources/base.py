"""Updates of market facts, and what a source of them gives.

Every update has two times, in nanoseconds: ``ts``, when the fact held (of a bar: its open), and
``known_at``, when it became known. ``known_at`` is None where the source does not tell: a bar was
then known at its close, a quote or account when it held.

A **pull source** is asked for what it has. A history is millions of bars, so it answers with
columns, `BarUpdates` or `AccountUpdates`, whose fields have the names of the single update and
which give single updates when iterated. A **push source** gives single updates as they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from market.accounts.book import Account, Book
from market.core.arrays import Floats, Ints
from market.core.errors import DataError

BarKind = Literal["spot", "perp", "mark"]

BarValues = tuple[float, float, float, float, float]
"""Open, high, low, close (settlement currency) and volume (base units)."""

Figure = Literal[
    "mark",
    "vol",
    "funding",
    "confidence",
    "open_interest",
    "implied_vol",
    "forward",
    "rate",
    "svi",
    "vols",
    "forward_confidence",
    "vol_confidence",
]
"""What can be quoted. An expiry has either ``svi`` or ``vols``: the newer one takes the place of
the other, with all its strikes."""


class BarUpdate(NamedTuple):
    """One bar of one symbol; `ts` is its open."""

    symbol: str
    ts: int
    values: BarValues
    known_at: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class BarUpdates:
    """Bars of one symbol as columns, in any order; n rows.

    Attributes
    ----------
    symbol:
        Bar symbol.
    ts:
        Ints, int64, shape (n,).
    values:
        As `BarValues`, float64, shape (n, 5); NaN where the source has no number.
    known_at:
        int64, shape (n,), `AT_CLOSE` where a row names no time; None where no row does.
    """

    symbol: str
    ts: Ints
    values: Floats
    known_at: Ints | None = None

    def __len__(self) -> int:
        return len(self.ts)

    def __iter__(self) -> Iterator[BarUpdate]:
        known: Sequence[int | None] = (
            [None] * len(self)
            if self.known_at is None
            else [None if at == AT_CLOSE else at for at in self.known_at.tolist()]
        )
        for ts, values, at in zip(self.ts.tolist(), self.values.tolist(), known, strict=True):
            yield BarUpdate(self.symbol, ts, tuple(values), at)


AT_CLOSE = -(2**63)
"""`BarUpdates.known_at` of a bar that was known at its close."""


class QuoteUpdate(NamedTuple):
    """What is new of one instrument or expiry; what is left out stays as it was.

    Attributes
    ----------
    instrument:
        Identifier of an option, expiry, perpetual, spot symbol or cash asset.
    ts:
        When it held; None: when it is taken in.
    figures:
        One number each; of ``svi`` the five parameters; of ``vols`` strike and vol in turn, strikes
        rising. ``interval_hours`` says what ``funding`` is paid for.
    known_at:
        When it became known.
    """

    instrument: str
    ts: int | None
    figures: Mapping[Figure | Literal["interval_hours"], tuple[float, ...]]
    known_at: int | None = None


class AccountUpdate(NamedTuple):
    """One account as it stood at `ts`: all its cash, positions and collateral."""

    ts: int
    account: Account
    known_at: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class AccountUpdates:
    """Accounts as they stood at `ts`, as columns."""

    ts: int
    book: Book
    known_at: int | None = None

    def __iter__(self) -> Iterator[AccountUpdate]:
        for account in self.book.accounts():
            yield AccountUpdate(self.ts, account, self.known_at)


class BarSource(Protocol):
    """Pull source of bars of one kind of price."""

    @property
    def name(self) -> str:
        """Where the bars come from, for reports and messages."""

    @property
    def kind(self) -> BarKind:
        """Kind of price."""

    def symbols(self, wanted: Sequence[str]) -> Sequence[str]:
        """Symbols that it has, sorted, only the wanted ones (all where none is named)."""

    def read(self, symbol: str, start: int | None = None, end: int | None = None) -> BarUpdates:
        """Bars of a symbol that open within start ≤ ts < end."""


class AccountSource(Protocol):
    """Pull source of accounts."""

    def accounts_at(self, time: int) -> AccountUpdates:
        """All accounts as known at a time, sorted by account id."""


Update = TypeVar("Update", BarUpdate, QuoteUpdate)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Batch(Generic[Update]):
    """Updates that a push source gives at a time.

    Attributes
    ----------
    updates:
        In the order in which they came.
    unreadable:
        Why another message of the batch is no update, by its place among all messages.
    """

    updates: list[Update] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)

    def readable(self) -> list[Update]:
        """The updates of a batch without unreadable messages; raises `DataError` where one is."""
        for place, why in self.unreadable.items():
            raise DataError(f"message {place}: {why}")
        return self.updates

    def in_order(
        self, results: Sequence[Result], refuse: Callable[[int, str], Result]
    ) -> list[Result]:
        """One result a message: those of the updates, and a refusal of each unreadable one."""
        rest = iter(results)
        count = len(self.updates) + len(self.unreadable)
        return [
            refuse(i, self.unreadable[i]) if i in self.unreadable else next(rest)
            for i in range(count)
        ]
