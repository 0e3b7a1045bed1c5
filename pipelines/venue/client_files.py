"""The clients of the simulated venue over the configured market, as account files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from market.accounts.account_files import read_accounts, write_accounts
from market.accounts.book import Account
from market.bars.panel import CLOSE, VOLUME
from market.core.clock import DAY
from market.simulator.clients.client_book import PastMarket, draw_client_book
from market.simulator.clients.client_kinds import ClientKinds
from pipelines.config.config import Config
from pipelines.data.loaders import Market, usable

CLIENTS = "venue-v1"
"""The book that ``margincast run`` scores; no training sees it."""

_TURNOVER_DAYS = 30


def clients_folder(config: Config) -> Path:
    """Where the account files of the clients are."""
    return config.serving.bundles.parent / "simulated" / "accounts"


def with_clients(config: Config) -> Config:
    """The configuration with the files of the clients as a source of the live book, unless it
    names other ones."""
    if config.monitoring.accounts is not None:
        return config
    monitoring = config.monitoring.model_copy(update={"accounts": clients_folder(config)})
    return config.model_copy(update={"monitoring": monitoring})


def opened_clients(config: Config, time: int) -> list[tuple[Account, int]]:
    """The accounts of the files that are open at a time, and when each one opened."""
    history = read_accounts(clients_folder(config))
    segments = history.segments
    chosen = np.flatnonzero((segments.begin <= time) & (time < segments.end))
    accounts = history.book_of(chosen).accounts()
    return list(zip(accounts, segments.begin[chosen].tolist(), strict=True))


def write_clients(config: Config, market: Market) -> int:
    """Draw as many clients as the population has accounts and write their files.

    Returns
    -------
    int
        How many accounts were written.
    """
    bars = market.history.bars
    recent = bars.values[-_TURNOVER_DAYS * DAY // bars.interval.nanoseconds :]
    traded = np.nan_to_num(recent[:, :, CLOSE] * recent[:, :, VOLUME])
    past = PastMarket(
        symbols=bars.symbols,
        closes=bars.closes,
        mark=market.history.mark,
        eligible=usable(market),
        turnover=traded.sum(axis=0) / (len(traded) * bars.interval.nanoseconds / DAY),
    )
    accounts = config.accounts
    drawn = draw_client_book(ClientKinds.load(CLIENTS), accounts.count, accounts.seed, past)
    write_accounts(clients_folder(config), drawn.snapshots(bars.closes), drawn.events(bars.closes))
    return len(drawn)
