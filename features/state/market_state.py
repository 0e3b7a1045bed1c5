"""The state of the market: advanced by bars, one at a time or a whole history at once."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from features.definition import CrossInputs
from features.identity import columns_that_differ, digests_of, digests_of_registry
from features.market import inputs
from features.market.correlation import ewma_correlation
from features.registry import (
    CORRELATION_HALF_LIFE_HOURS,
    CROSS_FEATURES,
    CROSS_VOLATILITY,
    FAST_CORRELATION_HALF_LIFE_HOURS,
    FEATURE_GROUPS,
    GROUP_FEATURES,
    MARKET_COLUMNS,
    MARKET_FEATURES,
    REQUIRED_COLUMNS,
    STALE_INTERVALS,
    WARM_UP_HOURS,
)
from features.state.daily_history import DailyHistory
from market.bars.daily_closes import DailyCloses
from market.bars.outlier_filter import MAX_GAP_HOURS
from market.bars.panel import BarPanel
from market.core.clock import HOUR, INTERVALS, Interval
from market.core.errors import DataError
from market.core.files import replace_file

Floats = npt.NDArray[np.float64]

_INPUTS, _SLOW, _FAST, _LAST_OPEN = "inputs", "slow_correlation", "fast_correlation", "last_open"
_HALF_LIFE_HOURS = {_SLOW: CORRELATION_HALF_LIFE_HOURS, _FAST: FAST_CORRELATION_HALF_LIFE_HOURS}
_ROWS = ("closes", "values", "correlation", "fast_correlation", "age", "history", "bar_hours")
"""Fields of `MarketFeatures` that have one entry a row."""
_REQUIRED = [MARKET_COLUMNS.index(name) for name in REQUIRED_COLUMNS]
_CLEARED = np.array([not feature.survives_gaps for feature in MARKET_FEATURES])
"""Market features that are NaN for an absent symbol; those that survive gaps stay."""
_IDENTITY: dict[str, tuple[str, int | None]] = {
    "interval": ("U", 1),
    "symbols": ("U", None),
    _LAST_OPEN: ("i", 1),
}
"""Kind and length of the arrays that say of which market the state is."""
_COLUMNS, _DIGESTS, _REGISTRY = "columns", "column_sha256", "registry_sha256"
"""Market columns by name with their identities; earlier versions saved one hash of the registry."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, TypeError, tokenize.TokenError)
"""What zipfile and numpy raise on damaged members, headers of arrays included."""
_MAX_STATE_BYTES = 1 << 30
_WIDTHS = (inputs.WIDTH, len(MARKET_FEATURES), len(GROUP_FEATURES))
"""Rows of the arrays that `MarketState` computes in."""
_BLOCK_BARS = 1 << 13
"""Bars of all symbols in one block: their inputs and features fit into a cache."""


