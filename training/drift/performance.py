"""Performance that probabilities promise without labels, beside the one that labels show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from training.drift.profile import BLOCK_DAYS, block_number
from training.evaluation.metrics import clip_probability, log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RESAMPLES = 2_000
METRICS = ("log_loss", "brier", "auc")


def expected_performance(
    outcomes: npt.ArrayLike,
    probability: npt.ArrayLike,
    time: npt.ArrayLike,
    horizons: Sequence[int],
    days: int = BLOCK_DAYS,
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> dict[str, Any]:
    """Log loss, Brier score and AUC expected from probabilities alone, and the realised ones.

    Confidence-based performance estimation: if probabilities p are calibrated, the outcome of a
    row is Bernoulli(p). Then

    - log loss ``E = (1/n) Σ [−p log p − (1 − p) log(1 − p)]``, the mean entropy, in nats;
    - Brier score ``E = (1/n) Σ p(1 − p)``;
    - AUC ``E = Σ_{i≠j} p_i (1 − p_j) [1(p_i > p_j) + ½·1(p_i = p_j)] / Σ_{i≠j} p_i (1 − p_j)``,
      the ratio of the expected numbers of pairs;
    - calls ``E = Σ p``.

    None of these reads a label. They rest on calibration: where it is lost, ``difference``
    (realised less expected) shows by how much they miss.

    Parameters
    ----------
    outcomes, probability:
        Shape (n, H); outcomes 0 or 1, probabilities in [0, 1] without NaN.
    time:
        Decision times in nanoseconds, shape (n,).
    horizons:
        H horizons in hours.
    days:
        Days of a block.
    resamples, seed:
        Of the bootstrap of whole blocks, which keeps rows of one market together.

    Returns
    -------
    dict
        By horizon, for each metric ``expected``, ``realised`` and ``difference`` with 95%
        intervals under ``…_ci95``; AUC is None without both outcomes, an interval also with fewer
        than two blocks. ``expected_calls``, ``observed_calls``, ``rows``, ``blocks``.

    Raises
    ------
    ModelError
        There is no row, or shapes disagree.

    References
    ----------
    Garg et al. (2022), "Leveraging unlabeled data to predict out-of-distribution performance"
    (average confidence, the same estimate for accuracy).
    """
    y, p = np.asarray(outcomes, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    when = np.asarray(time, dtype=np.int64)
    if y.shape != p.shape or y.shape != (len(when), len(horizons)) or not len(when):
        raise ModelError(
            f"expected performance was given outcomes {y.shape}, probabilities {p.shape}, times "
            f"{when.shape} and {len(horizons)} horizons; expected (n, H), (n, H), (n,) and H, n > 0"
        )
    found, code = np.unique(block_number(when, days), return_inverse=True)
    blocks = len(found)
    drawn = np.random.default_rng(seed).integers(0, blocks, (resamples, blocks))
    # How often each block is drawn; the first row is the span itself.
    times = np.ones((resamples + 1, blocks))
    times[1:] = [np.bincount(row, minlength=blocks) for row in drawn]
    report: dict[str, Any] = {}
    for h, hours in enumerate(horizons):
        q = clip_probability(p[:, h])
        sides = {
            "expected": _metrics(q, q, code, times),
            "realised": _metrics(y[:, h], q, code, times),
        }
        report[str(hours)] = {
            name: _with_intervals(sides, name, several=blocks > 1) for name in METRICS
        } | {
            "expected_calls": float(q.sum()),
            "observed_calls": int(y[:, h].sum()),
            "rows": len(when),
            "blocks": blocks,
        }
    return report


def _metrics(y: Floats, p: Floats, code: Ints, times: Floats) -> dict[str, Floats]:
    """Each metric of each resample, where row i has outcome 1 with probability ``y[i]``."""
    per_row = {
        "log_loss": y * log_loss_rows(np.ones_like(p), p)
        + (1.0 - y) * log_loss_rows(np.zeros_like(p), p),
        "brier": y * (1.0 - p) ** 2 + (1.0 - y) * p**2,
    }
    rows = times @ np.bincount(code, minlength=times.shape[1])
    means = {
        name: times @ np.bincount(code, weights=values, minlength=times.shape[1]) / rows
        for name, values in per_row.items()
    }
    return means | {"auc": _auc(y, p, code, times)}


def _auc(y: Floats, p: Floats, code: Ints, times: Floats) -> Floats:
    """Ordered pairs of two rows over all pairs; NaN where a resample lacks one outcome.

    A resample draws blocks, and the count of pairs is bilinear in how often each is drawn.
    """
    blocks = times.shape[1]
    values, place = np.unique(p, return_inverse=True)
    flat, size = place * blocks + code, len(values) * blocks
    positive, negative = (
        np.bincount(flat, weights=weights, minlength=size).reshape(len(values), blocks)
        for weights in (y, 1.0 - y)
    )
    ordered = positive.T @ (np.cumsum(negative, axis=0) - 0.5 * negative)
    own = np.bincount(code, weights=y * (1.0 - y), minlength=blocks)  # a row beside itself
    won = np.einsum("rb,bc,rc->r", times, ordered, times, optimize=True) - 0.5 * times @ own
    pairs = (times @ positive.sum(axis=0)) * (times @ negative.sum(axis=0)) - times @ own
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0.0)


def _with_intervals(
    sides: Mapping[str, Mapping[str, Floats]], name: str, *, several: bool
) -> dict[str, Any]:
    expected, realised = sides["expected"][name], sides["realised"][name]
    figures: dict[str, Any] = {}
    series = {"expected": expected, "realised": realised, "difference": realised - expected}
    for side, (whole, *resampled) in series.items():
        known = np.array(resampled)[np.isfinite(resampled)]
        figures[side] = float(whole) if np.isfinite(whole) else None
        certain = several and np.isfinite(whole) and len(known)
        figures[f"{side}_ci95"] = np.quantile(known, [0.025, 0.975]).tolist() if certain else None
    return figures
