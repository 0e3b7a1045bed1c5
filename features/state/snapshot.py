"""The market at one decision time: all that a decision may use, in a form that can be recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
    features:
        One row; ages count to `as_of`.
    mark_age:
        Hours from the close that each mark comes from to `as_of`, shape (S,); None: the ages of
        the features, whose newest bar is then that of the mark.
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
    """

    as_of: int
    interval: Interval
    features: MarketFeatures
    mark: Floats
    suspect: Bools
    quotes: QuoteBoard | None = None
    suspect_mark: Floats | None = None
    suspect_ts: npt.NDArray[np.int64] | None = None
    mark_max_age: int | None = None
    mark_age: Floats | None = None

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
            features=features.at(row, as_of),
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
            age_hours=self.features.age[0] if self.mark_age is None else self.mark_age,
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

        Without quotes it has no key for them. Daily closes are a content of their own, for they
        change once a day: see `with_daily`.
        """
        optional: dict[str, Any] = {}
        if self.quotes is not None:
            optional["quotes"] = self.quotes.content
        if self.suspect_mark is not None and self.suspect_ts is not None:
            optional["suspect_mark"] = _lists(self.suspect_mark)
            optional["suspect_ts"] = self.suspect_ts.tolist()
        if self.mark_age is not None:
            optional["mark_age"] = _lists(self.mark_age)
        if self.mark_max_age is not None:
            optional["mark_max_age"] = self.mark_max_age
        missing = self.features.missing_columns
        columns = [f for f, name in enumerate(MARKET_COLUMNS) if name not in missing]
        return optional | {
            "as_of": self.as_of,
            "interval": self.interval.name,
            "symbols": list(self.features.symbols),
            "columns": [MARKET_COLUMNS[f] for f in columns],
            "close": int(self.features.closes[0]),
            "values": _lists(self.features.values[0][:, columns]),
            "correlation": _lists(self.features.correlation[0]),
            "fast_correlation": _lists(self.features.fast_correlation[0]),
            "age": _lists(self.features.age[0]),
            "history": _lists(self.features.history[0]),
            "seen": _lists(self.features.bar_hours[0]),
            "mark": _lists(self.mark),
            "suspect": self.suspect.tolist(),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> MarketSnapshot:
        """Read the plain form; columns are taken by name, and those it lacks are NaN.

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
        return cls(
            int(content["as_of"]),
            Interval.parse(content["interval"]),
            features,
            np.array(content["mark"], dtype=np.float64),
            np.array(content["suspect"], dtype=np.bool_),
            QuoteBoard.from_content(content["quotes"]) if "quotes" in content else None,
            np.array(content["suspect_mark"], dtype=np.float64)
            if "suspect_mark" in content
            else None,
            np.array(content["suspect_ts"], dtype=np.int64) if "suspect_ts" in content else None,
            content.get("mark_max_age"),
            np.array(content["mark_age"], dtype=np.float64) if "mark_age" in content else None,
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
        if daily.symbols != self.features.symbols or (len(daily) and daily.until > self.as_of):
            raise DataError(
                f"daily closes of {len(daily.symbols)} symbols do not fit the market of "
                f"{len(self.features.symbols)} symbols at {format_time(self.as_of)}"
            )
        return replace(self, features=replace(self.features, daily=daily))


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
