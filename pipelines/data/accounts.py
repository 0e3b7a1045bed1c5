"""Accounts for training and evaluation: sampled lives or recorded histories, as segments."""

from __future__ import annotations

from margin.rules.ruleset import RuleSet
from market.accounts.account_files import read_accounts
from pipelines.config.config import Config
from pipelines.data.loaders import Market, act_accounts, sample_accounts
from training.labels.book_intervals import BookIntervals, from_history, from_lives
from training.labels.dataset import Dataset, build_dataset


def read_segments(config: Config, market: Market, ruleset: RuleSet) -> BookIntervals:
    """The configured accounts over this market."""
    bars = market.history.bars
    if config.accounts.path is None:
        lives = sample_accounts(config, market)
        acted = act_accounts(config, market, lives)
        if acted is None:
            return from_lives(lives)
        history = acted.history(bars.symbols, bars.closes)
    else:
        history = read_accounts(config.accounts.path)
    return from_history(history, bars.closes, bars.symbols, market.history.mark, ruleset)


def read_dataset(
    config: Config,
    market: Market,
    segments: BookIntervals,
    ruleset: RuleSet,
    *,
    start: int | None = None,
) -> Dataset:
    """Features and labels of the configured accounts within the configured span.

    `start`, nanoseconds, replaces the first decision time of the configuration.
    """
    return build_dataset(
        market.history,
        market.features,
        segments,
        ruleset,
        horizons=config.training.horizons,
        start=config.market.start_ns if start is None else start,
        end=config.market.end_ns,
        extremes=config.training.extremes,
        book=config.training.book,
        max_rows=config.training.max_rows,
        seed=config.accounts.seed,
    )
