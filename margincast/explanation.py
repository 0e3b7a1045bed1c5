"""Where the margins, the add-on and the model's probability of every account come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from decisions.book_scoring import BookScores, DecisionBasis, score_book
from decisions.explanation import explain_accounts
from margincast.frames import Frame, Time
from margincast.inputs import read_inputs
from margincast.market_data import Market
from margincast.model import Model, forecaster_of
from margincast.rule_margins import refuse_unpriced
from margincast.scoring import WITHOUT_MODEL
from market.accounts.book import Book
from models.forecaster import Forecaster
from models.trees.contributions import BIAS, contribution_names, horizon_contributions

Row = tuple[str, str, str, str, float, str]
_COLUMNS = ["account_id", "figure", "part", "subject", "amount", "unit"]
_MONEY, _LOG_ODDS = "settlement currency", "log odds"


def explain(
    positions: Frame,
    collateral: Frame,
    market: Market | Frame | Mapping[str, Frame],
    *,
    model: Model | None,
    as_of: Time | None = None,
    ruleset: str | None = None,
    events: Frame | None = None,
) -> pd.DataFrame:
    """Parts of the margins, the floors and the probability of every account.

    Parameters
    ----------
    positions, collateral, market, model, as_of, ruleset, events:
        As in `margincast.score`.

    Returns
    -------
    Tidy: account_id, figure, part, subject (instrument, asset or expiry; empty where it is the
    account's), amount, unit. The amounts of one account and figure add up to it within rounding:

    - ``headroom``: equity positive, maintenance margin negative, by component.
    - ``initial_net_margin``: equity less initial margin, by component.
    - ``floor.NAME``: each active rule floor, by term.
    - ``add_on``: one row, whose part is what binds the level.
    - ``log_odds_1``, ``log_odds_8`` and so on: logit of p_1, p_8 after calibration, by feature
      (path contributions of the trees times the slope of the calibration), by distance of the
      prior (part ``prior.NAME``) and ``bias``. Only of accounts that the model answers on.

    Raises
    ------
    DataError, RuleSetError
        As in `margincast.score`.

    Examples
    --------
    >>> import margincast as mc
    >>> book = mc.simulate(days=10, symbols=2, accounts=5)
    >>> parts = mc.explain(book.positions, book.collateral, book.bars, model=None)
    >>> sorted(parts["unit"].unique())
    ['settlement currency']
    """
    forecaster = forecaster_of(model)
    inputs = read_inputs(positions, collateral, market, ruleset, as_of, events)
    basis = DecisionBasis(inputs.snapshot, inputs.ruleset, forecaster, {})
    scores = score_book(Book.of(inputs.accounts), basis, WITHOUT_MODEL)
    refuse_unpriced(inputs, scores.valuations)
    every = np.ones(len(inputs.accounts), dtype=np.bool_)
    explanations = explain_accounts(scores, basis, every)
    rows: list[Row] = []
    chances = _log_odds(scores, forecaster)
    for i, account in enumerate(inputs.accounts):
        rows += _amounts(account.account_id, explanations[i])
        rows += chances.get(i, ())
    return pd.DataFrame(rows, columns=_COLUMNS)


def _amounts(account_id: str, explanation: dict[str, Any]) -> Iterator[Row]:
    for figure, key in (("headroom", "maintenance"), ("initial_net_margin", "initial")):
        for part in explanation["engine"]["parts"]:
            yield account_id, figure, part["name"], part["subject"], part[key], _MONEY
    for floor, terms in explanation["floor_parts"].items():
        for term in terms:
            # What no position or balance is named for is the account's.
            by = term["by"] or ({"subject": "", "amount": term["amount"]},)
            for one in by:
                figure = f"floor.{floor}"
                yield account_id, figure, term["name"], one["subject"], one["amount"], _MONEY
    yield account_id, "add_on", explanation["binding"], "", explanation["add_on"], _MONEY


def _log_odds(scores: BookScores, forecaster: Forecaster | None) -> dict[int, list[Row]]:
    """Rows of each account that the model answers on, by its index."""
    unavailable = scores.forecast.unavailable_reason
    answered = [i for i, reason in enumerate(unavailable) if reason is None]
    if forecaster is None or not answered:
        return {}
    bundle = forecaster.bundle
    names = contribution_names(bundle.schema)
    rows: dict[int, list[Row]] = {i: [] for i in answered}
    features = scores.forecast.features[answered]
    for hours in forecaster.horizons:
        slope, intercept = bundle.calibration[hours]
        parts = slope * horizon_contributions(
            features, bundle.schema, bundle.trees, hours, bundle.priors
        )
        parts[:, names.index(BIAS)] += intercept
        for i, amounts in zip(answered, parts.tolist(), strict=True):
            rows[i] += [
                (scores.book.account_ids[i], f"log_odds_{hours}", name, "", amount, _LOG_ODDS)
                for name, amount in zip(names, amounts, strict=True)
                if amount != 0.0
            ]
    return rows
