"""What account owners do after gains and losses, recorded and as `behaving-v1` has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market.bars.history import MarketHistory
from market.core.clock import DAY
from market.core.errors import DataError
from market.simulator.account_behaviour import simulate_behaviour
from market.simulator.population import Population, sample_population
from pipelines.config.config import Config
from pipelines.data.loaders import Market, read_market, usable
from research.real_accounts.aave import BTC_FOLDER
from research.real_accounts.hyperliquid import FOLDER
from research.real_accounts.ranking import interval, quantiles, share
from research.simulator_fit.behaviour_fit import (
    Exposures,
    exposures_of_accounts,
    exposures_of_records,
)
from research.simulator_fit.exchange_files import read_exchange_records

POPULATION = "behaving-v1"
SAMPLED = 60
"""Sampled accounts alive at a time."""

LOSSES: Mapping[str, tuple[float, float]] = {
    "gain over 5%": (-np.inf, -0.05),
    "within 5%": (-0.05, 0.05),
    "loss of 5 to 20%": (0.05, 0.20),
    "loss over 20%": (0.20, np.inf),
}
"""Bands of the loss of equity since the last deposit or withdrawal: above, up to and at."""

FALLS: Mapping[str, tuple[float, float]] = {
    "rise over 3%": (0.03, np.inf),
    "within 3%": (-0.03, 0.03),
    "fall of 3 to 8%": (-0.08, -0.03),
    "fall over 8%": (-np.inf, -0.08),
}
"""Bands of the bitcoin return of the last 24 h: above, up to and at."""

_BITCOIN = "BTCUSDT"
_RESAMPLES = 400
_SEED = 14


def behaviour(config: Config, data: Path) -> dict[str, Any]:
    """Rates of owners' actions by loss, on Hyperliquid and in the population, and of repayments
    and deposits by the fall of bitcoin on Aave.

    Raises
    ------
    DataError
        Records or bars are missing.
    """
    market = read_market(config)
    recorded = exposures_of_records(read_exchange_records(data / FOLDER))
    return {
        "hyperliquid": _rates(recorded),
        POPULATION: _rates(_sampled(config, market)),
        "aave": aave_reactions(data, market.history),
    }


def rates_by_loss(exposures: Exposures) -> dict[str, dict[str, Any]]:
    """Of each kind of action the share of account-hours after which it occurred, by `LOSSES`."""
    loss = exposures.covariates[:, 1] - exposures.covariates[:, 2]
    return {
        kind: {
            name: share(int(occurred[inside].sum()), int(inside.sum()))
            for name, (low, high) in LOSSES.items()
            for inside in [(loss > low) & (loss <= high)]
        }
        for kind, occurred in exposures.events.items()
    }


def aave_reactions(data: Path, history: MarketHistory) -> dict[str, Any]:
    """Deposits and repayments a day of the borrowers in ``user_actions``, by `FALLS`.

    An account counts once a day and kind of action. `ratio` is the rate over that within 3%, with
    an interval that draws whole days. Only borrowers that were liquidated at some time are in the
    table, and not all of their actions.
    """
    path = data / BTC_FOLDER / "user_actions.parquet"
    try:
        table = pq.read_table(path, columns=["ts", "action_type", "account"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}; give the recorded data") from error
    bars = history.bars
    if _BITCOIN not in bars.symbols:
        raise DataError(f"the configured bars have no {_BITCOIN}; add its folder to [market] bars")
    mark = history.mark[:, bars.symbols.index(_BITCOIN)]
    lag = DAY // bars.interval.nanoseconds
    change = np.full(len(mark), np.nan)
    change[lag:] = mark[lag:] / mark[:-lag] - 1.0

    time = table["ts"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64()).to_numpy()
    kind = np.asarray(table["action_type"].to_pylist())
    account = np.asarray(table["account"].to_pylist())
    row = np.searchsorted(bars.closes, time, side="right") - 1
    span = np.arange(row.min(), row.max() + 1)
    day = bars.closes[span] // DAY
    days = np.unique(day)
    bands = {
        name: (change[span] > low) & (change[span] <= high) for name, (low, high) in FALLS.items()
    }
    hours = {
        name: np.bincount(np.searchsorted(days, day[inside]), minlength=len(days))
        for name, inside in bands.items()
    }
    rng = np.random.default_rng(_SEED)
    drawn = rng.multinomial(len(days), np.full(len(days), 1.0 / len(days)), size=_RESAMPLES)
    result: dict[str, Any] = {"accounts": len(np.unique(account)), "days": len(days)}
    for action in np.unique(kind).tolist():
        own = np.flatnonzero(kind == action)
        _, first = np.unique(
            np.stack([np.unique(account[own], return_inverse=True)[1], time[own] // DAY]),
            axis=1,
            return_index=True,
        )
        rows = row[own[first]] - span[0]
        counts = {
            name: np.bincount(np.searchsorted(days, day[rows[inside[rows]]]), minlength=len(days))
            for name, inside in bands.items()
        }
        usual = drawn @ counts["within 3%"] / np.maximum(drawn @ hours["within 3%"], 1)
        base = counts["within 3%"].sum() / max(hours["within 3%"].sum(), 1)
        result[action] = {
            name: {
                "actions": int(counts[name].sum()),
                "hours": int(hours[name].sum()),
                "a_day": float(24.0 * counts[name].sum() / max(hours[name].sum(), 1)),
                "ratio": float(counts[name].sum() / max(hours[name].sum(), 1) / base),
                "ratio_ci95": interval(
                    (drawn @ counts[name]) / np.maximum(drawn @ hours[name], 1) / usual
                ),
            }
            for name in FALLS
        }
    return result


def _rates(exposures: Exposures) -> dict[str, Any]:
    return {
        "account_hours": len(exposures.covariates),
        "leverage": quantiles(exposures.leverage),
        "rates": rates_by_loss(exposures),
    }


def _sampled(config: Config, market: Market) -> Exposures:
    """Accounts of the population over the configured span."""
    closes = market.history.bars.closes
    first = 0 if config.market.start_ns is None else np.searchsorted(closes, config.market.start_ns)
    last = (
        len(closes)
        if config.market.end_ns is None
        else np.searchsorted(closes, config.market.end_ns, side="right")
    )
    rows = slice(int(first), int(last))
    mark, seed = market.history.mark[rows], config.accounts.seed
    population = Population.load(POPULATION)
    accounts = sample_population(
        population, SAMPLED, seed, closes[rows], mark, usable(market)[rows]
    )
    if population.behaviour is None:
        raise DataError(f"population {POPULATION} has no behaviour to compare with")
    return exposures_of_accounts(
        simulate_behaviour(accounts, population.behaviour, seed, closes[rows], mark), mark
    )
