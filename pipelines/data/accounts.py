"""Accounts for training and evaluation, sampled or recorded, as book intervals."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from features.state.snapshot import MarketSnapshot
from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.accounts.account_files import read_accounts
from market.accounts.book import Account
from market.core.clock import HOUR
from market.core.errors import DataError
from monitoring.recovery.recorded_quotes import RecordedQuotes
from pipelines.config.config import Config
from pipelines.data.loaders import Market, sample_accounts, simulate_trajectories
from training.labels.book_intervals import BookIntervals, from_history, from_sampled_accounts
from training.labels.dataset import Dataset, DatasetOptions, Samples, build_dataset
from training.labels.market_path import LabelMarket

DATASET_FILE = "dataset.parquet"
"""The data set of the newest training, in the folder that holds the bundles' own."""


def read_intervals(config: Config, market: Market, ruleset: RuleSet) -> BookIntervals:
    """The configured accounts over this market."""
    bars = market.history.bars
    if config.accounts.path is None:
        sampled = sample_accounts(config, market)
        trajectories = simulate_trajectories(config, market, sampled)
        if trajectories is None:
            return from_sampled_accounts(sampled, bars.symbols)
        history = trajectories.history(bars.symbols, bars.closes)
    else:
        history = read_accounts(config.accounts.path)
    return from_history(history, bars.closes, bars.symbols, market.history.mark, ruleset)


BEHAVING = "behaving-v1"
"""The population whose calls are simulated: its owners top up, withdraw, reduce and close."""


def read_behaving(
    config: Config, market: Market, ruleset: RuleSet, span: tuple[int, int], account_hours: int
) -> BookIntervals | None:
    """Accounts as their owners run them: sampled from `BEHAVING`, enough of them for so many
    account-hours between two times. None where the configured accounts are recorded: they are
    such accounts themselves."""
    if config.accounts.path is not None:
        return None
    hours = max(1.0, (span[1] - span[0]) / HOUR)
    # Many close before their week is over: about half of the hours are lived.
    count = min(max(1, math.ceil(3.0 * account_hours / hours)), config.accounts.count)
    accounts = config.accounts.model_copy(update={"population": BEHAVING, "count": count})
    return read_intervals(config.model_copy(update={"accounts": accounts}), market, ruleset)


def read_dataset(
    config: Config,
    market: Market,
    intervals: BookIntervals,
    ruleset: RuleSet,
    *,
    start: int | None = None,
    samples: Samples = "uniform",
    test_start: int | None = None,
) -> Dataset:
    """Features and labels of the configured accounts within the configured span.

    `start`, nanoseconds, replaces the first decision time of the configuration; `samples` and
    `test_start` as in `training.labels.dataset.DatasetOptions`.
    """
    options = dataset_options(config, start=config.market.start_ns if start is None else start)
    return build_dataset(
        label_market(config, market, intervals, ruleset),
        intervals,
        ruleset,
        replace(options, samples=samples, test_start=test_start),
    )


def decision_span(config: Config, market: Market, intervals: BookIntervals) -> tuple[int, int]:
    """First and last decision time, in nanoseconds, at which an account can have a label."""
    closes = market.history.bars.closes
    first = max(int(closes[intervals.first_row.min()]), config.market.start_ns or 0)
    last = min(
        int(closes[-1]) - config.training.horizons[-1] * HOUR,
        config.market.end_ns or int(closes[-1]),
    )
    return first, last


def sample_book(
    config: Config, market: Market, count: int
) -> tuple[tuple[Account, ...], MarketSnapshot]:
    """The first `count` sampled accounts at the newest opening, and the market then."""
    sampled = sample_accounts(config, market)
    row = int(sampled.opening_row.max())
    bars = market.history.bars
    snapshot = MarketSnapshot.of_history(market.history, market.features, int(bars.closes[row]))
    return sampled.book_at(row, bars.symbols).accounts()[:count], snapshot


def dataset_options(config: Config, start: int | None) -> DatasetOptions:
    """The configured options of a data set that begins at `start`."""
    training = config.training
    return DatasetOptions(
        horizons=training.horizons,
        start=start,
        end=config.market.end_ns,
        event=training.event,
        extremes=training.extremes,
        book=training.book,
        funding=training.funding,
        max_rows=training.max_rows,
        seed=config.accounts.seed,
    )


def label_market(
    config: Config, market: Market, intervals: BookIntervals, ruleset: RuleSet
) -> LabelMarket:
    """The market for labels, with the recorded quotes of the ledger.

    The ledger is read once, and only if an engine or an option needs quotes.

    Raises
    ------
    DataError
        An account holds an option and the ledger holds no quotes.
    """
    bars = market.history.bars

    @cache
    def recorded() -> RecordedQuotes:
        with Ledger(config.ledger.url) as ledger:
            cash = ruleset.collateral.cash_assets
            return RecordedQuotes(ledger, bars.symbols, cash, int(bars.closes[-1]))

    option = intervals.first_option()
    if option is not None and not len(recorded()):
        raise DataError(
            f"an account holds the option {option!r}, and the ledger has no quotes to value it; "
            "post forwards and vols of its expiry to /v1/market/quotes, or leave the account out"
        )
    return LabelMarket(
        market.history,
        market.features,
        lambda: recorded().from_start().board,
        config.market.mark_max_age_ns,
    )
