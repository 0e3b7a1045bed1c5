"""Walk-forward comparison of calibration lines.

Reads the data set that ``margincast retrain --config configs/binance-hourly.toml`` leaves in
``var/real``. At each quarter's start the prior is calibrated on what was known at that time, and
evaluated on the 91 days that follow, on the rows of the uniform draw. The test block of the main
job is never read.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from features.account.aggregates import FIRST_VOLATILITY, HEADROOM, PRIOR_VOLATILITY
from features.account.frame import compute_features
from features.registry import prior_column
from training.evaluation.bootstrap import utc_day
from training.evaluation.metrics import clip_probability, log_loss_rows
from training.fitting.calibration import fit_platt, platt_probability
from training.fitting.kalman_calibration import QUARTER_DAYS, fit_kalman_line

DATASET = Path("var/real/dataset.parquet")
MONTHS = [f"{year}-{month:02d}" for year in (2022, 2023, 2024, 2025) for month in (1, 4, 7, 10)]
QUARTERS = MONTHS[2:13]
"""2022-07 to 2025-01, of which the seven from 2023-07 are evaluated."""
EVALUATED_QUARTERS = QUARTERS[4:]
FIXED = (0.05, 0.1, 0.2, 0.5, 1.0)
PURGE_DAYS = 1

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def main() -> None:
    """Print the slope of each quarter, the fitted drifts and the comparison, as tables."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DATASET
    slopes: list[list[str]] = []
    drifts: list[list[str]] = []
    comparison: list[str] = []
    for hours in (1, 8, 24):
        columns = ["ts", "headroom", "prior_volatility", f"label_{hours}h"]
        table = pq.read_table(path, columns=columns, filters=[("uniform", "==", True)])
        day = utc_day(table["ts"].cast("int64").to_numpy())
        raw = prior_logits(
            table["headroom"].to_numpy(), table["prior_volatility"].to_numpy(), hours
        )
        y = table[f"label_{hours}h"].to_numpy().astype(np.float64)
        slopes.append([f"{slope:.2f}" for slope in quarter_slopes(raw, y, day)])
        scores, quarter_drifts = compare(raw, y, day)
        drifts.append([f"{drift:.3g}" for drift in quarter_drifts])
        comparison += [
            f"| {hours} h | {name} | {loss:.6f} | {off:.3f} |"
            for name, (loss, off) in scores.items()
        ]
    print_table("slope of the quarter from", QUARTERS, slopes)
    print_table("drift found before", EVALUATED_QUARTERS, drifts)
    print("| horizon | line from | log loss | abs log of predicted over observed |")
    print("|---|---|---|---|")
    print("\n".join(comparison))


def prior_logits(headroom: Floats, volatility: Floats, hours: int) -> Floats:
    """The structural prior of each row, from the figures that the data set stores."""
    aggregates = np.zeros((len(headroom), FIRST_VOLATILITY))
    aggregates[:, HEADROOM], aggregates[:, PRIOR_VOLATILITY] = headroom, volatility
    return compute_features(aggregates, (prior_column(hours),))[:, 0]


def quarter_slopes(raw: Floats, y: Floats, day: Ints) -> list[float]:
    """Slope of each quarter's own line."""
    inside = [(day >= first_day(q)) & (day < first_day(q) + QUARTER_DAYS) for q in QUARTERS]
    return [fit_platt(raw[rows], y[rows])[0] for rows in inside]


def compare(
    raw: Floats, y: Floats, day: Ints
) -> tuple[dict[str, tuple[float, float]], list[float]]:
    """Mean log loss and error of the count by method, and the drift fitted at each start."""
    scores: dict[str, list[tuple[float, float]]] = {}
    drifts: list[float] = []
    for start in map(first_day, EVALUATED_QUARTERS):
        known = day < start - PURGE_DAYS
        recent = known & (day >= start - PURGE_DAYS - QUARTER_DAYS)
        ahead = (day >= start) & (day < start + QUARTER_DAYS)
        sample = raw[known], y[known], day[known]
        filtered = fit_kalman_line(*sample)
        drifts.append(filtered.drift)
        fixed = {q: fit_kalman_line(*sample, drifts=(q,)) for q in FIXED}
        lines = {
            "all rows": fit_platt(raw[known], y[known]),
            "the last quarter": fit_platt(raw[recent], y[recent]),
            "the filter": (filtered.slope, filtered.intercept),
            **{f"the filter, drift {q}": (line.slope, line.intercept) for q, line in fixed.items()},
        }
        for name, line in lines.items():
            p = platt_probability(raw[ahead], *line)
            loss = log_loss_rows(y[ahead], clip_probability(p)).mean()
            off = abs(np.log(p.mean() / y[ahead].mean()))
            scores.setdefault(name, []).append((float(loss), float(off)))
    means = {name: np.mean(values, axis=0) for name, values in scores.items()}
    return {name: (float(loss), float(off)) for name, (loss, off) in means.items()}, drifts


def first_day(month: str) -> int:
    """Days since 1970 of a month's first."""
    return int(np.datetime64(f"{month}-01", "D").astype(np.int64))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """One row a horizon."""
    print(f"| {title} | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for hours, cells in zip((1, 8, 24), rows, strict=True):
        print(f"| {hours} h | " + " | ".join(cells) + " |")
    print()


if __name__ == "__main__":
    main()
