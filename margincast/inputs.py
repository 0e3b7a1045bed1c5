"""Inputs of a call: accounts of the frames, the market at the decision time and the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from decisions.messages import AccountProblem
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from margincast.frames import Frame, Time, known_until, table_of, times_or
from margincast.market_data import DEFAULT_RULES, Market, as_market
from market.accounts.account_files import read_account_tables
from market.accounts.book import Account
from market.core.errors import DataError

POSITIONS = (("account_id", "instrument", "quantity"), ("entry_price", "ts"))
COLLATERAL = (("account_id", "asset", "amount"), ("ts",))
EVENTS = ("ts", "account_id", "kind", "amount")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a call decides on.

    Attributes
    ----------
    accounts:
        As they stand at the decision time, sorted by id.
    snapshot, ruleset:
        The market as known then, and the rules in force.
    positions, collateral:
        The frames as tables, for messages.
    """

    accounts: tuple[Account, ...]
    snapshot: MarketSnapshot
    ruleset: RuleSet
    positions: pa.Table
    collateral: pa.Table

    def refuse(self, problems: Sequence[AccountProblem]) -> None:
        """Raise `DataError` for the first account that cannot be decided on, with its row."""
        if not problems:
            return
        first = problems[0]
        where = self._place(first.account_id, first.instrument)
        others = f" ({len(problems) - 1} more accounts are refused)" if problems[1:] else ""
        raise DataError(f"{where}: {first.detail}{others}")

    def _place(self, account_id: str, instrument: str | None) -> str:
        """Frame, column and row of an instrument or asset, or of an account's first row."""
        tables = (
            ("positions", self.positions, "instrument"),
            ("collateral", self.collateral, "asset"),
        )
        for name, table, column in tables:
            chosen = pc.equal(table["account_id"], account_id)
            if instrument is not None:
                chosen = pc.and_(chosen, pc.equal(table[column], instrument))
            row = pc.index(chosen, True).as_py()
            if row >= 0:
                return f"{name}: {column if instrument else 'account_id'} at row {row}"
        return f"account {account_id!r}"


def read_inputs(
    positions: Frame,
    collateral: Frame,
    market: Market | Frame | Mapping[str, Frame],
    ruleset: str | None,
    as_of: Time | None,
    events: Frame | None = None,
) -> Inputs:
    """Read the frames of a call.

    Parameters
    ----------
    positions:
        account_id, instrument, quantity[, entry_price][, ts].
    collateral:
        account_id, asset, amount[, ts]; cash is asset USD.
    market:
        A `Market`, or the bars that make one.
    ruleset:
        Name of a preset, a file, or a folder of dated versions; None: ``linear-tiers``.
    as_of:
        The decision time; None: the newest close of the market.
    events:
        ts, account_id, kind, amount: kind ``closed`` ends an account; None: there are none.

    Raises
    ------
    DataError
        A frame breaks the data contract; the message names frame, column and row.
    RuleSetError
        The rules cannot be read, or none are in force then.
    """
    snapshot, rules = as_market(market).snapshot(as_of, str(ruleset or DEFAULT_RULES))
    held = times_or(table_of(positions, "positions", *POSITIONS), snapshot.as_of)
    kept = times_or(table_of(collateral, "collateral", *COLLATERAL), snapshot.as_of)
    ended = None if events is None else table_of(events, "events", EVENTS)
    book = read_account_tables(held, kept, ended).book_at(snapshot.as_of)
    if not len(book):
        raise known_until("positions and collateral", snapshot.as_of)
    return Inputs(book.accounts(), snapshot, rules, held, kept)
