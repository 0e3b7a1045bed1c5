"""Read an exchange's account records for the fit of behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from market.core.clock import HOUR
from market.core.errors import DataError
from research.simulator_fit.behaviour_fit import ExchangeRecords

_TRADES = ("non_mm_trades.parquet", ("ts", "user", "coin", "side", "px", "sz"))
_LEDGER = ("non_mm_ledger_updates.parquet", ("ts", "user", "delta_usd"))
_LIQUIDATIONS = ("liquidations.parquet", ("ts", "user"))
_BUY = "Bid"


def read_exchange_records(folder: Path) -> ExchangeRecords:
    """Read ``non_mm_trades``, ``non_mm_ledger_updates`` and ``liquidations.parquet``.

    What happens within an hour is known at its end. Hours count from the first record.

    Raises
    ------
    DataError
        A file or column is missing.
    """
    trades, ledger, forced = (_columns(folder, *file) for file in (_TRADES, _LEDGER, _LIQUIDATIONS))
    users = np.unique(np.concatenate([trades["user"], ledger["user"], forced["user"]]))
    coins = np.unique(trades["coin"])
    start = min(int(table["ts"].min()) for table in (trades, ledger, forced))

    def hour(table: dict[str, Any]) -> npt.NDArray[np.int64]:
        return np.asarray(table["ts"] - start, dtype=np.int64)

    def user(table: dict[str, Any]) -> npt.NDArray[np.int64]:
        return np.asarray(np.searchsorted(users, table["user"]), dtype=np.int64)

    return ExchangeRecords(
        trade_hour=hour(trades),
        trade_user=user(trades),
        trade_coin=np.searchsorted(coins, trades["coin"]).astype(np.int64),
        trade_quantity=trades["sz"] * np.where(trades["side"] == _BUY, 1.0, -1.0),
        trade_price=trades["px"],
        transfer_hour=hour(ledger),
        transfer_user=user(ledger),
        transfer_usd=ledger["delta_usd"],
        liquidation_hour=hour(forced),
        liquidation_user=user(forced),
    )


def _columns(folder: Path, name: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """Columns in order of time, ts as the hour whose end makes a row known."""
    try:
        table = pq.read_table(folder / name, columns=list(columns)).sort_by("ts")
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{folder / name} cannot be read with columns {', '.join(columns)}: {error}"
        ) from error
    values = {name: np.asarray(table[name].to_pylist()) for name in columns if name != "ts"}
    stamps = table["ts"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_numpy()
    return {"ts": stamps // HOUR, **values}
