"""Drift monitors: against scipy and statsmodels, and against markets whose drift is known."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st
from scipy.special import expit
from scipy.stats import ks_2samp

from features.registry import ACCOUNT_COLUMNS
from market.core.clock import DAY, HOUR, parse_time
from market.core.errors import BundleError, ModelError
from models.bundle.bundle import Bundle, bundle_files, load_bundle, write_bundle
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.drift.distances import ks_distance, stability_index
from models.drift.reference_file import BINS, REFERENCE_FILE
from models.onnx.export import export
from models.trees.tree_table import TreeTable
from training.drift.monitors import DriftReport, Floors, drift_report
from training.drift.permutation import (
    LONGEST_RUN,
    Exchanges,
    longest_run,
    smallest_p,
)
from training.drift.profile import (
    BLOCK_DAYS,
    SUMS,
    block_number,
    histograms,
    outcome_sums,
    quantile_edges,
)
from training.drift.reference import (
    Reference,
    current_profile,
    make_reference,
    profile_of_rows,
    read_reference,
    reference_of_rows,
)
from training.drift.statistics import (
    log_loss_over_expected,
    log_observed_over_predicted,
    one_step_slope,
)
from training.evaluation.metrics import calibration_line
from training.labels.dataset import Dataset
from training.labels.splits import Block

START = parse_time("2024-01-01T00:00:00Z")
SCHEMA = ModelSchema(
    features=("prior_logit_1h", "prior_logit_8h", "herfindahl"),
    monotone=(1, 1, 0),
    horizons=(1, 8),
    prior=("prior_logit_1h", "prior_logit_8h"),
    features_sha256="a" * 64,
)

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def market(
    seed: int,
    weeks: int,
    *,
    begin: int = 0,
    rows_a_day: int = 30,
    week_effect: float = 0.6,
    shift: float = 0.0,
    biased: float = 0.0,
) -> Rows:
    """Rows whose level every week moves together: features, probability, labels and times."""
    rng = np.random.default_rng(seed)
    n = weeks * 7 * rows_a_day
    time = START + begin * 7 * DAY + np.sort(rng.integers(0, weeks * 7 * DAY, n))
    week = (time - time[0]) // (7 * DAY)
    common = rng.normal(0.0, week_effect, weeks + 1)[week]
    prior = rng.normal(-2.0, 1.0, n) + common + shift
    other = rng.normal(0.0, 1.0, n) + rng.normal(0.0, week_effect, weeks + 1)[week]
    X = np.column_stack([prior, prior + 0.5, other])
    p = expit(X[:, :2])
    y = (rng.random((n, 2)) < expit(X[:, :2] + biased)).astype(np.int8)
    return X, p, y, time


def reference_of(rows: Rows) -> Reference:
    X, p, y, time = rows
    return reference_of_rows(SCHEMA, X, p, time, outcome_sums(y, p, time))


def report_of(reference: Reference, rows: Rows, **options: Any) -> DriftReport:
    X, p, y, time = rows
    profile = profile_of_rows(reference.edges, 7, X, p, time, outcome_sums(y, p, time))
    return drift_report(reference, profile, **({"permutations": 999} | options))


def by_name(report: DriftReport) -> dict[str, Any]:
    return {monitor.name: monitor for monitor in report.monitors}


# --- sums ---------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_counts_hold_every_row_once_in_any_order(values: list[float], random: Any) -> None:
    column = np.array(values)
    time = START + np.array([random.randrange(30 * DAY) for _ in values], dtype=np.int64)
    edges = quantile_edges(column)
    found = histograms([column], [edges], time)
    assert found.rows == len(values)
    assert found.counts[:, 0, BINS].sum() == np.isnan(column).sum()
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)
    again = histograms([column[shuffled]], [edges], time[shuffled])
    np.testing.assert_array_equal(again.counts, found.counts)
    np.testing.assert_array_equal(again.block, np.unique(block_number(time)))


def test_bins_of_the_reference_hold_equal_counts() -> None:
    column = np.random.default_rng(1).normal(size=20_000)
    found = histograms([column], [quantile_edges(column)], np.full(20_000, START))
    assert found.counts[0, 0, :BINS].tolist() == [1_000] * BINS


def test_column_of_one_value_or_none_has_no_edges_and_still_counts() -> None:
    time = np.full(3, START)
    for column in (np.full(3, 2.0), np.full(3, np.nan)):
        edges = quantile_edges(column)
        assert len(edges) == 0
        assert histograms([column], [edges], time).rows == 3


def test_a_block_is_a_week_of_whole_days_and_its_bounds_are_exact() -> None:
    week = BLOCK_DAYS * DAY
    assert block_number([week - 1, week, 2 * week - 1]).tolist() == [0, 1, 1]


@given(st.integers(0, 2**32 - 1))
def test_distance_of_bins_is_that_of_scipy_on_the_binned_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, BINS, rng.integers(1, 60))
    two = rng.integers(0, BINS, rng.integers(1, 60))
    counts = [np.bincount(codes, minlength=BINS) for codes in (one, two)]
    expected = ks_2samp(one, two, method="asymp").statistic
    assert float(ks_distance(*counts)) == pytest.approx(expected, abs=1e-12)


def test_stability_index_is_its_formula_and_stays_finite_on_an_empty_bin() -> None:
    before, now = np.array([50.0, 30.0, 20.0]), np.array([20.0, 30.0, 50.0])
    r, c = (before + 0.5) / 101.5, (now + 0.5) / 101.5
    assert float(stability_index(before, now)) == pytest.approx(
        float(((c - r) * np.log(c / r)).sum())
    )
    assert float(stability_index(before, before)) == 0.0
    assert np.isfinite(stability_index(before, np.array([0.0, 0.0, 9.0])))
    assert np.isnan(stability_index(before, np.zeros(3)))


def test_slope_of_one_step_is_near_that_of_the_whole_regression() -> None:
    rng = np.random.default_rng(5)
    logit = rng.normal(-1.5, 1.2, 60_000)
    for slope in (0.9, 1.0, 1.1):
        y = (rng.random(len(logit)) < expit(slope * logit)).astype(float)
        p = expit(logit)
        sums = outcome_sums(y[:, None], p[:, None], np.full(len(y), START)).sums[0, 0]
        line = calibration_line(y, p)
        assert line is not None
        assert float(one_step_slope(sums)) == pytest.approx(line[0], abs=0.015)


def test_figures_of_labels_are_their_definitions_on_rows() -> None:
    rng = np.random.default_rng(6)
    p = rng.uniform(0.01, 0.4, 500)
    y = (rng.random(500) < p).astype(float)
    sums = outcome_sums(y[:, None], p[:, None], np.full(500, START)).sums[0, 0]
    assert sums[SUMS.index("rows")] == 500
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum()
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert float(log_loss_over_expected(sums)) == pytest.approx(math.log(loss / entropy))
    expected = math.log((y.sum() + 0.5) / (p.sum() + 0.5))
    assert float(log_observed_over_predicted(sums)) == pytest.approx(expected)


def test_no_call_at_all_leaves_the_count_ratio_finite() -> None:
    sums = outcome_sums(np.zeros((50, 1)), np.full((50, 1), 0.1), np.full(50, START)).sums[0, 0]
    assert float(log_observed_over_predicted(sums)) == pytest.approx(math.log(0.5 / 5.5))


# --- chance -------------------------------------------------------------------------------------


def test_p_value_is_that_of_all_exchanges_counted_one_by_one() -> None:
    rng = np.random.default_rng(2)
    reference, current = poisson(rng, 9.0, (6, 4)), poisson(rng, 9.0, (3, 4)) + 1.0
    blocks = np.concatenate([reference, current])
    observed = float(ks_distance(reference.sum(axis=0), current.sum(axis=0)))
    all_of_them = [
        float(
            ks_distance(
                np.delete(blocks, chosen, axis=0).sum(axis=0), blocks[list(chosen)].sum(axis=0)
            )
        )
        for chosen in combinations(range(9), 3)
    ]
    exact = np.mean([effect >= observed - 1e-12 for effect in all_of_them])
    effect, p = Exchanges(6, 3, 1, 20_000, seed=3).p_value(reference, current, ks_distance)
    assert effect == observed
    assert p == pytest.approx(exact, abs=0.015)


def test_order_of_blocks_within_a_span_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    reference, current = poisson(rng, 5.0, (12, 5)), poisson(rng, 5.0, (6, 5))
    exchanges = Exchanges(12, 6, 1, 4_999, seed=1)
    effect, p = exchanges.p_value(reference, current, ks_distance)
    turned = exchanges.p_value(
        reference[::-1], rng.permutation(current).astype(np.float64), ks_distance
    )
    assert turned[0] == effect
    assert turned[1] == pytest.approx(p, abs=0.03)


def poisson(
    rng: np.random.Generator, rate: float, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    return rng.poisson(rate, shape).astype(np.float64)


def alarms(trials: int, persistence: float, run: int) -> tuple[int, int]:
    """Alarms at 5% on a market without drift: of block permutation, and of rows on their own."""
    weeks, recent, ours, naive = 44, 8, 0, 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        level = np.zeros(weeks)
        for w in range(weeks):
            before = level[w - 1] if w else rng.normal()
            level[w] = persistence * before + math.sqrt(1 - persistence**2) * rng.normal()
        week = np.repeat(np.arange(weeks), 100)
        values = rng.normal(size=len(week)) + 0.6 * level[week]
        old = week < weeks - recent
        edges = [quantile_edges(values[old])]
        sides = [
            histograms([values[part]], edges, week[part] * 7 * DAY).counts[:, 0, :-1].astype(float)
            for part in (old, ~old)
        ]
        exchanges = Exchanges(weeks - recent, recent, run, 299, seed=seed)
        ours += exchanges.p_value(sides[0], sides[1], ks_distance)[1] <= 0.05
        naive += bool(ks_2samp(values[old], values[~old]).pvalue <= 0.05)
    return ours, naive


def test_false_alarms_of_blocks_are_as_rare_as_stated_and_those_of_rows_are_not() -> None:
    ours, naive = alarms(200, 0.0, 1)
    assert 3 <= ours <= 19, "5% of 200 are 10, and 3 to 19 its range at 99.5%"
    assert naive > 120


def test_regimes_that_last_for_weeks_need_runs_of_weeks() -> None:
    single, _ = alarms(200, 0.6, 1)
    runs, _ = alarms(200, 0.6, LONGEST_RUN)
    assert single > 36, "single weeks break the regimes up"
    assert runs <= 32
    assert runs < 0.6 * single


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 8), st.integers(0, 9))
def test_every_exchange_has_as_many_current_blocks_in_runs_of_neighbours(
    reference: int, current: int, run: int, seed: int
) -> None:
    run = min(run, current)
    blocks = np.eye(reference + current)
    drawn: list[np.ndarray] = []

    def spy(_: np.ndarray, moved: np.ndarray) -> np.ndarray:
        drawn.append(moved)
        return np.zeros(moved.shape[:-1])

    exchanges = Exchanges(reference, current, run, 50, seed=seed)
    exchanges.p_value(blocks[:reference], blocks[reference:], spy)
    chosen = drawn[1]
    assert set(np.unique(chosen)) <= {0.0, 1.0}
    assert (chosen.sum(axis=1) == current).all()
    begins = (chosen > np.roll(chosen, 1, axis=1)).sum(axis=1)
    assert (begins <= -(-current // run)).all(), "neighbours stay together"


def test_runs_are_the_longest_that_can_be_significant_and_fit_the_span() -> None:
    assert longest_run(110, 8, 40, 0.05, 4_999) == LONGEST_RUN
    assert longest_run(110, 3, 6, 0.05, 4_999) == 2, "one run of three has 113 places only"
    assert longest_run(5, 2, 40, 0.05, 4_999) == 1
    for current in range(1, 12):
        for tests in (1, 9, 60):
            run = longest_run(50, current, tests, 0.05, 4_999)
            assert 1 <= run <= min(LONGEST_RUN, current)
            assert run == 1 or tests * smallest_p(50, current, run, 4_999) <= 0.05


def test_number_of_exchanges_of_single_blocks_is_the_binomial_coefficient() -> None:
    for reference, current in ((5, 3), (9, 1), (2, 6)):
        ways = math.comb(reference + current, current)
        assert smallest_p(reference, current, 1, 10**6) == pytest.approx(1 / ways)


@pytest.mark.parametrize(
    ("reference", "current", "run"), [(12, 9, 4), (15, 9, 4), (7, 5, 2), (6, 4, 3), (10, 6, 3)]
)
def test_smallest_p_is_what_the_largest_effect_gets(reference: int, current: int, run: int) -> None:
    # Runs of unlike length: their orders within one stretch of blocks are one exchange, not many.
    n = 200_000
    exchanges = Exchanges(reference, current, run, n, seed=3)
    before, now = (np.column_stack((np.ones(m), np.full(m, x))) for m, x in
                   ((reference, 0.0), (current, 1.0)))  # fmt: skip
    _, p = exchanges.p_value(
        before, now, lambda a, b: np.abs(a[..., 1] / a[..., 0] - b[..., 1] / b[..., 0])
    )
    assert p == pytest.approx(exchanges.smallest_p, rel=0.2)


def test_run_is_short_enough_for_an_alarm_on_a_short_reference() -> None:
    # Runs of 4, 4 and 1 of nine weeks, or of 3, 3 and 3, can prove nothing in sixty monitors here.
    assert longest_run(15, 9, 60, 0.05, 4_999) == 2


def test_planted_shift_is_found_and_named() -> None:
    found = 0
    for seed in range(20):
        reference = reference_of(market(seed, 40))
        report = report_of(reference, market(100 + seed, 8, begin=40, shift=1.2))
        found += by_name(report)["prior_logit_1h"].verdict == "drift"
    assert found >= 17


def test_calls_beyond_the_forecast_are_drift_while_features_are_stable() -> None:
    reference = reference_of(market(1, 40, week_effect=0.2))
    report = report_of(reference, market(2, 10, begin=40, week_effect=0.2, biased=0.6))
    monitors = by_name(report)
    assert report.verdict == "drift"
    assert monitors["observed_over_predicted_1h"].verdict == "drift"
    assert monitors["observed_over_predicted_1h"].current > 1.25
    assert monitors["herfindahl"].verdict == "stable"


def test_significant_shift_below_the_floor_is_no_alarm() -> None:
    reference = reference_of(market(1, 30, week_effect=0.0, rows_a_day=700))
    rows = market(2, 15, begin=30, shift=0.06, week_effect=0.0, rows_a_day=700)
    monitor = by_name(report_of(reference, rows))["prior_logit_1h"]
    assert monitor.p_holm <= 0.05
    assert monitor.effect is not None
    assert 0.0 < monitor.effect < 0.1
    assert monitor.verdict == "stable"
    low = by_name(report_of(reference, rows, floors=Floors(distribution=0.01)))
    assert low["prior_logit_1h"].verdict == "drift"


def test_missing_rows_have_a_monitor_and_do_not_change_the_distribution() -> None:
    reference = reference_of(market(1, 30, week_effect=0.1))
    X, p, y, time = market(2, 10, begin=30, week_effect=0.1)
    X[np.random.default_rng(3).random(len(X)) < 0.3, 2] = np.nan
    monitors = by_name(report_of(reference, (X, p, y, time)))
    assert monitors["missing_herfindahl"].verdict == "drift"
    assert monitors["missing_herfindahl"].effect == pytest.approx(0.3, abs=0.03)
    assert monitors["herfindahl"].verdict == "stable"


def test_column_without_values_is_drift_with_an_undefined_effect() -> None:
    reference = reference_of(market(1, 30))
    X, p, y, time = market(2, 10, begin=30)
    X[:, 2] = np.nan
    monitors = by_name(report_of(reference, (X, p, y, time)))
    assert monitors["herfindahl"].effect is None
    assert monitors["herfindahl"].verdict == "stable"
    assert monitors["missing_herfindahl"].verdict == "drift"


def test_two_weeks_against_three_are_undecided() -> None:
    reference = reference_of(market(1, 3, week_effect=0.0))
    report = report_of(reference, market(2, 2, begin=3, shift=3.0, week_effect=0.0))
    assert report.verdict == "undecided"
    assert by_name(report)["prior_logit_1h"].verdict == "undecided"


def test_report_is_the_same_twice_and_has_no_nan() -> None:
    reference = reference_of(market(1, 20))
    rows = market(2, 6, begin=20)
    first, second = report_of(reference, rows).to_dict(), report_of(reference, rows).to_dict()
    assert first == second
    figures = [value for m in first["monitors"].values() for value in m.values()]
    assert all(math.isfinite(value) for value in figures if isinstance(value, float))
    assert {m["kind"] for m in first["monitors"].values()} == {
        "feature",
        "missing",
        "score",
        "labels",
    }


@pytest.mark.parametrize("asked", [(0, 1, 1, 9), (1, 0, 1, 9), (1, 1, 1, 0), (5, 2, 3, 9)])
def test_nothing_to_exchange_is_refused(asked: tuple[int, int, int, int]) -> None:
    with pytest.raises(ModelError, match="exchanges"):
        Exchanges(*asked, seed=1)


# --- the reference in its bundle ----------------------------------------------------------------


def dataset(rows: Rows) -> Dataset:
    X, _, y, time = rows
    features = np.full((len(X), len(ACCOUNT_COLUMNS)), np.nan)
    for i, name in enumerate(SCHEMA.features):
        features[:, ACCOUNT_COLUMNS.index(name)] = X[:, i]
    return Dataset(
        time=time,
        account=np.arange(len(X)) % 7,
        account_ids=tuple(f"a{i}" for i in range(7)),
        features=features,
        labels=y,
        horizons=SCHEMA.horizons,
        columns={},
        dropped={},
        considered=len(X),
        oracle_interval="1h",
        weight=np.ones(len(X)),
        uniform=np.ones(len(X), dtype=np.bool_),
    )


def bundle_with(folder: Path, extra: dict[str, bytes]) -> Bundle:
    """A bundle whose forecast is its prior."""
    trees = {hours: TreeTable.empty(len(SCHEMA.features)) for hours in SCHEMA.horizons}
    calibration = dict.fromkeys(SCHEMA.horizons, (1.0, 0.0))
    files = bundle_files(
        model=export(SCHEMA, trees, calibration),
        schema=SCHEMA,
        trees=trees,
        calibration=calibration,
        record=TrainingRecord("1" * 64, "2" * 64, {}),
    )
    return load_bundle(folder / write_bundle(folder, {**files, **extra}))


@pytest.fixture
def plain(tmp_path: Path) -> Bundle:
    return bundle_with(tmp_path, {})


def test_reference_survives_its_bundle_to_the_last_bit(plain: Bundle, tmp_path: Path) -> None:
    data = dataset(market(1, 12))
    weeks = block_number(data.time) - block_number(data.time[0])
    block = np.where(weeks < 6, Block.FIT, np.where(weeks < 9, Block.CALIBRATE, Block.TEST))
    made = make_reference(plain.scorer, SCHEMA, data, block.astype(np.int8))
    carrier = bundle_with(tmp_path, {REFERENCE_FILE: made.to_bytes()})
    read = read_reference(carrier)
    assert read is not None
    assert read.to_bytes() == made.to_bytes()
    assert made.profile.rows == int((weeks < 9).sum())
    assert made.profile.outcomes is not None
    assert made.profile.outcomes.sums[:, 0, 0].sum() == int(((weeks >= 6) & (weeks < 9)).sum())
    current = current_profile(carrier, read, data.take(np.flatnonzero(weeks >= 9)))
    found, expected = (drift_report(one, current, permutations=199) for one in (read, made))
    assert found.to_dict() == expected.to_dict()


def test_rows_beyond_the_limit_are_sampled_by_account_and_time_alone(
    plain: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(market(1, 12))
    reference = make_reference(
        plain.scorer, SCHEMA, data, np.zeros(len(data), dtype=np.int8) + Block.CALIBRATE
    )
    monkeypatch.setattr("training.drift.reference.MAX_ROWS", 500)
    sampled = current_profile(plain, reference, data)
    turned = current_profile(plain, reference, data.take(np.arange(len(data))[::-1].copy()))
    assert sampled.rows == len(data)
    assert sampled.histograms.rows == 500
    np.testing.assert_array_equal(sampled.histograms.counts, turned.histograms.counts)
    assert sampled.outcomes is not None
    assert sampled.outcomes.sums[:, 0, 0].sum() == len(data), "outcomes are rare: all rows count"


def test_bundle_from_before_there_were_references_has_none(plain: Bundle) -> None:
    assert read_reference(plain) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format":1', b'"format":2'),
        (b'"horizons":[1,8]', b'"horizons":[1,24]'),
        (b'"days":7', b'"days":0'),
        (b'"outcome_blocks":[', b'"outcome_blocks":[1,'),
        (b'"blocks":[', b'"block":['),
    ],
)
def test_reference_that_does_not_fit_its_model_is_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    encoded = reference_of(market(1, 4)).to_bytes()
    assert old in encoded
    with pytest.raises(BundleError, match=r"reference\.json .* retrain"):
        read_reference(bundle_with(tmp_path, {REFERENCE_FILE: encoded.replace(old, new)}))


def test_rows_of_other_horizons_or_none_are_refused(plain: Bundle) -> None:
    data = dataset(market(1, 4))
    reference = reference_of(market(1, 4))
    with pytest.raises(ModelError, match="no account-time"):
        current_profile(plain, reference, data.take(np.empty(0, dtype=np.int64)))
    other = Dataset(**{**{f: getattr(data, f) for f in data.__slots__}, "horizons": (1, 24)})
    with pytest.raises(ModelError, match="horizons"):
        current_profile(plain, reference, other)
    with pytest.raises(ModelError, match="level"):
        report_of(reference, market(2, 3, begin=4), level=1.0)


def test_hours_of_a_day_are_one_block() -> None:
    time = START + np.arange(24) * HOUR
    assert len(histograms([np.arange(24.0)], [quantile_edges(np.arange(24.0))], time).block) == 1
