"""The file ``reference.json`` of a bundle: how the columns of the training rows are distributed."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REFERENCE_FILE = "reference.json"

BINS = 20
"""Bins of a column, of equal count on the reference rows."""

_FORMAT = 1
_SCORE = "score_{hours}h"


class ReferenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file.

    Attributes
    ----------
    format:
        Version of the file.
    days:
        Days of a block.
    columns:
        Monitored features, then `score_column` of each horizon: the logit of its probability.
    horizons:
        In hours.
    edges:
        Inner edges of the bins of each column, rising, at most ``BINS - 1``.
    span:
        First and last decision time in nanoseconds.
    rows:
        Rows of the span, of which a sample is binned.
    blocks:
        Number of each block, rising, length B.
    counts:
        Shape (B, C, BINS + 1); the last count is of the missing.
    expected:
        Sum of the probabilities, shape (B, H).
    outcome_blocks, outcomes:
        Sums of forecasts and outcomes by block, see `training.drift.profile`.
    """

    format: int
    days: int
    columns: list[str]
    horizons: list[int]
    edges: list[list[float]]
    span: tuple[int, int]
    rows: int
    blocks: list[int]
    counts: list[list[list[int]]]
    expected: list[list[float]]
    outcome_blocks: list[int]
    outcomes: list[list[list[float]]]

    def column_counts(self) -> Ints:
        """Counts over all blocks, shape (C, BINS + 1)."""
        counts: Ints = np.array(self.counts, dtype=np.int64).sum(axis=0)
        return counts


def score_column(hours: int) -> str:
    """Name of the column with the logit of a horizon's probability."""
    return _SCORE.format(hours=hours)


def read_reference_file(bundle: Bundle) -> ReferenceFile | None:
    """The file of a bundle; None in bundles from before there was one.

    Raises
    ------
    BundleError
        It is malformed, or its columns and bins do not fit each other or the bundle's schema.
    """
    if REFERENCE_FILE not in bundle.checksums:
        return None
    try:
        file = msgspec.json.decode(bundle.read(REFERENCE_FILE), type=ReferenceFile)
        _check(file, bundle)
    except (msgspec.MsgspecError, ModelError, ValueError, OverflowError) as error:
        raise BundleError(
            f"{REFERENCE_FILE} of bundle {bundle.sha256} is unsound ({error}); retrain the model"
        ) from error
    return file


def bin_numbers(values: npt.ArrayLike, edges: npt.ArrayLike) -> Ints:
    """Bin of each value: i where ``edge[i - 1] < value <= edge[i]``; `BINS` for NaN."""
    given = np.asarray(values, dtype=np.float64)
    inside = np.searchsorted(np.asarray(edges, dtype=np.float64), given, side="left")
    return np.where(np.isnan(given), BINS, inside).astype(np.int64)


def _check(file: ReferenceFile, bundle: Bundle) -> None:
    schema = bundle.schema
    if file.format != _FORMAT or file.days < 1:
        raise ModelError("its format or days are not those of this version")
    if tuple(file.horizons) != schema.horizons:
        raise ModelError(f"its horizons are {file.horizons}, the model's {schema.horizons}")
    scores = [score_column(hours) for hours in schema.horizons]
    features = file.columns[: -len(scores)]
    if file.columns[-len(scores) :] != scores or not set(features) <= set(schema.features):
        raise ModelError("its columns are not those of this model")
    counts = np.array(file.counts, dtype=np.int64)
    edges = [np.array(inner, dtype=np.float64) for inner in file.edges]
    fits = (
        len(edges) == len(file.columns)
        and all(len(inner) < BINS and (np.diff(inner) > 0.0).all() for inner in edges)
        and counts.shape == (len(file.blocks), len(file.columns), BINS + 1)
        and len(file.blocks) > 0
        and (counts >= 0).all()
        and np.shape(file.expected) == (len(file.blocks), len(schema.horizons))
    )
    if not fits:
        raise ModelError("its arrays do not fit each other")
