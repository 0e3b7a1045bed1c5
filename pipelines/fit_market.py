"""Fit the simulated market to real data and store the parameters with where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market.bar_files import BarFolder, find_files, read_bars
from market.clock import HOUR, Interval, format_time
from market.errors import ConfigError, DataError
from market.files import replace_file
from market.panel import CLOSE
from market.simulation.parameters import MarketParameters, Provenance
from pipelines.config import Config
from pipelines.inputs import read_history
from training.market_fit import fit_bars, usable_coins
from training.market_quotes_fit import (
    DailyInterest,
    Depths,
    PairBars,
    fit_basis,
    fit_index,
    fit_interest,
    fit_liquidity,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

VENUE = "binance"
"""Venue whose spread and depth set the level."""

_HOURLY = Interval.parse("1h")
_LEAST_SAMPLES = 5  # quotes in an hour that count as a measurement of it
_LEAST_HOURS = 12
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class QuoteFiles:
    """Optional sources beside the configured bars; what is not given stays as assumed.

    Attributes
    ----------
    spot, perpetual:
        Folders of bars of the same coins, for the basis.
    liquidity:
        Parquet file of quotes: ts, exchange, ticker, mid_price, spread_bps, ask_slip_1m,
        bid_slip_1m (basis points), error.
    interest:
        Parquet file of daily figures: ts, symbol (ends in ``_PERP.A`` or is a bar symbol), close,
        volume, open_interest.
    """

    spot: Path | None = None
    perpetual: Path | None = None
    liquidity: Path | None = None
    interest: Path | None = None


def fit_market(
    config: Config, out: Path, files: QuoteFiles, base: str, steps: int
) -> dict[str, Any]:
    """Fit to the configured bars, funding and implied volatility and to `files`; write `out`.

    Raises
    ------
    ConfigError
        No bars are configured, or they are not hourly.
    DataError
        A source lacks a column, or holds too little to measure.
    """
    if not config.market.bars or config.market.interval != _HOURLY.name:
        raise ConfigError(
            'fit-market needs real hourly bars: set [market] bars, and interval to "1h"'
        )
    if (files.spot is None) != (files.perpetual is None):
        raise ConfigError("--spot and --perp give the two sides of a basis: give both or neither")
    panel = read_history(config).bars
    start, end = config.market.start_ns, config.market.end_ns
    rows = np.searchsorted(panel.closes, [start or panel.closes[0], (end or panel.closes[-1]) + 1])
    panel = usable_coins(panel.rows(int(rows[0]), int(rows[1])))
    fitted = fit_bars(panel, MarketParameters.load(base), steps)
    notes = [f"Bars of {', '.join(panel.symbols)}; other coins as in {base}."]
    closes = {symbol: panel.values[:, i, CLOSE] for i, symbol in enumerate(panel.symbols)}
    if files.spot and files.perpetual:
        pairs = _pairs(files.spot, files.perpetual)
        funding = _funding(config.market.funding) if config.market.funding else {}
        fitted = fit_basis(fitted, pairs, funding)
        notes.append(f"Basis of {', '.join(pairs)}; funding of {', '.join(funding) or 'none'}.")
    if config.market.implied_vol:
        index = {
            f"{asset}USDT": _index(path, panel.closes)
            for asset, path in sorted(config.market.implied_vol.items())
        }
        fitted = fit_index(fitted, index, closes)
        notes.append(f"Implied volatility of {', '.join(index)}.")
    if files.liquidity:
        everywhere = _depths(files.liquidity)
        simulated = {coin.symbol for coin in fitted.coins}
        own = {s: d for (venue, s), d in everywhere.items() if venue == VENUE and s in simulated}
        fitted = fit_liquidity(fitted, own, everywhere)
        notes.append(f"Spread and depth of {', '.join(own)} on {VENUE}.")
    if files.interest:
        fitted = fit_interest(fitted, _interest(files.interest))
        notes.append("Open interest from daily totals.")
    provenance = Provenance(
        source=", ".join(_names(config, files)),
        span=f"{format_time(int(panel.closes[0]))} to {format_time(int(panel.closes[-1]))}",
        sha256=_digest(_sources(config, files)),
        command=_command(files, base, steps, out),
        notes=" ".join(notes),
    )
    stored = msgspec.structs.replace(fitted, name=out.stem, provenance=provenance)
    replace_file(out, to_toml(stored).encode())
    return {
        "out": str(out),
        "sha256": MarketParameters.read(out).sha256,
        "coins_fitted": [coin.symbol for coin in stored.coins if "bars" in coin.fitted],
        "span": provenance.span,
        "data_sha256": provenance.sha256,
    }


def _command(files: QuoteFiles, base: str, steps: int, out: Path) -> str:
    """The command as it was, paths by their last names."""
    options = {
        "--base": base,
        "--steps": steps,
        "--spot": files.spot and files.spot.name,
        "--perp": files.perpetual and files.perpetual.name,
        "--liquidity": files.liquidity and files.liquidity.name,
        "--interest": files.interest and files.interest.name,
        "--out": out.name,
    }
    given = (f"{name} {value}" for name, value in options.items() if value is not None)
    return " ".join(("margincast fit-market", *given))


def to_toml(parameters: MarketParameters) -> str:
    """The parameters as a file of ``market/simulated``, rounded to five digits."""
    content = msgspec.to_builtins(parameters)
    coins = content.pop("coins")
    lines = [
        "# Written by margincast fit-market; where a figure comes from stands in [provenance] and,",
        "# for each coin, in `fitted`: what is not named there is assumed.",
        "",
        f"name = {_value(content.pop('name'))}",
    ]
    for name, table in content.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    for coin in coins:
        lines += ["", "[[coins]]", *(f"{key} = {_value(value)}" for key, value in coin.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, float):
        return repr(float(f"{value:.{_DIGITS}g}"))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # A JSON text is a TOML text.
    return msgspec.json.encode(value).decode()


def _names(config: Config, files: QuoteFiles) -> list[str]:
    """Folders and files by their last names: where they lie is this machine's business."""
    return [path.name if path.is_dir() else path.parent.name for path in _paths(config, files)]


