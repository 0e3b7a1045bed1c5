"""Score synthetic accounts at the start, so that the first call does not wait for kernels.

It loads the kernels of a decision into the process, and compiles those that the kernel cache lacks
(`market.core.kernel_cache`). Nothing of it is recorded.
"""

from __future__ import annotations

import logging

import numpy as np

from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Position
from monitoring.champion import Champion

_LEVERAGES = (1.0, 5.0, 15.0)
_MOST = 3
_LOG = logging.getLogger("margincast.serving")


def warm_up(champion: Champion, snapshot: MarketSnapshot, ruleset: RuleSet) -> int:
    """Decide on synthetic accounts and forget the decisions.

    Returns
    -------
    How many accounts were decided on: none where no symbol has a mark, or the rules take none of
    the accounts.
    """
    accounts = synthetic_accounts(snapshot)
    if not accounts:
        return 0
    try:
        # A single account too: numba compiles kernels again for the memory layout of one row.
        champion.decide(accounts[:1], snapshot, ruleset, {})
        explained = [account.account_id for account in accounts[:1]]
        outcome = champion.decide(accounts, snapshot, ruleset, {}, explained)
    except Exception:  # noqa: BLE001 - no synthetic account keeps an endpoint from starting
        _LOG.exception("the warm-up score failed; the first request will say why")
        return 0
    return len(outcome.decisions)


def synthetic_accounts(snapshot: MarketSnapshot) -> list[Account]:
    """Accounts of low to high leverage in the first symbols that have a mark: one in each symbol,
    and one that holds them all.

    Each position is worth 1 in the settlement currency; the second is short.
    """
    marked = np.flatnonzero(snapshot.mark > 0.0)[:_MOST]
    symbols = snapshot.features.symbols
    legs = [
        Position(f"{symbols[s]}-PERP", float((-1.0) ** place / snapshot.mark[s]))
        for place, s in enumerate(marked.tolist())
    ]
    books = [(leg,) for leg in legs] + ([tuple(legs)] if len(legs) > 1 else [])
    return [
        Account(f"warm-up-{number}-{leverage:g}", len(book) / leverage, book)
        for leverage in _LEVERAGES
        for number, book in enumerate(books)
    ]
