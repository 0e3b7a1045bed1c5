"""Decisions on accounts: requirement, probabilities and add-on."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from decisions.decision import Outcome, decide
from decisions.decision_table import decision_table
from margincast.frames import Frame, Time
from margincast.inputs import read_inputs
from margincast.market_data import Market
from margincast.model import Model, forecaster_of

_BATCH = 5_000
"""Accounts decided on at once."""

WITHOUT_MODEL = "no model: none was given"
_HORIZONS = (1, 8, 24)
"""Columns of probabilities, all missing, of decisions without a model."""


def score(
    positions: Frame,
    collateral: Frame,
    market: Market | Frame | Mapping[str, Frame],
    *,
    model: Model | None,
    as_of: Time | None = None,
    ruleset: str | None = None,
    events: Frame | None = None,
    explain: bool = False,
) -> pd.DataFrame:
    """Decide on every account: what it must hold, how likely a call is, and the add-on.

    The same decisions to the last bit as ``margincast score`` with an empty ledger: no add-on is
    in force before, so none is paced. Nothing is recorded.

    Parameters
    ----------
    positions:
        account_id, instrument (``BTCUSDT`` spot, ``BTCUSDT-PERP``), quantity (signed, units of the
        underlying)[, entry_price][, ts]. With ts the latest ts ≤ `as_of` of an account is its full
        snapshot; without it the rows are the book as it stands.
    collateral:
        account_id, asset, amount (units of the asset)[, ts]; cash is asset USD, and USDT where the
        rules say so.
    market:
        A `Market`, or bars as it takes them; a `Market` is computed once for many calls.
    model:
        What `load_bundle` or `load_champion` returns; None: the rule floor is the add-on and every
        decision says that it is degraded.
    as_of:
        The decision time, UTC; None: the newest close of the market.
    ruleset:
        Name of a preset, a file, or a folder of dated versions; None: ``linear-tiers``.
    events:
        ts, account_id, kind, amount: an account with kind ``closed`` is over and left out from
        then on; None: there are none.
    explain:
        Whether to fill the column explain (JSON); `margincast.explain` gives it as a frame.

    Returns
    -------
    One row an account, sorted by account_id: equity, initial_margin, maintenance_margin, headroom,
    add_on, total_requirement, opening_requirement, deposit_to_meet, floor, model_add_on, cap
    (settlement currency), the probabilities of a call within 1, 8 and 24 hours p_1, p_8, p_24 (NaN
    where the model does not answer; degraded says why), binding, degraded, reasons and marks
    (JSON), model and ruleset (SHA-256).

    Raises
    ------
    DataError
        A frame breaks the data contract or an account cannot be priced; the message names frame,
        column and row.
    RuleSetError
        The rules cannot be read, or none are in force then.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> decisions = mc.score(book.positions, book.collateral, book.bars, model=None)
    >>> bool((decisions["add_on"] >= decisions["floor"]).all())
    True
    """
    forecaster = forecaster_of(model)
    inputs = read_inputs(positions, collateral, market, ruleset, as_of, events)
    horizons = forecaster.horizons if forecaster else _HORIZONS
    tables = []
    for start in range(0, len(inputs.accounts), _BATCH):
        batch = inputs.accounts[start : start + _BATCH]
        explained = [account.account_id for account in batch] if explain else ()
        results = decide(
            batch,
            inputs.snapshot,
            inputs.ruleset,
            forecaster,
            {},
            no_model=WITHOUT_MODEL,
            explain=explained,
        )
        outcome = Outcome.of(results, forecaster)
        inputs.refuse(outcome.problems)
        tables.append(decision_table(outcome.decisions, horizons))
    decisions: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return decisions
