"""The study: recorded accounts scored by a bundle, beside a sampled population."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from market.accounts.account_files import AccountHistory, read_accounts
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
from market.core.instruments import parse_instrument
from models.bundle.bundle import Bundle, load_bundle
from pipelines.config.config import Config
from pipelines.config.sections import AccountsConfig
from pipelines.data.loaders import Market, describe_rules, read_label_rules, read_market
from pipelines.jobs.evaluate import training_end
from research.real_accounts.population import (
    book_figures,
    holding_hours,
    reference_forecasts,
    sampled_dataset,
)
from research.real_accounts.ranking import (
    LEADS,
    before_liquidation,
    discrimination,
    lead_times,
)
from research.real_accounts.scored_rows import ScoredRows, score_accounts

POPULATION = "reference-v1"


def study(config: Config, path: Path, count: int = 300) -> dict[str, Any]:
    """Where the real liquidations of the configured account files stand in a bundle's ranking.

    Parameters
    ----------
    config:
        ``[accounts]`` names the account files and ``[rules]`` the venue's margin.
    path:
        A bundle folder or pointer file, of any bundle with the horizons 1, 8 and 24 h.
    count:
        Sampled accounts alive at a time that the recorded ones are compared with.

    Raises
    ------
    DataError
        The accounts are not files, hold no liquidation, or cannot be priced.
    ModelError
        The bundle does not fit.
    """
    if config.accounts.path is None:
        raise DataError(
            "[accounts] source is not a folder; make one with python -m research.real_accounts "
            "hyperliquid|aave and name it in the configuration"
        )
    history = read_accounts(config.accounts.path)
    bundle = load_bundle(path)
    market = read_market(config)
    ruleset = read_label_rules(config, market)
    rows = score_accounts(config, market, history, ruleset, bundle)
    if not len(rows.liquidations):
        raise DataError(
            f"the account files in {config.accounts.path} have no event of kind liquidation; "
            "there is nothing to look for in the ranking"
        )
    reference = sampled_dataset(
        config, market, AccountsConfig(population=POPULATION, count=count), rows
    )
    why = [
        {lead: why_not_scored(history, market, a, t - lead * HOUR) for lead in LEADS}
        for a, t in rows.liquidations.pairs()
    ]
    return {
        "bundle": bundle.sha256,
        "ruleset": describe_rules(ruleset),
        "span": [format_time(int(t)) for t in (rows.data.time.min(), rows.data.time.max())],
        "hours_within_training": overlap_hours(rows, bundle),
        "coverage": rows.coverage,
        "liquidations": {
            "accounts": len(np.unique(rows.liquidations.account)),
            "count": len(rows.liquidations),
            "isolated": len(rows.isolated),
        },
        "horizons": {str(hours): discrimination(rows, hours) for hours in LEADS},
        "before": before_liquidation(rows, reference_forecasts(bundle, reference), why),
        "lead_time": lead_times(rows),
        "population": {
            "recorded": {**book_figures(rows.data), "holding": holding_hours(history)},
            POPULATION: book_figures(reference),
        },
    }


def why_not_scored(history: AccountHistory, market: Market, account: int, time: int) -> str:
    """Why an account has no scored row at the newest close up to a time: ``flat`` or not followed;
    ``no bars`` at all for something it holds, or no price of it then; else no headroom under the
    rule set, which the warm-up of a symbol counts as too."""
    closes, spans = market.history.bars.closes, history.segments
    row = int(np.searchsorted(closes, time, side="right")) - 1
    if row < 0:
        return "no bars"
    at = int(closes[row])
    found = np.flatnonzero((spans.account == account) & (spans.begin <= at) & (at < spans.end))
    book = history.book_of(found)
    if not len(book.leg_instrument):
        return "flat or not followed"
    symbols = market.history.bars.symbols
    held = [parse_instrument(name).symbol for name in book.leg_instrument]
    if not set(held) <= set(symbols):
        return "no bars"
    columns = [symbols.index(symbol) for symbol in held]
    priced = np.isfinite(market.history.mark[row, columns]).all()
    return "no headroom" if priced else "no price then"


def overlap_hours(rows: ScoredRows, bundle: Bundle) -> float:
    """Hours of the scored span before the end of the bundle's training: 0 is out of sample."""
    begin, end = int(rows.data.time.min()), training_end(bundle.manifest["training"], real=True)
    return max(0.0, (min(end, int(rows.data.time.max())) - begin) / HOUR)
