"""Write a simulated market and a sampled book in the data contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from market.accounts.account_files import write_accounts
from market.core.clock import format_time
from market.simulator.account_behaviour import AccountTrajectories
from market.simulator.market_writer import write_bars, write_quotes
from pipelines.config.config import Config
from pipelines.data.loaders import (
    Market,
    read_market,
    sample_accounts,
    simulate_trajectories,
    simulated_market,
)


def simulate(config: Config, out: Path) -> dict[str, Any]:
    """Write bars to ``bars/``, other market data to ``funding/``, ``implied_vol/`` and
    ``quotes/``, and the sampled accounts, from opening to closing, to ``accounts/``.

    If real bars are configured, accounts are sampled over them and no market is written.
    """
    market = read_market(config)
    history = market.history
    sampled = sample_accounts(config, market)
    trajectories = simulate_trajectories(config, market, sampled) or AccountTrajectories.idle(
        sampled
    )
    closes, symbols = history.bars.closes, history.bars.symbols
    write_market(config, market, out)
    snapshots, events = trajectories.snapshots(symbols, closes), trajectories.events(closes)
    write_accounts(out / "accounts", snapshots, events)
    accounts = {"accounts": len(sampled), "actions": len(trajectories.account)}
    return {"out": str(out), **describe_market(market), **accounts}


def write_market(config: Config, market: Market, out: Path) -> None:
    """Write the files of a simulated market; nothing where its bars come from files."""
    if not market.real:
        simulated = simulated_market(config)
        write_bars(simulated.panel, out / "bars")
        write_quotes(simulated, out)


def describe_market(market: Market) -> dict[str, Any]:
    """Symbols, number of simulated bars, and first and last close of a market, for reports."""
    bars = market.history.bars
    return {
        "symbols": list(bars.symbols),
        "bars": 0 if market.real else len(bars) * len(bars.symbols),
        "span": [format_time(int(bars.closes[0])), format_time(int(bars.closes[-1]))],
    }
