"""A volatility surface: one SVI slice an expiry, free of static arbitrage, and what lies between.

- Between two expiries total variance is linear in time at the same forward moneyness: no calendar
  arbitrage can come in, butterflies are checked at the expiries only.
- Before the first, total variance shrinks in proportion to time: the smile of the first expiry in
  vol. Free of both arbitrages, for g is concave in a factor on w and at least 0 at factors 0 and 1.
- After the last, total variance grows everywhere by what it grows at the money at the last vol:
  the vol at the money stays, the smile flattens.

Reference: Gatheral and Jacquier (2014), section 5.3 (interpolation).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.surface.arbitrage import butterfly_margin, calendar_margin
from margin.surface.svi import check_raw, variance
from market.core.arrays import Floats
from market.core.errors import DataError

DELTA = 0.25


@dataclass(frozen=True, slots=True)
class SmileFigures:
    """Level, skew and curvature of a smile, annual vols.

    Attributes
    ----------
    atm:
        At the forward.
    skew:
        Vol of the 25-delta call less that of the 25-delta put (risk reversal).
    curvature:
        Mean of the two less `atm` (butterfly).
    """

    atm: float
    skew: float
    curvature: float


@dataclass(frozen=True, slots=True)
class VolSurface:
    """E expiries of one underlying at one moment; made by `of`.

    Attributes
    ----------
    tau:
        Years to each expiry, rising, shape (E,).
    forward:
        Price for delivery at each expiry, shape (E,).
    raw:
        (a, b, rho, m, sigma) of each, shape (E, 5).
    """

    tau: Floats
    forward: Floats
    raw: Floats

    @classmethod
    def of(cls, tau: npt.ArrayLike, forward: npt.ArrayLike, raw: npt.ArrayLike) -> VolSurface:
        """A surface, once it is free of arbitrage.

        Raises
        ------
        DataError
            Taus are not rising, a forward is not above 0, a slice is outside the domain of SVI,
            or there is a butterfly or a calendar; the error names the slice. Repair with
            `margin.surface.repair` first.
        """
        taus, forwards = np.array(tau, dtype=np.float64), np.array(forward, dtype=np.float64)
        slices = np.array(raw, dtype=np.float64)
        if taus.ndim != 1 or not len(taus) or slices.shape != (len(taus), 5):
            raise DataError(
                f"tau has shape {taus.shape} and raw {slices.shape}; expected (E,) and (E, 5) "
                "for at least one expiry"
            )
        if forwards.shape != taus.shape or not (np.isfinite(forwards) & (forwards > 0.0)).all():
            raise DataError(f"forward is {forwards.tolist()}; expected a price above 0 an expiry")
        rising = np.isfinite(taus).all() and taus[0] > 0.0 and (np.diff(taus) > 0.0).all()
        if not rising:
            raise DataError(f"tau is {taus.tolist()}; expected rising years above 0")
        for years, parameters in zip(taus, slices, strict=True):
            where = f"the slice of {years:.6g} years"
            margin = butterfly_margin(check_raw(parameters, where))
            if margin < 0.0:
                raise DataError(
                    f"{where} has butterfly arbitrage: g is as low as {margin:.3g}; repair it"
                )
        for i, (earlier, later) in enumerate(pairwise(slices), start=1):
            margin = calendar_margin(earlier, later)
            if margin < 0.0:
                raise DataError(
                    f"the slice of {taus[i]:.6g} years has calendar arbitrage: its total variance "
                    f"lies {-margin:.3g} under that of {taus[i - 1]:.6g} years; repair it"
                )
        return cls(taus, forwards, slices)

    def total_variance(self, k: npt.ArrayLike, tau: npt.ArrayLike) -> Floats:
        """Total variance at ``k = ln(K / forward)`` and at tau years, in the shape that both
        broadcast to; NaN where either is NaN or tau is below 0, 0 at 0."""
        money, years = np.broadcast_arrays(
            np.asarray(k, dtype=np.float64), np.asarray(tau, dtype=np.float64)
        )
        out = np.empty(money.size)
        _interpolate(
            self.tau,
            self.raw,
            np.ascontiguousarray(money).ravel(),
            np.ascontiguousarray(years).ravel(),
            out,
        )
        return out.reshape(money.shape)

    def vol(self, k: npt.ArrayLike, tau: npt.ArrayLike) -> Floats:
        """Annual vol, as `total_variance`; NaN also at tau 0."""
        years = np.asarray(tau, dtype=np.float64)
        return np.sqrt(self.total_variance(k, years) / np.where(years > 0.0, years, np.nan))

    def at_delta(self, delta: float, tau: float, call: bool) -> float:
        """Log-moneyness of the option whose delta has this size: ``N(d1)`` of a call, ``N(-d1)``
        of a put, by the forward, undiscounted, not adjusted for a premium paid in coin.

        Found by halving; d1 falls with k where there is no arbitrage.

        Raises
        ------
        DataError
            `delta` is not between 0 and 1, or no time is left.
        """
        if not (0.0 < delta < 1.0 and 0.0 < tau < np.inf):
            raise DataError(
                f"delta is {delta} and tau {tau}; expected a delta between 0 and 1 and years above "
                "0"
            )
        target = NormalDist().inv_cdf(delta)
        return float(_moneyness(self.tau, self.raw, tau, target if call else -target))

    def smile(self, tau: float) -> SmileFigures:
        """Figures of the smile at tau years: of an expiry, or at constant maturity."""
        call, put = self.at_delta(DELTA, tau, True), self.at_delta(DELTA, tau, False)
        low, high, atm = self.vol(np.array([put, call, 0.0]), tau)
        return SmileFigures(float(atm), float(high - low), float(0.5 * (high + low) - atm))


@njit(cache=True, error_model="numpy")
def _interpolate(tau, raw, k, years, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = _variance(tau, raw, k[i], years[i])


@njit(cache=True, error_model="numpy")
def _variance(tau, raw, k, years):  # type: ignore[no-untyped-def]
    last = len(tau) - 1
    if not years >= 0.0:
        return np.nan
    if years <= tau[0]:
        return variance(raw[0], k) * (years / tau[0])
    if years >= tau[last]:
        return variance(raw[last], k) + variance(raw[last], 0.0) * (years / tau[last] - 1.0)
    j = 1
    while j < last and tau[j] < years:
        j += 1
    share = (years - tau[j - 1]) / (tau[j] - tau[j - 1])
    return (1.0 - share) * variance(raw[j - 1], k) + share * variance(raw[j], k)


@njit(cache=True, error_model="numpy")
def _d1(tau, raw, k, years):  # type: ignore[no-untyped-def]
    root = np.sqrt(_variance(tau, raw, k, years))
    return 0.5 * root - k / root


@njit(cache=True, error_model="numpy")
def _moneyness(tau, raw, years, target):  # type: ignore[no-untyped-def]
    """Where d1 is the target."""
    reach = np.sqrt(_variance(tau, raw, 0.0, years))
    low, high = -reach, reach
    for _ in range(60):
        if _d1(tau, raw, low, years) >= target:
            break
        low *= 2.0
    for _ in range(60):
        if _d1(tau, raw, high, years) <= target:
            break
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        if _d1(tau, raw, middle, years) >= target:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
