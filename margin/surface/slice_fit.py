"""One expiry's SVI slice, fitted to vols with the weight that their bid-ask width gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from margin.surface.least_squares import SliceProblem, refine, scaled_raw
from margin.surface.slice_start import starts
from margin.surface.svi import MAX_WING, total_variance
from market.core.arrays import Floats
from market.core.errors import DataError

MIN_POINTS = 5
"""A slice has five parameters."""

NARROWEST_WIDTH = 1e-3
"""A point counts as quoted at least so wide, in vol: one tenth of a point."""

WIDEST_SHARE = 20.0
"""A point counts as quoted at most so many median widths wide, so that it keeps some weight."""

UNQUOTED_WIDTH = 0.02
"""Width, in vol, of all points of a slice of which no width is known."""

BUTTERFLY_TARGET = 1e-3
CALENDAR_TARGET = 1e-4
"""Where arbitrage is penalised, g and the share between total variances aim so far above 0."""

_WING_SHARE = 0.999
_FLATTEST = 1e-8
_LOWEST = 1e-4
_HIGHEST = 100.0
_NARROWEST, _WIDEST = 1e-2, 50.0
_BANDS = 5
_STEPS = 80
_FIRST_STEPS = 20
_KEPT = 2
_PENALTIES = (30.0, 1_000.0, 1e5)
_NONE = np.array([0.0, -1.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True)
class SlicePoints:
    """What one expiry is fitted to, P points sorted by moneyness.

    Attributes
    ----------
    tau:
        Years to expiry.
    k:
        ``ln(K / F)``, shape (P,).
    vol:
        Annual vol, shape (P,).
    width:
        From the vol of the bid to that of the ask, shape (P,); NaN where not both are known.
    """

    tau: float
    k: Floats
    vol: Floats
    width: Floats

    @classmethod
    def of(cls, tau: float, k: Floats, vol: Floats, width: Floats | None = None) -> SlicePoints:
        """Points in any order; without a width they count alike.

        Raises
        ------
        DataError
            There are under `MIN_POINTS` strikes, no time is left, or a number is impossible.
        """
        k, vol = np.asarray(k, dtype=np.float64), np.asarray(vol, dtype=np.float64)
        width = np.full(k.shape, np.nan) if width is None else np.asarray(width, dtype=np.float64)
        if k.ndim != 1 or not k.shape == vol.shape == width.shape:
            raise DataError(
                f"the points have shapes {k.shape}, {vol.shape}, {width.shape}; expected one "
                "length for k, vol and width"
            )
        if not 0.0 < tau < math.inf:
            raise DataError(f"tau is {tau}; expected years above 0")
        if not (np.isfinite(k).all() and np.isfinite(vol).all() and (vol > 0.0).all()):
            raise DataError("a point has no finite k or no vol above 0; leave such points out")
        if (width < 0.0).any():
            raise DataError("a point has its bid above its ask; leave crossed quotes out")
        strikes = len(np.unique(k))
        if strikes < MIN_POINTS:
            raise DataError(
                f"{strikes} strikes have a vol; a slice needs {MIN_POINTS} at least, quote more "
                "strikes or leave the expiry out"
            )
        order = np.lexsort((width, vol, k))
        return cls(float(tau), k[order], vol[order], width[order])

    @property
    def deviation(self) -> Floats:
        """What a miss of each point is measured in, shape (P,): half its width.

        A width counts as `NARROWEST_WIDTH` at least and `WIDEST_SHARE` medians at most; where
        none is known the widest of the slice stands in.
        """
        known = np.isfinite(self.width)
        if not known.any():
            return np.full(self.k.shape, 0.5 * UNQUOTED_WIDTH)
        width = np.maximum(self.width, NARROWEST_WIDTH)
        widest = WIDEST_SHARE * float(np.median(width[known]))
        width = np.minimum(width, widest)
        return np.asarray(0.5 * np.where(known, width, width[known].max()))


@dataclass(frozen=True, slots=True)
class SliceFit:
    """A slice and how well it meets its points.

    Attributes
    ----------
    tau:
        Years to expiry.
    raw:
        (a, b, rho, m, sigma), shape (5,).
    rmse:
        Root of the mean squared miss in vol.
    error:
        The same in half widths: ``sqrt(mean((vol(k) - vol)^2 / deviation^2))``, what is minimised.
    """

    tau: float
    raw: Floats
    rmse: float
    error: float


def measure_fit(points: SlicePoints, raw: Floats) -> SliceFit:
    """A slice with its misses on the points."""
    vol = np.sqrt(np.maximum(total_variance(raw, points.k), 0.0) / points.tau)
    miss = vol - points.vol
    return SliceFit(
        points.tau,
        raw,
        float(np.sqrt(np.mean(miss**2))),
        float(np.sqrt(np.mean((miss / points.deviation) ** 2))),
    )


def fit_slice(points: SlicePoints) -> SliceFit:
    """The slice of least error, whatever arbitrage it may have.

    It lies in the domain of `margin.surface.svi.check_raw`, with wings of at most 0.999 of the
    steepest, a lowest variance of at least a ten-thousandth of the variance at the money, and
    its middle within the quotes or as far outside as they reach. Five starts, each the best of a
    band of widths, are refined and the best is kept. The order of the points changes no bit.
    """
    problem = _Problem(points)
    fits = [problem.refine(p) for p in problem.starts()]
    return measure_fit(points, problem.raw(min(fits, key=_cost)[0]))


def fit_slice_within(
    points: SlicePoints,
    start: Floats,
    earlier: Floats | None = None,
    later: Floats | None = None,
    least_wings: Floats | None = None,
    most_wings: Floats | None = None,
) -> SliceFit:
    """The slice of least error with arbitrage penalised, more and more.

    Penalised are a g under `BUTTERFLY_TARGET`, and total variances less than `CALENDAR_TARGET`
    above those of the slice `earlier`, or less than that under those of `later`; the wings are
    bounded by theirs, and by `least_wings` and `most_wings` (left, right) where given. The starts
    are `start` and those of `fit_slice` with such wings; after the mildest penalty the best two go
    on. What is left of the arbitrage is small; to end it is the business of
    `margin.surface.repair`.
    """
    problem = _Problem(points, earlier, later, least_wings, most_wings)
    first = (problem.parameters(start), *problem.starts())
    fits = [problem.refine(p, _PENALTIES[0], _FIRST_STEPS) for p in first]
    fits = sorted(fits, key=_cost)[:_KEPT]
    for weight in _PENALTIES[1:]:
        fits = [problem.refine(p, weight) for p, _ in fits]
    return measure_fit(points, problem.raw(min(fits, key=_cost)[0]))


def _cost(fits: tuple[Floats, float]) -> float:
    return fits[1]


class _Problem:
    """One slice in the units of `margin.surface.least_squares`."""

    def __init__(
        self,
        points: SlicePoints,
        earlier: Floats | None = None,
        later: Floats | None = None,
        least_wings: Floats | None = None,
        most_wings: Floats | None = None,
    ) -> None:
        self.points = points
        self.unit = float(np.interp(0.0, points.k, points.vol))
        self.w0 = self.unit**2 * points.tau
        scale = math.sqrt(self.w0)
        self.x = points.k / scale
        self.deviation = points.deviation
        self._units = np.array([self.w0, scale, 1.0, scale, scale])
        steepest = _WING_SHARE * MAX_WING / scale
        first, last = float(self.x[0]), float(self.x[-1])
        reach = max(last - first, 1e-3)
        self.low = np.array([_LOWEST, _FLATTEST, _FLATTEST, first - reach, math.log(_NARROWEST)])
        self.high = np.array([_HIGHEST, steepest, steepest, last + reach, math.log(_WIDEST)])
        self.earlier = self.later = _NONE
        self.bounded = earlier is not None or later is not None
        # Room for the distance that is aimed at, out to the wings.
        room = 1.0 + 2.0 * CALENDAR_TARGET
        if least_wings is not None:
            self.low[1:3] = np.clip(least_wings / scale, _FLATTEST, steepest)
        if earlier is not None:
            self.earlier = earlier / self._units
            least = np.clip(self._wings(self.earlier) * room, _FLATTEST, steepest)
            self.low[1:3] = np.maximum(self.low[1:3], least)
        if most_wings is not None:
            self.high[1:3] = np.clip(most_wings / scale, self.low[1:3], steepest)
        if later is not None:
            self.later = later / self._units
            most = np.clip(self._wings(self.later) / room, self.low[1:3], steepest)
            self.high[1:3] = np.minimum(self.high[1:3], most)

    def raw(self, p: Floats) -> Floats:
        return np.asarray(scaled_raw(p) * self._units)

    def parameters(self, raw: Floats) -> Floats:
        a, b, rho, m, sigma = raw / self._units
        least = a + b * sigma * math.sqrt(max(1.0 - rho * rho, 0.0))
        return np.array([least, b * (1.0 - rho), b * (1.0 + rho), m, math.log(sigma)])

    def starts(self) -> list[Floats]:
        vol = self.points.vol
        fits, cost = starts(
            self.x,
            (vol / self.unit) ** 2,
            # A miss of w is one of vol times 2 vol.
            (self.unit**2 / (2.0 * vol * self.deviation)) ** 2,
            self.low,
            self.high,
            _BANDS,
        )
        return [p for p, error in zip(fits, cost, strict=True) if math.isfinite(error)]

    def refine(
        self, start: Floats, penalty: float = 0.0, steps: int = _STEPS
    ) -> tuple[Floats, float]:
        problem = SliceProblem(
            x=self.x,
            vol=self.points.vol,
            deviation=self.deviation,
            unit=self.unit,
            w0=self.w0,
            low=self.low,
            high=self.high,
            earlier=self.earlier,
            later=self.later,
            butterfly=np.array([penalty, BUTTERFLY_TARGET]),
            calendar=np.array([penalty if self.bounded else 0.0, CALENDAR_TARGET]),
        )
        p, cost = refine(problem, start, steps)
        return np.asarray(p), float(cost)

    def _wings(self, scaled: Floats) -> Floats:
        return float(scaled[1]) * np.array([1.0 - scaled[2], 1.0 + scaled[2]])
