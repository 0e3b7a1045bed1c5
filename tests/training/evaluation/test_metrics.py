from __future__ import annotations

import json
import math
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from market.core.errors import ModelError
from training.evaluation.metrics import (
    calibration_line,
    clip_probability,
    evaluate_probability,
    log_loss_rows,
    log_loss_skill,
    oracle_gap_closed,
    predicted_over_observed,
    reliability_bins,
)


def sample(rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(-3.0, 1.5, size=rows)
    return (rng.random(rows) < expit(1.3 * z + 0.5)).astype(np.int8), expit(z)


def test_figures_equal_sklearn() -> None:
    y, p = sample()
    figures = evaluate_probability(y, p, 0.1)
    assert figures["auc"] == pytest.approx(roc_auc_score(y, p), rel=1e-12)
    assert figures["average_precision"] == pytest.approx(average_precision_score(y, p), rel=1e-12)
    assert figures["brier"] == pytest.approx(brier_score_loss(y, p), rel=1e-12)
    assert figures["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-12)


def test_calibration_line_equals_sklearn_unpenalised_joint_fit() -> None:
    y, p = sample()
    line = calibration_line(y, p)
    assert line is not None
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=2000).fit(logit(p)[:, None], y)
    np.testing.assert_allclose(line, (oracle.coef_[0, 0], oracle.intercept_[0]), rtol=1e-5)


def test_ece_by_hand_with_uneven_bins() -> None:
    # Twelve rows: bins of 2, 2 and then eight of 1.
    p = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    y = np.array([0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1])
    gaps = [0.85, 0.5, 0.35, 0.6, 0.5, 0.6, 0.3, 0.2, 0.1, 0.0]
    assert reliability_bins(y, p).expected_calibration_error == pytest.approx(
        math.fsum(gaps) / 12, rel=1e-14
    )
    shuffled = np.random.default_rng(1).permutation(12)
    assert reliability_bins(y[shuffled], p[shuffled]).expected_calibration_error == pytest.approx(
        math.fsum(gaps) / 12, rel=1e-14
    )
    assert reliability_bins(y, p).count.tolist() == [2, 2] + [1] * 8


def test_ties_keep_the_order_of_rows() -> None:
    # Few values in many rows, so that an unstable sort does reorder the ties.
    rng = np.random.default_rng(2)
    p = rng.choice([0.1, 0.2, 0.5], size=2000)
    y = (np.arange(2000) > 1200).astype(int)
    order = sorted(range(2000), key=p.__getitem__)
    observed = y[order].reshape(10, 200).mean(axis=1)
    np.testing.assert_array_equal(reliability_bins(y, p).observed, observed)
    assert reliability_bins(y, p).top_ratio == pytest.approx(0.5 / observed[-1])
    assert (
        reliability_bins(np.repeat([0, 1], 10), np.full(20, 0.5)).expected_calibration_error == 0.5
    )
    assert reliability_bins(np.tile([0, 1], 10), np.full(20, 0.5)).expected_calibration_error == 0.0


def test_skill_is_against_the_base_rate_of_training_not_of_test() -> None:
    y = np.array([0, 0, 0, 1])
    p = np.full(4, 0.1)
    figures = evaluate_probability(y, p, 0.1)
    assert figures["brier_skill"] == 0.0
    # 0.21 and 0.1875 are the Brier scores of the constants 0.1 and 0.25.
    skill = evaluate_probability(y, np.full(4, 0.25), 0.1)["brier_skill"]
    assert skill == pytest.approx(1.0 - 0.1875 / 0.21)


def test_ece_over_base_rate_and_top_decile() -> None:
    y, p = sample()
    figures = evaluate_probability(y, p, 0.1)
    top = np.argsort(p, kind="stable")[-400:]
    assert figures["ece_over_base_rate"] == pytest.approx(figures["ece"] / y.mean())
    assert figures["top_decile_ratio"] == pytest.approx(p[top].mean() / y[top].mean())
    assert predicted_over_observed(y, p) == pytest.approx(p.sum() / y.sum())


def test_keys_are_those_of_the_interface() -> None:
    assert list(evaluate_probability(*sample(), 0.1)) == [
        "auc", "average_precision", "brier", "brier_skill", "log_loss", "ece",
        "ece_over_base_rate", "calibration_slope", "calibration_intercept", "top_decile_ratio",
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_class_gives_none_never_nan(outcome: int) -> None:
    p = np.linspace(0.01, 0.3, 50)
    figures = evaluate_probability(np.full(50, outcome), p, 0.05)
    for name in ("auc", "average_precision", "calibration_slope", "calibration_intercept"):
        assert figures[name] is None
    assert (figures["ece_over_base_rate"] is None) == (outcome == 0)
    assert (figures["top_decile_ratio"] is None) == (outcome == 0)
    json.dumps(figures, allow_nan=False)


def test_constant_or_perfect_forecast_has_no_line() -> None:
    y = np.array([0, 1, 0, 1])
    assert calibration_line(y, np.full(4, 0.3)) is None
    assert calibration_line(y, np.array([0.1, 0.8, 0.2, 0.9])) is None
    assert calibration_line(y, np.array([0.8, 0.1, 0.9, 0.2])) is None


def test_certain_and_wrong_costs_the_clip_not_infinity() -> None:
    losses = log_loss_rows([1, 0, 1], [0.0, 1.0, 1.0])
    np.testing.assert_allclose(losses, [-math.log(1e-6), -math.log(1e-6), 1e-6], rtol=1e-6)
    np.testing.assert_array_equal(clip_probability([0.0, 0.5, 1.0]), [1e-6, 0.5, 1.0 - 1e-6])


def test_brier_skill_is_none_where_the_constant_is_perfect() -> None:
    assert evaluate_probability([0, 0], [0.1, 0.2], 0.0)["brier_skill"] is None


def test_oracle_gap() -> None:
    assert oracle_gap_closed(0.04, 0.037, 0.03) == pytest.approx(0.3)
    assert oracle_gap_closed(0.04, 0.037, 0.04) is None
    assert oracle_gap_closed(0.04, 0.037, 0.05) is None
    assert oracle_gap_closed(0.04, 0.037, None) is None


def test_log_loss_skill() -> None:
    assert log_loss_skill(0.96, 1.0) == pytest.approx(0.04)
    with pytest.raises(ModelError):
        log_loss_skill(0.5, 0.0)


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([], []),
        ([0, 1], [0.5]),
        ([0, 2], [0.5, 0.5]),
        ([0, 1], [0.5, np.nan]),
        ([0, 1], [0.5, 1.5]),
    ],
)
def test_bad_samples_are_refused(y: list[float], p: list[float]) -> None:
    with pytest.raises(ModelError):
        evaluate_probability(y, p, 0.1)


def test_bad_base_rate_is_refused() -> None:
    with pytest.raises(ModelError, match="base rate"):
        evaluate_probability([0, 1], [0.2, 0.3], float("nan"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0.0, 1.0, allow_subnormal=False)),
        min_size=1,
        max_size=60,
    )
)
def test_every_sample_gives_finite_numbers_or_none(rows: list[tuple[bool, float]]) -> None:
    y = np.array([outcome for outcome, _ in rows])
    p = np.array([probability for _, probability in rows])
    figures = cast("dict[str, float | None]", evaluate_probability(y, p, 0.2))
    assert all(value is None or math.isfinite(value) for value in figures.values())
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    ece = math.fsum(len(b) / len(y) * abs(p[b].mean() - y[b].mean()) for b in parts)
    assert figures["ece"] == pytest.approx(ece, abs=1e-12)
