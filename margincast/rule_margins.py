"""The requirement by the rules alone, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from decisions.book_scoring import BookValuations, value_book
from decisions.messages import AccountProblem
from margin.engines.registry import explain_margins
from margin.rules.ruleset import RuleSet
from margincast.frames import Frame, Time, time_stamp
from margincast.inputs import Inputs, read_inputs
from margincast.market_data import Market
from market.accounts.book import Book
from market.core.arrays import Floats
from market.core.errors import DataError, InstrumentError

Detail = Literal["account", "component", "position"]

_FIGURES = ("equity", "initial_margin", "maintenance_margin", "headroom")


def requirement(
    positions: Frame,
    collateral: Frame,
    market: Market | Frame | Mapping[str, Frame],
    *,
    ruleset: str | None = None,
    as_of: Time | None = None,
    events: Frame | None = None,
    by: Detail = "account",
) -> pd.DataFrame:
    """Equity and margins of every account under a rule set.

    ``headroom = equity - maintenance_margin``; below 0 the account is in breach. The figures are
    those of `margincast.score` to the last bit.

    Parameters
    ----------
    positions, collateral, market, ruleset, as_of, events:
        As in `margincast.score`.
    by:
        One row an ``account``, a ``component`` of its margins, or a ``position``.

    Returns
    -------
    Amounts in the settlement currency, accounts sorted by account_id, with as_of.

    - by account: equity, initial_margin, maintenance_margin, headroom, gross_notional.
    - by component: component, subject (instrument, expiry or asset; empty where it is the whole
      portfolio's), initial, maintenance. Signed: equity is positive and a margin negative, so the
      column maintenance adds up to the headroom, and initial to equity less initial margin (within
      rounding).
    - by position: instrument, quantity, notional (signed), unrealised_pnl, initial_margin,
      maintenance_margin.

    Raises
    ------
    DataError, RuleSetError
        As in `margincast.score`; or `by` is another word.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> margins = mc.requirement(book.positions, book.collateral, book.bars)
    >>> margins.columns.tolist()[:4]
    ['account_id', 'as_of', 'equity', 'initial_margin']
    """
    if by not in ("account", "component", "position"):
        raise DataError(f"by is {by!r}; choose account, component or position")
    inputs = read_inputs(positions, collateral, market, ruleset, as_of, events)
    book = Book.of(inputs.accounts)
    valuations = value_book(book, inputs.snapshot.view(), inputs.ruleset)
    refuse_unpriced(inputs, valuations)
    if by == "component":
        return _by_component(inputs, valuations)
    if by == "position":
        return _by_position(inputs, book, valuations)
    return pd.DataFrame(
        {
            "account_id": list(book.account_ids),
            "as_of": time_stamp(inputs.snapshot.as_of),
            **{name: valuations.column(name) for name in _FIGURES},
            "gross_notional": valuations.column("gross_notional"),
        }
    )


def refuse_unpriced(inputs: Inputs, valuations: BookValuations) -> None:
    """Raise `DataError` for the first account that the rules cannot value."""
    problems = valuations.last_good.problems
    inputs.refuse(
        [
            AccountProblem(
                inputs.accounts[i].account_id,
                "account",
                str(problems[i]),
                error.instrument if isinstance(error := problems[i], InstrumentError) else None,
            )
            for i in sorted(problems)
        ]
    )


def component_table(
    account_ids: tuple[str, ...], valuations: BookValuations, ruleset: RuleSet
) -> pd.DataFrame:
    """The components of the margins of every account."""
    rows = []
    for i, account_id in enumerate(account_ids):
        alone = valuations.of_account(i).portfolios.between(i, i + 1)
        parts, _ = explain_margins(alone, 0, ruleset, 0)
        rows += [(account_id, p.name, p.subject, p.initial, p.maintenance) for p in parts]
    columns = ["account_id", "component", "subject", "initial", "maintenance"]
    return pd.DataFrame(rows, columns=columns)


def _by_component(inputs: Inputs, valuations: BookValuations) -> pd.DataFrame:
    names = tuple(account.account_id for account in inputs.accounts)
    table = component_table(names, valuations, inputs.ruleset)
    table.insert(1, "as_of", time_stamp(inputs.snapshot.as_of))
    return table


def _by_position(inputs: Inputs, book: Book, valuations: BookValuations) -> pd.DataFrame:
    owner = np.repeat(np.arange(len(book)), np.diff(book.leg_start))

    def column(name: str) -> Floats:
        good: Floats = getattr(valuations.last_good, name)
        if valuations.suspect is None:
            return good
        suspect: Floats = getattr(valuations.suspect, name)
        return np.where(valuations.suspect_drives[owner], suspect, good)

    return pd.DataFrame(
        {
            "account_id": np.array(book.account_ids, dtype=object)[owner],
            "as_of": time_stamp(inputs.snapshot.as_of),
            "instrument": list(book.leg_instrument),
            "quantity": book.leg_quantity,
            "notional": column("leg_notional"),
            "unrealised_pnl": column("leg_unrealised_pnl"),
            "initial_margin": column("leg_initial_margin"),
            "maintenance_margin": column("leg_maintenance_margin"),
        }
    )
