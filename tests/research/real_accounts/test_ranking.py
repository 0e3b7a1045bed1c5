"""Ranks, areas, alerts and lead times of liquidations among account-times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import roc_auc_score

from features.registry import ACCOUNT_COLUMNS
from market.core.clock import HOUR
from research.real_accounts.population import book_figures
from research.real_accounts.ranking import (
    account_weights,
    area_under_curve,
    before_liquidation,
    discrimination,
    lead_times,
    ranks,
    runs_of,
)
from research.real_accounts.scored_rows import AccountIndex, Floats, Liquidations, ScoredRows
from training.labels.dataset import Dataset

HOURS = 200


def dataset(account: Floats, hour: Floats) -> Dataset:
    order = np.lexsort((account, hour))
    rows = len(order)
    features = np.full((rows, len(ACCOUNT_COLUMNS)), np.nan)
    for name, value in (("equity_share", 0.2), ("herfindahl", 0.5), ("net_share", 1.0)):
        features[:, ACCOUNT_COLUMNS.index(name)] = value
    return Dataset(
        time=(hour[order] * HOUR).astype(np.int64),
        account=account[order].astype(np.int64),
        account_ids=tuple(f"a{i}" for i in range(int(account.max()) + 1)),
        features=features,
        labels=np.zeros((rows, 3), dtype=np.int8),
        horizons=(1, 8, 24),
        columns={},
        dropped={},
        considered=rows,
        oracle_interval="1h",
        weight=np.ones(rows),
        uniform=np.ones(rows, dtype=np.bool_),
    )


@pytest.fixture
def rows() -> ScoredRows:
    """Twenty accounts over 200 hours; account 0 is liquidated half an hour after hour 99 and its
    probability rises by the hour from hour 80, account 1 has a gap at hour 50."""
    account, hour = (a.ravel() for a in np.meshgrid(np.arange(20.0), np.arange(1.0, HOURS)))
    kept = ~((account == 1) & (hour == 50)) & ~((account == 0) & (hour > 99))
    data = dataset(account[kept], hour[kept])
    hours = data.time / HOUR
    p = np.where(data.account == 0, np.clip((hours - 79.0) / 20.0, 0.001, None), 0.01)
    return ScoredRows(
        data=data,
        models={h: {"margincast": p, "margin_ratio": 1.0 - p} for h in (1, 8, 24)},
        liquidations=Liquidations(np.array([0]), np.array([99 * HOUR + HOUR // 2])),
        isolated=Liquidations(np.array([2]), np.array([150 * HOUR])),
        end=HOURS * HOUR,
        coverage={},
    )


def test_index_finds_the_rows_of_an_account_in_time() -> None:
    account, time = np.array([1, 0, 1, 0]), np.array([5, 5, 9, 7])
    index = AccountIndex(account, time)
    assert index.rows(1).tolist() == [0, 2]
    assert index.rows(0, 5, 7).tolist() == [3]
    assert index.rows(1, 5, 8).tolist() == []
    assert index.rows(7).tolist() == []


def test_next_liquidation_is_that_of_the_account_alone() -> None:
    liquidations = Liquidations(np.array([0, 0, 3]), np.array([20, 10, 5]))
    found = liquidations.next_after(np.array([0, 0, 0, 1, 3]), np.array([9, 10, 20, 0, 5]))
    never = np.iinfo(np.int64).max
    assert found.tolist() == [10, 20, never, never, never]


def test_liquidations_outside_the_span_are_left_out() -> None:
    liquidations = Liquidations(np.array([0, 1, 2]), np.array([5, 7, 9]))
    assert liquidations.between(None, None).pairs() == [(0, 5), (1, 7), (2, 9)]
    assert liquidations.between(6, 8).pairs() == [(1, 7)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 4)), min_size=2))
def test_area_is_that_of_scikit_learn(cells: list[tuple[bool, int, int]]) -> None:
    y, p, w = (np.array(column) for column in zip(*cells, strict=True))
    if len(set(y.tolist())) < 2:
        assert np.isnan(area_under_curve(y, p.astype(float), w.astype(float)))
    else:
        wanted = roc_auc_score(y, p, sample_weight=w)
        assert area_under_curve(y, p.astype(float), w.astype(float)) == pytest.approx(wanted)


def test_rank_counts_ties_half() -> None:
    assert ranks(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 2.0, 3.0])).tolist() == [0, 0.5, 1]


def test_runs_end_with_the_hour_and_the_account() -> None:
    account = np.array([0, 1, 0, 1, 0])
    time = np.array([1, 1, 2, 2, 5]) * HOUR
    assert runs_of(account, time).tolist() == [0, 2, 0, 2, 1]


def test_whole_accounts_are_drawn() -> None:
    account = np.array([0, 0, 1, 2, 2, 2])
    weights = account_weights(account, 50)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_liquidation_is_found_at_every_horizon(rows: ScoredRows) -> None:
    for horizon in (1, 8, 24):
        found = discrimination(rows, horizon)
        assert found["positives"] == horizon
        assert found["liquidations_seen"] == 1
        assert found["models"]["margincast"]["alerts"]["0.01"]["share"] == 1.0
    models = discrimination(rows, 1)["models"]
    assert models["margincast"]["auc"] == 1.0
    assert models["margin_ratio"]["auc"] == 0.0
    assert models["margin_ratio"]["alerts"]["0.1"]["share"] == 0.0


def test_hours_before_an_isolated_liquidation_and_the_end_are_unknown(rows: ScoredRows) -> None:
    data, known = rows.data, rows.known(8)
    hour = data.time // HOUR
    assert not known[(data.account == 2) & (hour >= 142) & (hour < 150)].any()
    assert known[(data.account == 2) & (hour == 150)].all()
    assert not known[hour > HOURS - 8].any()
    assert known[(data.account != 2) & (hour <= HOURS - 8)].all()


def test_probability_before_the_liquidation_is_the_newest_one(rows: ScoredRows) -> None:
    reference = {h: {name: np.array([0.0, 0.4]) for name in rows.models[h]} for h in (1, 8, 24)}
    found = before_liquidation(rows, reference, [{1: "flat", 8: "flat", 24: "flat"}])
    at_1h = found["1"]["models"]["margincast"]
    assert at_1h["probability"]["median"] == pytest.approx((98 - 79) / 20)
    assert at_1h["reference_rank"]["median"] == 1.0
    assert found["8"]["models"]["margincast"]["probability"]["median"] == pytest.approx(0.6)
    assert found["24"]["scored"] == 1
    assert found["24"]["missing"] == {}


def test_liquidation_of_an_account_that_was_not_scored_is_missing(rows: ScoredRows) -> None:
    late = Liquidations(np.array([0]), np.array([150 * HOUR]))
    rows = ScoredRows(rows.data, rows.models, late, rows.isolated, rows.end, {})
    found = before_liquidation(rows, rows.models, [{1: "flat", 8: "flat", 24: "no bars"}])
    assert found["1"]["scored"] == 0
    assert found["24"]["missing"] == {"no bars": 1}
    assert lead_times(rows)["scored"] == 0


def test_lead_time_begins_where_the_threshold_is_first_exceeded(rows: ScoredRows) -> None:
    found = lead_times(rows)
    assert found["scored"] == 1
    assert found["hours_open"]["median"] == 98.5
    # (h - 79) / 20 is over 0.3 from hour 86 on, over 0.02 from hour 80 on.
    assert found["0.3"]["first_hours"]["median"] == 13.5
    assert found["0.02"]["lasting_hours"]["median"] == 19.5
    assert found["0.02"]["alerted"]["count"] == 1
    # The gap parts account 1 in two: twenty quiet runs, none of them over a threshold.
    assert found["0.02"]["runs_in_vain"] == {
        "count": 0,
        "of": 20,
        "share": 0.0,
        "ci95": found["0.02"]["runs_in_vain"]["ci95"],
    }


def test_accounts_without_quiet_hours_are_not_ranked(rows: ScoredRows) -> None:
    every = Liquidations(np.repeat(np.arange(20), 8), np.tile(np.arange(24, 200, 24) * HOUR, 20))
    rows = ScoredRows(rows.data, rows.models, every, rows.isolated, rows.end, {})
    assert "auc" not in discrimination(rows, 1)["models"]["margincast"]


def test_figures_of_books(rows: ScoredRows) -> None:
    found = book_figures(rows.data)
    assert found["accounts"] == 20
    assert found["leverage"]["median"] == pytest.approx(5.0)
    assert found["effective_coins"]["by_account"]["mean"] == pytest.approx(2.0)
    assert found["all_long"]["mean"] == 1.0
    assert found["one_coin"]["mean"] == 0.0
