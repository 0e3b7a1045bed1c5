"""Fit the volatility surface of every snapshot of option chains and report the fit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from margin.surface.chain_points import ChainPoints, chain_points
from margin.surface.repair import Repair, repair_slices
from margin.surface.slice_fit import SliceFit, SlicePoints, fit_slice
from margin.surface.surface import VolSurface
from margin.surface.svi import total_variance
from market.core.clock import format_time
from market.core.errors import DataError
from market.quotes.option_chain import OptionChain
from market.quotes.option_chain_files import read_option_chain

MISFIT = 2.0
"""Root mean square error, in half widths of the quotes, above which a slice fails."""

TENORS = ((0.0, 1.0), (1.0, 3.0), (3.0, 8.0), (8.0, 35.0), (35.0, 100.0), (100.0, math.inf))
"""Bands of days to expiry in a summary: above the first bound, up to the second."""

_MEDIANS = (
    *("points", "width", "rmse_before", "rmse", "error_before", "error"),
    *("rmse_over_width", "inside", "marks_inside"),
)


def fit_surfaces(source: Path, use_marks: bool = True) -> dict[str, Any]:
    """Fit every snapshot of a chain file, or of every parquet file of a folder.

    Returns
    -------
    ``slices`` (one entry an expiry of a snapshot, failures with their reason), ``summary`` by
    exchange and tenor, ``files`` with the quality and processor time of each.

    Raises
    ------
    DataError
        The source has no chain, or a file is malformed.
    """
    paths = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not paths:
        raise DataError(f"folder {source} holds no parquet file; expected option chains")
    files, slices = [], []
    for path in paths:
        chain = read_option_chain(path)
        start = time.process_time()
        entries = [
            entry for snapshot in chain.snapshots() for entry in _fit(chain, snapshot, use_marks)
        ]
        files.append(
            {
                "file": path.name,
                "exchange": chain.venue,
                "quality": asdict(chain.quality),
                "slices": len(entries),
                "seconds": round(time.process_time() - start, 3),
            }
        )
        slices += entries
    return {"files": files, "summary": summaries(slices), "slices": slices}


def summaries(slices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Counts and medians of slices by exchange and tenor."""

    def band(entry: Mapping[str, Any]) -> tuple[str, int]:
        return entry["exchange"], _tenor(entry["days"])

    out = []
    for (exchange, tenor), group in groupby(sorted(slices, key=band), key=band):
        entries = list(group)
        fitted = [entry for entry in entries if entry["svi"] is not None]
        first, last = TENORS[tenor]
        out.append(
            {
                "exchange": exchange,
                "tenor": f"{first:g} to {last:g} d" if math.isfinite(last) else f"over {first:g} d",
                "slices": len(entries),
                "failed": sum(entry["failure"] is not None for entry in entries),
                **{f"{name}_median": _median(entry[name] for entry in fitted) for name in _MEDIANS},
                "error_highest": max((entry["error"] for entry in fitted), default=None),
                "butterflies_before": sum(entry["butterfly_before"] < 0.0 for entry in fitted),
                "butterflies_after": sum(entry["butterfly_after"] < 0.0 for entry in fitted),
                "calendars_before": sum(entry["calendar_free_before"] is False for entry in fitted),
                "calendars_in_quotes_before": sum(
                    entry["crosses_in_quotes_before"] for entry in fitted
                ),
                "calendars_after": sum(entry["calendar_free_after"] is False for entry in fitted),
                "moved": sum(entry["moved"] for entry in fitted),
            }
        )
    return out