@dataclass(frozen=True, slots=True)
class MarketFeatures:
    """Market features at T decision times.

    Attributes
    ----------
    symbols:
        Sorted, length S.
    closes:
        Decision times in nanoseconds: the closes of the bars, shape (T,).
    values:
        Shape (T, S, F), columns `features.registry.MARKET_COLUMNS`; NaN in warm-up.
    correlation, fast_correlation:
        At two speeds, shape (T, S, S), ones on the diagonal; NaN in warm-up and where a symbol is
        absent.
    age:
        Hours since the close of the symbol's newest bar, shape (T, S); NaN before the first.
    history:
        Hours of history since the last gap of over a day, shape (T, S); NaN before the first bar.
    bar_hours:
        Hours of bars in all, without gaps: how far the features that survive gaps look back,
        shape (T, S); NaN before the first bar.
    daily:
        Daily closes of all days that had ended at the last row; None where they are not known.
    daily_at_decision:
        The same as known at a row whose bar was corrected after its day had ended, by its close.
    missing_columns:
        Columns that a record of an earlier version does not have; NaN in `values`.
    """

    symbols: tuple[str, ...]
    closes: npt.NDArray[np.int64]
    values: Floats
    correlation: Floats
    fast_correlation: Floats
    age: Floats
    history: Floats
    bar_hours: Floats
    daily: DailyCloses | None = None
    daily_at_decision: Mapping[int, DailyCloses] = field(default_factory=dict)
    missing_columns: tuple[str, ...] = ()

    def column(self, name: str) -> Floats:
        """One market feature, shape (T, S)."""
        return self.values[:, :, MARKET_COLUMNS.index(name)]

    @staticmethod
    def concatenate(
        parts: Sequence[MarketFeatures],
        daily: DailyCloses | None,
        daily_at_decision: Mapping[int, DailyCloses],
    ) -> MarketFeatures:
        """The rows of one market in several parts, with the daily closes of all of them."""
        rows: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS
        }
        return replace(parts[0], **rows, daily=daily, daily_at_decision=daily_at_decision)

    def append(self, later: MarketFeatures) -> MarketFeatures:
        """These rows and then those of `later`."""
        daily = None
        if self.daily is not None and later.daily is not None:
            daily = self.daily.followed_by(later.daily)
        return MarketFeatures.concatenate(
            (self, later), daily, {**self.daily_at_decision, **later.daily_at_decision}
        )

    def at(self, row: int, as_of: int) -> MarketFeatures:
        """One row, its ages counted to `as_of`, no earlier than its close."""
        late = (as_of - int(self.closes[row])) / HOUR
        rows = slice(row, row + 1 or None)
        fields: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ROWS}
        fields |= {name: fields[name] + late for name in ("age", "history")}
        return replace(self, **fields, daily=self.daily_at(row), daily_at_decision={})

    def daily_at(self, row: int) -> DailyCloses | None:
        """Daily closes as they were known at a row."""
        close = int(self.closes[row])
        if close in self.daily_at_decision:
            return self.daily_at_decision[close]
        return None if self.daily is None else self.daily.known_at(close)

    def usable(self, interval: Interval) -> npt.NDArray[np.bool_]:
        """Which symbols can be scored, shape (T, S).

        A symbol needs `WARM_UP_HOURS` of history, a newest bar of at most `STALE_INTERVALS` of
        age, and every market feature in `REQUIRED_COLUMNS` but the `missing_columns`.
        """
        fresh = self.age <= STALE_INTERVALS / interval.per_hour
        required = [f for f in _REQUIRED if MARKET_COLUMNS[f] not in self.missing_columns]
        complete = ~np.isnan(self.values[:, :, required]).any(axis=2)
        return (self.history >= WARM_UP_HOURS) & fresh & complete


