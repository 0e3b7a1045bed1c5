"""Features of the account-times of a training's data set, computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from features.registry import ACCOUNT_COLUMNS
from market.core.errors import DataError
from pipelines.config.config import Config
from pipelines.data.accounts import DATASET_FILE, label_market, read_intervals
from pipelines.data.loaders import read_label_rules, read_market
from training.labels.dataset_file import stored_features


def write_features(
    config: Config, out: Path, columns: Sequence[str], dataset: Path | None
) -> dict[str, Any]:
    """Write features of the rows of a data set as parquet; the object of ``features --json``.

    Parameters
    ----------
    config:
        That of the training.
    out:
        File to write.
    columns:
        Account features; empty: all.
    dataset:
        The data set; None: the one of the newest training.

    Raises
    ------
    DataError
        A feature is not known, or the data set is not of these bars and accounts.
    """
    names = tuple(columns) or ACCOUNT_COLUMNS
    unknown = [name for name in names if name not in ACCOUNT_COLUMNS]
    if unknown:
        raise DataError(
            f"{unknown[0]!r} is no account feature; choose among those of docs/features.md"
        )
    source = dataset or config.serving.bundles.parent / DATASET_FILE
    market = read_market(config)
    ruleset = read_label_rules(config, market)
    intervals = read_intervals(config, market, ruleset)
    table = stored_features(
        source,
        names,
        label_market(config, market, intervals, ruleset),
        intervals,
        ruleset,
        config.training.event,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out, compression="zstd")
    return {"dataset": str(source), "rows": len(table), "columns": list(names), "out": str(out)}
