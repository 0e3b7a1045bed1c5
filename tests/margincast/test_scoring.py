"""`score` on frames: equal to the command line to the last bit, and errors that name the row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import margincast as mc
from margincast.frames import table_of
from pipelines.config.config import load_config
from pipelines.data.loaders import read_market
from pipelines.jobs.score import score_book


@pytest.fixture(scope="module")
def book() -> mc.Simulation:
    return mc.simulate(seed=3, days=12, symbols=3, accounts=12)


@pytest.fixture(scope="module")
def market(book: mc.Simulation) -> mc.Market:
    return mc.Market(book.bars)


@pytest.fixture(scope="module")
def model(made_bundles: tuple[Path, str]) -> mc.Model:
    return mc.load_bundle(made_bundles[0])


@pytest.fixture(scope="module")
def decisions(book: mc.Simulation, market: mc.Market, model: mc.Model) -> pd.DataFrame:
    return mc.score(book.positions, book.collateral, market, model=model, explain=True)


@pytest.fixture(scope="module")
def workspace(
    book: mc.Simulation, made_bundles: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same bars and accounts as files, and a configuration."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("bars", "accounts"):
        (folder / name).mkdir()
    for symbol, bars in book.bars.groupby("symbol"):
        columns = tuple(name for name in bars.columns if name != "symbol")
        pq.write_table(table_of(bars, "bars", columns), folder / "bars" / f"{symbol}.parquet")
    for name in ("positions", "collateral"):
        frame = getattr(book, name)
        table = table_of(frame, name, tuple(frame.columns))
        pq.write_table(table, folder / "accounts" / f"{name}.parquet")
    (folder / "margincast.toml").write_text(
        f'[market]\nbars = ["bars"]\n[serving]\nbundles = "{made_bundles[0]}"\n'
    )
    return folder


def test_decisions_equal_those_of_the_command_line_to_the_last_bit(
    workspace: Path, decisions: pd.DataFrame, market: mc.Market
) -> None:
    config = load_config(workspace / "margincast.toml")
    out = workspace / "scored.parquet"
    as_of = market.newest().isoformat()
    score_book(config, workspace / "accounts", as_of, out, record=False, explain=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out), decisions, check_exact=True)
    assert decisions["degraded"].isna().all()
    assert decisions[["p_1", "p_8", "p_24"]].notna().all(axis=None)


def test_champion_of_a_configuration_is_the_bundle(workspace: Path, model: mc.Model) -> None:
    found = mc.load_champion(workspace / "margincast.toml")
    assert found.sha256 == model.sha256
    assert found.sha256[:12] in repr(found)
    assert found.horizons == (1, 8, 24)


def test_features_equal_those_of_the_command_line_to_the_last_bit(
    workspace: Path, market: mc.Market
) -> None:
    loaded = read_market(load_config(workspace / "margincast.toml"))
    table = mc.features(market)
    for s, symbol in enumerate(loaded.features.symbols):
        own = table[table["symbol"] == symbol]
        for column in ("ewma_volatility_72h", "volatility_forecast_24h"):
            pd.testing.assert_series_equal(
                own[column].reset_index(drop=True),
                pd.Series(loaded.features.column(column)[:, s], name=column),
                check_exact=True,
            )


def test_polars_frames_give_the_same(
    book: mc.Simulation, model: mc.Model, decisions: pd.DataFrame
) -> None:
    positions, collateral, bars = map(in_polars, (book.positions, book.collateral, book.bars))
    found = mc.score(positions, collateral, bars, model=model, explain=True)
    pd.testing.assert_frame_equal(found, decisions, check_exact=True)


def test_bars_by_symbol_give_the_same(
    book: mc.Simulation, model: mc.Model, decisions: pd.DataFrame
) -> None:
    frames = {str(name): part for name, part in book.bars.groupby("symbol")}
    found = mc.score(book.positions, book.collateral, frames, model=model, explain=True)
    pd.testing.assert_frame_equal(found, decisions, check_exact=True)


def test_model_predicts_from_a_frame_in_any_column_order(model: mc.Model) -> None:
    frame = pd.DataFrame({name: [0.5, 1.0] for name in model.feature_names}, index=["a", "b"])
    found = model.predict(frame[frame.columns[::-1]])
    assert found.columns.tolist() == ["p_1", "p_8", "p_24"]
    assert found.index.tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(found, model.predict(frame))
    with pytest.raises(mc.DataError, match="features lacks the column"):
        model.predict(frame.drop(columns=model.feature_names[0]))


def test_requirement_has_the_figures_of_the_decision_and_parts_that_add_up(
    book: mc.Simulation, market: mc.Market, decisions: pd.DataFrame
) -> None:
    margins = mc.requirement(book.positions, book.collateral, market)
    figures = ["account_id", "equity", "initial_margin", "maintenance_margin", "headroom"]
    pd.testing.assert_frame_equal(margins[figures], decisions[figures], check_exact=True)
    parts = mc.requirement(book.positions, book.collateral, market, by="component")
    total = parts.groupby("account_id")["maintenance"].sum()
    assert total.to_numpy() == pytest.approx(margins["headroom"].to_numpy())
    legs = mc.requirement(book.positions, book.collateral, market, by="position")
    assert len(legs) == len(book.positions)


def test_explanation_adds_up_to_headroom_and_log_odds(
    book: mc.Simulation, market: mc.Market, model: mc.Model, decisions: pd.DataFrame
) -> None:
    parts = mc.explain(book.positions, book.collateral, market, model=model)
    sums = parts.groupby(["figure", "account_id"])["amount"].sum()
    assert sums["headroom"].to_numpy() == pytest.approx(decisions["headroom"].to_numpy())
    odds = 1.0 / (1.0 + 2.718281828459045 ** -sums["log_odds_24"])
    assert odds.to_numpy() == pytest.approx(decisions["p_24"].to_numpy(), abs=1e-9)


def test_what_if_moves_headroom_by_a_deposit_and_keeps_the_decisions_before(
    book: mc.Simulation, market: mc.Market, model: mc.Model, decisions: pd.DataFrame
) -> None:
    name = decisions["account_id"][0]
    scenario = mc.Scenario(deposits={name: 2.0}, target_headroom=5.0)
    found = mc.what_if(book.positions, book.collateral, market, scenario, model=model)
    columns = [column for column in decisions if column != "explain"]
    pd.testing.assert_frame_equal(found.before[columns], decisions[columns], check_exact=True)
    moved = found.after["headroom"] - found.before["headroom"]
    assert moved.tolist() == pytest.approx([2.0] + [0.0] * (len(moved) - 1))
    assert found.remedies is not None
    deposits = found.remedies[found.remedies["remedy"] == "deposit"]["amount"]
    assert deposits.to_numpy() == pytest.approx(5.0 - decisions["headroom"].to_numpy(), abs=0.011)


def test_a_shock_moves_the_margins_of_what_if(book: mc.Simulation, market: mc.Market) -> None:
    fall = mc.Scenario(spot={"*": -0.2})
    found = mc.what_if(book.positions, book.collateral, market, fall, model=None)
    assert (found.before["equity"] != found.after["equity"]).any()
    assert found.remedies is None


def in_polars(frame: pd.DataFrame) -> pl.DataFrame:
    found = pl.from_arrow(table_of(frame, "frame", tuple(frame.columns)))
    assert isinstance(found, pl.DataFrame)
    return found


def changed(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    copy = frame.copy()
    copy.loc[row, column] = value
    return copy


def test_broken_frames_are_refused_with_frame_column_and_row(
    book: mc.Simulation, market: mc.Market
) -> None:
    positions, collateral = book.positions, book.collateral
    twice = pd.concat([positions, positions.iloc[[0]]])
    cases: list[tuple[Any, Any, str]] = [
        (positions.drop(columns="quantity"), collateral, "positions lacks the column.s. quantity"),
        (changed(positions, 2, "quantity", float("nan")), collateral, "positions: quantity is nan"),
        (changed(positions, 2, "account_id", None), collateral, "account_id is missing at row 2"),
        (changed(positions, 2, "ts", None), collateral, "positions.*'ts'.*row 2"),
        (twice, collateral, f"positions: row {len(positions)} repeats instrument"),
        (changed(positions, 1, "instrument", "NOPE-PERP"), collateral, "positions: instrument at"),
        (positions, changed(collateral, 1, "asset", "NOPE"), "collateral: asset at row 1"),
        (positions.to_dict(), collateral, "positions is a builtins.dict; expected a pandas"),
        (positions, collateral.to_numpy(), "collateral is a numpy.ndarray"),
        (in_polars(positions).lazy(), collateral, "LazyFrame"),
    ]
    for held, kept, message in cases:
        with pytest.raises(mc.DataError, match=message):
            mc.score(held, kept, market, model=None)


def test_bars_without_a_column_or_symbol_are_refused(book: mc.Simulation) -> None:
    with pytest.raises(mc.DataError, match=r"bars of .* lacks the column.s. close"):
        mc.Market(book.bars.drop(columns="close"))
    with pytest.raises(mc.DataError, match=r"bars lacks the column.s. symbol"):
        mc.Market(book.bars.drop(columns="symbol"))
    with pytest.raises(mc.DataError, match="is no symbol"):
        mc.Market({"btc/usd": book.bars.drop(columns="symbol")})
    with pytest.raises(mc.DataError, match="exogenous names 'fundings'"):
        mc.Market(book.bars, exogenous={"fundings": book.bars})


def test_scenario_that_asks_nothing_or_names_a_stranger_is_refused(
    book: mc.Simulation, market: mc.Market
) -> None:
    for scenario, message in (
        (mc.Scenario(), "changes nothing"),
        (mc.Scenario(deposits={"nobody": 1.0}), "'nobody'"),
        (mc.Scenario(spot={"BTC": -2.0}), "scenario: "),
        (mc.Scenario(spot={"NOPE": -0.1}), "'NOPE'"),
    ):
        with pytest.raises(mc.DataError, match=message):
            mc.what_if(book.positions, book.collateral, market, scenario, model=None)


def test_import_loads_nothing_and_the_package_of_features_hides_no_function() -> None:
    program = (
        "import sys, margincast; "
        "slow = {'pandas', 'numpy', 'lightgbm', 'mlflow', 'sklearn'} & set(sys.modules); "
        "assert not slow, slow; import types; "
        "margincast.features = types.ModuleType('margincast.features'); "
        "assert callable(margincast.features)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_classifier_without_its_extra_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['lightgbm'] = None; import margincast\n"
        "try: margincast.MarginCallClassifier\n"
        "except margincast.MargincastError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith("-m pip install 'margincast[training]'\n")
