"""The data set: features, labels and baseline inputs of chosen account-times."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.account.frame import AccountRows, compute_aggregates, compute_features
from features.registry import ACCOUNT_COLUMNS
from features.state.market_state import MarketFeatures
from margin.engines.tier.tiers import TierTable
from margin.rules.ruleset import RuleSet
from market.bars.history import MarketHistory
from market.core.errors import DataError
from training.fitting.oracle import (
    first_passage_probability,
    oracle_first_passage,
    realised_squares,
)
from training.labels.book_intervals import BookIntervals
from training.labels.breach_labels import Extremes, Holding, Outcomes, breach_labels

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHUNK = 200_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """N account-times, sorted by time and account.

    Attributes
    ----------
    time:
        Decision times in nanoseconds, shape (N,).
    account:
        Index into `account_ids`, shape (N,).
    account_ids:
        All accounts.
    features:
        Shape (N, F), columns `features.registry.ACCOUNT_COLUMNS`.
    labels:
        1 where the account breaches within the horizon, else 0; int8, shape (N, H).
    horizons:
        In hours, length H.
    columns:
        What the baselines need, each of shape (N,): ``margin_ratio``, ``lagged_breach_rate``,
        ``first_passage_<h>`` and, where it can be computed, ``oracle_first_passage_<h>``.
    dropped:
        Account-times left out, by reason; see `training.labels.breach_labels`.
    considered:
        Account-times in the span before any was left out.
    oracle_interval:
        Bar interval of the realised volatility in the oracle.
    """

    time: Ints
    account: Ints
    account_ids: tuple[str, ...]
    features: Floats
    labels: npt.NDArray[np.int8]
    horizons: tuple[int, ...]
    columns: dict[str, Floats]
    dropped: dict[str, int]
    considered: int
    oracle_interval: str

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Ints | npt.NDArray[np.intp]) -> Dataset:
        """Some rows, in the order given."""
        return replace(
            self,
            time=self.time[rows],
            account=self.account[rows],
            features=self.features[rows],
            labels=self.labels[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )

    def sha256(self) -> str:
        """SHA-256 over the content in its sorted order."""
        digest = hashlib.sha256()
        digest.update(np.ascontiguousarray(self.time).data)
        names = np.array([name.encode() for name in self.account_ids], dtype=np.bytes_)
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, start + _CHUNK)
            digest.update(np.ascontiguousarray(names[self.account[rows]]).data)
            digest.update(np.ascontiguousarray(self.features[rows]).data)
            digest.update(np.ascontiguousarray(self.labels[rows]).data)
        for name in sorted(self.columns):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.columns[name]).data)
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write the data set as one parquet file, in row groups of bounded size."""
        schema = pa.schema(
            [
                ("ts", pa.timestamp("ns", tz="UTC")),
                ("account_id", pa.string()),
                *((name, pa.float64()) for name in ACCOUNT_COLUMNS),
                *((name, pa.float64()) for name in self.columns),
                *((f"label_{hours}h", pa.int8()) for hours in self.horizons),
            ]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with pq.ParquetWriter(partial, schema, compression="zstd", compression_level=1) as writer:
            for start in range(0, len(self), _CHUNK):
                rows = slice(start, start + _CHUNK)
                writer.write_table(
                    pa.table(
                        [
                            pa.array(self.time[rows]).cast(pa.timestamp("ns", tz="UTC")),
                            [self.account_ids[a] for a in self.account[rows]],
                            *self.features[rows].T,
                            *(column[rows] for column in self.columns.values()),
                            *self.labels[rows].T,
                        ],
                        schema=schema,
                    )
                )
        partial.replace(path)


def build_dataset(
    history: MarketHistory,
    market: MarketFeatures,
    segments: BookIntervals,
    ruleset: RuleSet,
    *,
    horizons: tuple[int, ...],
    start: int | None,
    end: int | None,
    extremes: Extremes,
    book: Holding,
    max_rows: int,
    seed: int,
) -> Dataset:
    """Follow the accounts, choose account-times, compute their features.

    Parameters
    ----------
    history, market:
        Marks and market features on the same grid.
    segments:
        Books of the accounts.
    ruleset:
        Gives the maintenance margin.
    horizons:
        Rising, in hours.
    start, end:
        Bounds of the decision times in nanoseconds, both inclusive; None for all there is.
    extremes, book:
        Conventions, see `training.labels.breach_labels`.
    max_rows, seed:
        At most about so many account-times are kept, by a seeded hash.

    Raises
    ------
    DataError
        No account-time is left.
    """
    closes = history.bars.closes
    first = 0 if start is None else int(np.searchsorted(closes, start, side="left"))
    last = len(closes) if end is None else int(np.searchsorted(closes, end, side="right"))
    per_hour = history.bars.interval.per_hour
    inside = np.minimum(segments.last_row, last) - np.maximum(segments.first_row, first)
    candidates = int(np.maximum(inside, 0).sum())
    outcomes = breach_labels(
        segments,
        history,
        TierTable.build(ruleset, history.bars.symbols),
        market.usable(history.bars.interval) & history.decidable(),
        first_row=first,
        last_row=last,
        longest_step=horizons[-1] * per_hour,
        extremes=extremes,
        book=book,
        keep_share=min(1.0, max_rows / candidates) if candidates else 1.0,
        seed=seed,
    )
    if not len(outcomes.row):
        raise DataError(
            f"no account-time can be used: {outcomes.considered} considered, dropped "
            f"{outcomes.dropped}; widen [market] start/end or check bars and accounts"
        )
    order = np.lexsort((segments.account[outcomes.segment], outcomes.row))
    segment, row = outcomes.segment[order], outcomes.row[order]
    headroom, margin = outcomes.headroom[order], outcomes.maintenance_margin[order]
    step = outcomes.breach_step[order]
    features = np.empty((len(row), len(ACCOUNT_COLUMNS)))
    columns: dict[str, Floats] = {
        "margin_ratio": margin / (headroom + margin),
        "lagged_breach_rate": _lagged_breach_rate(outcomes, 24 * per_hour)[row],
    }
    for hours in horizons:
        columns[f"first_passage_{hours}"] = np.empty(len(row))
    squares = realised_squares(history)
    for begin in range(0, len(row), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        rows = _account_rows(
            segments, history, segment[part], row[part], headroom[part], margin[part]
        )
        aggregates = compute_aggregates(rows, market)
        features[part] = compute_features(aggregates)
        for hours in horizons:
            columns[f"first_passage_{hours}"][part] = first_passage_probability(aggregates, hours)
            oracle = oracle_first_passage(rows, history, squares, market, hours)
            if oracle is not None:
                name = f"oracle_first_passage_{hours}"
                columns.setdefault(name, np.empty(len(row)))[part] = oracle
    labels = np.stack([step <= hours * per_hour for hours in horizons], axis=1).astype(np.int8)
    return Dataset(
        time=closes[row],
        account=segments.account[segment],
        account_ids=segments.account_ids,
        features=features,
        labels=labels,
        horizons=horizons,
        columns=columns,
        dropped=outcomes.dropped,
        considered=outcomes.considered,
        oracle_interval=history.fine_interval.name,
    )


def _account_rows(
    segments: BookIntervals,
    history: MarketHistory,
    segment: Ints,
    row: Ints,
    headroom: Floats,
    margin: Floats,
) -> AccountRows:
    """Positions and collateral of the chosen account-times at their marks."""
    counts = segments.leg_start[segment + 1] - segments.leg_start[segment]
    start = np.zeros(len(segment) + 1, dtype=np.int64)
    np.cumsum(counts, out=start[1:])
    legs = np.arange(start[-1]) + np.repeat(segments.leg_start[segment] - start[:-1], counts)
    symbol = segments.leg_symbol[legs]
    mark = history.mark[np.repeat(row, counts), symbol]
    notional = segments.leg_margin_quantity[legs] * mark
    collateral = (segments.leg_value_quantity - segments.leg_margin_quantity)[legs] * mark
    return AccountRows(row, start, symbol, notional, headroom, margin, collateral)


def _lagged_breach_rate(outcomes: Outcomes, window: int) -> Floats:
    """Breaches per account at risk and bar over the last `window` bars, known at each row."""
    calls = np.concatenate([[0.0], np.cumsum(outcomes.calls)])
    risk = np.concatenate([[0.0], np.cumsum(outcomes.at_risk)])
    begin = np.maximum(np.arange(1, len(calls)) - window, 0)
    at_risk = risk[1:] - risk[begin]
    rate = np.zeros(len(at_risk))
    np.divide(calls[1:] - calls[begin], at_risk, out=rate, where=at_risk > 0)
    return rate
