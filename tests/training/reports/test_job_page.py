"""Pages of jobs stand alone, show the figures of the JSON and escape them; CBPE meets the truth."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

from market.core.clock import DAY
from training.drift.detail import expected_performance
from training.drift.profile import outcome_sums
from training.reports.job_pages import drift_page

REPORT = {
    "bundle": "a" * 64,
    "verdict": "unavailable",
    "reason": "<script>no reference</script>",
    "data": {"prices": "simulated"},
}


def test_page_stands_alone_and_escapes_its_text() -> None:
    page = drift_page(copy.deepcopy(REPORT), {"Generated": "2026-01-01T00:00:00Z"})
    assert "&lt;script&gt;no reference" in page
    assert "Prices are simulated" in page
    assert not re.search(r"<script|<link|@import|url\(|(src|href)=\"(?!#|data:)", page)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_expected_loss_meets_the_realised_one_only_if_calibrated(factor: float) -> None:
    rng = np.random.default_rng(5)
    p = rng.beta(1.0, 12.0, (40_000, 1)) * 0.5
    time = np.arange(len(p)) * (20 * 7 * DAY // len(p))
    outcomes = rng.random(p.shape) < factor * p
    figures = expected_performance(outcome_sums(outcomes, p, time), (8,))["8"]
    low, high = figures["difference_ci95"]
    entropy = float(np.mean(-p * np.log(p) - (1.0 - p) * np.log1p(-p)))
    assert figures["expected_log_loss"] == pytest.approx(entropy, rel=1e-9)
    assert (low <= 0.0 <= high) is (factor == 1.0)
