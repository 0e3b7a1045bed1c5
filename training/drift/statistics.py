"""Effect sizes of drift, as functions of sums: for the two spans, and for any exchange of blocks.

All take sums with any leading axes, so that thousands of exchanges are one call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.drift.profile import SUMS

Floats = npt.NDArray[np.float64]

_AT = {name: i for i, name in enumerate(SUMS)}


def log_mean(sums: npt.ArrayLike) -> Floats:
    """Log of a mean, ``ln(Σp / n)``, from sums (n, Σp) in the last axis, shape (..., 2)."""
    s = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(s[..., 1] / s[..., 0]), dtype=np.float64)


def log_observed_over_predicted(sums: npt.ArrayLike) -> Floats:
    """Calibration in the large, ``ln((Σy + ½) / (Σp + ½))``; the halves keep no calls finite.

    References
    ----------
    Van Calster et al. (2019), "Calibration: the Achilles heel of predictive analytics".
    """
    s = np.asarray(sums, dtype=np.float64)
    return np.asarray(np.log((s[..., _AT["observed"]] + 0.5) / (s[..., _AT["predicted"]] + 0.5)))


def log_loss_over_expected(sums: npt.ArrayLike) -> Floats:
    """``ln(Σ loss / Σ expected loss)``: 0 if outcomes are as uncertain as the forecast says.

    Unlike the log loss itself it does not rise with the base rate alone.

    References
    ----------
    Spiegelhalter (1986), "Probabilistic prediction in patient management and clinical trials"
    (the same comparison for the Brier score).
    """
    s = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(s[..., _AT["loss"]] / s[..., _AT["expected_loss"]]))


def one_step_slope(sums: npt.ArrayLike) -> Floats:
    """Calibration slope after one Newton step from (intercept 0, slope 1).

    ``1 + (I⁻¹ U)_slope`` with the score U = (Σ(y − p), Σ(y − p)·l) and the information
    I = Σ w·[1, l; l, l²]. It needs sums only, and near calibration equals the slope of the joint
    logistic regression to second order; it is a monitor's figure and not the gate's. NaN where I
    is singular.

    References
    ----------
    Cox (1958), "Two further applications of a model for binary regression"; van der Vaart (1998),
    Asymptotic Statistics, 5.7 (one-step estimators).
    """
    s = np.asarray(sums, dtype=np.float64)
    u0 = s[..., _AT["observed"]] - s[..., _AT["predicted"]]
    i0, i1, i2 = (s[..., _AT[name]] for name in ("i0", "i1", "i2"))
    determinant = i0 * i2 - i1**2
    with np.errstate(divide="ignore", invalid="ignore"):
        step = (i0 * s[..., _AT["score"]] - i1 * u0) / determinant
    return np.where(determinant > 1e-12 * np.maximum(i0 * i2, 1e-300), 1.0 + step, np.nan)
