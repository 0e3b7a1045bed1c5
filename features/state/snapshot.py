"""The market at one decision time: all that a decision may use, in a form that can be recorded.

What is recorded of a market does not depend on the decision time: it holds closes and ages at the
newest close. A record names that content and the decision time, and `MarketSnapshot.from_content`
makes the snapshot of both, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.identity import market_columns_of
from features.registry import ADV, CROSS_VOLATILITY, MARKET_COLUMNS, REQUIRED_COLUMNS
from features.state.market_state import MarketFeatures
from margin.valuation.view import MarketView
from market.bars.daily_closes import DailyCloses
from market.bars.history import MarketHistory
from market.core.clock import HOUR, Interval, format_time
from market.core.errors import DataError
from market.quotes.quotes import QuoteBoard

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FAST_VOLATILITY, SLOW_VOLATILITY = "ewma_volatility_12h", "realised_volatility_168h"
LONG_VOLATILITY, STRESSED_VOLATILITY = "long_volatility", "stressed_volatility_168h"

RULE_COLUMNS = frozenset(
    (
        CROSS_VOLATILITY,
        ADV,
        FAST_VOLATILITY,
        SLOW_VOLATILITY,
        LONG_VOLATILITY,
        STRESSED_VOLATILITY,
    )
)
"""Market columns that the rules read, through `MarketSnapshot.view` and `volatility_ratio`."""


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """One row of market features with its marks.

    Attributes
    ----------
    as_of:
        Decision time in nanoseconds.
    interval:
        Bar interval.
    at_close:
        One row of features, its ages counted to its close (or to `aged_at`).
    mark:
        Mark price, shape (S,); NaN where there is none.
    suspect:
        Whether the newest bar or mark is quarantined, shape (S,).
    quotes:
        Quotes, none of them after `as_of`; None where there are none.
    suspect_mark:
        Close of the newest bar where the outlier filter has not confirmed it yet, shape (S,); NaN
        elsewhere. None: no bar waits, or it is not known (records of earlier versions).
    suspect_ts:
        When that bar closed, nanoseconds, int64, shape (S,); 0 where there is none.
    mark_max_age:
        A quoted mark older than this many nanoseconds is not used; None: two intervals.
    mark_close:
        Close that each mark comes from, nanoseconds, int64, shape (S,); 0: that of the symbol's
        newest bar, as of all marks where it is None.
    aged_at, recorded_mark_age:
        Only of records of earlier versions, which held ages in hours at the decision time: that
        time, and the age of each mark, shape (S,).
    features:
        `at_close` with its ages counted to `as_of`: ``age + (as_of - close) / 1 h``.
    """

    as_of: int
    interval: Interval
    at_close: MarketFeatures
    mark: Floats
    suspect: Bools
    quotes: QuoteBoard | None = None
    suspect_mark: Floats | None = None
    suspect_ts: npt.NDArray[np.int64] | None = None
    mark_max_age: int | None = None
    mark_close: npt.NDArray[np.int64] | None = None
    aged_at: int | None = None
    recorded_mark_age: Floats | None = None
    features: MarketFeatures = field(init=False)

    def __post_init__(self) -> None:
        known = self.at_close
        late = self._hours_since_aged()
        moved = replace(known, age=known.age + late, history=known.history + late)
        object.__setattr__(self, "features", moved)

    def _hours_since_aged(self) -> float:
        """Hours from the time that the ages of `at_close` count to until `as_of`."""
        aged_at = int(self.at_close.closes[0]) if self.aged_at is None else self.aged_at
        return (self.as_of - aged_at) / HOUR

    def at(self, as_of: int, quotes: QuoteBoard | None) -> MarketSnapshot:
        """The same market at another time, no earlier than its close, with the quotes known then.

        Equal to the last bit to a snapshot made at that time.

        Raises
        ------
        DataError
            The time is before the close.
        """
        close = int(self.at_close.closes[0])
        if as_of < close:
            raise DataError(
                f"a market that closed at {format_time(close)} has no snapshot at "
                f"{format_time(as_of)}; give a time that is not before its close"
            )
        return replace(self, as_of=as_of, quotes=quotes)

    @property
    def mark_age(self) -> Floats:
        """Hours from the close that each mark comes from to `as_of`, shape (S,)."""
        if self.recorded_mark_age is not None:
            return self.recorded_mark_age + self._hours_since_aged()
        age: Floats = self.features.age[0]
        if self.mark_close is None:
            return age
        return np.where(self.mark_close > 0, (self.as_of - self.mark_close) / HOUR, age)

    @classmethod
    def of_history(
        cls,
        history: MarketHistory,
        features: MarketFeatures,
        as_of: int,
        quotes: QuoteBoard | None = None,
        mark_max_age: int | None = None,
    ) -> MarketSnapshot:
        """The market of a history as known at `as_of`, with the quotes known then.

        Raises
        ------
        DataError
            No bar had closed by then.
        """
        row = int(np.searchsorted(features.closes, as_of, side="right")) - 1
        if row < 0:
            raise DataError("no bar had closed by the decision time; ask for a later one")
        suspect_mark, suspect_ts = history.suspect_bars_at(row) or (None, None)
        return cls(
            as_of=as_of,
            interval=history.bars.interval,
            at_close=features.at(row, int(features.closes[row])),
            mark=history.last_mark(row),
            suspect=history.suspect_at(row),
            quotes=quotes,
            suspect_mark=suspect_mark,
            suspect_ts=suspect_ts,
            mark_max_age=mark_max_age,
        )

    def view(self) -> MarketView:
        """The part of the market that the rules may use."""
        return MarketView(
            as_of=self.as_of,
            symbols=self.features.symbols,
            mark=self.mark,
            age_hours=self.mark_age,
            volatility=self.features.column(CROSS_VOLATILITY)[0],
            adv=self.features.column(ADV)[0],
            correlation=self.features.correlation[0],
            interval_hours=1.0 / self.interval.per_hour,
            long_volatility=self.features.column(LONG_VOLATILITY)[0],
            stressed_volatility=self.features.column(STRESSED_VOLATILITY)[0],
            history_hours=self.features.bar_hours[0],
            fast_correlation=self.features.fast_correlation[0],
            suspect=self.suspect,
            daily=self.features.daily,
            quotes=self.quotes,
            suspect_mark=self.suspect_mark,
            suspect_ts=self.suspect_ts,
            mark_max_age_hours=None if self.mark_max_age is None else self.mark_max_age / HOUR,
        )

    def usable(self) -> npt.NDArray[np.bool_]:
        """Which symbols the model can score, shape (S,)."""
        usable: npt.NDArray[np.bool_] = self.features.usable(self.interval)[0]
        return usable & ~np.isnan(self.mark)

    def volatility_ratio(self) -> float:
        """Fast over slow volatility, the median over symbols; NaN in warm-up."""
        ratio = self.features.column(FAST_VOLATILITY) / self.features.column(SLOW_VOLATILITY)
        known = ratio[np.isfinite(ratio)]
        return float(np.median(known)) if len(known) else float("nan")

    def absent_series(self, account_features: Iterable[str]) -> list[str]:
        """Optional market features that these account features read and no symbol has, sorted."""
        optional = market_columns_of(account_features).difference(REQUIRED_COLUMNS)
        return sorted(name for name in optional if np.isnan(self.features.column(name)[0]).all())

    def content(self) -> dict[str, Any]:
        """Plain form for the ledger; floats survive it to the last bit, NaN becomes null.

        It holds neither `as_of` nor quotes, so it stays the same while nothing but the clock and
        quotes go on. Daily closes are a content of their own, for they change once a day: see
        `with_daily`.
        """
        known, optional = self.at_close, dict[str, Any]()
        if self.suspect_mark is not None and self.suspect_ts is not None:
            optional["suspect_mark"] = _lists(self.suspect_mark)
            optional["suspect_ts"] = self.suspect_ts.tolist()
        if self.mark_close is not None:
            optional["mark_close"] = self.mark_close.tolist()
        if self.mark_max_age is not None:
            optional["mark_max_age"] = self.mark_max_age
        if self.aged_at is not None:
            optional["as_of"] = self.aged_at
        if self.recorded_mark_age is not None:
            optional["mark_age"] = _lists(self.recorded_mark_age)
        columns = [f for f, name in enumerate(MARKET_COLUMNS) if name not in known.missing_columns]
        return optional | {
            "interval": self.interval.name,
            "symbols": list(known.symbols),
            "columns": [MARKET_COLUMNS[f] for f in columns],
            "close": int(known.closes[0]),
            "values": _lists(known.values[0][:, columns]),
            "correlation": _lists(known.correlation[0]),
            "fast_correlation": _lists(known.fast_correlation[0]),
            "age": _lists(known.age[0]),
            "history": _lists(known.history[0]),
            "seen": _lists(known.bar_hours[0]),
            "mark": _lists(self.mark),
            "suspect": self.suspect.tolist(),
        }

    @property
    def recorded_parts(self) -> tuple[object, ...]:
        """The objects that `content` is made of, none of which ever changes: the same ones give
        the same content."""
        return (
            self.interval,
            self.at_close,
            self.mark,
            self.suspect,
            self.suspect_mark,
            self.suspect_ts,
            self.mark_max_age,
            self.mark_close,
            self.aged_at,
            self.recorded_mark_age,
        )

    @classmethod
    def from_content(
        cls, content: Mapping[str, Any], as_of: int, quotes: QuoteBoard | None = None
    ) -> MarketSnapshot:
        """The market at a decision time, by its plain form and the quotes known then.

        Columns are taken by name, and those that the content lacks are NaN. A content that names
        its own decision time, as earlier versions recorded it, is read as of that time.

        Raises
        ------
        DataError
            It lacks a column that the rules need.
        """
        place = {name: f for f, name in enumerate(content["columns"])}
        missing = tuple(name for name in MARKET_COLUMNS if name not in place)
        _refuse_missing(set(missing) & RULE_COLUMNS, "the rules need")
        values = np.array(content["values"], dtype=np.float64)
        chosen = np.full((len(values), len(MARKET_COLUMNS)), np.nan)
        for f, name in enumerate(MARKET_COLUMNS):
            if name in place:
                chosen[:, f] = values[:, place[name]]

        def row(name: str) -> Floats:
            return np.array(content[name], dtype=np.float64)[None]

        def floats(name: str) -> Floats | None:
            return np.array(content[name], dtype=np.float64) if name in content else None

        def times(name: str) -> npt.NDArray[np.int64] | None:
            return np.array(content[name], dtype=np.int64) if name in content else None

        features = MarketFeatures(
            symbols=tuple(content["symbols"]),
            closes=np.array([content["close"]], dtype=np.int64),
            values=chosen[None],
            correlation=row("correlation"),
            fast_correlation=row("fast_correlation"),
            age=row("age"),
            history=row("history"),
            bar_hours=row("seen"),
            missing_columns=missing,
        )
        aged_at = content.get("as_of")
        return cls(
            as_of=as_of if aged_at is None else int(aged_at),
            interval=Interval.parse(content["interval"]),
            at_close=features,
            mark=np.array(content["mark"], dtype=np.float64),
            suspect=np.array(content["suspect"], dtype=np.bool_),
            quotes=quotes,
            suspect_mark=floats("suspect_mark"),
            suspect_ts=times("suspect_ts"),
            mark_max_age=content.get("mark_max_age"),
            mark_close=times("mark_close"),
            aged_at=aged_at,
            recorded_mark_age=floats("mark_age"),
        )

    def check_columns(self, account_features: Iterable[str]) -> None:
        """Raise `DataError` where a column that these account features come from is missing."""
        if self.features.missing_columns:
            needed = market_columns_of(account_features)
            _refuse_missing(needed & set(self.features.missing_columns), "the model needs")

    def with_daily(self, daily: DailyCloses) -> MarketSnapshot:
        """This market with the daily closes that were recorded beside it.

        Raises
        ------
        DataError
            They are of other symbols, or of days after it.
        """
        if daily.symbols != self.at_close.symbols or (len(daily) and daily.until > self.as_of):
            raise DataError(
                f"daily closes of {len(daily.symbols)} symbols do not fit the market of "
                f"{len(self.at_close.symbols)} symbols at {format_time(self.as_of)}"
            )
        return replace(self, at_close=replace(self.at_close, daily=daily))


def _refuse_missing(columns: set[str], reader: str) -> None:
    if columns:
        raise DataError(
            f"the market was recorded without {', '.join(sorted(columns))}, which {reader}; "
            "replay with the version that made the decision"
        )


def _lists(values: Floats) -> list[Any]:
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return list(plain.tolist())
