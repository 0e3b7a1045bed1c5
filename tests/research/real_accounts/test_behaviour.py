"""Rates of owners' actions by loss and by the fall of bitcoin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.bars.history import MarketHistory
from market.bars.panel import BarPanel
from market.core.clock import HOUR, Interval
from market.core.errors import DataError
from research.real_accounts.aave import BTC_FOLDER
from research.real_accounts.behaviour import aave_reactions, rates_by_loss
from research.simulator_fit.behaviour_fit import Exposures

START = datetime(2023, 3, 1, tzinfo=UTC)
DAYS = 12


def bitcoin(symbol: str) -> MarketHistory:
    """Hourly closes that fall by a tenth at the start of day 6 and are still before and after."""
    rows = DAYS * 24
    opens = int(START.timestamp()) * 10**9 + np.arange(rows, dtype=np.int64) * HOUR
    values = np.full((rows, 1, 5), 100.0)
    values[6 * 24 :] = 90.0
    panel = BarPanel(Interval.parse("1h"), (symbol,), opens, values)
    return MarketHistory.from_panel(panel)


def test_rates_are_by_the_loss_since_the_last_transfer() -> None:
    change = np.array([0.0, -0.1, -0.1, -0.5, 0.2])
    covariates = np.column_stack([change, np.maximum(0, -change), np.clip(change, 0, 1)])
    occurred = np.array([True, True, False, False, True])
    found = rates_by_loss(Exposures(covariates, {"deposit": occurred}, {"deposit": occurred * 1.0}))
    bands = {name: (cell["count"], cell["of"]) for name, cell in found["deposit"].items()}
    assert bands == {
        "gain over 5%": (1, 1),
        "within 5%": (1, 1),
        "loss of 5 to 20%": (1, 2),
        "loss over 20%": (0, 1),
    }


def test_reactions_count_an_account_once_a_day(tmp_path: Path) -> None:
    """One repayment of each day, and on day 6, after the fall, three accounts with two each."""
    (tmp_path / BTC_FOLDER).mkdir()
    rows = [(START + timedelta(days=day, hours=12), "repay", "x") for day in range(1, DAYS)]
    rows += [
        (START + timedelta(days=6, hours=hour), "repay", account)
        for account in ("y", "z")
        for hour in (3, 5)
    ]
    rows += [(START + timedelta(days=6, hours=13), "repay", "x")]
    pq.write_table(
        pa.table(
            {
                name: [row[i] for row in rows]
                for i, name in enumerate(("ts", "action_type", "account"))
            }
        ),
        tmp_path / BTC_FOLDER / "user_actions.parquet",
    )
    found = aave_reactions(tmp_path, bitcoin("BTCUSDT"))
    assert found["accounts"] == 3
    fall, still = found["repay"]["fall over 8%"], found["repay"]["within 3%"]
    assert (fall["actions"], fall["hours"]) == (3, 24)
    assert still["actions"] == DAYS - 2
    assert still["ratio"] == 1.0
    assert fall["ratio"] == pytest.approx(3 / (still["a_day"]))
    with pytest.raises(DataError, match="have no BTCUSDT"):
        aave_reactions(tmp_path, bitcoin("ETHUSDT"))
    with pytest.raises(DataError, match=r"user_actions.parquet cannot be read"):
        aave_reactions(tmp_path / "nowhere", bitcoin("BTCUSDT"))