def _paths(config: Config, files: QuoteFiles) -> list[Path]:
    given = [entry.path for entry in config.market.bars]
    given += [config.market.funding, *config.market.implied_vol.values()]  # type: ignore[list-item]
    given += [files.spot, files.perpetual, files.liquidity, files.interest]  # type: ignore[list-item]
    return [path for path in given if path is not None]


def _sources(config: Config, files: QuoteFiles) -> Iterable[Path]:
    for path in _paths(config, files):
        yield from sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def _digest(paths: Iterable[Path]) -> str:
    """SHA-256 over folder, name and content of every file read."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.parent.name}/{path.name}\n".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _table(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read with columns {', '.join(columns)}: {error}"
        ) from error


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(
        pc.fill_null(table[name].cast(pa.float64()), float("nan")).to_numpy(), dtype=np.float64
    )


def _times(table: pa.Table) -> Ints:
    return np.asarray(
        table["ts"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_numpy(), dtype=np.int64
    )


def _pairs(spot: Path, perpetual: Path) -> dict[str, PairBars]:
    sides = (find_files(BarFolder(spot, "spot"), ()), find_files(BarFolder(perpetual, "perp"), ()))
    pairs = {}
    for symbol in sorted(sides[0].keys() & sides[1].keys()):
        cash = read_bars(sides[0][symbol], "spot", _HOURLY)
        future = read_bars(sides[1][symbol], "perp", _HOURLY)
        _, left, right = np.intersect1d(cash.opens, future.opens, return_indices=True)
        pairs[symbol] = PairBars(cash.values[left, CLOSE], future.values[right, CLOSE])
    return pairs


def _funding(folder: Path) -> dict[str, Floats]:
    paths = sorted(folder.glob("*.parquet"))
    return {p.stem: _numbers(_table(p, ["ts", "funding_rate"]), "funding_rate") for p in paths}


def _index(path: Path, closes: Ints) -> Floats:
    """The index at each close: an hour's close is known an hour after its stamp."""
    name = "dvol_close" if "dvol_close" in pq.read_schema(path).names else "close"
    table = _table(path, ["ts", name])
    level = dict(zip((_times(table) + HOUR).tolist(), _numbers(table, name).tolist(), strict=True))
    return np.array([level.get(time, np.nan) for time in closes.tolist()]) / 100.0


def _depths(path: Path) -> dict[tuple[str, str], Depths]:
    names = ["mid_price", "spread_bps", "ask_slip_1m", "bid_slip_1m"]
    table = _table(path, ["ts", "exchange", "ticker", "error", *names])
    table = table.filter(pc.is_null(table["error"]))
    mid, spread, ask, bid = (_numbers(table, name) for name in names)
    cost = 0.5 * (ask + bid)
    usable = (mid > 0.0) & (spread > 0.0) & (cost > 0.0)
    hour = _times(table) // HOUR
    exchange = np.array(table["exchange"].to_pylist())
    ticker = np.array(table["ticker"].to_pylist())
    found: dict[tuple[str, str], Depths] = {}
    for venue, coin in sorted(set(zip(exchange.tolist(), ticker.tolist(), strict=True))):
        own = usable & (exchange == venue) & (ticker == coin)
        rows = [own & (hour == h) for h in np.unique(hour[own])]
        measured = [
            (spread[r].mean() / 2e4, cost[r].mean() / 1e4, np.ptp(np.log(mid[r])))
            for r in rows
            if r.sum() >= _LEAST_SAMPLES and np.ptp(mid[r]) > 0.0
        ]
        if len(measured) >= _LEAST_HOURS:
            found[venue, f"{coin}USDT"] = Depths(*np.array(measured).T)
    return found


def _interest(path: Path) -> Mapping[str, DailyInterest]:
    names = ["close", "volume", "open_interest"]
    table = _table(path, ["ts", "symbol", *names])
    symbol = np.array([name.split("_")[0] for name in table["symbol"].to_pylist()])
    order = np.argsort(_times(table), kind="stable")
    close, volume, interest = (_numbers(table, name)[order] for name in names)
    symbol = symbol[order]
    positive = (close > 0.0) & (volume > 0.0) & (interest > 0.0)
    found = {}
    for name in sorted(set(symbol.tolist())):
        own = positive & (symbol == name)
        if own.sum() > 365:
            found[name] = DailyInterest(interest[own], volume[own], close[own])
    return found