def _tenor(days: float) -> int:
    return next(i for i, (first, last) in enumerate(TENORS) if first < days <= last)


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _fit(
    chain: OptionChain, snapshot: tuple[int, str, tuple[slice, ...]], use_marks: bool
) -> list[dict[str, Any]]:
    """Entries of every expiry of one snapshot of one underlying, the nearest first."""
    ts, underlying, expiries = snapshot
    entries, fits = [], []
    for rows in expiries:
        entry: dict[str, Any] = {
            "exchange": chain.venue,
            "snapshot": format_time(ts),
            "underlying": underlying,
            "expiry": format_time(int(chain.expiry[rows.start])),
            "days": float(chain.tau[rows.start]) * 365.0,
            "options": rows.stop - rows.start,
            "svi": None,
            "failure": None,
        }
        entries.append(entry)
        try:
            fits.append((entry, chain_points(chain, rows, use_marks)))
        except DataError as error:
            entry["failure"] = str(error)
    points = [fit.points for _, fit in fits]
    if not points:
        return entries
    try:
        repairs = repair_slices(points, [fit_slice(each) for each in points])
    except DataError as error:  # without each of its slices there is no surface
        for entry, _ in fits:
            entry["failure"] = str(error)
        return entries
    surface = VolSurface.of(
        [each.tau for each in points],
        [fit.forward for _, fit in fits],
        [repair.repaired.raw for repair in repairs],
    )
    for i, ((entry, fit), repair) in enumerate(zip(fits, repairs, strict=True)):
        entry.update(_figures(fit, repair))
        entry["crosses_in_quotes_before"] = bool(i) and _cross(
            points[i - 1], repairs[i - 1].free, fit.points, repair.free
        )
        entry.update(asdict(surface.smile(fit.points.tau)))
        entry["failure"] = _misfit(fit, repair)
    return entries


def _figures(fits: ChainPoints, repair: Repair) -> dict[str, Any]:
    points, fit = fits.points, repair.repaired
    vol = np.sqrt(total_variance(fit.raw, points.k) / points.tau)
    quoted = np.isfinite(points.width)
    width = float(np.median(points.width[quoted])) if quoted.any() else None

    def inside(vols: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
        between = (fits.bid_vol[quoted] <= vols[quoted]) & (vols[quoted] <= fits.ask_vol[quoted])
        return float(between.mean()) if quoted.any() else None

    return {
        "forward": fits.forward,
        "forward_from": fits.forward_from,
        "points": len(points.k),
        "from_marks": fits.from_marks,
        "quoted": int(quoted.sum()),
        "svi": fit.raw.tolist(),
        "width": width,
        "rmse_before": repair.free.rmse,
        "rmse": fit.rmse,
        "error_before": repair.free.error,
        "error": fit.error,
        "rmse_over_width": fit.rmse / width if width else None,
        "inside": inside(vol),
        "marks_inside": inside(points.vol) if fits.from_marks else None,
        "butterfly_before": repair.butterfly_before,
        "butterfly_after": repair.butterfly_after,
        "calendar_free_before": _free(repair.calendar_before),
        "calendar_free_after": _free(repair.calendar_after),
        "moved": repair.is_changed,
    }


def _cross(near: SlicePoints, near_fit: SliceFit, far: SlicePoints, far_fit: SliceFit) -> bool:
    """Whether two free fits cross where both expiries are quoted."""
    low, high = max(near.k[0], far.k[0]), min(near.k[-1], far.k[-1])
    k = np.linspace(low, high, 401)
    apart = total_variance(far_fit.raw, k) - total_variance(near_fit.raw, k)
    return bool(low < high and apart.min() < 0.0)


def _free(margin: float | None) -> bool | None:
    return None if margin is None else margin >= 0.0


def _misfit(fits: ChainPoints, repair: Repair) -> str | None:
    """Why a slice does not fit its quotes; None if it does."""
    if repair.repaired.error <= MISFIT:
        return None
    points, free = fits.points, repair.free
    error = np.sqrt(total_variance(free.raw, points.k) / points.tau) - points.vol
    worst = int(np.argmax(np.abs(error / points.deviation)))
    if free.error > MISFIT:
        return (
            f"SVI does not fit these vols: {free.error:.2f} half widths before any repair, "
            f"worst at k = {points.k[worst]:.3f}, where it differs from {points.vol[worst]:.3f} by "
            f"{error[worst]:+.3f}"
        )
    kinds = [
        kind
        for kind, margin in (
            ("its own butterfly", repair.butterfly_before),
            ("the slice before it", repair.calendar_before),
        )
        if margin is not None and margin < 0.0
    ]
    return (
        f"removing arbitrage raised its error from {free.error:.2f} to "
        f"{repair.repaired.error:.2f} half widths; it violated "
        f"{' and '.join(kinds) or 'a repaired neighbour'}"
    )
