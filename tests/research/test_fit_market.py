"""The fit of the simulator on a small simulated venue whose files look like a real one's."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market.bars.panel import BASIS, CLOSE, BarPanel
from market.core.clock import Interval
from market.core.errors import ConfigError, DataError
from market.simulator.market_parameters import MarketParameters
from market.simulator.market_writer import write_bars, write_quotes
from market.simulator.simulated_market import SimulatedMarket, simulate_market
from pipelines.config.config import Config, load_config
from pipelines.data.loaders import simulated_market
from research.simulator_fit.__main__ import main
from research.simulator_fit.fit_market import QuoteFiles, fit_market, to_toml
from research.simulator_fit.quote_files import read_depths, read_funding, read_index, read_pairs

HOURLY = Interval.parse("1h")
START = datetime(2025, 1, 1, tzinfo=UTC)


def write_liquidity(path: Path) -> None:
    """Two coins on two venues, 30 hours of six samples; one row has an error text."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "ts": START + timedelta(minutes=minute),
            "exchange": venue,
            "ticker": coin,
            "mid_price": 100.0 * np.exp(rng.normal(0.0, 0.001)),
            "spread_bps": spread,
            "ask_slip_1m": 2.0 * np.exp(rng.normal(0.0, 0.1)),
            "bid_slip_1m": 2.0 * np.exp(rng.normal(0.0, 0.1)),
            "error": None,
        }
        for venue in ("binance", "other")
        for coin, spread in (("BTC", 0.02), ("ETH", 0.05))
        for minute in range(0, 30 * 60, 10)
    ]
    rows.append({**rows[-1], "spread_bps": 9_999.0, "error": "timeout"})
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_interest(path: Path) -> None:
    rng = np.random.default_rng(2)
    log = np.cumsum(rng.normal(0.0, 0.05, 400))
    rows = [
        {
            "ts": START + timedelta(days=day),
            "symbol": "BTCUSDT_PERP.A",
            "close": float(100.0 * np.exp(log[day])),
            "volume": 1_000.0,
            "open_interest": float(300.0 * np.exp(0.1 * log[day])),
        }
        for day in range(400)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return simulate_market(1, 100, 3, HOURLY)


@pytest.fixture(scope="module")
def venue(market: SimulatedMarket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venue")
    panel, context = market.panel, market.panel.exogenous
    assert context is not None
    write_bars(panel, folder / "spot")
    values = panel.values.copy()
    values[:, :, :4] *= np.exp(context[:, :, BASIS])[:, :, None]
    write_bars(BarPanel(HOURLY, panel.symbols, panel.opens, values), folder / "perp")
    write_quotes(market, folder)
    write_liquidity(folder / "liquidity.parquet")
    write_interest(folder / "interest.parquet")
    (folder / "fit.toml").write_text(
        "[market]\nbars = ['spot']\nfunding = 'funding'\n"
        "implied_vol = { BTC = 'implied_vol/BTC.parquet' }\n"
    )
    return folder


def config(venue: Path) -> Config:
    return load_config(venue / "fit.toml")


def files(venue: Path) -> QuoteFiles:
    return QuoteFiles(
        venue / "spot", venue / "perp", venue / "liquidity.parquet", venue / "interest.parquet"
    )


@pytest.fixture(scope="module")
def stored(venue: Path) -> Path:
    out = venue / "out" / "tiny-1.toml"
    fit_market(config(venue), out, files(venue), "assumed", 1)
    return out


def test_stored_parameters_load_with_their_provenance(venue: Path, stored: Path) -> None:
    parameters = MarketParameters.read(stored)
    provenance = parameters.provenance
    assert provenance.source == (
        "spot, funding, implied_vol, spot, perp, liquidity.parquet, interest.parquet".replace(
            "liquidity.parquet, interest.parquet", f"{venue.name}, {venue.name}"
        )
    )
    assert str(venue) not in stored.read_text()
    assert len(provenance.sha256) == 64
    assert provenance.span == "2025-01-01T01:00:00Z to 2025-04-11T00:00:00Z"
    assert provenance.command.startswith(
        "python -m research.simulator_fit --base assumed --steps 1 --spot"
    )
    fitted = {coin.symbol: coin.fitted for coin in parameters.coins}
    assert fitted["BTCUSDT"] == ("bars", "basis", "liquidity", "interest")
    assert fitted["SOLUSDT"] == ("bars", "basis")
    assert fitted["XRPUSDT"] == ()


def test_a_stored_file_is_what_is_simulated_where_it_is_configured(
    venue: Path, stored: Path
) -> None:
    (venue / "own.toml").write_text(
        f"[simulate]\ndays = 30\nsymbols = 2\nparameters = 'out/{stored.name}'\n"
    )
    own = simulated_market(load_config(venue / "own.toml"))
    assert own.parameters == MarketParameters.read(stored)
    (venue / "own.toml").write_text("[simulate]\nparameters = 'nowhere'\n")
    with pytest.raises(ConfigError, match="'nowhere' is not known; choose one of assumed"):
        simulated_market(load_config(venue / "own.toml"))


def test_command_writes_the_file_and_reports_it(venue: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "verb.toml", tmp_path / "report.json"
    arguments = ["--config", str(venue / "fit.toml"), "--out", str(out)]
    arguments += ["--spot", str(venue / "spot"), "--perp", str(venue / "perp"), "--steps", "1"]
    main([*arguments, "--json", str(report)])
    written = json.loads(report.read_text())
    assert written["sha256"] == MarketParameters.read(out).sha256
    assert written["coins_fitted"] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


def test_every_group_is_taken_from_its_file(
    venue: Path, stored: Path, market: SimulatedMarket
) -> None:
    parameters = MarketParameters.read(stored)
    coins = {coin.symbol: coin for coin in parameters.coins}
    btc = coins["BTCUSDT"]
    assert btc.price == pytest.approx(market.panel.values[-1, 0, CLOSE], rel=1e-4)
    assert btc.half_spread == pytest.approx(0.02 / 2e4)
    assert btc.depth == pytest.approx(1e6 * 10.0 / 2.0, rel=0.05)
    assert btc.open_interest_days == pytest.approx(0.3, rel=0.3)
    assert market.panel.exogenous is not None
    assert btc.basis_mean == pytest.approx(market.panel.exogenous[:, 0, BASIS].mean(), rel=1e-4)


def test_the_same_data_give_the_same_file_and_other_data_another_digest(
    venue: Path, stored: Path, tmp_path: Path
) -> None:
    again = tmp_path / stored.name
    fit_market(config(venue), again, files(venue), "assumed", 1)
    assert again.read_bytes() == stored.read_bytes()
    other = tmp_path / "venue"
    shutil.copytree(venue, other, ignore=shutil.ignore_patterns("out"))
    table = pq.read_table(other / "interest.parquet")
    pq.write_table(table.slice(1), other / "interest.parquet")
    fit_market(config(other), again, files(other), "assumed", 1)
    digests = [MarketParameters.read(path).provenance.sha256 for path in (again, stored)]
    assert digests[0] != digests[1]


def test_parameters_of_an_absent_source_stay_as_assumed(venue: Path, tmp_path: Path) -> None:
    (venue / "bars.toml").write_text("[market]\nbars = ['spot']\n")
    out = tmp_path / "bars-only.toml"
    fit_market(load_config(venue / "bars.toml"), out, QuoteFiles(), "assumed", 1)
    found, assumed = MarketParameters.read(out), MarketParameters.load("assumed")
    for table in ("basis", "funding", "liquidity", "implied_volatility", "open_interest"):
        assert getattr(found, table) == getattr(assumed, table)


def test_text_of_a_file_reads_back_to_five_digits(tmp_path: Path) -> None:
    parameters = MarketParameters.load()
    path = tmp_path / f"{parameters.name}.toml"
    path.write_text(to_toml(parameters))
    assert MarketParameters.read(path) == parameters


def test_files_of_a_simulated_venue_read_back(venue: Path, market: SimulatedMarket) -> None:
    context = market.panel.exogenous
    assert context is not None
    pairs = read_pairs(venue / "spot", venue / "perp")
    assert list(pairs) == list(market.panel.symbols)
    basis = np.log(pairs["ETHUSDT"].perpetual / pairs["ETHUSDT"].spot)
    np.testing.assert_allclose(basis, context[:, 1, BASIS], atol=1e-12)
    assert len(read_funding(venue / "funding")["BTCUSDT"]) == 300
    depths = read_depths(venue / "liquidity.parquet")
    assert set(depths) == {(v, c) for v in ("binance", "other") for c in ("BTCUSDT", "ETHUSDT")}
    assert depths["binance", "ETHUSDT"].half_spread.max() == pytest.approx(0.05 / 2e4)


def test_an_index_is_known_an_hour_after_its_stamp(tmp_path: Path) -> None:
    stamp = int(START.timestamp()) * 10**9
    path = tmp_path / "BTC.parquet"
    pq.write_table(pa.table({"ts": pa.array([START]), "dvol_close": [50.0]}), path)
    hour = 3_600 * 10**9
    closes = np.array([stamp, stamp + hour, stamp + 2 * hour])
    np.testing.assert_array_equal(read_index(path, closes), [np.nan, 0.5, np.nan])


@pytest.mark.parametrize(
    ("out", "spot", "message"),
    [
        ("x.json", None, "expected a name of small letters"),
        ("Big Name.toml", None, "expected a name of small letters"),
        ("ok.toml", "spot", "give both or neither"),
    ],
)
def test_impossible_options_are_refused(
    venue: Path, out: str, spot: str | None, message: str
) -> None:
    quotes = QuoteFiles(spot=venue / spot if spot else None)
    with pytest.raises(ConfigError, match=message):
        fit_market(config(venue), venue / out, quotes, "assumed", 1)
    assert not (venue / out).exists()


def test_a_market_is_fitted_to_real_bars_only() -> None:
    with pytest.raises(ConfigError, match="the fit needs real hourly bars"):
        fit_market(Config(), Path("x.toml"), QuoteFiles(), "assumed", 1)


def test_an_index_without_bars_is_refused(venue: Path, tmp_path: Path) -> None:
    (venue / "xrp.toml").write_text(
        "[market]\nbars = ['spot']\nimplied_vol = { XRP = 'implied_vol/BTC.parquet' }\n"
    )
    with pytest.raises(DataError, match="no symbol XRPUSDT"):
        fit_market(load_config(venue / "xrp.toml"), tmp_path / "x.toml", QuoteFiles(), "assumed", 1)


def test_a_file_without_its_columns_is_refused(venue: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read with columns ts, exchange, ticker"):
        read_depths(venue / "interest.parquet")
