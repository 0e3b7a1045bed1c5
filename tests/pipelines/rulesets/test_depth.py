"""Depth figures: quantiles by an oracle, what is left out is counted, the TOML is a rule set's."""

from __future__ import annotations

import hashlib
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from margin.rules.ruleset import load_ruleset, ruleset_from_content
from market.core.errors import DataError
from pipelines.rulesets.depth import SIZES, write_depth

START = datetime(2026, 2, 12, tzinfo=UTC)


def books(coin: str, count: int, seed: int, **columns: Any) -> pl.DataFrame:
    """Books whose slippage grows with size; a keyword replaces a column."""
    rng = np.random.default_rng(seed)
    spread = rng.lognormal(0.0, 1.0, count)
    rows: dict[str, Any] = {
        "ts": [START + timedelta(minutes=i) for i in range(count)],
        "exchange": rng.choice(["one", "two"], count).tolist(),
        "ticker": [coin] * count,
        "spread_bps": spread,
        "is_aggregated_estimate": [False] * count,
    }
    for side in ("ask", "bid"):
        cost = spread / 2
        for size in SIZES:
            cost = cost + rng.lognormal(0.0, 1.0, count)
            rows[f"{side}_slip_{size}"] = cost
            rows[f"{side}_fill_{size}"] = [True] * count
    return pl.DataFrame(rows | columns)


def write(folder: Path, *frames: pl.DataFrame) -> Path:
    file = folder / "books.parquet"
    pl.concat(frames, how="vertical_relaxed").write_parquet(file)
    return file


def test_figures_are_the_quantiles_of_the_dearer_side(tmp_path: Path) -> None:
    frame = books("BTC", 301, 1)
    report = write_depth(write(tmp_path, frame), tmp_path / "out.toml", 0.9)
    curve = report["coins"]["BTC"]
    half = frame["spread_bps"].to_numpy() / 2 * 1e-4
    assert curve["half_spread"] == pytest.approx(np.quantile(half, 0.9))
    assert curve["median"]["half_spread"] == pytest.approx(np.median(half))
    for (notional, share), (name, size) in zip(curve["slippage"], SIZES.items(), strict=True):
        cost = np.maximum(frame[f"ask_slip_{name}"], frame[f"bid_slip_{name}"]) * 1e-4
        assert (notional, share) == (size, pytest.approx(np.quantile(cost, 0.9)))
        assert curve["median"][name] == pytest.approx(np.median(cost))


def test_what_is_left_out_is_counted_and_changes_no_figure(tmp_path: Path) -> None:
    clean = books("BTC", 150, 2)
    empty = books("BTC", 20, 3, spread_bps=[None] * 20)
    rounded = books("BTC", 30, 4, spread_bps=[900.0] * 30, is_aggregated_estimate=[True] * 30)
    rare = books("ETH", 99, 5)
    found = write_depth(write(tmp_path, clean, empty, rounded, rare), tmp_path / "out.toml")
    assert found["rows"] == {
        "read": 299,
        "without_spread": 20,
        "aggregated_levels": 30,
        "used": 150,
    }
    assert found["too_few_books"] == ["ETH"]
    alone = write_depth(write(tmp_path, clean), tmp_path / "out.toml")
    assert found["coins"] == alone["coins"]


def test_size_that_too_many_books_cannot_fill_ends_the_curve(tmp_path: Path) -> None:
    filled = np.arange(200) >= 20  # a tenth cannot
    thin = books("BTC", 200, 6, bid_fill_1m=filled)
    report = write_depth(write(tmp_path, thin), tmp_path / "out.toml", 0.95)
    assert [size for size, _ in report["coins"]["BTC"]["slippage"]] == [1e3, 1e4, 1e5]
    report = write_depth(write(tmp_path, thin), tmp_path / "out.toml", 0.85)
    assert len(report["coins"]["BTC"]["slippage"]) == 4
    deep = write(tmp_path, thin, books("ETH", 200, 7))
    both = write_depth(deep, tmp_path / "out.toml", 0.95)
    assert [size for size, _ in both["others"]["slippage"]] == [1e3, 1e4, 1e5]


def test_other_coins_take_the_dearest_at_every_size(tmp_path: Path) -> None:
    source = write(tmp_path, books("BTC", 120, 8), books("ETH", 120, 9))
    report = write_depth(source, tmp_path / "out.toml")
    curves = list(report["coins"].values())
    assert report["others"]["half_spread"] == max(curve["half_spread"] for curve in curves)
    for k, (_, share) in enumerate(report["others"]["slippage"]):
        assert share == max(curve["slippage"][k][1] for curve in curves)


def test_file_is_the_table_of_a_rule_set_with_its_provenance(tmp_path: Path) -> None:
    source = write(tmp_path, books("BTC", 120, 8), books("ETH", 120, 9))
    out = tmp_path / "out.toml"
    report = write_depth(source, out)
    text = out.read_text()
    assert hashlib.sha256(source.read_bytes()).hexdigest() in text
    assert "240 order books of one, two" in text
    assert "2026-02-12T00:00:00Z" in text
    content = load_ruleset("linear-tiers").content()
    content["floors"]["liquidity"] |= tomllib.loads(text)["floors"]["liquidity"]
    rules = ruleset_from_content(content).floors.liquidity
    assert isinstance(rules.depth, dict)
    written = np.array(rules.depth["BTCUSDT"].slippage)
    found = np.array(report["coins"]["BTC"]["slippage"])
    assert (written >= found - 1e-15).all()  # rounded in the house's favour
    assert written == pytest.approx(found, abs=1e-10)


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (books("BTC", 120, 1).drop("ask_slip_10k"), "ask_slip_10k"),
        (books("BTC", 120, 1, spread_bps=[None] * 120), "no order book with a spread"),
        (books("BTC", 99, 1), "no coin .* 100 order books"),
        (books("BTC-USD", 120, 1), "BTC-USD"),
        (books("BTC", 120, 1, ask_fill_1k=[False] * 120), "lower quantile"),
    ],
)
def test_source_that_gives_no_figure_is_refused(
    tmp_path: Path, frame: pl.DataFrame, named: str
) -> None:
    out = tmp_path / "out.toml"
    with pytest.raises(DataError, match=named):
        write_depth(write(tmp_path, frame), out)
    assert not out.exists()


def test_empty_folder_broken_file_and_odd_quantile_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.toml"
    with pytest.raises(DataError, match="no parquet file"):
        write_depth(tmp_path, out)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a parquet file"):
        write_depth(broken, out)
    with pytest.raises(DataError, match="quantile is 1"):
        write_depth(broken, out, 1.0)


@pytest.mark.realdata
def test_emir_preset_has_the_figures_of_the_real_order_books(
    data_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "depth.toml"
    report = write_depth(data_dir / "liquidity_perps_minute", out)
    assert report["rows"]["used"] > 5_000
    assert len(report["venues"]) == 6
    made = tomllib.loads(out.read_text())["floors"]["liquidity"]
    preset = load_ruleset("emir-ccp").content()["floors"]["liquidity"]
    assert {key: preset[key] for key in made} == made
