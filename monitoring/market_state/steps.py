"""Steps of the live market: what has arrived for each, and when a step counts.

A step is one bar interval of all symbols. It waits until enough symbols have delivered
(`StepRule`), then it counts; it stays open to bars that it lacks while it is among the kept steps
(docs/adr/0031-steps-of-the-live-market.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from features.state.market_state import MarketState
from market.bars.panel import CLOSE, EXOGENOUS_WIDTH
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import SECOND
from market.core.errors import ConfigError

Reason = Literal["quorum", "grace", "final", "joined", "correction"]

KEPT_STEPS = 400
"""At least so many steps behind the newest one stay open, at most twice as many; and at most so
many steps wait ahead of it."""

SPOT_MARK, PERPETUAL_MARK = -2, -1
"""Columns of a row of quote series, from its end: marks of the symbol and of its perpetual."""

QUOTE_SERIES_WIDTH = EXOGENOUS_WIDTH + 2
"""Columns of a row of quote series: those of `BarPanel.exogenous` and the two marks."""


@dataclass(frozen=True, slots=True)
class StepRule:
    """When a waiting step counts.

    Attributes
    ----------
    quorum:
        A step counts with more bars than this share, 0 to 1, of the number of live symbols.
    grace:
        On the wall clock a step counts so many nanoseconds after the receipt of its first bar.

    Raises
    ------
    ConfigError
        A value is impossible.
    """

    quorum: float = 0.5
    grace: int = 60 * SECOND

    def __post_init__(self) -> None:
        if not 0.0 <= self.quorum <= 1.0:
            raise ConfigError(f"step_quorum is {self.quorum}; expected a share from 0 to 1")
        if self.grace < 0:
            raise ConfigError(f"step_grace is {self.grace} ns; expected 0 or more")

    def needed(self, live: int) -> int:
        """Bars that make a quorum where so many symbols are live, at least one. A symbol that
        comes back counts: else those that stopped could hold the market back."""
        return min(max(live, 1), math.floor(self.quorum * live + 1e-9) + 1)


@dataclass(frozen=True, slots=True)
class Step:
    """What has arrived for one step; never changed, only replaced.

    Attributes
    ----------
    bars:
        Bars before the outlier filter, shape (S, 5); NaN where there is none.
    received:
        Wall-clock time of its first bar, nanoseconds; None where no wall clock counts.
    file_series:
        Exogenous series of the step from files, shape (S, 7), see `BarPanel.exogenous`, or None.
    quote_series:
        Exogenous series and marks from quotes that came while it was the newest step or a later
        one, shape (S, `QUOTE_SERIES_WIDTH`); takes precedence over `file_series`. None without.
    mark:
        Marks at its close that do not come from its bars, shape (S,); NaN where the bar decides.
        None: all come from bars.
    """

    bars: Floats
    received: int | None = None
    file_series: Floats | None = None
    quote_series: Floats | None = None
    mark: Floats | None = None

    @classmethod
    def empty(cls, symbols: int, received: int | None = None) -> Step:
        """A step that nothing has arrived for."""
        return cls(np.full((symbols, 5), np.nan), received)

    @property
    def present(self) -> Bools:
        """Symbols whose bar is there, shape (S,)."""
        there: Bools = ~np.isnan(self.bars[:, CLOSE])
        return there

    @property
    def exogenous(self) -> Floats | None:
        """Exogenous series of the step, shape (S, 7): quotes before files; None without any."""
        if self.quote_series is None:
            return self.file_series
        quoted = self.quote_series[:, :EXOGENOUS_WIDTH]
        if self.file_series is None:
            return quoted
        return np.where(np.isnan(quoted), self.file_series, quoted)

    @property
    def reference_prices(self) -> Floats | None:
        """Quoted marks near the close of the step, shape (S, 2); None where nothing was quoted."""
        if self.quote_series is None:
            return None
        return np.ascontiguousarray(self.quote_series[:, SPOT_MARK:])

    def with_bars(self, bars: Floats) -> Step:
        """A copy with other bars of some symbols, shape (S, 5), NaN where a bar stays."""
        new = ~np.isnan(bars[:, CLOSE])
        mark = None if self.mark is None else np.where(new, np.nan, self.mark)
        return replace(self, bars=np.where(new[:, None], bars, self.bars), mark=mark)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The market before a step, from which that step and those after it are computed again.

    Attributes
    ----------
    state:
        Through the step before.
    mark:
        Last mark of each symbol, shape (S,).
    filter_state:
        State of the outlier filter, shape (S, 4).
    """

    state: MarketState
    mark: Floats
    filter_state: Floats

    @property
    def next_open(self) -> int | None:
        """Open of the step after it; None before any bar."""
        last = self.state.last_open
        return None if last is None else last + self.state.interval.nanoseconds


@dataclass(frozen=True, slots=True)
class AheadMarks:
    """Marks by the accepted bars of waiting steps, through one of these steps.

    Attributes
    ----------
    close:
        Close of the step, nanoseconds.
    mark:
        Last mark of each symbol, shape (S,).
    closes:
        Close of the waiting bar that the mark comes from, nanoseconds, int64, shape (S,); 0 where
        it comes from a step that counts.
    filter_state:
        State of the outlier filter, shape (S, 4).
    """

    close: int
    mark: Floats
    closes: Ints
    filter_state: Floats


@dataclass(frozen=True, slots=True)
class Counting:
    """How one request makes steps count: by the rule, or as recorded.

    Attributes
    ----------
    rule:
        The rule; not used in a replay.
    now:
        Wall clock, nanoseconds; None: bars and quotes are the clock, and no grace runs out.
    final:
        Whether the bars of the request end their steps and all before them.
    replayed:
        Whether a record is replayed: then `until` and `final_until` decide.
    until:
        Open of the newest step that counted then; None: no further step did.
    final_until:
        Open of the newest step that was ended then.
    replaced:
        Places of the bars that a later one of their request replaced then, before their step
        counted.
    """

    rule: StepRule
    now: int | None = None
    final: bool = False
    replayed: bool = False
    until: int | None = None
    final_until: int | None = None
    replaced: frozenset[int] = frozenset()

    def reason(self, open_: int, present: Bools, live: Bools) -> Reason | None:
        """Why a step with these bars counts; None while it waits."""
        if self.replayed:
            return "final" if self.until is not None and open_ <= self.until else None
        if self.final:
            return "final"
        needed = self.rule.needed(int(live.sum()))
        return "quorum" if int(present.sum()) >= needed else None

    def due(self, waiting: Mapping[int, Step]) -> int | None:
        """Open of the newest step whose grace is over; None where none is."""
        if self.replayed:
            return self.until
        if self.now is None:
            return None
        since = self.now - self.rule.grace
        over = [open_ for open_, step in waiting.items() if (step.received or 0) <= since]
        return max(over, default=None)
