"""The report of a load: every fault that was put in is in it, in JSON and on the terminal."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from market.accounts.account_files import Event, read_accounts, write_accounts
from market.accounts.account_quality import check_accounts
from market.accounts.book import Account, Balance, Book, Position
from market.bars.quality import FAULTS
from market.core.clock import HOUR, parse_time
from market.core.errors import DataError
from market.sources.base import AccountUpdates
from pipelines.cli.main import app
from pipelines.config.config import load_config
from pipelines.data import data_quality
from pipelines.data.data_quality import check_data, quality_tables

START = parse_time("2025-01-01T00:00:00Z")
STAMP = pa.timestamp("ns", tz="UTC")


def bars(rows: int, level: float = 100.0) -> dict[str, Any]:
    close = level + np.sin(np.arange(rows))
    return {
        "ts": START + HOUR * np.arange(rows, dtype=np.int64),
        "open": close,
        "high": close + 1.0,
        "low": close - 1.0,
        "close": close,
        "volume": np.full(rows, 10.0),
    }


def write(folder: Path, symbol: str, columns: dict[str, Any], order: Any = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({**columns, "ts": pa.array(columns["ts"], STAMP)})
    pq.write_table(table if order is None else table.take(order), folder / f"{symbol}.parquet")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A spot folder with one fault of each kind, and a perpetual folder that is a copy of it."""
    faulty = bars(80)
    for name in ("open", "high", "low", "close"):
        faulty[name] = faulty[name].copy()
        faulty[name][20] *= 2.0  # a bad tick
    faulty["high"][30] = 1_000.0  # a wick
    faulty["low"][40] = -1.0  # impossible, and so a gap
    for name in ("open", "high", "low", "close"):
        faulty[name][51] = faulty["close"][50]
    faulty["volume"][51] = 0.0  # stale
    order = [*range(60), 10, *range(60, 80)]  # a duplicate
    write(tmp_path / "spot", "BTCUSDT", faulty, order)
    write(tmp_path / "spot", "ETHUSDT", bars(80, 50.0))
    write(tmp_path / "perp", "BTCUSDT", bars(80))
    path = tmp_path / "margincast.toml"
    path.write_text(
        '[market]\nbars = ["spot", { path = "perp", kind = "perp" }]\n', encoding="utf-8"
    )
    return path


def test_every_fault_is_counted_once_in_the_report(config: Path) -> None:
    report = check_data(load_config(config))
    assert {fault: count for fault, count in report["faults"].items() if count} == {
        "unsorted": 1,
        "duplicates": 1,
        "impossible": 1,
        "gaps": 1,
        "stale": 1,
        "suspect": 1,
        "limited": 1,
    }
    assert (report["rows"], report["interval"]) == (241, "1h")
    (file,) = (file for file in report["bars"]["files"] if file["suspect"])
    assert file["suspect_times"] == ("2025-01-01T20:00:00Z",)
    (mix_up,) = report["mix_ups"]
    assert (mix_up["symbol"], mix_up["bars"]) == ("BTCUSDT", 79)
    assert mix_up["equal"] == pytest.approx(77 / 79)
    assert report["suspect_now"] == []
    assert report["price_guard"] == {
        "band": 0.25,
        "wick_band": 0.5,
        "agreement": 0.1,
        "hard_band": 5.0,
        "cash_band": 0.05,
        "vol_band": 0.69,
    }
    assert report["accounts"] is None


