"""Funding, open interest, implied volatility and basis: when each becomes known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.bars.exogenous_files import ExogenousSources, add_exogenous
from market.bars.history import MarketHistory, load_history
from market.bars.panel import (
    BASIS,
    CLOSE,
    CURVATURE,
    FUNDING,
    IMPLIED_VOLATILITY,
    OPEN_INTEREST,
    SKEW,
    TERM_SLOPE,
    BarPanel,
)
from market.core.clock import HOUR, INTERVALS, MINUTE, parse_time
from market.core.errors import DataError
from market.sources.parquet import BarFolder

START = parse_time("2025-01-01T00:00:00Z")
ROWS = 48

Floats = npt.NDArray[np.float64]
Write = Callable[..., Path]


@pytest.fixture
def history() -> MarketHistory:
    opens = START + np.arange(ROWS, dtype=np.int64) * HOUR
    values = np.full((ROWS, 2, 5), 100.0)
    return MarketHistory.from_panel(
        BarPanel(INTERVALS["1h"], ("BTCUSDT", "ETHUSDT"), opens, values)
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, ts: list[int], **columns: list[float]) -> Path:
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        stamps = pa.array(ts, pa.timestamp("ns", tz="UTC"))
        pq.write_table(pa.table({"ts": stamps, **columns}), path)
        return path

    return make


def _context(history: MarketHistory, column: int, s: int = 0) -> Floats:
    assert history.bars.exogenous is not None
    return history.bars.exogenous[:, s, column]


def _known(context: Floats) -> dict[int, float]:
    return {int(t): float(context[t]) for t in np.flatnonzero(~np.isnan(context))}


def test_funding_is_known_at_the_close_that_follows_its_settlement(
    history: MarketHistory, write: Write
) -> None:
    # Settled at 08:00 is known at the close at 08:00, which is that of the bar that opens at 07:00.
    stamps = [START + 8 * HOUR, START + 16 * HOUR, START + 24 * HOUR + MINUTE]
    folder = write("f/BTCUSDT", stamps, funding_rate=[8e-4, 1.6e-4, -8e-4]).parent
    found = _known(_context(add_exogenous(history, ExogenousSources(funding=folder)), FUNDING))
    assert found == pytest.approx({7: 1e-4, 15: 2e-5, 24: -8e-4 / (8.0 + 1.0 / 60.0)})


def test_milliseconds_past_the_hour_do_not_make_funding_an_hour_late(
    history: MarketHistory, write: Write
) -> None:
    stamps = [START + 8 * HOUR + 7_000_000, START + 16 * HOUR + 3_000_000]
    folder = write("f/BTCUSDT", stamps, rate=[8e-4, 8e-4]).parent
    found = _known(_context(add_exogenous(history, ExogenousSources(funding=folder)), FUNDING))
    assert found == pytest.approx({7: 1e-4, 15: 1e-4})


def test_each_settlement_has_its_own_interval(history: MarketHistory, write: Write) -> None:
    stamps = [START + h * HOUR for h in (8, 12, 13)]
    folder = write("f/BTCUSDT", stamps, funding_rate=[8e-4, 8e-4, 8e-4]).parent
    found = _known(_context(add_exogenous(history, ExogenousSources(funding=folder)), FUNDING))
    # The first takes the distance to the second; after that each looks back.
    assert found == pytest.approx({7: 2e-4, 11: 2e-4, 12: 8e-4})
    folder = write(
        "g/BTCUSDT", stamps, funding_rate=[8e-4] * 3, interval_hours=[8.0, 4.0, 1.0]
    ).parent
    found = _known(_context(add_exogenous(history, ExogenousSources(funding=folder)), FUNDING))
    assert found == pytest.approx({7: 1e-4, 11: 2e-4, 12: 8e-4})


def test_index_of_an_hour_is_known_when_the_hour_is_over(
    history: MarketHistory, write: Write
) -> None:
    path = write("v", [START, START + HOUR], dvol_close=[60.0, 65.0])
    known = add_exogenous(history, ExogenousSources(implied_vol={"BTC": path}))
    assert _known(_context(known, IMPLIED_VOLATILITY)) == pytest.approx({0: 0.60, 1: 0.65})
    assert _known(_context(known, IMPLIED_VOLATILITY, s=1)) == {}


def test_the_last_of_several_facts_in_a_bar_counts(history: MarketHistory, write: Write) -> None:
    stamps = [START + 5 * HOUR + 10 * MINUTE, START + 5 * HOUR + 50 * MINUTE]
    folder = write("o/ETHUSDT", stamps[::-1], open_interest=[7.0, 5.0]).parent
    known = add_exogenous(history, ExogenousSources(open_interest=folder))
    assert _known(_context(known, OPEN_INTEREST, s=1)) == {5: 7.0}


def test_impossible_and_outside_facts_are_counted_and_not_used(
    history: MarketHistory, write: Write
) -> None:
    stamps = [START - HOUR, START + HOUR, START + 2 * HOUR, START + 2 * HOUR, START + 99 * HOUR]
    folder = write("o/BTCUSDT", stamps, open_interest=[1.0, -3.0, 2.0, 4.0, 5.0]).parent
    known = add_exogenous(history, ExogenousSources(open_interest=folder))
    assert _known(_context(known, OPEN_INTEREST)) == {1: 4.0}
    (quality,) = known.report.exogenous
    assert (quality.rows, quality.repeated, quality.impossible, quality.used) == (5, 1, 1, 2)
    assert known.report.to_dict()["context"]


def test_file_without_one_possible_value_is_refused_and_not_read_as_empty(
    history: MarketHistory, write: Write
) -> None:
    prices = write("BTCUSDT", [START, START + HOUR], close=[95_000.0, 96_000.0])
    with pytest.raises(DataError, match="no possible value; expected an annualised index in per"):
        add_exogenous(history, ExogenousSources(implied_vol={"BTC": prices}))
    folder = write("o/BTCUSDT", [START, START + HOUR], open_interest=[0.0, -1.0]).parent
    with pytest.raises(DataError, match="expected amounts above 0 in base units"):
        add_exogenous(history, ExogenousSources(open_interest=folder))
    folder = write("f/BTCUSDT", [START, START + 8 * HOUR], funding_rate=[12.0, 13.0]).parent
    with pytest.raises(DataError, match="expected rates from -1 to 1 of the notional"):
        add_exogenous(history, ExogenousSources(funding=folder))


def test_no_sources_leave_the_history_as_it_was(history: MarketHistory) -> None:
    assert add_exogenous(history, ExogenousSources()) is history


def test_refusals_name_what_is_wrong(history: MarketHistory, write: Write, tmp_path: Path) -> None:
    path = write("v", [START], open_interest=[60.0])
    for sources, message in (
        (ExogenousSources(funding=tmp_path / "none"), "does not exist; check .market. funding"),
        (ExogenousSources(funding=path.parent), "no <SYMBOL>.parquet of this market's symbols"),
        (ExogenousSources(implied_vol={"DOGE": path}), "no symbol DOGEUSDT"),
        (ExogenousSources(option_surface={"DOGE": path}), "option_surface names 'DOGE'"),
        (ExogenousSources(option_surface={"BTC": path}), "expected skew_25d"),
        (
            ExogenousSources(option_surface={"BTC": tmp_path / "x"}),
            "check \\[market\\] option_surface",
        ),
        (ExogenousSources(implied_vol={"BTC": path}), "expected close or dvol_close"),
        (ExogenousSources(implied_vol={"BTC": tmp_path / "x"}), "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            add_exogenous(history, sources)


def test_basis_exists_where_both_prices_do(tmp_path: Path, write: Write) -> None:
    def bars(name: str, rows: range, price: float) -> None:
        stamps = [START + t * HOUR for t in rows]
        prices = {k: [price] * len(rows) for k in ("open", "high", "low", "close", "volume")}
        write(name, stamps, **prices)

    bars("spot/BTCUSDT", range(30), 100.0)
    bars("perp/BTCUSDT", range(10, 40), 101.0)
    folders = [BarFolder(tmp_path / "spot"), BarFolder(tmp_path / "perp", "perp")]
    history = load_history(folders, INTERVALS["1h"])
    found = _known(_context(history, BASIS))
    assert found == pytest.approx(dict.fromkeys(range(10, 30), float(np.log(1.01))))
    assert history.bars.values[35, 0, CLOSE] == 101.0
    assert load_history(folders[:1], INTERVALS["1h"]).bars.exogenous is None


@pytest.mark.realdata
def test_real_funding_and_index_are_known_and_mostly_used(data_dir: Path) -> None:
    history = load_history(
        [BarFolder(data_dir / "ohlcv_5m_binance_perp", "perp")], INTERVALS["1h"], ["BTCUSDT"]
    )
    known = add_exogenous(
        history,
        ExogenousSources(
            funding=data_dir / "funding_8h_binance_perp",
            implied_vol={"BTC": data_dir / "dvol_1h_deribit" / "BTC.parquet"},
        ),
    )
    funding, index = _context(known, FUNDING), _context(known, IMPLIED_VOLATILITY)
    settled = np.flatnonzero(~np.isnan(funding))
    assert (np.diff(settled) == 8).all()
    assert 0.9 < np.mean(~np.isnan(index)) < 1.0  # the collector left a day out each month
    assert 0.2 < np.nanmedian(index) < 1.0


def test_surface_is_known_from_its_time_on_and_impossible_figures_count_for_nothing(
    history: MarketHistory, write: Write
) -> None:
    path = write(
        "BTC",
        [START + 3 * HOUR, START + 5 * HOUR + MINUTE, START + 9 * HOUR],
        skew_25d=[0.02, -0.03, 99.0],
        atm_term_slope=[0.1, float("nan"), 0.2],
        smile_curvature=[0.01, 0.02, 0.03],
    )
    known = add_exogenous(history, ExogenousSources(option_surface={"BTC": path}))
    skew, slope, curve = (_context(known, column) for column in (SKEW, TERM_SLOPE, CURVATURE))
    # Bar 2 closes at 03:00; what is told at 05:01 is known at the close of bar 5, at 06:00.
    assert (skew[2], slope[2], curve[2]) == (0.02, 0.1, 0.01)
    assert (skew[5], curve[5]) == (-0.03, 0.02)
    assert np.isnan(slope[5])
    assert np.isnan(skew[8])
    assert (slope[8], curve[8]) == (0.2, 0.03)
    assert np.isfinite(skew).sum() == np.isfinite(slope).sum() == 2
    assert np.isnan(_context(known, SKEW, 1)).all()
    assert [one.impossible for one in known.report.exogenous] == [1, 1, 0]
