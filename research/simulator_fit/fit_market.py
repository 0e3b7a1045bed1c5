"""Fit the simulated market to real data and store the parameters with where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tomli_w

from market.bars.panel import CLOSE
from market.core.clock import Interval, format_time
from market.core.errors import ConfigError, DataError
from market.core.files import replace_file
from market.simulator.market_parameters import NAME, MarketParameters, Provenance
from pipelines.config.config import Config
from pipelines.data.loaders import read_history
from research.simulator_fit.market_fit import fit_bars, usable_coins
from research.simulator_fit.market_quotes_fit import (
    fit_basis,
    fit_index,
    fit_interest,
    fit_liquidity,
)
from research.simulator_fit.quote_files import (
    read_depths,
    read_funding,
    read_index,
    read_interest,
    read_pairs,
)

VENUE = "binance"
"""Venue whose spread and depth set the level."""

_HOURLY = Interval.parse("1h")
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class QuoteFiles:
    """Optional sources besides the configured bars; without one its parameters stay as assumed.

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
        raise ConfigError('the fit needs real hourly bars: set [market] bars, and interval to "1h"')
    if out.suffix != ".toml" or not NAME.fullmatch(out.stem):
        raise ConfigError(
            f"--out is {out.name!r}; expected a name of small letters, digits, points and hyphens "
            "that ends in .toml"
        )
    if (files.spot is None) != (files.perpetual is None):
        raise ConfigError("--spot and --perp give the two sides of a basis: give both or neither")
    panel = read_history(config).bars
    start, end = config.market.start_ns, config.market.end_ns
    rows = np.searchsorted(panel.closes, [start or panel.closes[0], (end or panel.closes[-1]) + 1])
    panel = usable_coins(panel.rows(int(rows[0]), int(rows[1])))
    unknown = sorted({f"{asset}USDT" for asset in config.market.implied_vol} - set(panel.symbols))
    if unknown:
        raise DataError(
            f"market.implied_vol names the asset of {unknown[0]}, which has no usable bars; "
            "add its bars to [market] bars or leave the index out"
        )
    fitted = fit_bars(panel, MarketParameters.load(base), steps)
    notes = [f"Bars of {', '.join(panel.symbols)}; other coins as in {base}."]
    closes = {symbol: panel.values[:, i, CLOSE] for i, symbol in enumerate(panel.symbols)}
    if files.spot and files.perpetual:
        pairs = read_pairs(files.spot, files.perpetual)
        funding = read_funding(config.market.funding) if config.market.funding else {}
        fitted = fit_basis(fitted, pairs, funding)
        notes.append(f"Basis of {', '.join(pairs)}; funding of {', '.join(funding) or 'none'}.")
    elif config.market.funding:
        notes.append("Funding was not used: without --spot and --perp the basis is as assumed.")
    if config.market.implied_vol:
        index = {
            f"{asset}USDT": read_index(path, panel.closes)
            for asset, path in sorted(config.market.implied_vol.items())
        }
        fitted = fit_index(fitted, index, closes)
        notes.append(f"Implied volatility of {', '.join(index)}.")
    if files.liquidity:
        all_venues = read_depths(files.liquidity)
        simulated = {coin.symbol for coin in fitted.coins}
        depths = {s: d for (venue, s), d in all_venues.items() if venue == VENUE and s in simulated}
        fitted = fit_liquidity(fitted, depths, all_venues)
        notes.append(f"Spread and depth of {', '.join(depths)} on {VENUE}.")
    if files.interest:
        fitted = fit_interest(fitted, read_interest(files.interest))
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
    arguments = (f"{name} {value}" for name, value in options.items() if value is not None)
    return " ".join(("python -m research.simulator_fit", *arguments))


def to_toml(parameters: MarketParameters) -> str:
    """The parameters as a file of ``market/simulator/parameters``, rounded to five digits."""
    return (
        "# Written by python -m research.simulator_fit; where a figure comes from stands in\n"
        "# [provenance] and, for each coin, in `fitted`: what is not named there is assumed.\n\n"
        + tomli_w.dumps(_rounded(msgspec.to_builtins(parameters)))
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value


def _names(config: Config, files: QuoteFiles) -> list[str]:
    """Last names of the folders and files, without the paths of this machine."""
    return [path.name if path.is_dir() else path.parent.name for path in _paths(config, files)]


def _paths(config: Config, files: QuoteFiles) -> list[Path]:
    paths = [entry.path for entry in config.market.bars]
    paths += [config.market.funding, *config.market.implied_vol.values()]  # type: ignore[list-item]
    paths += [files.spot, files.perpetual, files.liquidity, files.interest]  # type: ignore[list-item]
    return [path for path in paths if path is not None]


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
