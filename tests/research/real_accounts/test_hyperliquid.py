"""Accounts rebuilt from trades, transfers and liquidations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.accounts.account_files import AccountHistory, read_accounts
from market.core.errors import DataError
from research.real_accounts.hyperliquid import (
    FOLDER,
    ISOLATED_LIQUIDATION,
    LIQUIDATION,
    UNEXPLAINED,
    read_records,
    rebuild,
)

START = datetime(2023, 3, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def ns(hours: float) -> int:
    return int(at(hours).timestamp()) * 1_000_000_000


def write(folder: Path, name: str, columns: str, rows: list[tuple[object, ...]]) -> None:
    names = columns.split()
    pq.write_table(
        pa.table({n: [row[i] for row in rows] for i, n in enumerate(names)}),
        folder / f"{name}.parquet",
    )


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """`a` pays 100 in, is long 10 at 100, closes 4 at 110, flips to short 2 at 120; then 50 of the
    records' equity is missing, and a cross liquidation closes all. `b` loses one of two positions
    in isolation."""
    write(
        tmp_path,
        "non_mm_trades",
        "ts user coin side px sz crossed",
        [
            (at(1), "a", "ETH", "Bid", 100.0, 10.0, True),
            (at(2), "a", "ETH", "Ask", 110.0, 4.0, True),
            (at(3), "a", "ETH", "Ask", 120.0, 8.0, False),
            (at(9), "a", "ETH", "Bid", 250.0, 2.0, True),
            (at(1), "b", "ETH", "Bid", 100.0, 1.0, True),
            (at(1), "b", "SOL", "Ask", 20.0, 5.0, True),
            (at(5), "b", "ETH", "Ask", 90.0, 1.0, True),
        ],
    )
    write(
        tmp_path,
        "non_mm_ledger_updates",
        "ts user delta_usd",
        [(at(0), "a", 100.0), (at(0), "b", 30.0), (at(6), "b", -3.0)],
    )
    write(
        tmp_path,
        "liquidations",
        "ts user liquidated_ntl_pos liquidated_account_value leverage_type",
        [(at(9), "a", 490.0, 4.9, "Cross"), (at(5), "b", 91.0, 20.0, "Isolated")],
    )
    return tmp_path


def state(history: AccountHistory, account: str, hours: float) -> tuple[float, dict[str, object]]:
    book = history.book_at(ns(hours))
    found = {a.account_id: a for a in book.accounts()}[account]
    return found.cash, {p.instrument: (p.quantity, p.entry_price) for p in found.positions}


def test_partial_close_and_flip(records: Path, tmp_path: Path) -> None:
    history = rebuild(records, tmp_path / "out", anchored=False).history
    assert state(history, "a", 0.5) == (100.0, {})
    assert state(history, "a", 1.5) == (100.0, {"ETHUSDT-PERP": (10.0, 100.0)})
    assert state(history, "a", 2.5) == (140.0, {"ETHUSDT-PERP": (6.0, 100.0)})
    assert state(history, "a", 3.5) == (260.0, {"ETHUSDT-PERP": (-2.0, 120.0)})
    assert state(history, "a", 9.5) == (0.0, {})
    assert state(history, "b", 6.5) == (17.0, {"SOLUSDT-PERP": (-5.0, 20.0)})


def test_written_files_are_those_returned(records: Path, tmp_path: Path) -> None:
    history = rebuild(records, tmp_path / "out").history
    again = read_accounts(tmp_path / "out")
    assert again.account_ids == history.account_ids == ("a", "b")
    assert (again.positions.amount == history.positions.amount).all()
    assert (again.events.amount == history.events.amount).all()


def test_cross_liquidation_leaves_no_cash_and_isolated_is_told_apart(
    records: Path, tmp_path: Path
) -> None:
    pq.write_table(
        pa.table({"ts": [at(0)], "user": ["a"], "delta_usd": [150.0]}),
        records / "non_mm_ledger_updates.parquet",
    )
    rebuilt = rebuild(records, tmp_path / "out")
    history, events = rebuilt.history, rebuilt.history.events
    found = {
        (history.account_ids[a], events.kinds[k]): (t, v)
        for a, k, t, v in zip(events.account, events.kind, events.time, events.amount, strict=True)
    }
    # 150 where 100 makes the end flat: the 50 leave when the positions were opened.
    assert found["a", UNEXPLAINED] == (ns(1), -50.0)
    assert found["a", LIQUIDATION] == (ns(9), 490.0)
    assert found["b", ISOLATED_LIQUIDATION] == (ns(5), 91.0)
    assert ("b", UNEXPLAINED) not in found
    assert state(history, "a", 0.5)[0] == 150.0
    assert state(history, "a", 1.5)[0] == 100.0
    assert state(history, "a", 9.5) == (0.0, {})
    assert rebuilt.report["accounts_without_transfers"] == 1


def test_check_takes_the_account_before_the_second_of_its_liquidation(
    records: Path, tmp_path: Path
) -> None:
    checks = rebuild(records, tmp_path / "out").report["checks"]
    (cross,) = (check for check in checks if check["kind"] == "Cross")
    # Short 2 at 120 with 260 of cash, marked at 490 / 2.
    assert cross["rebuilt_value"] == pytest.approx(260.0 - 2.0 * (245.0 - 120.0))
    assert cross["flat_after"]
    (isolated,) = (check for check in checks if check["kind"] == "Isolated")
    assert isolated["rebuilt_value"] is None
    assert not isolated["flat_after"]


def test_unknown_side_and_missing_files_are_refused(records: Path, tmp_path: Path) -> None:
    write(
        records,
        "non_mm_trades",
        "ts user coin side px sz",
        [(at(1), "a", "ETH", "Buy", 100.0, 10.0)],
    )
    with pytest.raises(DataError, match="side 'Buy'; expected Bid or Ask"):
        read_records(records)
    with pytest.raises(DataError, match="cannot be read with columns ts, user, coin"):
        read_records(tmp_path / "nowhere")


@pytest.mark.realdata
def test_recorded_liquidations_are_reproduced(data_dir: Path, tmp_path: Path) -> None:
    """Every cross liquidation ends flat without cash, and the value before it is the recorded."""
    rebuilt = rebuild(data_dir / FOLDER, tmp_path)
    checks = rebuilt.report["checks"]
    cross = [check for check in checks if check["kind"] == "Cross"]
    assert len(checks) == 37
    assert len(cross) == rebuilt.report["anchored_liquidations"] == 29
    assert all(check["flat_after"] for check in cross)
    known = [check for check in cross if check["rebuilt_value"] is not None]
    assert len(known) == 26
    off = [abs(c["rebuilt_value"] - c["value"]) / c["notional"] for c in known]
    assert max(off) < 1e-4
    ratio = np.array([check["value"] / check["notional"] for check in cross])
    assert (ratio <= 0.0105).all()


@pytest.mark.realdata
def test_positions_and_cash_of_the_real_accounts_add_up(data_dir: Path, tmp_path: Path) -> None:
    """After its last record an account holds the sum of its trades, and its cash differs from its
    transfers less what it paid by its open positions at entry alone."""
    records = read_records(data_dir / FOLDER)
    history = rebuild(data_dir / FOLDER, tmp_path, anchored=False).history
    last = {a.account_id: a for a in history.book_at(2**62).accounts()}
    assert set(last) == set(records)
    for user, own in records.items():
        traded: dict[str, float] = {}
        cash = 0.0
        for record in own:
            if record.kind == 0:
                cash += record.amount
            elif record.kind == 1:
                traded[record.name] = traded.get(record.name, 0.0) + record.amount
                cash -= record.amount * record.price
        for position in last[user].positions:
            assert position.entry_price is not None
            quantity = traded.pop(position.instrument.removesuffix("USDT-PERP"))
            assert position.quantity == pytest.approx(quantity, rel=1e-6)
            cash += position.quantity * position.entry_price
        assert all(abs(left) < 1e-6 for left in traded.values())
        assert last[user].cash == pytest.approx(cash, abs=1e-4)
