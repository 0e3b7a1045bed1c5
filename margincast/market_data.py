"""A market made once from frames of bars, and its snapshots at decision times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from features.state.snapshot import MarketSnapshot
from margin.rules.history import load_history as load_rule_history
from margin.rules.ruleset import RuleSet
from margincast.frames import Frame, Time, by_symbol, nanoseconds_of, table_of, time_stamp
from market.bars.exogenous_files import ExogenousKind, ExogenousTable, add_exogenous_tables
from market.bars.history import load_history
from market.bars.outlier_filter import OutlierFilter
from market.core.clock import Interval, parse_duration
from market.core.errors import DataError
from market.core.instruments import is_symbol
from market.sources.base import BarKind
from market.sources.parquet import bar_columns
from market.sources.tables import BarTables
from pipelines.data.loaders import Market as MarketWithFeatures, outlier_filter_of, with_features

DEFAULT_RULES = "linear-tiers"

_EXOGENOUS: Mapping[ExogenousKind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "funding": (("ts", "funding_rate"), ("interval_hours",)),
    "open_interest": (("ts", "open_interest"), ()),
    "implied_vol": (("ts", "close"), ()),
    "option_surface": (("ts", "skew_25d", "atm_term_slope", "smile_curvature"), ()),
}
"""Required and optional columns of each series."""


class Market:
    """Bars of a market, cleaned and with their features: made once, used by any number of calls.

    Bars are cleaned by the same policy as files of the data contract: impossible rows (high below
    low, not positive, NaN), repeated and misaligned ones are left out and counted in `quality`,
    and the outlier filter of the rule set is applied. Cleaning and features are computed at the
    first use under a rule set and kept.

    Parameters
    ----------
    bars:
        Spot bars: a frame with the columns symbol, ts (open of the bar; without a time zone it is
        UTC), open, high, low, close (settlement currency) and volume (base units), or a mapping of
        symbol to such a frame without the column symbol. A column known_at (when a bar or its
        correction became known) is honoured.
    perp, mark:
        Bars of perpetuals, and mark prices (no volume needed), in the same form. A perpetual is
        marked by `mark`, else by `perp`, else by spot.
    exogenous:
        Other series by name, each a frame with symbol and ts or a mapping by symbol: ``funding``
        (funding_rate[, interval_hours]), ``open_interest`` (open_interest, base units),
        ``implied_vol`` (symbol is the coin, close in per cent) and ``option_surface`` (skew_25d,
        atm_term_slope, smile_curvature).
    interval:
        ``1m``, ``5m``, ``30m`` or ``1h``; finer bars are aggregated, coarser ones refused.
    mark_max_age:
        A quoted mark older than this (``90s``, ``30m``, ``2h``, ``1d``) is not used; empty: two
        intervals.

    Raises
    ------
    DataError
        A frame is not in this form. What only all bars together show (too coarse, no two bars) is
        raised at the first use.

    Examples
    --------
    >>> import margincast as mc
    >>> market = mc.Market(mc.simulate(days=10, symbols=2, accounts=5).bars)
    >>> market.symbols
    ('BTCUSDT', 'ETHUSDT')
    """

    def __init__(
        self,
        bars: Frame | Mapping[str, Frame],
        *,
        perp: Frame | Mapping[str, Frame] | None = None,
        mark: Frame | Mapping[str, Frame] | None = None,
        exogenous: Mapping[str, Frame | Mapping[str, Frame]] | None = None,
        interval: str = "1h",
        mark_max_age: str = "",
    ) -> None:
        self._interval = Interval.parse(interval)
        self._mark_max_age = parse_duration(mark_max_age) if mark_max_age else None
        self._sources = [
            source
            for source in (
                _bar_tables(bars, "bars", "spot"),
                _bar_tables(perp, "perp", "perp"),
                _bar_tables(mark, "mark", "mark"),
            )
            if source is not None
        ]
        self._exogenous = _exogenous_tables(exogenous or {})
        self._computed: dict[OutlierFilter | None, MarketWithFeatures] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols with spot or perpetual bars, sorted."""
        traded = (source.tables for source in self._sources if source.kind != "mark")
        return tuple(sorted({symbol for tables in traded for symbol in tables}))

    @property
    def interval(self) -> str:
        """Length of a bar."""
        return self._interval.name

    def quality(self, ruleset: str = DEFAULT_RULES) -> dict[str, Any]:
        """What was found wrong in the bars and what was done about it, as ``margincast data``."""
        return self.with_features(ruleset).history.report.to_dict()

    def newest(self, ruleset: str = DEFAULT_RULES) -> pd.Timestamp:
        """Close of the newest bar: the decision time where none is given."""
        return time_stamp(int(self.with_features(ruleset).history.bars.closes[-1]))

    def with_features(self, ruleset: str) -> MarketWithFeatures:
        """History and features after the outlier filter of a rule set.

        Raises
        ------
        DataError
            The bars cannot be used.
        RuleSetError
            The rules cannot be read.
        """
        outlier_filter = outlier_filter_of(load_rule_history(ruleset))
        if outlier_filter not in self._computed:
            history = load_history(self._sources, self._interval, (), outlier_filter)
            history = add_exogenous_tables(history, self._exogenous)
            self._computed[outlier_filter] = with_features(history, real=True)
        return self._computed[outlier_filter]

    def snapshot(self, as_of: Time | None, ruleset: str) -> tuple[MarketSnapshot, RuleSet]:
        """The market as known at a time (None: the newest close), and the rules in force then.

        Raises
        ------
        DataError
            No bar had closed by then, or the bars cannot be used.
        RuleSetError
            The rules cannot be read, or none are in force then.
        """
        market = self.with_features(ruleset)
        closes = market.history.bars.closes
        time = int(closes[-1]) if as_of is None else nanoseconds_of(as_of)
        snapshot = MarketSnapshot.of_history(
            market.history, market.features, time, mark_max_age=self._mark_max_age
        )
        return snapshot, load_rule_history(ruleset).at(time)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{len(source.tables)} {source.kind}" for source in self._sources)
        series = sorted({table.kind for table in self._exogenous})
        return (
            f"Market({kinds} symbols, interval={self.interval!r}"
            f"{', exogenous=' + repr(series) if series else ''})"
        )


