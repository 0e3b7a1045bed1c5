"""Training rows of frames are those that a training makes of the same data as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import margincast as mc
from margincast.frames import table_of
from pipelines.config.config import load_config
from pipelines.data.accounts import read_dataset, read_intervals
from pipelines.data.loaders import read_label_rules, read_market


@pytest.fixture(scope="module")
def book() -> mc.Simulation:
    return mc.simulate(
        seed=5, days=16, symbols=2, accounts=60, population="behaving-v1", history=True
    )


@pytest.fixture(scope="module")
def rows(book: mc.Simulation) -> mc.TrainingRows:
    return mc.training_rows(
        book.positions, book.collateral, book.bars, horizon_hours=8, events=book.events
    )


def test_rows_equal_those_of_a_training_to_the_last_bit(
    book: mc.Simulation, rows: mc.TrainingRows, tmp_path: Path
) -> None:
    for name in ("bars", "accounts"):
        (tmp_path / name).mkdir()
    frames = {f"bars/{symbol}": part for symbol, part in book.bars.groupby("symbol")}
    for name in ("positions", "collateral", "events"):
        frames[f"accounts/{name}"] = getattr(book, name)
    for name, frame in frames.items():
        columns = tuple(column for column in frame.columns if column != "symbol")
        pq.write_table(table_of(frame, name, columns), tmp_path / f"{name}.parquet")
    (tmp_path / "margincast.toml").write_text(
        '[market]\nbars = ["bars"]\n[accounts]\npath = "accounts"\nsource = "files"\nseed = 0\n'
        "[training]\nhorizons = [8]\n"
    )
    config = load_config(tmp_path / "margincast.toml")
    market = read_market(config)
    rules = read_label_rules(config, market)
    data = read_dataset(config, market, read_intervals(config, market, rules), rules)
    assert rows.X.columns.tolist() == list(data.feature_names)
    np.testing.assert_array_equal(rows.X.to_numpy(), data.features)
    np.testing.assert_array_equal(rows.y.to_numpy(), data.labels[:, 0])
    np.testing.assert_array_equal(rows.times.astype("int64").to_numpy(), data.time)
    assert rows.accounts.tolist() == [data.account_ids[i] for i in data.account]


def test_rows_are_in_time_order_and_have_the_distances_of_the_prior(
    rows: mc.TrainingRows,
) -> None:
    assert len(rows.X) == len(rows.y) == len(rows.times) == len(rows.accounts) > 1000
    assert rows.times.is_monotonic_increasing
    assert set(rows.y) == {0, 1}
    assert rows.X[["forecast_distance_8h", "long_run_distance"]].notna().all(axis=None)


def test_at_most_so_many_rows_are_chosen_the_same_ones_each_time(
    book: mc.Simulation, rows: mc.TrainingRows
) -> None:
    found = [
        mc.training_rows(
            book.positions, book.collateral, book.bars, horizon_hours=8, max_rows=500, seed=seed
        )
        for seed in (1, 1, 2)
    ]
    assert 0 < len(found[0].X) <= 600 < len(rows.X)
    pd.testing.assert_frame_equal(found[0].X, found[1].X, check_exact=True)
    assert not found[0].X.equals(found[2].X)


def test_what_no_rows_can_be_made_of_is_refused(book: mc.Simulation) -> None:
    undated = book.positions.drop(columns="ts")
    for positions, horizon, message in (
        (undated, 8, r"positions lacks the column\(s\) ts"),
        (book.positions, 0, "horizon_hours is 0"),
        (book.positions, 5_000, "no account-time can be used"),
    ):
        with pytest.raises(mc.DataError, match=message):
            mc.training_rows(positions, book.collateral, book.bars, horizon_hours=horizon)


def test_an_option_is_refused_for_want_of_quotes(book: mc.Simulation) -> None:
    positions = book.positions.copy()
    positions.loc[0, "instrument"] = "BTC-27MAR26-60000-C"
    with pytest.raises(mc.DataError, match="an account holds the option 'BTC-27MAR26-60000-C'"):
        mc.training_rows(positions, book.collateral, book.bars, ruleset="derive-pmrm2")
