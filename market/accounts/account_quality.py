"""What stands out in account files that were read: sound in form, but perhaps not in content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from market.accounts.account_files import AccountHistory
from market.core.errors import InstrumentError
from market.core.instruments import parse_instrument


@dataclass(frozen=True, slots=True)
class AccountQuality:
    """Counts over all snapshots of a folder of account files.

    Attributes
    ----------
    accounts:
        Accounts named in any file.
    position_snapshots, collateral_snapshots, events:
        Of each file.
    without_collateral:
        Accounts that the collateral file never names: their equity is their profit and loss.
    malformed:
        Positions whose instrument has no form that is known; their accounts have no figures.
    unpriced:
        Positions whose symbol has no bars; their accounts have no figures.
    unpriced_symbols:
        The symbols of these, sorted.
    unpriced_collateral:
        Balances in assets that are neither cash nor have a price; their accounts have no figures.
    unpriced_assets:
        These assets, sorted.
    negative_collateral:
        Balances under 0, debts among them.
    outside_market:
        Snapshots before the first or after the last close of the market; the first ones count
        from the first close on.
    """

    accounts: int
    position_snapshots: int
    collateral_snapshots: int
    events: int
    without_collateral: int
    malformed: int
    unpriced: int
    unpriced_symbols: tuple[str, ...]
    unpriced_collateral: int
    unpriced_assets: tuple[str, ...]
    negative_collateral: int
    outside_market: int

    def to_dict(self) -> dict[str, object]:
        """Plain form for JSON."""
        return asdict(self)


def check_accounts(
    history: AccountHistory,
    symbols: tuple[str, ...],
    first_close: int,
    last_close: int,
    needs_no_price: Callable[[str], bool],
) -> AccountQuality:
    """Hold account files against the market that should price them.

    Parameters
    ----------
    history:
        The files as read.
    symbols:
        Bar symbols of the market.
    first_close, last_close:
        Its span in nanoseconds.
    needs_no_price:
        Whether the rule set values an asset without bars of its own: cash.
    """
    positions, collateral = history.positions, history.collateral
    malformed = np.zeros(len(positions.names), dtype=np.bool_)
    unpriced = np.zeros(len(positions.names), dtype=np.bool_)
    missing: set[str] = set()
    for i, name in enumerate(positions.names):
        try:
            symbol = parse_instrument(name).symbol
        except InstrumentError:
            malformed[i] = True
            continue
        if symbol not in symbols:
            unpriced[i] = True
            missing.add(symbol)
    worthless = np.array(
        [not needs_no_price(asset) and f"{asset}USDT" not in symbols for asset in collateral.names],
        dtype=np.bool_,
    )
    without_price = worthless[collateral.name] & (collateral.amount != 0.0)
    held = positions.amount != 0.0
    times = np.concatenate([positions.time, collateral.time])
    return AccountQuality(
        accounts=len(history.account_ids),
        position_snapshots=len(positions.time),
        collateral_snapshots=len(collateral.time),
        events=len(history.events),
        without_collateral=len(history.account_ids) - len(np.unique(collateral.account)),
        malformed=int((malformed[positions.name] & held).sum()),
        unpriced=int((unpriced[positions.name] & held).sum()),
        unpriced_symbols=tuple(sorted(missing)),
        unpriced_collateral=int(without_price.sum()),
        unpriced_assets=tuple(
            collateral.names[i] for i in np.unique(collateral.name[without_price]).tolist()
        ),
        negative_collateral=int((collateral.amount < 0.0).sum()),
        outside_market=int(((times < first_close) | (times > last_close)).sum()),
    )