def as_market(market: Market | Frame | Mapping[str, Frame]) -> Market:
    """A market as given, or one of these spot bars."""
    return market if isinstance(market, Market) else Market(market)


def _bar_tables(
    bars: Frame | Mapping[str, Frame] | None, name: str, kind: BarKind
) -> BarTables | None:
    if bars is None:
        return None
    frames = by_symbol(bars, name)
    if not frames:
        raise DataError(f"{name} hold no symbol; give at least one with its bars")
    tables = {}
    for symbol, frame in frames.items():
        if not isinstance(symbol, str) or not is_symbol(symbol):
            raise DataError(
                f"{name}: {symbol!r} is no symbol; expected capital letters and digits, like "
                "BTCUSDT"
            )
        tables[symbol] = table_of(frame, f"{name} of {symbol}", bar_columns(kind), ("known_at",))
        if not len(tables[symbol]):
            raise DataError(f"{name} of {symbol} hold no rows; leave the symbol out or fill it")
    return BarTables(name, tables, kind)


def _exogenous_tables(
    series: Mapping[str, Frame | Mapping[str, Frame]],
) -> tuple[ExogenousTable, ...]:
    tables = []
    for kind, (required, optional) in _EXOGENOUS.items():
        if kind in series:
            for symbol, frame in by_symbol(series[kind], kind).items():
                origin = f"{kind} of {symbol}"
                table = table_of(frame, origin, required, optional)
                tables.append(ExogenousTable(kind, symbol, origin, table))
    if unknown := sorted(set(series) - set(_EXOGENOUS)):
        raise DataError(f"exogenous names {unknown[0]!r}; choose among {', '.join(_EXOGENOUS)}")
    return tuple(tables)
