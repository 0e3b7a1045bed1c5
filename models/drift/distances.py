"""Distances of two distributions, as functions of counts over the same bins.

All take counts with any leading axes, so that thousands of exchanges are one call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def ks_distance(reference: npt.ArrayLike, current: npt.ArrayLike) -> Floats:
    """Kolmogorov-Smirnov distance over bins: the largest gap between the two distributions.

    ``max_k |F_current(edge_k) − F_reference(edge_k)|``: no more than this share of the rows went
    from one side of an edge to the other. At most the distance of the rows themselves.

    Parameters
    ----------
    reference, current:
        Counts without the missing, shape (..., bins).

    Returns
    -------
    array
        In [0, 1], shape (...); NaN where a side has no row.

    References
    ----------
    Massey (1951), "The Kolmogorov-Smirnov test for goodness of fit".
    """
    gap = np.abs(np.cumsum(_shares(current), axis=-1) - np.cumsum(_shares(reference), axis=-1))
    return np.asarray(gap.max(axis=-1), dtype=np.float64)


def stability_index(reference: npt.ArrayLike, current: npt.ArrayLike) -> Floats:
    """Population stability index ``Σ_k (c_k − r_k) · ln(c_k / r_k)`` over shares of the bins.

    Half a row is added to every bin that either side fills, so that an empty one gives a finite
    figure. Shapes and NaN as in `ks_distance`.

    References
    ----------
    Yurdakul and Naranjo (2020), "Statistical properties of the population stability index".
    """
    first, second = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    used = (first > 0.0) | (second > 0.0)
    r, c = _shares(first + 0.5 * used), _shares(second + 0.5 * used)
    ratio = np.divide(c, r, out=np.ones_like(c), where=used)
    index = np.asarray(((c - r) * np.log(ratio)).sum(axis=-1), dtype=np.float64)
    empty = (first.sum(axis=-1) == 0.0) | (second.sum(axis=-1) == 0.0)
    return np.where(empty, np.nan, index)


def missing_share(counts: npt.ArrayLike) -> Floats:
    """Share of the missing: the last of the counts over all of them, shape (...)."""
    c = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(c[..., -1] / c.sum(axis=-1), dtype=np.float64)


def _shares(counts: npt.ArrayLike) -> Floats:
    c = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(c / c.sum(axis=-1, keepdims=True), dtype=np.float64)
