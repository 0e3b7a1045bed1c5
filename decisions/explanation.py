"""Explanations of decisions: the parts of margins, floors and level, for chosen accounts of a book.

An explanation costs more than its decision, so it is made where one was requested; a recorded
decision is explained by its replay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from decisions.book_scoring import BookScores, DecisionBasis
from margin.add_on.explain import explain, explain_engine
from margin.add_on.reduction import reduction_fractions
from margin.floors.registry import floor_terms
from market.core.arrays import Bools, Floats


def explain_accounts(
    scores: BookScores, basis: DecisionBasis, explained: Bools
) -> dict[int, dict[str, Any]]:
    """Explain the scores of some accounts, see `margin.add_on.explain.Explanation`.

    Parameters
    ----------
    scores:
        Of the book.
    basis:
        What they rest on.
    explained:
        The accounts to explain, none of them with a problem, shape (N,).

    Returns
    -------
    By index of the account, in plain form.
    """
    chosen = np.flatnonzero(explained).tolist()
    if not chosen:
        return {}
    ruleset, valuations = basis.ruleset, scores.valuations
    terms = floor_terms(valuations.last_good, basis.snapshot.view(), ruleset.floors)
    fractions = _reduction_fractions(scores, basis, explained)
    explanations: dict[int, dict[str, Any]] = {}
    for i in chosen:
        requirement = valuations.of_account(i)
        explanations[i] = explain(
            i,
            scores.book,
            requirement,
            scores.floors,
            terms,
            scores.forecast.level,
            scores.add_on,
            explain_engine(i, requirement, ruleset, float(fractions[i])),
        ).to_dict()
    return explanations


def _reduction_fractions(scores: BookScores, basis: DecisionBasis, explained: Bools) -> Floats:
    """Share of every position whose closing leaves nothing missing, (N,); NaN where it is not
    explained."""
    valuations = scores.valuations
    level = np.where(explained, scores.add_on.level, np.nan)
    fractions = reduction_fractions(valuations.last_good, basis.ruleset, level)
    if valuations.suspect is None:
        return fractions
    suspect = reduction_fractions(valuations.suspect, basis.ruleset, level)
    return np.where(valuations.suspect_drives, suspect, fractions)
