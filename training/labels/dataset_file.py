"""The data set on disk: what cannot be computed again, and the way back to every feature.

One row an account-time: its time ``ts`` and ``account_id``, headroom (over the level of the event
that was labelled), maintenance margin, the volatility of the structural prior, the trailing breach
rate, the oracle's probabilities, labels, weight and draw. Features are not stored: they follow from
these figures, the bars and the books, to the last bit (`stored_features`). So do the other inputs
of the baselines: ``margin_ratio`` is maintenance margin over equity, ``first_passage_<h>`` is
``erfc(d / sqrt 2)``, d = headroom over ``prior_volatility * sqrt h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.account.frame import compute_aggregates, compute_features
from margin.book.book_paths import book_paths
from margin.rules.ruleset import RuleSet
from market.core.arrays import Ints
from market.core.errors import DataError
from training.labels.account_panel import value_rows
from training.labels.book_intervals import BookIntervals
from training.labels.dataset import CHUNK, Dataset, at_level
from training.labels.events import Event, event_level
from training.labels.market_path import LabelMarket

_DERIVED = ("margin_ratio", "first_passage_")
"""Columns of a data set, by the beginning of their names, that follow from others."""


def write_dataset(data: Dataset, path: Path) -> None:
    """Write a data set as one parquet file, in row groups of bounded size."""
    stored = [name for name in data.columns if not name.startswith(_DERIVED)]
    schema = pa.schema(
        [
            ("ts", pa.timestamp("ns", tz="UTC")),
            ("account_id", pa.string()),
            *((name, pa.float64()) for name in stored),
            *((f"label_{hours}h", pa.int8()) for hours in data.horizons),
            ("weight", pa.float64()),
            ("uniform", pa.bool_()),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    floats = [field.name for field in schema if field.type == pa.float64()]
    with pq.ParquetWriter(
        partial,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=["ts", "account_id"],
        use_byte_stream_split=floats,
    ) as writer:
        for start in range(0, len(data), CHUNK):
            rows = slice(start, start + CHUNK)
            writer.write_table(
                pa.table(
                    [
                        pa.array(data.time[rows]).cast(pa.timestamp("ns", tz="UTC")),
                        [data.account_ids[a] for a in data.account[rows]],
                        *(data.columns[name][rows] for name in stored),
                        *data.labels[rows].T,
                        data.weight[rows],
                        data.uniform[rows],
                    ],
                    schema=schema,
                )
            )
    partial.replace(path)


def stored_features(
    path: Path,
    names: Sequence[str],
    market: LabelMarket,
    intervals: BookIntervals,
    ruleset: RuleSet,
    event: Event = "call",
) -> pa.Table:
    """Account features of the rows of a file, in its order: ``ts``, ``account_id``, then `names`.

    Parameters
    ----------
    path:
        As `write_dataset` wrote it.
    names:
        Account features, see `features.registry.ACCOUNT_FEATURES`.
    market, intervals, ruleset, event:
        Those that the data set was built from.

    Raises
    ------
    DataError
        The file cannot be read, or holds an account-time that these books do not have.
    """
    figures = ["headroom", "maintenance_margin"]
    try:
        table = pq.read_table(path, columns=["ts", "account_id", *figures])
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as a data set: {error}; give the dataset.parquet of a training"
        ) from error
    headroom, margin = (table[name].to_numpy() for name in figures)
    level = event_level(event, ruleset)
    interval, row = _find(table, market, intervals, path)
    paths = book_paths(intervals.book, market, ruleset)
    out = np.empty((len(row), len(names)))
    for begin in range(0, len(row), CHUNK):
        part = slice(begin, begin + CHUNK)
        rows, _ = value_rows(paths, interval[part], row[part])
        rows = at_level(rows, headroom[part], level * margin[part])
        out[part] = compute_features(compute_aggregates(rows, market.features), names)
    columns = dict(zip(names, out.T, strict=True))
    return pa.table({"ts": table["ts"], "account_id": table["account_id"], **columns})


def _find(
    table: pa.Table, market: LabelMarket, intervals: BookIntervals, path: Path
) -> tuple[Ints, Ints]:
    """Interval and market row of each row of the file."""
    closes = market.history.bars.closes
    time = table["ts"].cast(pa.int64()).to_numpy()
    row = np.searchsorted(closes, time).astype(np.int64)
    encoded = table["account_id"].combine_chunks().dictionary_encode()
    number = {name: i for i, name in enumerate(intervals.account_ids)}
    known = np.array([number.get(name, -1) for name in encoded.dictionary.to_pylist()])
    account = known[encoded.indices.to_numpy()]
    width = len(closes)
    key = intervals.account * width + intervals.first_row
    interval = np.searchsorted(key, account * width + row, side="right").astype(np.int64) - 1
    found: npt.NDArray[np.bool_] = (
        (account >= 0)
        & (row < width)
        & (closes[np.minimum(row, width - 1)] == time)
        & (intervals.account[interval] == account)
        & (row < intervals.last_row[interval])
    )
    if not found.all():
        first = int(np.flatnonzero(~found)[0])
        raise DataError(
            f"row {first} of {path}, account {table['account_id'][first].as_py()!r} at "
            f"{table['ts'][first].as_py()}, is not among the configured accounts and bars; give "
            "the configuration that the data set was built from"
        )
    return interval, row
