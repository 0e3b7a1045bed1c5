"""A simulated market and book as frames, to try things without data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from margin.rules.history import load_history as load_rule_history
from margincast.market_data import DEFAULT_RULES, Market
from market.accounts.account_files import event_table, snapshot_tables
from market.bars.history import MarketHistory
from market.core.clock import Interval
from market.core.errors import DataError
from market.simulator.account_behaviour import AccountTrajectories, simulate_behaviour
from market.simulator.market_parameters import MarketParameters
from market.simulator.market_writer import bar_tables, quote_tables
from market.simulator.population import Population, sample_population
from market.simulator.simulated_market import simulate_market
from market.sources.base import AccountUpdates
from pipelines.data.loaders import outlier_filter_of, usable, with_features

_PARAMETERS = "binance-2022-2025"
_LEAST_DAYS = 9
"""A week of warm-up, and accounts that have opened since."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated market and its book in the data contract.

    Attributes
    ----------
    bars:
        symbol, ts (open), open, high, low, close, volume.
    positions, collateral:
        The accounts that are open at the newest close, or with ``history=True`` the snapshots of
        all accounts over time; the columns of the data contract with ts.
    events:
        ts, account_id, kind, amount: deposits, withdrawals and closings; empty without history.
    exogenous:
        funding, implied_vol and open_interest by symbol or coin, as `Market` takes them.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> book.market()
    Market(2 spot symbols, interval='1h', exogenous=['funding', 'implied_vol', 'open_interest'])
    """

    bars: pd.DataFrame
    positions: pd.DataFrame
    collateral: pd.DataFrame
    events: pd.DataFrame
    exogenous: dict[str, dict[str, pd.DataFrame]]

    def market(self) -> Market:
        """The bars with the other series as a `Market`."""
        return Market(self.bars, exogenous=self.exogenous)


def simulate(
    *,
    seed: int = 1,
    days: int = 30,
    symbols: int = 4,
    accounts: int = 100,
    population: str = "reference-v1",
    history: bool = False,
) -> Simulation:
    """Simulate hourly bars and a book of accounts that holds perpetuals.

    The same arguments give the same frames to the last bit.

    Parameters
    ----------
    seed:
        Of the market and of the accounts.
    days:
        Length of the market, at least 9: accounts open after a week of warm-up.
    symbols:
        Number of coins.
    accounts:
        Accounts alive at any time.
    population:
        ``reference-v1`` (owners do nothing) or ``behaving-v1`` (they deposit, withdraw, reduce and
        close).
    history:
        Whether to give all snapshots of all accounts over time, to train on.

    Raises
    ------
    DataError
        The market is too short, or a number is not positive.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> book.positions.columns.tolist()
    ['ts', 'account_id', 'instrument', 'quantity', 'entry_price']
    """
    if days < _LEAST_DAYS or symbols < 1 or accounts < 1:
        raise DataError(
            f"simulate was given {days} days, {symbols} symbols and {accounts} accounts; expected "
            f"at least {_LEAST_DAYS} days and one of each"
        )
    simulated = simulate_market(
        seed,
        days,
        symbols,
        Interval.parse("1h"),
        parameters=MarketParameters.load(_PARAMETERS),
    )
    outlier_filter = outlier_filter_of(load_rule_history(DEFAULT_RULES))
    market = with_features(MarketHistory.from_panel(simulated.panel, outlier_filter), real=False)
    rules, bars = Population.load(population), market.history.bars
    sampled = sample_population(
        rules, accounts, seed, bars.closes, market.history.mark, usable(market)
    )
    if rules.behaviour is None:
        trajectories = AccountTrajectories.idle(sampled)
    else:
        trajectories = simulate_behaviour(
            sampled, rules.behaviour, seed, bars.closes, market.history.mark
        )
    snapshots = list(trajectories.snapshots(bars.symbols, bars.closes))
    events = trajectories.events(bars.closes)
    if not history:
        newest = int(bars.closes[-1])
        held = trajectories.history(bars.symbols, bars.closes).book_at(newest)
        snapshots, events = [AccountUpdates(newest, held)], []
    positions, collateral = snapshot_tables(snapshots)
    return Simulation(
        bars=pa.concat_tables(
            [
                table.add_column(0, "symbol", pa.array(np.full(len(table), symbol)))
                for symbol, table in bar_tables(simulated.panel).items()
            ]
        ).to_pandas(),
        positions=positions.to_pandas(),
        collateral=collateral.to_pandas(),
        events=event_table(events).to_pandas(),
        exogenous=_exogenous(quote_tables(simulated)),
    )


def _exogenous(
    tables: Iterable[tuple[str, str, pa.Table]],
) -> dict[str, dict[str, pd.DataFrame]]:
    """Series by kind and symbol or coin; open interest is among the quotes of a symbol."""
    series: dict[str, dict[str, pd.DataFrame]] = {}
    for kind, name, table in tables:
        if kind == "quotes":
            kind, table = "open_interest", table.select(["ts", "open_interest"])
        series.setdefault(kind, {})[name] = table.to_pandas()
    return series
