"""The drift reference of a model: a summary of the rows it was trained on.

The reference travels in the bundle as ``reference.json``: sums over blocks of days, no rows and no
accounts, so that a bundle alone defines "as in training" years later. Features and scores
are those of the fit and calibration rows; outcomes those of the calibration rows only, since the
trees were fitted to the outcomes of the fit rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle
from models.bundle.schema import ModelSchema, canonical_json
from models.drift.reference_file import (
    REFERENCE_FILE,
    ReferenceFile,
    read_reference_file,
    score_column,
)
from models.onnx.scorer import Scorer
from training.drift.profile import (
    BLOCK_DAYS,
    SUMS,
    Histograms,
    OutcomeSums,
    block_number,
    histograms,
    outcome_sums,
    quantile_edges,
)
from training.evaluation.evaluate import model_columns
from training.evaluation.metrics import clip_probability
from training.fitting.column_sets import BOOK_COLUMNS
from training.labels.account_panel import hashed_order
from training.labels.book_intervals import account_keys
from training.labels.dataset import Dataset
from training.labels.splits import Block

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

MAX_ROWS = 200_000
"""Rows of a span that are binned, chosen by a seeded hash; outcomes count on all rows."""

_FORMAT = 1
_SEED = 1


@dataclass(frozen=True, slots=True)
class Profile:
    """One span of rows: features, scores and outcomes.

    Attributes
    ----------
    span:
        First and last decision time in nanoseconds.
    rows:
        Rows in the span; at most `MAX_ROWS` of them are binned.
    histograms:
        Of the model's columns and then of the logit of each horizon's probability.
    expected:
        Sum of the probabilities of the binned rows by block and horizon, shape (B, H).
    outcomes:
        None where no row has matured.
    """

    span: tuple[int, int]
    rows: int
    histograms: Histograms
    expected: Floats
    outcomes: OutcomeSums | None


@dataclass(frozen=True, slots=True)
class Reference:
    """The profile of the training rows with the bins that it was taken in.

    Attributes
    ----------
    days:
        Days of a block.
    columns:
        Features of the model, then ``score_<h>h``.
    horizons:
        In hours.
    edges:
        Inner edges of the bins of each column.
    profile:
        Fit and calibration rows; outcomes of the calibration rows.
    """

    days: int
    columns: tuple[str, ...]
    horizons: tuple[int, ...]
    edges: tuple[Floats, ...]
    profile: Profile

    def to_bytes(self) -> bytes:
        """``reference.json`` in canonical form."""
        profile, outcomes = self.profile, self.profile.outcomes
        return canonical_json(
            {
                "format": _FORMAT,
                "days": self.days,
                "columns": list(self.columns),
                "horizons": list(self.horizons),
                "edges": [edges.tolist() for edges in self.edges],
                "span": list(profile.span),
                "rows": profile.rows,
                "blocks": profile.histograms.block.tolist(),
                "counts": profile.histograms.counts.tolist(),
                "expected": profile.expected.tolist(),
                "outcome_blocks": [] if outcomes is None else outcomes.block.tolist(),
                "outcomes": [] if outcomes is None else outcomes.sums.tolist(),
            }
        )


def make_reference(
    scorer: Scorer, schema: ModelSchema, data: Dataset, block: npt.NDArray[np.int8]
) -> Reference:
    """The reference of a model from the rows it was trained on.

    Parameters
    ----------
    scorer, schema:
        The model.
    data, block:
        The data set and the block of each row in the split. The rows of the uniform draw count:
        later account-times are compared with them, which are drawn uniformly too.
    """
    fit, calibration = (data.uniform & (block == each) for each in (Block.FIT, Block.CALIBRATE))
    training, calibrate = np.flatnonzero(fit | calibration), np.flatnonzero(calibration)
    chosen = _sample_rows(data, training)
    X = _model_rows(schema, data, chosen)
    outcomes = outcome_sums(
        data.labels[calibrate],
        scorer.probability(_model_rows(schema, data, calibrate)),
        data.time[calibrate],
    )
    reference = reference_of_rows(schema, X, scorer.probability(X), data.time[chosen], outcomes)
    profile = replace(reference.profile, **_span_and_rows(data.time[training]))
    return replace(reference, profile=profile)


def reference_of_rows(
    schema: ModelSchema, X: Floats, probability: Floats, time: Ints, outcomes: OutcomeSums | None
) -> Reference:
    """Make the reference of some rows, with bins of equal count on them.

    Parameters
    ----------
    schema:
        Names the columns of X and the horizons.
    X, probability, time:
        Features (n, F), probabilities (n, H), decision times in nanoseconds (n,).
    outcomes:
        Outcomes of rows that the trees were not fitted to.
    """
    X = X[:, _monitored(schema)]
    edges = tuple(quantile_edges(column) for column in _columns(X, probability))
    profile = profile_of_rows(edges, BLOCK_DAYS, X, probability, time, outcomes)
    return Reference(BLOCK_DAYS, _names(schema), schema.horizons, edges, profile)


def profile_of_rows(
    edges: Sequence[Floats],
    days: int,
    X: Floats,
    probability: Floats,
    time: Ints,
    outcomes: OutcomeSums | None,
) -> Profile:
    """Summarise rows in these bins and blocks; see `reference_of_rows`.

    Raises
    ------
    ModelError
        There is no row, or the bins are not those of these columns.
    """
    if len(edges) != X.shape[1] + probability.shape[1]:
        raise ModelError(
            f"{X.shape[1]} features and {probability.shape[1]} horizons were given for the bins of "
            f"{len(edges)} columns; compare rows of one model"
        )
    counts = histograms(_columns(X, probability), edges, time, days)
    span = (int(time.min()), int(time.max()))
    return Profile(span, len(time), counts, _expected(probability, time, days), outcomes)


def read_reference(bundle: Bundle) -> Reference | None:
    """The reference of a bundle; None in bundles from before there was one.

    Raises
    ------
    BundleError
        It is malformed, or does not fit the bundle's schema.
    """
    file = read_reference_file(bundle)
    if file is None:
        return None
    try:
        return _from_file(file, bundle.schema)
    except (ModelError, ValueError) as error:
        raise BundleError(
            f"{REFERENCE_FILE} of bundle {bundle.sha256} is unsound ({error}); retrain the model"
        ) from error


def current_profile(bundle: Bundle, reference: Reference, data: Dataset) -> Profile:
    """The profile of other rows, in the bins and blocks of the bundle's reference.

    Raises
    ------
    ModelError
        The data lack a horizon of the bundle, or there is no row.
    """
    if data.horizons != reference.horizons:
        raise ModelError(
            f"data have labels of {data.horizons} h, the bundle forecasts {reference.horizons} h; "
            "set [training] horizons accordingly"
        )
    if not len(data):
        raise ModelError("there is no account-time to compare with training; give a later span")
    scorer, schema = bundle.scorer, bundle.schema
    everything = np.arange(len(data))
    chosen = _sample_rows(data, everything)
    X = _model_rows(schema, data, chosen)
    monitored = X[:, _monitored(schema)]
    p_all = scorer.probability(_model_rows(schema, data, everything))
    outcomes = outcome_sums(data.labels, p_all, data.time, reference.days)
    profile = profile_of_rows(
        reference.edges,
        reference.days,
        monitored,
        scorer.probability(X),
        data.time[chosen],
        outcomes,
    )
    return replace(profile, **_span_and_rows(data.time))


def _span_and_rows(time: Ints) -> dict[str, Any]:
    """Span and number of all rows, of which only a sample is binned."""
    return {"span": (int(time.min()), int(time.max())), "rows": len(time)}


def _monitored(schema: ModelSchema) -> list[int]:
    """Positions of the columns that are monitored.

    The parts of the volatility forecast are not: the distances under the forecast are, and each
    further monitor costs all of them power.
    """
    return [i for i, name in enumerate(schema.features) if name not in BOOK_COLUMNS]


def _names(schema: ModelSchema) -> tuple[str, ...]:
    monitored = (schema.features[i] for i in _monitored(schema))
    return (*monitored, *map(score_column, schema.horizons))


def _model_rows(schema: ModelSchema, data: Dataset, rows: Rows) -> Floats:
    chosen: Floats = data.features[np.ix_(rows, model_columns(schema, data))]
    return chosen


def _columns(X: Floats, probability: Floats) -> list[Floats]:
    """Features, then the logit of each horizon's probability."""
    p = clip_probability(probability)
    return [*X.T, *(np.log(p) - np.log1p(-p)).T]


