from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.bars.bar_cleaning import load_bars
from market.bars.panel import BASIS, FUNDING, IMPLIED_VOLATILITY, OPEN_INTEREST
from market.core.arrays import Ints
from market.core.clock import HOUR, Interval
from market.simulator.market_writer import write_bars, write_quotes
from market.simulator.simulated_market import simulate_bars, simulate_market
from market.sources.parquet import BarFolder

HOURLY = Interval.parse("1h")


def times(table: pa.Table) -> Ints:
    return np.asarray(table["ts"].cast(pa.int64()).to_numpy(), dtype=np.int64)


def test_written_bars_are_read_back_to_the_last_bit(tmp_path: Path) -> None:
    panel = simulate_bars(1, 3, 2, HOURLY)
    paths = write_bars(panel, tmp_path / "bars")
    assert [path.name for path in paths] == ["BTCUSDT.parquet", "ETHUSDT.parquet"]
    assert str(pq.read_schema(paths[0]).field("ts").type) == "timestamp[ns, tz=UTC]"
    for column, path in enumerate(paths):
        bars = load_bars(BarFolder(path.parent, "spot"), path.stem, HOURLY)
        assert np.array_equal(bars.opens, panel.opens)
        assert np.array_equal(bars.values, panel.values[:, column])


def test_missing_bars_are_not_written(tmp_path: Path) -> None:
    panel = simulate_bars(1, 1, 1, HOURLY)
    panel.values[5:8] = np.nan
    (path,) = write_bars(panel, tmp_path)
    assert pq.read_table(path).num_rows == 21


def test_funding_is_written_a_settlement_and_stamped_when_it_is_settled(tmp_path: Path) -> None:
    market = simulate_market(1, 3, 3, HOURLY)
    write_quotes(market, tmp_path)
    context = market.panel.exogenous
    assert context is not None
    for column, symbol in enumerate(market.panel.symbols):
        table = pq.read_table(tmp_path / "funding" / f"{symbol}.parquet")
        assert (times(table) // HOUR % 8 == 0).all()
        assert set(table["interval_hours"].to_pylist()) == {8}
        settled = context[np.isfinite(context[:, column, FUNDING]), column, FUNDING]
        np.testing.assert_allclose(table["funding_rate"].to_numpy(), settled * 8)


def test_only_coins_with_an_index_get_a_file_of_it_in_per_cent(tmp_path: Path) -> None:
    market = simulate_market(1, 3, 3, HOURLY)
    write_quotes(market, tmp_path)
    assert sorted(p.stem for p in (tmp_path / "implied_vol").iterdir()) == ["BTC", "ETH"]
    table = pq.read_table(tmp_path / "implied_vol" / "BTC.parquet")
    context = market.panel.exogenous
    assert context is not None
    column = market.panel.symbols.index("BTCUSDT")
    np.testing.assert_allclose(
        table["close"].to_numpy() / 100.0, context[:, column, IMPLIED_VOLATILITY]
    )
    assert np.array_equal(times(table), market.panel.closes)


def test_quotes_are_written_as_they_are(tmp_path: Path) -> None:
    market = simulate_market(1, 2, 2, HOURLY)
    write_quotes(market, tmp_path)
    table = pq.read_table(tmp_path / "quotes" / "ETHUSDT.parquet")
    context = market.panel.exogenous
    assert context is not None
    assert np.array_equal(table["depth"].to_numpy(), market.depth[:, 1])
    assert np.array_equal(table["half_spread"].to_numpy(), market.half_spread[:, 1])
    assert np.array_equal(table["basis"].to_numpy(), context[:, 1, BASIS])
    assert np.array_equal(table["open_interest"].to_numpy(), context[:, 1, OPEN_INTEREST])


def test_a_halted_coin_has_no_rows_after_its_last_bar(tmp_path: Path) -> None:
    market = simulate_market(1, 20, 3, Interval.parse("1h"))
    close = int(market.panel.closes[-11])
    halted = market.halted({"ETHUSDT": close})
    write_bars(halted.panel, tmp_path / "bars")
    write_quotes(halted, tmp_path)
    for name in ("bars", "quotes"):
        table = pq.read_table(tmp_path / name / "ETHUSDT.parquet")
        assert len(table) == len(market.panel) - 10
        for column in set(table.column_names) - {"ts"}:
            assert np.isfinite(table[column].to_numpy()).all()
        other = pq.read_table(tmp_path / name / "BTCUSDT.parquet")
        assert len(other) == len(market.panel)
