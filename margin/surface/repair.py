"""Surfaces without arbitrage: what fits best is moved as little as it takes.

First by the fit itself, with arbitrage penalised; what a penalty leaves is ended by a step that
always succeeds. For butterflies the smile is flattened towards its level at the money: at the
end it is flat, where g is 1. For calendars the later slice gets the wings of the earlier one
where its own are flatter, and is lifted until it lies above; lifting ends butterflies too, as g
tends to ``1 - w'^2 / 16 + w'' / 2``, which a wing under 2 keeps above 3/4.

References
----------
Gatheral and Jacquier (2014), section 5; Ferhati (2020), "Robust calibration for SVI model
arbitrage free"; Martini and Mingone (2022), "No arbitrage SVI", SIAM J. Financial Math. 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from margin.surface.arbitrage import butterfly_margin, calendar_margin
from margin.surface.slice_fit import SliceFit, SlicePoints, fit_slice_within, measure_fit
from margin.surface.svi import MAX_WING, total_variance, wings
from market.core.arrays import Floats
from market.core.errors import DataError

_CHEAP = (0.25, 0.0, -1.0)
"""So much squared error, in half widths, is paid for the first way tried before others are."""

_MILD = 0.5
"""A repair that costs no slice more, in half widths, is not tried in another way."""

_SHARES = (0.25, 0.5, 0.75)
_HALVINGS = 40
_LEAST_LIFT = 1e-18
_DOUBLINGS = 90
"""From the least lift, in total variance, to a hundred million."""
_STEEPEST = 0.9995 * MAX_WING


@dataclass(frozen=True, slots=True)
class Repair:
    """A slice before and after its repair.

    Attributes
    ----------
    free, repaired:
        The unconstrained fit, and the one that the surface uses.
    butterfly_before, butterfly_after:
        Least g of each; negative is arbitrage.
    calendar_before, calendar_after:
        Least distance of total variance from the slice before in time, each among its own; None
        for the first slice.
    """

    free: SliceFit
    repaired: SliceFit
    butterfly_before: float
    butterfly_after: float
    calendar_before: float | None
    calendar_after: float | None

    @property
    def is_changed(self) -> bool:
        """Whether the repair changed the slice."""
        return not np.array_equal(self.free.raw, self.repaired.raw)


def repair_slices(points: Sequence[SlicePoints], free: Sequence[SliceFit]) -> tuple[Repair, ...]:
    """Slices without butterflies or calendars, in order of time.

    Each slice is freed of butterflies. Then, from the last pair of neighbours to the first, where
    two cross, the earlier one is fitted again below the later, or the later one again above the
    earlier and below the one after, or both, whichever adds least to the squared error; then,
    from the first to the last, what still crosses is lifted above the earlier one, or fitted
    again and lifted. The last pass guarantees the result. Where a slice lost much by it, it is
    done again with other ways tried sooner, and the better outcome is kept.

    Raises
    ------
    DataError
        The slices are not in order of time, or two have the same.
    """
    taus = [slice_points.tau for slice_points in points]
    if any(later <= earlier for earlier, later in pairwise(taus)):
        raise DataError(f"the slices have taus {taus}; expected rising ones, each once")
    sound = [remove_butterflies(p, fit) for p, fit in zip(points, free, strict=True)]
    fits = _ordered(points, sound, _CHEAP[0])
    for cheap in _CHEAP[1:]:
        rises = [new.error - old.error for new, old in zip(fits, sound, strict=True)]
        if max(rises, default=0.0) <= _MILD:
            break
        fits = min((fits, _ordered(points, sound, cheap)), key=_total)
    return tuple(
        Repair(
            free[i],
            fits[i],
            butterfly_margin(free[i].raw),
            butterfly_margin(fits[i].raw),
            _gap(free[i - 1], free[i]) if i else None,
            _gap(fits[i - 1], fits[i]) if i else None,
        )
        for i in range(len(fits))
    )


def _ordered(
    points: Sequence[SlicePoints], sound: Sequence[SliceFit], cheap: float
) -> list[SliceFit]:
    """The slices without calendars; `cheap` is what may be paid before other ways are tried."""
    fits = list(sound)
    for i in range(len(fits) - 2, -1, -1):
        if _gap(fits[i], fits[i + 1]) < 0.0:
            later = fits[i + 2].raw if i + 2 < len(fits) else None
            pair = _separate(points[i : i + 2], fits[i : i + 2], later, cheap)
            fits[i], fits[i + 1] = pair
    for i in range(1, len(fits)):
        if _gap(fits[i - 1], fits[i]) < 0.0:
            fits[i] = _raise_above(points[i : i + 2], fits[i : i + 2], fits[i - 1], cheap)
    return fits


def _total(fits: Sequence[SliceFit]) -> float:
    return sum(fit.error**2 for fit in fits)


def remove_butterflies(points: SlicePoints, fit: SliceFit) -> SliceFit:
    """The slice itself where its g is nowhere negative, else the nearest found that has such a g.

    It is fitted again with the penalty, from the slice and from its flattened form; of what comes
    out, flattened where it must be, and of the flattened slice itself, the least error wins.
    """
    if butterfly_margin(fit.raw) >= 0.0:
        return fit
    flat = _flatten(fit.raw)
    fits = [
        measure_fit(points, _flatten(fit_slice_within(points, start).raw))
        for start in (fit.raw, flat)
    ]
    return min([*fits, measure_fit(points, flat)], key=lambda other: other.error)


def _separate(
    points: Sequence[SlicePoints], fits: Sequence[SliceFit], later: Floats | None, cheap: float
) -> tuple[SliceFit, SliceFit]:
    """Two neighbours that cross, fitted again so that they hardly do; the second below `later`.

    Moving one of them is tried first, then both, towards wings between their own.
    """
    near, far = fits
    before = near.error**2 + far.error**2

    def cost(pair: tuple[SliceFit, SliceFit]) -> float:
        return pair[0].error ** 2 + pair[1].error ** 2 - before

    def parted(first: SliceFit, second: SliceFit) -> tuple[SliceFit, SliceFit]:
        return first, _lift(points[1], second, first.raw)

    below = parted(_refit(points[0], near, None, far.raw), far)
    if cost(below) <= cheap:  # more is known of the later one's wings: its quotes reach further
        return below
    best = min(below, parted(near, _refit(points[1], far, near.raw, later)), key=cost)
    if cost(best) <= cheap:
        return best
    ends = [np.maximum(wings(fit.raw), 1e-8) for fit in fits]
    for share in _SHARES:
        between = ends[0] ** (1.0 - share) * ends[1] ** share
        flatter = _refit(points[0], near, None, None, most_wings=between)
        steeper = _refit(points[1], far, None, later, least_wings=between)
        tried = (
            parted(_refit(points[0], flatter, None, steeper.raw), steeper),
            parted(flatter, _refit(points[1], steeper, flatter.raw, later)),
        )
        best = min((best, *tried), key=cost)
    return best


def _refit(
    points: SlicePoints,
    fit: SliceFit,
    earlier: Floats | None,
    later: Floats | None,
    least_wings: Floats | None = None,
    most_wings: Floats | None = None,
) -> SliceFit:
    again = fit_slice_within(points, fit.raw, earlier, later, least_wings, most_wings)
    return measure_fit(points, _flatten(again.raw))


def _flatten(raw: Floats) -> Floats:
    """The slice with the largest share found of its own shape that leaves no butterfly.

    ``w(0) + share (w(k) - w(0))`` is SVI again, with b times the share; the level at the money
    stays.
    """
    if butterfly_margin(raw) >= 0.0:
        return raw
    level = float(total_variance(raw, np.zeros(())))
    good, bad = 0.0, 1.0
    for _ in range(_HALVINGS):
        share = 0.5 * (good + bad)
        if butterfly_margin(_flatten_by(raw, share, level)) >= 0.0:
            good = share
        else:
            bad = share
    return _flatten_by(raw, good, level)


def _flatten_by(raw: Floats, share: float, level: float) -> Floats:
    a, b, rho, m, sigma = raw
    return np.array([level + share * (a - level), share * b, rho, m, sigma])


def _raise_above(
    points: Sequence[SlicePoints],
    fits: Sequence[SliceFit],
    earlier: SliceFit,
    cheap: float,
) -> SliceFit:
    """The first of two neighbours (or the last slice) above `earlier`: lifted, or fitted again
    and lifted; the one that costs least, with what it costs the second to be lifted in turn."""
    fit, after = fits[0], fits[1:]

    def cost(raised: SliceFit) -> float:
        return raised.error**2 + sum(
            _lift(points[1], following, raised.raw).error ** 2 for following in after
        )

    best = _lift(points[0], fit, earlier.raw)
    least = cost(best)
    if least <= cheap + sum(other.error**2 for other in fits):
        return best
    for bound in [*(following.raw for following in after), None]:
        again = _refit(points[0], fit, earlier.raw, bound)
        raised = _lift(points[0], again, earlier.raw)
        dear = cost(raised)
        if dear < least:
            best, least = raised, dear
    return best


def _lift(points: SlicePoints, fit: SliceFit, earlier: Floats) -> SliceFit:
    """The slice raised, with wings no flatter than those of `earlier`, until nothing crosses."""

    def sound(raw: Floats) -> bool:
        return butterfly_margin(raw) >= 0.0 and calendar_margin(earlier, raw) >= 0.0

    if sound(fit.raw):
        return fit
    raw = _steepen(fit.raw, earlier)
    unit = float(total_variance(earlier, np.zeros(())))
    lift = max(1e-6 * unit, _LEAST_LIFT)
    for _ in range(_DOUBLINGS):
        if sound(raw + np.array([lift, 0.0, 0.0, 0.0, 0.0])):
            break
        lift *= 2.0
    else:
        raise DataError(
            f"no lift puts the slice of {points.tau:.6g} years above the one before; its "
            f"parameters are {fit.raw.tolist()}, leave the expiry out"
        )
    good, bad = lift, 0.5 * lift
    for _ in range(_HALVINGS):
        middle = 0.5 * (good + bad)
        if sound(raw + np.array([middle, 0.0, 0.0, 0.0, 0.0])):
            good = middle
        else:
            bad = middle
    return measure_fit(points, raw + np.array([good, 0.0, 0.0, 0.0, 0.0]))


def _steepen(raw: Floats, earlier: Floats) -> Floats:
    """The slice with each wing at least a little steeper than that of `earlier`."""
    a, _, _, m, sigma = raw
    # Steeper by what b and rho can still tell.
    least = np.array(wings(earlier)) * (1.0 + 1e-9) + 1e-12
    slopes = np.array(wings(raw))
    left, right = np.minimum(np.maximum(slopes, least), _STEEPEST)
    total = left + right
    if total <= 0.0 or np.array_equal((left, right), slopes):
        return raw
    return np.array([a, 0.5 * total, (right - left) / total, m, sigma])


def _gap(earlier: SliceFit, later: SliceFit) -> float:
    return calendar_margin(earlier.raw, later.raw)
