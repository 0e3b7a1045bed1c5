"""Account-times of recorded decisions, with the labels that have matured since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from ledger.store import Ledger
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from market.core.errors import DataError
from market.sources.http import AccountMessage, account_update
from models.bundle.bundle import Bundle
from pipelines.config.config import Config
from pipelines.data.accounts import dataset_options, label_market
from pipelines.data.loaders import Market
from training.labels.book_intervals import from_book
from training.labels.dataset import Dataset, build_dataset


def recorded_dataset(config: Config, market: Market, ruleset: RuleSet, bundle: Bundle) -> Dataset:
    """The decisions of a bundle as rows of a data set, with their matured labels.

    A decision counts at the newest close known to it, the last one of a bar. Features are
    computed again from the configured bars, by the same kernels; the label is that of the recorded
    positions, held through the horizon.

    Raises
    ------
    DataError
        The ledger has no decision of this bundle after its training, or none has matured.
    LedgerError
        The ledger cannot be read.
    """
    closes = market.history.bars.closes
    since = int(bundle.manifest["training"]["ends_ns"][1])
    accounts: dict[tuple[str, int], Account] = {}
    with Ledger(config.ledger.url) as ledger:
        for record in ledger.records("decision", since_as_of=since):
            decision = record.payload["decision"]
            row = int(np.searchsorted(closes, record.as_of or 0, side="right")) - 1
            if decision["model"] == bundle.sha256 and decision["probability"] and row >= 0:
                message = msgspec.convert(record.payload["account"], AccountMessage)
                account = account_update(message, record.as_of or 0).account
                accounts[account.account_id, row] = account
    if not accounts:
        raise DataError(
            f"the ledger has no decision of bundle {bundle.sha256} after its training; score "
            "with --record or through the endpoint first, or leave --recorded out"
        )
    return dataset_of_books(config, market, ruleset, accounts)


def dataset_of_books(
    config: Config, market: Market, ruleset: RuleSet, accounts: Mapping[tuple[str, int], Account]
) -> Dataset:
    """One row of a data set for each account at a row of the bars, by account id and row.

    Raises
    ------
    DataError
        The labels of none have matured.
    """
    history = market.history
    keys = sorted(accounts)
    ids = tuple(sorted({name for name, _ in keys}))
    number = {name: i for i, name in enumerate(ids)}
    first = np.array([row for _, row in keys], dtype=np.int64)
    intervals = from_book(
        Book.of([accounts[key] for key in keys]),
        np.array([number[name] for name, _ in keys], dtype=np.int64),
        ids,
        first,
        first + 1,
        history.bars.symbols,
        history.mark,
        ruleset,
    )
    return build_dataset(
        label_market(config, market, intervals, ruleset),
        intervals,
        ruleset,
        replace(dataset_options(config, config.market.start_ns), book="static"),
    )
