from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from statsmodels.stats.multitest import multipletests

import training.evaluation.bootstrap
from market.core.clock import DAY, parse_time
from market.core.errors import ModelError
from training.evaluation.bootstrap import (
    ece_quantile,
    group_skills,
    holm_adjusted,
    skill_interval,
    utc_day,
)
from training.evaluation.metrics import reliability_bins

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def losses(seed: int, days: int = 80, rows: int = 30) -> tuple[Floats, Floats, Ints]:
    """Losses with a common shock per day; the model is 10% better in expectation."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    baseline = rng.gamma(2.0, 1.0, size=days)[day] * rng.gamma(2.0, 0.5, size=len(day))
    model = baseline * rng.gamma(20.0, 0.9 / 20.0, size=days)[day]
    return model, baseline, day


def interval_of(model: Floats, baseline: Floats, day: Ints, n: int, seed: int) -> list[float]:
    interval = skill_interval(model, baseline, day, n=n, seed=seed)
    assert interval is not None
    return list(interval)


def days_drawn(days: int, n: int, seed: int) -> Ints:
    return np.random.default_rng(seed).multinomial(days, np.full(days, 1.0 / days), size=n)


def test_known_effect_is_covered_about_as_often_as_stated() -> None:
    intervals = [skill_interval(*losses(seed), n=300, seed=seed) for seed in range(100)]
    covered = sum(
        interval is not None and interval[0] <= 0.1 <= interval[1] for interval in intervals
    )
    assert 86 <= covered <= 100


def test_pairing_makes_the_interval_narrow() -> None:
    model, baseline, day = losses(1)
    paired = skill_interval(model, baseline, day, seed=1)
    unpaired = skill_interval(model, baseline[::-1], day, seed=1)
    assert paired is not None
    assert unpaired is not None
    assert paired[1] - paired[0] < 0.5 * (unpaired[1] - unpaired[0])


def test_interval_is_deterministic_by_seed() -> None:
    model, baseline, day = losses(2)
    first = skill_interval(model, baseline, day, n=200, seed=5)
    assert first == skill_interval(model, baseline, day, n=200, seed=5)
    assert first != skill_interval(model, baseline, day, n=200, seed=6)


def test_day_sums_equal_copied_rows() -> None:
    model, baseline, day = losses(3, days=7, rows=4)
    skills = [
        1.0
        - np.concatenate([model[day == d] for d in np.repeat(np.arange(7), drawn)]).mean()
        / np.concatenate([baseline[day == d] for d in np.repeat(np.arange(7), drawn)]).mean()
        for drawn in days_drawn(7, 50, seed=9)
    ]
    expected = np.quantile(skills, [0.025, 0.975])
    assert interval_of(model, baseline, day, 50, 9) == pytest.approx(expected.tolist(), rel=1e-12)


def test_blocks_of_resamples_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, baseline, day = losses(4)
    whole = interval_of(model, baseline, day, 100, 1)
    monkeypatch.setattr(training.evaluation.bootstrap, "CELLS_AT_ONCE", 700)
    assert interval_of(model, baseline, day, 100, 1) == pytest.approx(whole, rel=1e-12)


def test_order_of_rows_and_names_of_days_do_not_matter() -> None:
    model, baseline, day = losses(5)
    shuffle = np.random.default_rng(0).permutation(len(day))
    shuffled = interval_of(model[shuffle], baseline[shuffle], 19_000 + 3 * day[shuffle], 300, 1)
    assert shuffled == pytest.approx(interval_of(model, baseline, day, 300, 1), rel=1e-12)


def test_one_day_gives_no_interval() -> None:
    one = np.ones(5)
    day = np.zeros(5, dtype=np.int64)
    assert skill_interval(one, one, day, seed=0) is None
    assert ece_quantile(one, one, day, seed=0) is None


def worse_p(model: Floats, baseline: Floats, day: Ints, n: int, seed: int) -> float:
    groups = {"all": np.ones(len(day), dtype=bool)}
    p_value = group_skills(model, baseline, day, groups, n, seed=seed)["all"].worse_p
    assert p_value is not None
    return p_value


def test_worse_model_has_a_small_p_value_and_a_better_one_has_not() -> None:
    model, baseline, day = losses(6)
    assert worse_p(model, baseline, day, n=999, seed=1) > 0.95
    assert worse_p(baseline, model, day, n=999, seed=1) < 0.01


def test_p_value_of_a_sure_case_is_never_zero() -> None:
    day = np.arange(10)
    assert worse_p(np.full(10, 2.0), np.ones(10), day, n=99, seed=0) == 0.01
    assert worse_p(np.ones(10), np.ones(10), day, n=99, seed=0) == 1.0


def test_ece_quantile_equals_copied_rows_exactly() -> None:
    rng = np.random.default_rng(8)
    day = np.repeat(np.arange(6), [3, 11, 7, 20, 1, 13])
    p = rng.permutation(np.linspace(0.01, 0.6, len(day)))
    y = (rng.random(len(day)) < p).astype(float)
    ratios = []
    for drawn in days_drawn(6, 80, seed=4):
        rows = np.repeat(np.arange(len(day)), drawn[day])
        if y[rows].any():
            error = reliability_bins(y[rows], p[rows]).expected_calibration_error
            ratios.append(error / y[rows].mean())
    for q in (0.05, 0.5):
        assert ece_quantile(y, p, day, q, n=80, seed=4) == pytest.approx(
            np.quantile(ratios, q), rel=1e-12
        )


def test_ece_quantile_without_a_positive_is_none() -> None:
    p = np.linspace(0.1, 0.2, 10)
    assert ece_quantile(np.zeros(10), p, np.arange(10) // 5, seed=0) is None


def test_ece_quantile_of_fewer_rows_than_bins() -> None:
    y, p, day = np.array([1.0, 0.0]), np.array([0.5, 0.25]), np.array([0, 1])
    value = ece_quantile(y, p, day, q=0.0, n=50, seed=0)
    assert value == pytest.approx(0.5)


def test_utc_day_of_midnight_belongs_to_the_new_day() -> None:
    midnight = parse_time("2024-01-02")
    assert np.diff(utc_day([midnight - 1, midnight, midnight + DAY - 1])).tolist() == [1, 0]


def test_bad_inputs_are_refused() -> None:
    day = np.arange(4)
    one = np.ones(4)
    with pytest.raises(ModelError, match="finite"):
        skill_interval(np.array([1.0, np.nan, 1.0, 1.0]), one, day, seed=0)
    with pytest.raises(ModelError, match="shape"):
        skill_interval(one, np.ones(3), day, seed=0)
    with pytest.raises(ModelError, match="not positive"):
        skill_interval(one, np.zeros(4), day, seed=0)
    with pytest.raises(ModelError, match="integers"):
        skill_interval(one, one, day + 0.5, seed=0)
    with pytest.raises(ModelError, match="resamples"):
        skill_interval(one, one, day, n=0, seed=0)


def test_group_of_all_rows_has_the_interval_of_the_whole() -> None:
    model, baseline, day = losses(3)
    groups = {"all": np.ones(len(day), dtype=bool), "half": day % 2 == 0}
    found = group_skills(model, baseline, day, groups, 500, seed=9)
    assert found["all"].interval == pytest.approx(skill_interval(model, baseline, day, 500, seed=9))
    whole, half = found["all"].interval, found["half"].interval
    assert whole is not None
    assert half is not None
    assert half[1] - half[0] > whole[1] - whole[0], "fewer days say less"


def test_group_of_one_day_gives_no_interval() -> None:
    model, baseline, day = losses(3)
    found = group_skills(model, baseline, day, {"one": day == 4}, 50, seed=9)
    assert (found["one"].interval, found["one"].worse_p) == (None, None)


def test_group_needs_a_positive_baseline_loss() -> None:
    model, baseline, day = losses(3)
    with pytest.raises(ModelError, match="positive losses"):
        group_skills(model, 0.0 * baseline, day, {"one": day < 4}, seed=9)


@pytest.mark.parametrize("seed", range(5))
def test_holm_adjusted_is_that_of_statsmodels(seed: int) -> None:
    values = np.random.default_rng(seed).beta(0.4, 2.0, size=3 * seed + 1).tolist()
    adjusted = holm_adjusted({f"h{i}": value for i, value in enumerate(values)})
    _, expected, _, _ = multipletests(values, method="holm")
    assert [adjusted[f"h{i}"] for i in range(len(values))] == pytest.approx(expected.tolist())