class MarketState:
    """Everything that the market kernels keep from bar to bar, as plain arrays.

    `advance` over a panel equals `advance` over its pieces to the last bit, because both run the
    same compiled kernels over the same arrays.
    """

    def __init__(self, symbols: tuple[str, ...], interval: Interval) -> None:
        if list(symbols) != sorted(set(symbols)):
            raise DataError(f"symbols must be sorted and distinct, got {', '.join(symbols)}")
        self.symbols = symbols
        self.interval = interval
        self.last_open: int | None = None
        self.daily = DailyHistory(symbols)
        self._buffer = _no_buffer()
        self.arrays: dict[str, Floats] = {
            _INPUTS: inputs.new_state(len(symbols)),
            _SLOW: ewma_correlation.new_state(len(symbols)),
            _FAST: ewma_correlation.new_state(len(symbols)),
        }
        for feature in MARKET_FEATURES:
            self.arrays[feature.name] = np.zeros((len(symbols), feature.state_size(interval)))
        for cross in CROSS_FEATURES:
            self.arrays[cross.name] = np.zeros((len(symbols), cross.state_width))
        for group in FEATURE_GROUPS:
            for part, shape in group.state_shapes(len(symbols)).items():
                self.arrays[f"{group.name}.{part}"] = np.zeros(shape)

    def advance(self, panel: BarPanel) -> MarketFeatures:
        """Advance through the bars of a panel; returns the features at each close.

        Raises
        ------
        DataError
            The panel has other symbols or another interval, or does not follow on the last bar.
        """
        if panel.symbols != self.symbols or panel.interval != self.interval:
            raise DataError(
                f"panel of {len(panel.symbols)} symbols at {panel.interval.name} does not fit a "
                f"state of {len(self.symbols)} symbols at {self.interval.name}"
            )
        step = self.interval.nanoseconds
        if len(panel) and self.last_open is not None and panel.opens[0] != self.last_open + step:
            raise DataError(
                f"panel begins at open {panel.opens[0]}, expected {self.last_open + step}: bars "
                "must follow on each other; put missing ones in as NaN"
            )
        rows, symbols = len(panel), len(self.symbols)
        features = MarketFeatures(
            self.symbols,
            panel.closes,
            np.empty((rows, symbols, len(MARKET_COLUMNS))),
            np.empty((rows, symbols, symbols)),
            np.empty((rows, symbols, symbols)),
            np.empty((rows, symbols)),
            np.empty((rows, symbols)),
            np.empty((rows, symbols)),
        )
        block = max(1, _BLOCK_BARS // max(1, symbols))
        daily = self.daily.days
        for first in range(0, rows, block):
            piece = panel.rows(first, first + block)
            daily = daily.followed_by(self._advance(piece, features, slice(first, first + block)))
        if rows:
            self.last_open = int(panel.opens[-1])
        return replace(features, daily=daily)

    def _advance(self, panel: BarPanel, features: MarketFeatures, rows: slice) -> DailyCloses:
        """Advance through a block that fits into the caches, and fill its rows of the features."""
        columns, by_feature, grouped = self._buffers(len(panel))
        ages = inputs.build(panel, self.arrays[_INPUTS], columns)
        features.age[rows], features.history[rows] = ages.age, ages.history
        features.bar_hours[rows] = ages.bar_hours
        for f, feature in enumerate(MARKET_FEATURES):
            feature.kernel(
                columns, self.arrays[feature.name], by_feature[f], *feature.params(self.interval)
            )
        # A symbol before its first bar, or long after its last one, has no features but those that
        # survive gaps, and takes no part in those of the others: its correlations do not change.
        absent = ~(ages.age <= MAX_GAP_HOURS)
        volatility = by_feature[MARKET_COLUMNS.index(CROSS_VOLATILITY)].T.copy()
        volatility[absent] = np.nan
        market = CrossInputs(
            self._correlation(columns, features.correlation[rows], absent, _SLOW),
            self._correlation(columns, features.fast_correlation[rows], absent, _FAST),
            volatility,
            columns[inputs.IMPLIED_VOLATILITY],
            columns[inputs.SKEW],
            columns[inputs.TERM_SLOPE],
            columns[inputs.CURVATURE],
        )
        across = np.empty((len(CROSS_FEATURES), *absent.shape))
        for c, cross in enumerate(CROSS_FEATURES):
            cross.kernel(market, self.arrays[cross.name], across[c], *cross.params)
        first = 0
        for group in FEATURE_GROUPS:
            state = tuple(self.arrays[f"{group.name}.{part}"] for part in group.state_shapes(0))
            last = first + len(group.columns)
            group.kernel(columns, state, grouped[first:last], *group.params)
            first = last
        _interleave((by_feature, across, grouped), absent, _CLEARED, features.values[rows])
        return self.daily.advance(columns, panel.closes)

    def _buffers(self, rows: int) -> tuple[Floats, Floats, Floats]:
        """Arrays for the inputs, the features and those of groups of so many rows, reused from
        block to block: fresh memory costs more than the kernels that fill it."""
        bars, symbols = rows * len(self.symbols), len(self.symbols)
        if len(self._buffer[0]) < _WIDTHS[0] * bars:
            self._buffer = tuple(np.empty(width * bars) for width in _WIDTHS)
        columns, by_feature, grouped = (
            flat[: width * bars].reshape(width, symbols, rows)
            for flat, width in zip(self._buffer, _WIDTHS, strict=True)
        )
        return columns, by_feature, grouped

    def _correlation(
        self, columns: Floats, out: Floats, absent: npt.NDArray[np.bool_], name: str
    ) -> Floats:
        ewma_correlation.ewma_correlation(
            columns, self.arrays[name], out, _HALF_LIFE_HOURS[name], self.interval
        )
        if absent.any():
            off_diagonal = ~np.eye(len(self.symbols), dtype=np.bool_)
            out[(absent[:, :, None] | absent[:, None, :]) & off_diagonal] = np.nan
        return out

    def copy(self) -> MarketState:
        """An independent copy."""
        twin = MarketState.__new__(MarketState)
        twin.symbols, twin.interval, twin.last_open = self.symbols, self.interval, self.last_open
        twin._buffer = _no_buffer()
        twin.daily = self.daily.copy()
        twin.arrays = {name: array.copy() for name, array in self.arrays.items()}
        return twin

    def save(self, path: Path) -> None:
        """Write the state to a file, replacing it as a whole (a zip of arrays, no pickle)."""
        content = {
            **self.arrays,
            **self.daily.arrays(),
            _LAST_OPEN: np.array([-1 if self.last_open is None else self.last_open]),
            "interval": np.array([self.interval.name]),
            "symbols": np.array(self.symbols),
            _COLUMNS: np.array(MARKET_COLUMNS),
            _DIGESTS: np.array(digests_of(MARKET_COLUMNS)),
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **content)
        replace_file(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> MarketState:
        """Read a saved state.

        Raises
        ------
        DataError
            The file is missing, damaged, or lacks the state of some column as it is computed
            here; the message names the columns. The state of other columns is left out.
        """
        content = _read(path)
        _check_columns(path, content)
        (interval,) = content["interval"].tolist()
        if interval not in INTERVALS:
            raise DataError(f"market state {path} is damaged: interval {interval!r} is not known")
        state = cls(tuple(content["symbols"].tolist()), INTERVALS[interval])
        for name, array in state.arrays.items():
            saved = content.get(name)
            if saved is None or saved.shape != array.shape or saved.dtype != array.dtype:
                raise DataError(f"market state {path} is damaged: array {name!r} does not fit")
            state.arrays[name] = saved
        try:
            state.daily = DailyHistory.of_arrays(state.symbols, content)
        except DataError as error:
            raise DataError(f"market state {path} cannot be read: {error}") from error
        (last_open,) = content[_LAST_OPEN].tolist()
        state.last_open = None if last_open < 0 else last_open
        return state


def _no_buffer() -> tuple[Floats, ...]:
    return tuple(np.empty(0) for _ in _WIDTHS)


@njit(cache=True, error_model="numpy")
def _interleave(kinds, absent, cleared, values):  # type: ignore[no-untyped-def]
    """Fill `values` (T, S, F) from features (F1, S, T), then (F2, T, S), then groups (F3, S, T).

    NaN where a symbol is absent, save for features that are not `cleared`. A cache line of bars at
    a time.
    """
    by_feature, across, grouped = kinds
    features, symbols, rows = by_feature.shape
    start = features + across.shape[0]
    for s in range(symbols):
        for first in range(0, rows, 8):
            last = min(first + 8, rows)
            for f in range(features):
                for t in range(first, last):
                    values[t, s, f] = by_feature[f, s, t]
            for g in range(grouped.shape[0]):
                for t in range(first, last):
                    values[t, s, start + g] = np.nan if absent[t, s] else grouped[g, s, t]
            for t in range(first, last):
                for c in range(across.shape[0]):
                    values[t, s, features + c] = np.nan if absent[t, s] else across[c, t, s]
                if absent[t, s]:
                    for f in range(features):
                        if cleared[f]:
                            values[t, s, f] = np.nan


def _check_columns(path: Path, content: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse a state that lacks a column, or has one that is computed otherwise now."""
    if _REGISTRY in content:
        saved = digests_of_registry(str(content[_REGISTRY].ravel()[0])) or {}
    else:
        names, digests = content.get(_COLUMNS), content.get(_DIGESTS)
        if names is None or digests is None or names.shape != digests.shape or names.ndim != 1:
            raise DataError(f"market state {path} is damaged: its columns have no identities")
        saved = dict(zip(names.tolist(), digests.tolist(), strict=True))
    needed = {name: saved.get(name, "") for name in MARKET_COLUMNS}
    differ = columns_that_differ(needed)
    if differ:
        raise DataError(
            f"market state {path} was written without, or with another revision of, "
            f"{', '.join(differ)}; run retrain to write it anew"
        )


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        if path.stat().st_size > _MAX_STATE_BYTES:
            raise DataError(f"market state {path} is larger than {_MAX_STATE_BYTES} bytes")
        # Opened here, because `np.load` leaves a damaged file open.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"market state {path} cannot be read: it is not a zip of arrays")
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, *_DAMAGE) as error:
        raise DataError(f"market state {path} cannot be read: {error}") from error
    for name, (kind, length) in _IDENTITY.items():
        array = content.get(name)
        if array is None or array.ndim != 1 or array.dtype.kind != kind:
            raise DataError(f"market state {path} is damaged: array {name!r} does not fit")
        if length is not None and len(array) != length:
            raise DataError(f"market state {path} is damaged: array {name!r} does not fit")
    return content