def _expected(probability: Floats, time: Ints, days: int) -> Floats:
    block, code = np.unique(block_number(time, days), return_inverse=True)
    return np.stack([np.bincount(code, weights=p, minlength=len(block)) for p in probability.T], 1)


def _sample_rows(data: Dataset, rows: Rows) -> Rows:
    """At most `MAX_ROWS` of some rows by a hash of account and time, in rising order."""
    if len(rows) <= MAX_ROWS:
        return rows
    keys = account_keys(data.account_ids)[data.account[rows]]
    mixed = keys ^ (data.time[rows].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return rows[np.sort(hashed_order(mixed, _SEED)[:MAX_ROWS])]


def _from_file(file: ReferenceFile, schema: ModelSchema) -> Reference:
    names = _names(schema)
    if tuple(file.columns) != names:
        raise ModelError("its columns are not those of this model")
    sums: Any = np.array(file.outcomes, dtype=np.float64)
    expected = np.array(file.expected, dtype=np.float64)
    shapes = (
        expected.shape == (len(file.blocks), len(schema.horizons))
        and sums.shape == (len(file.outcome_blocks), len(schema.horizons), len(SUMS))
        and len(file.outcome_blocks) > 0
    )
    if not shapes:
        raise ModelError("its arrays do not fit each other")
    return Reference(
        file.days,
        names,
        schema.horizons,
        tuple(np.array(inner, dtype=np.float64) for inner in file.edges),
        Profile(
            file.span,
            file.rows,
            Histograms(
                np.array(file.blocks, dtype=np.int64), np.array(file.counts, dtype=np.int64)
            ),
            expected,
            OutcomeSums(np.array(file.outcome_blocks, dtype=np.int64), sums),
        ),
    )
