"""Absorption ratio: the share of all variance that one common factor explains."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import CrossFeature, feature

MAX_STEPS = 200
TOLERANCE = 1e-13
"""The power iteration ends when the eigenvalue moves by less than this share of itself."""
NUDGE = 1e-3
"""Every bar starts this far beside the last eigenvector, or one that no longer leads would stay."""


@feature
def absorption_ratio() -> CrossFeature:
    """Largest eigenvalue of the correlation matrix over the number of symbols.

    Formula: ``lambda_max / N`` of the slow correlations over the N symbols past their warm-up, by
    power iteration from beside the eigenvector of the bar before; a pair without a correlation
    counts as uncorrelated. Unit: fraction, from 1/N to 1, the same for every symbol. At most
    `MAX_STEPS` a bar: where the two largest eigenvalues are nearly the same, as for independent
    returns, it may fall short by some thousandths. NaN for a symbol in warm-up.

    References
    ----------
    Kritzman, Li, Page and Rigobon, Journal of Portfolio Management 37 (2011) 112-126; Golub and
    Van Loan, Matrix Computations, section 8.2 (power iteration).
    """
    return CrossFeature(
        name="absorption_ratio",
        family="correlation",
        unit="fraction",
        formula="lambda_max(rho) / N",
        reference="Kritzman et al. (2011)",
        kernel=kernel,
        inputs=("correlation.slow", "cross_volatility"),
        constants=(MAX_STEPS, TOLERANCE, NUDGE),
        state_width=1,
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def _largest(correlation, vector, image):  # type: ignore[no-untyped-def]
    """Largest eigenvalue; `vector` is the first guess and then the eigenvector, of length 1."""
    symbols = len(vector)
    value = 0.0
    for _ in range(MAX_STEPS):
        image[:] = 0.0
        for j in range(symbols):
            weight = vector[j]
            for i in range(symbols):
                image[i] += correlation[j, i] * weight
        quotient, square = 0.0, 0.0
        for i in range(symbols):
            quotient += image[i] * vector[i]
            square += image[i] * image[i]
        length = np.sqrt(square)
        for i in range(symbols):
            vector[i] = image[i] / length
        done = abs(quotient - value) <= TOLERANCE * quotient
        value = quotient
        if done:
            break
    return value


@njit(cache=True, error_model="numpy")
def kernel(market, state, out):  # type: ignore[no-untyped-def]
    """State: the eigenvector of the bar before, zero for symbols that took no part."""
    symbols = out.shape[1]
    known = np.empty((symbols, symbols))
    vector, image = np.empty(symbols), np.empty(symbols)
    for t in range(out.shape[0]):
        present, square = 0, 0.0
        for i in range(symbols):
            vector[i] = 0.0
            if not np.isnan(market.volatility[t, i]):
                present += 1
                # Unequal, so that no eigenvector can be orthogonal to it by symmetry.
                vector[i] = state[i, 0] + NUDGE * (1.0 + present / symbols)
            square += vector[i] * vector[i]
        for i in range(symbols):
            for j in range(symbols):
                rho = market.slow[t, i, j]
                inside = not (np.isnan(market.volatility[t, i] + market.volatility[t, j] + rho))
                known[i, j] = rho if inside else 0.0
            vector[i] /= np.sqrt(square) if square > 0.0 else 1.0
        value = _largest(known, vector, image) if present else np.nan
        for i in range(symbols):
            took_part = not np.isnan(market.volatility[t, i])
            state[i, 0] = vector[i] if took_part else 0.0
            out[t, i] = value / present if took_part else np.nan
