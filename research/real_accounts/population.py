"""How recorded accounts differ from a sampled population: leverage, coins, direction, holding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from features.registry import ACCOUNT_COLUMNS
from margin.rules.ruleset import load_ruleset
from market.accounts.account_files import AccountHistory
from market.core.clock import HOUR
from market.core.errors import DataError
from models.bundle.bundle import Bundle
from pipelines.config.config import Config
from pipelines.config.sections import AccountsConfig
from pipelines.data.accounts import dataset_options, label_market, read_intervals
from pipelines.data.loaders import Market
from research.real_accounts.ranking import mean_interval, quantiles
from research.real_accounts.scored_rows import Floats, ScoredRows
from training.evaluation.evaluate import forecast
from training.labels.dataset import Dataset, build_dataset

RULES = "linear-tiers"
"""Rule set of the gated figures of the sampled population."""


def sampled_dataset(
    config: Config, market: Market, accounts: AccountsConfig, rows: ScoredRows
) -> Dataset:
    """Sampled accounts over the decision times of recorded ones, under `RULES`.

    `accounts` names the population, and how many are alive at a time.
    """
    sampled = config.model_copy(update={"accounts": accounts})
    ruleset = load_ruleset(RULES)
    intervals = read_intervals(sampled, market, ruleset)
    options = replace(
        dataset_options(sampled, int(rows.data.time.min())),
        end=int(rows.data.time.max()),
        book="static",
    )
    return build_dataset(
        label_market(sampled, market, intervals, ruleset), intervals, ruleset, options
    )


def reference_forecasts(bundle: Bundle, data: Dataset) -> dict[int, dict[str, Floats]]:
    """Probabilities of every model for sampled account-times, by horizon."""
    return forecast(bundle, data).by_horizon


def book_figures(data: Dataset) -> dict[str, Any]:
    """Leverage, coins and direction of account-times, and of accounts by their medians.

    Leverage is gross notional over equity, coins the effective number ``1 / Herfindahl``, the long
    share that of the gross notional. `by_account` has the mean over accounts of each account's
    median with a bootstrap interval over accounts, since accounts that are open for long have most
    of the account-times.
    """

    def column(name: str) -> Floats:
        return np.asarray(data.features[:, ACCOUNT_COLUMNS.index(name)])

    equity = column("equity_share")
    if not (equity > 0.0).any():
        raise DataError("no account-time has equity; leverage cannot be compared")
    figures = {
        "leverage": 1.0 / np.maximum(equity, 1e-6),
        "effective_coins": 1.0 / column("herfindahl"),
        "long_share": (1.0 + column("net_share")) / 2.0,
    }
    single = (column("herfindahl") > 1.0 - 1e-9).astype(np.float64)
    result: dict[str, Any] = {
        "accounts": len(np.unique(data.account)),
        "account_times": len(data),
        "one_coin": _by_account(data, single),
        "all_long": _by_account(data, (figures["long_share"] > 1.0 - 1e-9).astype(np.float64)),
        "all_short": _by_account(data, (figures["long_share"] < 1e-9).astype(np.float64)),
    }
    for name, values in figures.items():
        tenths = np.quantile(values, (0.1, 0.25, 0.5, 0.75, 0.9)).tolist()
        result[name] = {
            **dict(zip(("q10", "q25", "median", "q75", "q90"), tenths, strict=True)),
            "by_account": _by_account(data, values, median=True),
        }
    logs = np.log(figures["leverage"])
    result["log_leverage"] = {
        "mean": float(logs.mean()),
        "sigma": float(logs.std()),
        "by_account": _by_account(data, logs, median=True),
        "sigma_by_account": float(np.std(_per_account(data, logs, median=True))),
    }
    return result


def holding_hours(history: AccountHistory) -> dict[str, Any]:
    """How long accounts stay in the market: hours from flat to flat, of all runs that ended."""
    spans = history.segments
    held = np.diff(history.book_of(np.arange(len(spans))).leg_start) > 0
    hours: list[float] = []
    begin: int | None = None
    for i, account in enumerate(spans.account.tolist()):
        follows = i > 0 and spans.account[i - 1] == account
        if not follows:
            begin = None
        if held[i] and begin is None:
            begin = int(spans.begin[i])
        elif not held[i] and begin is not None:
            hours.append((int(spans.begin[i]) - begin) / HOUR)
            begin = None
    values = np.array(hours)
    return {"runs": len(values), "hours": quantiles(values), "mean_ci95": mean_interval(values)}


def _by_account(data: Dataset, values: Floats, *, median: bool = False) -> dict[str, Any]:
    own = _per_account(data, values, median=median)
    return {"mean": float(own.mean()), "ci95": mean_interval(own)}


def _per_account(data: Dataset, values: Floats, *, median: bool) -> Floats:
    """Mean or median of each account, shape (accounts,)."""
    order = np.argsort(data.account, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(data.account[order]) != 0])
    parts = np.split(values[order], starts[1:])
    return np.array([float(np.median(part) if median else part.mean()) for part in parts])
