"""Training rows of accounts in frames: features, labels and decision times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from margin.rules.history import load_history as load_rule_history
from margincast.frames import Frame, table_of
from margincast.inputs import COLLATERAL, EVENTS, POSITIONS
from margincast.market_data import DEFAULT_RULES, Market, as_market
from market.accounts.account_files import read_account_tables
from market.core.errors import DataError
from training.labels.book_intervals import from_history
from training.labels.dataset import DatasetOptions, build_dataset
from training.labels.market_path import LabelMarket


class TrainingRows(NamedTuple):
    """N account-times, sorted by decision time and account.

    Attributes
    ----------
    X:
        One column for each account feature of `docs/features.md`, float64; NaN where a feature is
        missing.
    y:
        1 where the account is called within the horizon, else 0; int8.
    times:
        Decision times, UTC: the ``groups`` of `PurgedTimeSeriesSplit`.
    accounts:
        The account_id of each row.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=14, symbols=2, accounts=20, history=True)
    >>> rows = mc.training_rows(book.positions, book.collateral, book.bars, horizon_hours=8)
    >>> rows.y.name, rows.times.is_monotonic_increasing
    ('call_8h', True)
    """

    X: pd.DataFrame
    y: pd.Series
    times: pd.Series
    accounts: pd.Series


def training_rows(
    positions: Frame,
    collateral: Frame,
    market: Market | Frame | Mapping[str, Frame],
    *,
    horizon_hours: int = 24,
    ruleset: str | None = None,
    events: Frame | None = None,
    max_rows: int = 100_000,
    seed: int = 0,
) -> TrainingRows:
    """Make features and labels from recorded accounts, by the code of ``margincast retrain``.

    An account that is decided on at t with ``headroom ≥ 0`` has label 1 if its headroom is below 0
    at a close in (t, t + horizon], with its positions and collateral held as at t. Account-times
    without enough history, without a price at t, or with a horizon that reaches past the newest
    close are left out.

    Parameters
    ----------
    positions:
        ts, account_id, instrument, quantity[, entry_price]: all rows of one account and ts are its
        full snapshot, which holds until the next one.
    collateral:
        ts, account_id, asset, amount; cash is asset USD.
    market:
        A `Market`, or bars as it takes them, over the same time.
    horizon_hours:
        Horizon of the labels, at least 1.
    ruleset:
        The rules that define the call: name of a preset, a file, or a folder of dated versions
        (that in force at the newest close); None: ``linear-tiers``.
    events:
        ts, account_id, kind, amount: an account with kind ``closed`` is over; None: there are none.
    max_rows:
        About so many account-times at most, chosen uniformly by a seeded hash.
    seed:
        Of that choice.

    Returns
    -------
    X, y, times and accounts with a common index.

    Raises
    ------
    DataError
        A frame breaks the data contract or has no ts, an account holds an option, a number is below
        1, or no account-time has a label.
    RuleSetError
        The rules cannot be read, or none are in force then.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=14, symbols=2, accounts=20, history=True)
    >>> X, y, times, accounts = mc.training_rows(
    ...     book.positions, book.collateral, book.bars, horizon_hours=8, events=book.events
    ... )
    >>> "forecast_distance_8h" in X.columns, sorted(y.unique().tolist())
    (True, [0, 1])
    """
    if horizon_hours < 1 or max_rows < 1:
        raise DataError(
            f"horizon_hours is {horizon_hours} and max_rows {max_rows}; give at least 1 of each"
        )
    rules = str(ruleset or DEFAULT_RULES)
    found = as_market(market).with_features(rules)
    bars = found.history.bars
    in_force = load_rule_history(rules).at(int(bars.closes[-1]))
    held = table_of(positions, "positions", ("ts", *POSITIONS[0]), ("entry_price",))
    kept = table_of(collateral, "collateral", ("ts", *COLLATERAL[0]))
    ended = None if events is None else table_of(events, "events", EVENTS)
    history = read_account_tables(held, kept, ended)
    intervals = from_history(history, bars.closes, bars.symbols, found.history.mark, in_force)
    option = intervals.first_option()
    if option is not None:
        raise DataError(
            f"positions: an account holds the option {option!r}, which frames have no quotes for; "
            "leave the account out, or train with margincast retrain"
        )
    data = build_dataset(
        LabelMarket(found.history, found.features),
        intervals,
        in_force,
        DatasetOptions(horizons=(horizon_hours,), max_rows=max_rows, seed=seed),
    )
    ids = np.array(data.account_ids, dtype=object)
    return TrainingRows(
        X=pd.DataFrame(data.features, columns=list(data.feature_names)),
        y=pd.Series(data.labels[:, 0], name=f"call_{horizon_hours}h"),
        times=pd.Series(pd.to_datetime(data.time, unit="ns", utc=True), name="ts"),
        accounts=pd.Series(ids[data.account], name="account_id"),
    )