def test_terminal_names_the_faulty_file_the_mix_up_and_the_sums(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _printed(check_data(load_config(config)), monkeypatch)
    text = " ".join(" ".join(lines).split())
    assert "1 suspect" in text
    assert "2025-01-01T20:00" in text
    assert "mix-up: BTCUSDT in spot (spot) and perp (perp): 97.5% of 79 closes are equal" in text
    assert "241 rows of 3 files, 2 symbols at 1h" in text
    assert "1 file(s) with faults" in text
    assert not any("ETHUSDT" in line for line in lines), "sound files are not listed"


def test_terminal_shows_how_much_of_the_funding_was_used(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = pa.array(START + HOUR * np.array([8, 16, 16, 24, 99_999]), STAMP)
    rates = [1e-4, 7.0, 2e-4, 1e-4, 1e-4]
    (config.parent / "rates").mkdir()
    pq.write_table(
        pa.table({"ts": stamps, "funding_rate": rates, "interval_hours": [8.0] * 5}),
        config.parent / "rates" / "BTCUSDT.parquet",
    )
    with config.open("a", encoding="utf-8") as file:
        file.write('funding = "rates"\n')
    lines = _printed(check_data(load_config(config)), monkeypatch)
    assert "rates/BTCUSDT.parquet for BTCUSDT: 5 rows, 1 repeated, 1 impossible, 3 used" in lines


def test_verb_writes_the_whole_report_as_json(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["data", "--config", str(config), "--json", str(out)])
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())
    assert written == json.loads(json.dumps(check_data(load_config(config))))


def test_symbol_that_waits_at_the_end_is_named(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = bars(80, 50.0)
    for name in ("open", "high", "low", "close"):
        last[name] = np.r_[last[name][:-1], last[name][-1] * 0.5]
    write(config.parent / "spot", "ETHUSDT", last)
    report = check_data(load_config(config))
    assert report["suspect_now"] == ["ETHUSDT"]
    assert "suspect now: ETHUSDT" in "\n".join(_printed(report, monkeypatch))


def test_counts_of_the_report_are_the_fields_of_a_file() -> None:
    from market.bars.quality import FileQuality

    whole = FileQuality(folder="f", symbol="s", kind="spot", interval="1h", rows=1)
    assert all(getattr(whole, fault) == 0 for fault in FAULTS)


def test_accounts_are_checked_against_the_market(config: Path) -> None:
    def account(name: str, instrument: str, *balances: Balance) -> Account:
        return Account(name, 100.0, (Position(instrument, 1.0, None),), balances)

    book = Book.of(
        [
            account("a", "BTCUSDT-PERP", Balance("GOLD", 1.0), Balance("USDC", 5.0)),
            account("b", "SOLUSDT", Balance("ETH", -2.0)),
            account("c", "what is this?"),
        ]
    )
    folder = config.parent / "accounts"
    write_accounts(
        folder,
        [AccountUpdates(START - HOUR, book), AccountUpdates(START + 5 * HOUR, book)],
        [Event(START, "a", "x")],
    )
    with config.open("a", encoding="utf-8") as file:
        file.write('[accounts]\nsource = "files"\npath = "accounts"\n')
    report = check_data(load_config(config))
    assert report["accounts"] == {
        "accounts": 3,
        "position_snapshots": 6,
        "collateral_snapshots": 6,
        "events": 1,
        "without_collateral": 0,
        "malformed": 2,
        "unpriced": 2,
        "unpriced_symbols": ("SOLUSDT",),
        "unpriced_collateral": 2,
        "unpriced_assets": ("GOLD",),
        "negative_collateral": 2,
        "outside_market": 6,
    }
    quality = check_accounts(
        read_accounts(folder),
        ("BTCUSDT", "SOLUSDT", "GOLDUSDT"),
        START - HOUR,
        START,
        lambda asset: asset == "USD",
    )
    assert (quality.unpriced, quality.outside_market) == (0, 6)
    assert quality.unpriced_assets == ("ETH", "USDC")


def _printed(report: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from rich.console import Console

    text = StringIO()
    console = Console(width=100, file=text)
    monkeypatch.setattr(data_quality, "console", console)
    quality_tables(report)
    return text.getvalue().splitlines()


@pytest.mark.parametrize(
    "line", ['funding = "spot"', 'open_interest = "spot"', 'implied_vol = { BTC = "v.parquet" }']
)
def test_files_with_a_simulated_market_are_refused_and_not_ignored(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "spot").mkdir()
    (tmp_path / "v.parquet").touch()
    path = tmp_path / "margincast.toml"
    path.write_text(f"[market]\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match="and \\[market\\] bars is empty"):
        check_data(load_config(path))
