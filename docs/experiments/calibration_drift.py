"""Walk-forward comparison of calibration lines: ``python -m docs.experiments.calibration_drift``.

Reads the data set that ``margincast retrain --config configs/binance-hourly.toml`` leaves in
``var/real``. At each quarter's start the prior is calibrated on what was known then, and judged
on the 91 days that follow. The test block of the main job is never read.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from training.bootstrap import utc_day
from training.calibration import fit_platt, platt_probability
from training.drifting_calibration import QUARTER_DAYS, filtered_platt
from training.metrics import clip_probability, log_loss_rows

DATASET = Path("var/real/dataset.parquet")
STARTS = ("2023-07", "2023-10", "2024-01", "2024-04", "2024-07", "2024-10", "2025-01")
PURGE_DAYS = 1


def main() -> None:
    """Print one table row a horizon and method."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DATASET
    starts = [int(np.datetime64(f"{month}-01", "D").astype(np.int64)) for month in STARTS]
    print("| horizon | line from | log loss | abs log of predicted over observed |")
    print("|---|---|---|---|")
    for hours in (1, 8, 24):
        table = pq.read_table(path, columns=["ts", f"prior_logit_{hours}h", f"label_{hours}h"])
        day = utc_day(table["ts"].cast("int64").to_numpy())
        raw, y = table[1].to_numpy(), table[2].to_numpy().astype(np.float64)
        scores: dict[str, list[tuple[float, float]]] = {}
        for start in starts:
            known = day < start - PURGE_DAYS
            recent = known & (day >= start - PURGE_DAYS - QUARTER_DAYS)
            ahead = (day >= start) & (day < start + QUARTER_DAYS)
            drifting = filtered_platt(raw[known], y[known], day[known])
            lines = {
                "all rows": fit_platt(raw[known], y[known]),
                "the last quarter": fit_platt(raw[recent], y[recent]),
                "the filter": (drifting.slope, drifting.intercept),
            }
            for name, line in lines.items():
                p = platt_probability(raw[ahead], *line)
                loss = log_loss_rows(y[ahead], clip_probability(p)).mean()
                off = abs(np.log(p.mean() / y[ahead].mean()))
                scores.setdefault(name, []).append((float(loss), float(off)))
        for name, found in scores.items():
            loss, off = np.mean(found, axis=0)
            print(f"| {hours} h | {name} | {loss:.6f} | {off:.3f} |")


if __name__ == "__main__":
    main()
