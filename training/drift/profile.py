"""Sums of a span of rows by block of days: the input of the drift monitors.

Rows of one day share one market, and calm or stormy weeks hang together, so the unit of chance is
the block, not the row. Every statistic of `training.drift` is a function of sums over blocks;
these sums can be kept instead of the rows, and exchanging blocks between two spans costs no more
than a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.core.clock import DAY
from market.core.errors import ModelError
from models.drift.reference_file import BINS, bin_numbers
from training.evaluation.metrics import clip_probability, log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_DAYS = 7
"""Length of a block. A week holds the 24 hours of every label and the pattern of the weekdays."""

SUMS = ("rows", "observed", "predicted", "loss", "expected_loss", "score", "i0", "i1", "i2")
"""What is summed over the rows of a block, for each horizon; see `outcome_sums`."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """Counts of B blocks over the bins of C columns.

    Attributes
    ----------
    block:
        Number of each block: days since 1970 UTC over the days of a block, rising, shape (B,).
    counts:
        Shape (B, C, `BINS` + 1), int64; the last count is of the missing (NaN).
    """

    block: Ints
    counts: Ints

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.counts[:, 0].sum()) if self.counts.shape[1] else 0


@dataclass(frozen=True, slots=True)
class OutcomeSums:
    """Sums of B blocks for H horizons.

    Attributes
    ----------
    block:
        As in `Histograms`.
    sums:
        Shape (B, H, 9), in the order of `SUMS`.
    """

    block: Ints
    sums: Floats


def block_number(time: npt.ArrayLike, days: int = BLOCK_DAYS) -> Ints:
    """Number of the block that each time in nanoseconds lies in, same shape."""
    return np.asarray(time, dtype=np.int64) // np.int64(days * DAY)


def quantile_edges(column: npt.ArrayLike, bins: int = BINS) -> Floats:
    """Inner edges of equal-count bins, rising, at most ``bins − 1``; NaN are left out.

    A column of few values has fewer edges; one without a value has none.
    """
    values = np.asarray(column, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.empty(0)
    edges = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    # An edge at the largest value would leave the bin above it empty for ever.
    return np.asarray(np.unique(edges[edges < values.max()]), dtype=np.float64)


def histograms(
    columns: Sequence[npt.ArrayLike],
    edges: Sequence[npt.ArrayLike],
    time: npt.ArrayLike,
    days: int = BLOCK_DAYS,
) -> Histograms:
    """Counts by block of ``edge[i − 1] < value ≤ edge[i]``; NaN counts as missing.

    Parameters
    ----------
    columns:
        C arrays of shape (n,).
    edges:
        Inner edges of each, rising, at most ``BINS − 1``.
    time:
        In nanoseconds, shape (n,), n > 0.
    days:
        Days of a block.

    Raises
    ------
    ModelError
        There is no row, shapes disagree, or a column has too many edges.
    """
    when = np.asarray(time, dtype=np.int64)
    if len(when) == 0:
        raise ModelError("there is no row to compare; give a span that holds account-times")
    block, code = np.unique(block_number(when, days), return_inverse=True)
    counts = np.zeros((len(block), len(columns), BINS + 1), dtype=np.int64)
    for c, (column, inner) in enumerate(zip(columns, edges, strict=True)):
        values, inside = np.asarray(column, dtype=np.float64), np.asarray(inner, dtype=np.float64)
        if values.shape != when.shape or len(inside) >= BINS:
            raise ModelError(
                f"column {c} has shape {values.shape} and {len(inside)} edges; expected "
                f"{when.shape} and at most {BINS - 1}"
            )
        place = bin_numbers(values, inside)
        flat = np.bincount(code * (BINS + 1) + place, minlength=len(block) * (BINS + 1))
        counts[:, c] = flat.reshape(len(block), BINS + 1)
    return Histograms(block, counts)


def outcome_sums(
    outcomes: npt.ArrayLike, probability: npt.ArrayLike, time: npt.ArrayLike, days: int = BLOCK_DAYS
) -> OutcomeSums:
    """Forecasts and what came of them, summed by block.

    With p clipped as for the log loss, l its logit and w = p(1 − p), the sums for each horizon
    are: 1, y, p, the log loss, its expectation −p log p − (1 − p) log(1 − p), the score
    (y − p)·l, and w, w·l, w·l².

    Parameters
    ----------
    outcomes, probability:
        Shape (n, H); outcomes 0 or 1, probabilities in [0, 1] without NaN.
    time, days:
        As in `histograms`.

    Raises
    ------
    ModelError
        There is no row, shapes disagree, or a value is impossible.
    """
    y = np.asarray(outcomes, dtype=np.float64)
    p = np.asarray(probability, dtype=np.float64)
    when = np.asarray(time, dtype=np.int64)
    if y.ndim != 2 or y.shape != p.shape or when.shape != y.shape[:1] or len(when) == 0:
        raise ModelError(
            f"monitors were given outcomes {y.shape}, probabilities {p.shape} and times "
            f"{when.shape}; expected (n, H), (n, H) and (n,) with n > 0"
        )
    block, code = np.unique(block_number(when, days), return_inverse=True)
    sums = np.zeros((len(block), y.shape[1], len(SUMS)))
    for h in range(y.shape[1]):
        loss = log_loss_rows(y[:, h], p[:, h])
        q = clip_probability(p[:, h])
        log, log_not = np.log(q), np.log1p(-q)
        logit, weight = log - log_not, q * (1.0 - q)
        parts: Mapping[str, Floats] = {
            "rows": np.ones(len(q)),
            "observed": y[:, h],
            "predicted": q,
            "loss": loss,
            "expected_loss": -q * log - (1.0 - q) * log_not,
            "score": (y[:, h] - q) * logit,
            "i0": weight,
            "i1": weight * logit,
            "i2": weight * logit**2,
        }
        for s, name in enumerate(SUMS):
            sums[:, h, s] = np.bincount(code, weights=parts[name], minlength=len(block))
    return OutcomeSums(block, sums)
