"""Whether accounts, as they would stand after a trade, meet what new risk must meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decisions.book_scoring import score_book
from decisions.decision import PreviousAddOn, previous_levels
from features.state.snapshot import MarketSnapshot
from margin.rules.ruleset import RuleSet
from market.accounts.book import Account, Book
from models.forecaster import Forecaster

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DecisionBasis:
    """What decisions rest on beside the accounts.

    Attributes
    ----------
    snapshot, ruleset:
        The market as known at the decision time, and the rules.
    model:
        The champion; None: the rule floor stands for its level.
    previous:
        The add-on in force by account id.
    """

    snapshot: MarketSnapshot
    ruleset: RuleSet
    model: Forecaster | None
    previous: Mapping[str, PreviousAddOn]


def opening_fits(accounts: Sequence[Account], basis: DecisionBasis) -> Bools:
    """Whether each account meets its opening requirement and triggers no call, shape (N,).

    ``equity >= max(IM, MM + A*)``, and ``headroom >= A`` for the add-on A that the decision on the
    account would ask for now. False for an account without figures.
    """
    figures = score_book(
        Book.of(accounts),
        basis.snapshot,
        basis.ruleset,
        basis.model,
        lambda initial_margin: previous_levels(
            accounts, initial_margin, basis.previous, basis.snapshot.as_of
        ),
        "",
    )
    column = figures.valuations.column
    with np.errstate(invalid="ignore"):
        fits: Bools = (column("equity") >= figures.opening_requirement) & (
            column("headroom") >= figures.add_on.level
        )
    return fits & np.isfinite(figures.opening_requirement)
