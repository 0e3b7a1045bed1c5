"""Recorded accounts scored at every hour at which they hold something that has prices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.rules.ruleset import RuleSet
from market.accounts.account_files import AccountHistory
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from models.bundle.bundle import Bundle
from pipelines.config.config import Config
from pipelines.data.accounts import dataset_options, label_market
from pipelines.data.loaders import Market
from research.real_accounts.hyperliquid import ISOLATED_LIQUIDATION, LIQUIDATION
from training.evaluation.evaluate import forecast
from training.fitting.baselines import ORACLE
from training.labels.book_intervals import BookIntervals, from_book
from training.labels.dataset import Dataset, build_dataset

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_ALL_ROWS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Liquidations:
    """E liquidations of one kind: index of the account and nanoseconds, shape (E,), by both."""

    account: Ints
    time: Ints

    def __len__(self) -> int:
        return len(self.time)

    def between(self, start: int | None, end: int | None) -> Liquidations:
        """Those from start to end, in nanoseconds; None does not bound."""
        kept = (self.time >= (start or 0)) & (end is None or self.time <= end)
        return Liquidations(self.account[kept], self.time[kept])

    def pairs(self) -> list[tuple[int, int]]:
        """Account and time of each."""
        return list(zip(self.account.tolist(), self.time.tolist(), strict=True))

    def within(self, account: Ints, time: Ints, hours: float) -> Bools:
        """Whether each account has a liquidation in ``(t, t + hours]``, shape (N,)."""
        return np.asarray(self.next_after(account, time) <= time + int(hours * HOUR))

    def next_after(self, account: Ints, time: Ints) -> Ints:
        """Time of each account's first liquidation after t; the largest integer if none."""
        never = np.iinfo(np.int64).max
        found = np.full(len(time), never)
        index = AccountIndex(account, time)
        for a in np.unique(self.account).tolist():
            own = np.sort(self.time[self.account == a])
            rows = index.rows(a)
            found[rows] = np.append(own, never)[np.searchsorted(own, time[rows], side="right")]
        return found


class AccountIndex:
    """Finds the rows of an account among N account-times, shape (N,) both."""

    def __init__(self, account: Ints, time: Ints) -> None:
        self._order = np.lexsort((time, account))
        self._account, self._time = account[self._order], time[self._order]

    def rows(self, account: int, after: int = -1, until: int | None = None) -> Ints:
        """Rows of an account with ``after < t <= until``, by time."""
        first, last = np.searchsorted(self._account, [account, account + 1])
        times = self._time[first:last]
        low = int(np.searchsorted(times, after, side="right"))
        high = len(times) if until is None else int(np.searchsorted(times, until, side="right"))
        return np.asarray(self._order[first + low : first + high])


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """N account-times with the probabilities of every model.

    Attributes
    ----------
    data:
        Features and computed labels (the book as it stands, under the rule set).
    models:
        Probabilities by horizon and model, shape (N,).
    liquidations, isolated:
        The real ones: of whole accounts, and of single positions.
    end:
        Newest record in nanoseconds: later outcomes are unknown.
    coverage:
        Account-hours by what became of them.
    """

    data: Dataset
    models: dict[int, dict[str, Floats]]
    liquidations: Liquidations
    isolated: Liquidations
    end: int
    coverage: dict[str, Any]

    def known(self, horizon: int) -> Bools:
        """Rows with a known outcome: the horizon ends within the records, and no position is
        liquidated in isolation, which says nothing of the account."""
        data = self.data
        isolated = self.isolated.within(data.account, data.time, horizon)
        return (data.time + horizon * HOUR <= self.end) & ~isolated


def score_accounts(
    config: Config, market: Market, history: AccountHistory, ruleset: RuleSet, bundle: Bundle
) -> ScoredRows:
    """Score recorded accounts at every close within the configured span.

    A book is left out while any of its instruments has no bars, and while it is empty; account-
    times without headroom are left out as already called.

    Raises
    ------
    DataError
        No book can be priced, or no account-time is left.
    ModelError
        The bundle does not fit the features or horizons.
    """
    intervals, coverage = priced_intervals(history, market, ruleset)
    data = build_dataset(
        label_market(config, market, intervals, ruleset),
        intervals,
        ruleset,
        replace(dataset_options(config, config.market.start_ns), book="static", max_rows=_ALL_ROWS),
    )
    models = {
        hours: {name: p for name, p in of_horizon.items() if name != ORACLE}
        for hours, of_horizon in forecast(bundle, data).by_horizon.items()
    }
    return ScoredRows(
        data=data,
        models=models,
        liquidations=liquidations_of(history, LIQUIDATION).between(
            config.market.start_ns, config.market.end_ns
        ),
        isolated=liquidations_of(history, ISOLATED_LIQUIDATION),
        end=newest_record(history),
        coverage={**coverage, "scored": len(data), "dropped": dict(data.dropped)},
    )


def newest_record(history: AccountHistory) -> int:
    """Time of the newest snapshot or event, in nanoseconds."""
    parts = (history.positions.time, history.collateral.time, history.events.time)
    return max(int(part.max()) for part in parts if len(part))


def liquidations_of(history: AccountHistory, kind: str) -> Liquidations:
    """The events of one kind."""
    events = history.events
    chosen = np.array([name == kind for name in events.kinds], dtype=bool)[events.kind]
    return Liquidations(events.account[chosen], events.time[chosen])


def priced_intervals(
    history: AccountHistory, market: Market, ruleset: RuleSet
) -> tuple[BookIntervals, dict[str, Any]]:
    """Intervals of the books that hold something and have bars for all of it, up to the newest
    record, and how many account-hours of open books have none, by instrument.

    Raises
    ------
    DataError
        No book can be priced.
    """
    bars, spans = market.history.bars, history.segments
    first = np.searchsorted(bars.closes, spans.begin)
    last = np.searchsorted(bars.closes, np.minimum(spans.end, newest_record(history) + 1))
    decided = np.flatnonzero(first < last)
    book = history.book_of(decided)
    known = {
        name: parse_instrument(name).symbol in bars.symbols
        for name in dict.fromkeys(book.leg_instrument)
    }
    hours = last[decided] - first[decided]
    unpriced: Counter[str] = Counter()
    priced = np.diff(book.leg_start) > 0
    open_hours = int(hours[priced].sum())
    for i in np.flatnonzero(priced).tolist():
        legs = book.leg_instrument[book.leg_start[i] : book.leg_start[i + 1]]
        missing = [name for name in legs if not known[name]]
        priced[i] = not missing
        unpriced.update(dict.fromkeys(missing, int(hours[i])))
    if not priced.any():
        raise DataError(
            f"none of {len(history.account_ids)} accounts holds only instruments with bars "
            f"({', '.join(bars.symbols)}); give the folders of bars that cover them in [market]"
        )
    kept = decided[priced]
    intervals = from_book(
        history.book_of(kept),
        spans.account[kept],
        history.account_ids,
        first[kept],
        last[kept],
        bars.symbols,
        market.history.mark,
        ruleset,
    )
    coverage = {
        "accounts": len(history.account_ids),
        "accounts_priced": len(np.unique(spans.account[kept])),
        "open_account_hours": open_hours,
        "priced_account_hours": int(hours[priced].sum()),
        "hours_without_bars": dict(unpriced.most_common()),
        "from": format_time(int(spans.begin.min())),
    }
    return intervals, coverage
