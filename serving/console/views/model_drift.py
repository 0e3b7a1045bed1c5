"""Drift of the live book against the rows that a model was trained on, without any outcome."""

from __future__ import annotations

from typing import Any

import numpy as np

from decisions.book_scoring import DecisionBasis, score_book
from market.core.arrays import Floats, Ints
from market.core.identity_cache import IdentityCache
from models.bundle.bundle import Bundle
from models.drift.distances import ks_distance, missing_share, stability_index
from models.drift.reference_file import (
    BINS,
    ReferenceFile,
    bin_numbers,
    read_reference_file,
    score_column,
)
from models.forecaster import Forecaster
from monitoring.evaluation.view import EvaluatedBook
from serving.console.console import Console

SAMPLE = 2_000
"""Accounts whose features are compared, evenly spaced through the book."""

_references = IdentityCache[ReferenceFile | None](4)
_scores = IdentityCache[list[dict[str, Any]]](2)
_features = IdentityCache[dict[str, Any]](2)


def reference_of(bundle: Bundle) -> ReferenceFile | None:
    """The reference of a bundle, read once; raises as `read_reference_file`."""
    return _references.get((bundle,), lambda: read_reference_file(bundle))


def score_drift(book: EvaluatedBook, model: Forecaster) -> list[dict[str, Any]]:
    """The probabilities of the live book against those of the training rows, by horizon.

    They are those of the newest evaluation of each account. Each row has ``hours``, ``accounts``
    with a probability, ``mean`` of the book and of training (``trained``), and the distances of
    `_row`. Empty in a bundle without a reference, and where the newest evaluation is of a model
    with other horizons.
    """

    def computed() -> list[dict[str, Any]]:
        reference = reference_of(model.bundle)
        probability = book.state.levels.probability
        if reference is None or probability.shape[1] != len(model.horizons):
            return []
        counts = reference.column_counts()
        expected = np.array(reference.expected).sum(axis=0)
        rows = []
        for h, hours in enumerate(model.horizons):
            p = probability[:, h].astype(np.float64)
            p = p[~np.isnan(p)]
            at = reference.columns.index(score_column(hours))
            rows.append(
                {"hours": hours, "accounts": len(p)}
                | {"mean": float(p.mean()) if len(p) else None}
                | {"trained": float(expected[h] / counts[at].sum())}
                | _row(reference, counts[at], at, _logit(p))
            )
        return rows

    return _scores.get((book.state.levels, model), computed)


def feature_drift(console: Console, book: EvaluatedBook, model: Forecaster) -> dict[str, Any]:
    """The features of the live book, as decisions now would read them, against training.

    Scores `SAMPLE` accounts at the newest market and records nothing, so it takes about a second:
    for a lane of slow calls.

    Returns
    -------
    dict
        ``accounts`` that were compared, and ``features``: for each its ``name`` and the distances
        of `_row`, the largest first. ``missing_reference`` is true, and the rest empty, in a
        bundle without a reference.

    Raises
    ------
    NoMarketError, NoRulesError, LedgerError, ModelError
        The accounts cannot be scored now.
    BundleError
        The reference is unsound.
    """

    def computed() -> dict[str, Any]:
        reference = reference_of(model.bundle)
        if reference is None or not len(book.state):
            return {"missing_reference": reference is None, "accounts": 0, "features": []}
        basis = console.service.basis_now()
        rows = np.unique(np.linspace(0, len(book.state) - 1, SAMPLE).astype(np.int64))
        scored = score_book(
            book.cut.take(rows), DecisionBasis(basis.snapshot, basis.ruleset, model, {})
        )
        forecast = scored.forecast
        known = np.array([reason is None for reason in forecast.unavailable_reason], dtype=bool)
        features, counts = forecast.features[known], reference.column_counts()
        places = {name: i for i, name in enumerate(model.bundle.schema.features)}
        compared = [
            {"name": name} | _row(reference, counts[at], at, features[:, places[name]])
            for at, name in enumerate(reference.columns)
            if name in places
        ]
        compared.sort(key=lambda row: -(row["ks"] if row["ks"] is not None else -1.0))
        return {"missing_reference": False, "accounts": len(features), "features": compared}

    return _features.get((book, model), computed)


def _row(reference: ReferenceFile, trained: Ints, at: int, values: Floats) -> dict[str, Any]:
    """Kolmogorov-Smirnov distance, stability index and shares of the missing of one column."""
    numbers = bin_numbers(values, reference.edges[at])
    now = np.bincount(numbers, minlength=BINS + 1)
    return {
        "ks": _finite(ks_distance(trained[:-1], now[:-1])),
        "psi": _finite(stability_index(trained[:-1], now[:-1])),
        "missing": _finite(missing_share(now)),
        "missing_trained": _finite(missing_share(trained)),
    }


def _logit(p: Floats) -> Floats:
    # Unlike in training nothing is clipped: what is beyond the outer edges is in the outer bins.
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
