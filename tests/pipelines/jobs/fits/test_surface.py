from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from margin.pricing.black76 import black76_price
from market.core.errors import DataError
from pipelines.cli.main import app
from pipelines.jobs.fits.surface import fit_surfaces

STRIKES = np.arange(40_000.0, 100_001.0, 5_000.0)
SNAPSHOT = np.datetime64("2026-07-05T04:00:00", "us")


def made(path: Path, exchange: str = "deribit") -> Path:
    """A chain of two expiries quoted around a smile, and one of a single strike."""
    rows = []
    for expiry, forward, few in (
        ("2026-07-31", 63_000.0, False),
        ("2026-09-25", 64_000.0, False),
        ("2026-12-25", 65_000.0, True),
    ):
        tau = (np.datetime64(f"{expiry}T08:00:00") - SNAPSHOT) / np.timedelta64(1, "s") / 31_536_000
        for strike in STRIKES[:1] if few else STRIKES:
            vol = 0.45 + 0.2 * np.log(strike / forward) ** 2
            for kind in ("put", "call"):
                mark, bid, ask = (
                    float(black76_price(forward, strike, tau, vol + shift, kind == "call"))
                    / forward
                    for shift in (0.0, -0.01, 0.01)
                )
                rows.append(
                    {
                        "ts": SNAPSHOT,
                        "exchange": exchange,
                        "underlying": "BTC",
                        "instrument": f"{expiry}-{strike}-{kind}",
                        "expiry": np.datetime64(expiry, "us"),
                        "strike": strike,
                        "type": kind,
                        "mark_price": mark,
                        "bid": bid,
                        "ask": ask,
                        "mark_iv": vol * 100.0,
                        "underlying_price": forward,
                    }
                )
    path.mkdir(exist_ok=True)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    file = path / f"{exchange}.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def test_verb_reports_each_slice_and_names_what_failed(tmp_path: Path) -> None:
    made(tmp_path / "chains")
    out = tmp_path / "surface.json"
    done = CliRunner().invoke(app, ["surface", str(tmp_path / "chains"), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "deribit BTC 2026-07-05T04:00:00Z to 2026-12-25T08:00:00Z" in " ".join(
        done.output.split()
    )
    report = json.loads(out.read_text())
    assert [file["quality"]["used"] for file in report["files"]] == [54]
    near, far, lone = report["slices"]
    assert lone["failure"].startswith("1 strikes have a vol")
    assert lone["svi"] is None
    for entry in (near, far):
        assert entry["failure"] is None
        assert entry["points"] == entry["quoted"] == len(STRIKES)
        assert entry["width"] == pytest.approx(0.02, rel=1e-6)
        assert entry["rmse"] < 0.01
        assert entry["inside"] == entry["marks_inside"] == 1.0
        assert entry["rmse_over_width"] == pytest.approx(entry["rmse"] / entry["width"])
        assert entry["atm"] == pytest.approx(0.45, abs=0.01)
        assert entry["butterfly_after"] >= 0.0
    assert far["calendar_free_after"] is True
    assert near["calendar_free_after"] is None
    assert [line["slices"] for line in report["summary"]] == [1, 1, 1]
    assert sum(line["failed"] for line in report["summary"]) == 1


def test_prices_alone_give_nearly_the_same(tmp_path: Path) -> None:
    file = made(tmp_path / "chains")
    marks, prices = fit_surfaces(file), fit_surfaces(file, use_marks=False)
    for with_marks, without in zip(marks["slices"][:2], prices["slices"][:2], strict=True):
        assert without["from_marks"] == 0
        assert without["marks_inside"] is None
        assert without["atm"] == pytest.approx(with_marks["atm"], abs=2e-3)


def test_a_folder_without_chains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no parquet file"):
        fit_surfaces(tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize("exchange", ["deribit", "okx"])
def test_real_snapshots_are_fitted_within_their_quotes(
    data_dir: Path, tmp_path: Path, exchange: str
) -> None:
    """One snapshot of each exchange: no arbitrage is left, and most expiries of more than a day
    lie within half of the bid-ask width (root mean square)."""
    table = pq.read_table(data_dir / "options_chain_daily" / f"{exchange}.parquet")
    day = sorted(table["ts"].unique().to_pylist())[20]
    chosen = table.filter(pc.equal(table["ts"], day))
    pq.write_table(chosen, tmp_path / "one.parquet")
    slices = fit_surfaces(tmp_path / "one.parquet")["slices"]
    assert len(slices) > 20
    assert all(entry["svi"] is not None for entry in slices)
    assert all(entry["butterfly_after"] >= 0.0 for entry in slices)
    assert all(entry["calendar_free_after"] in (None, True) for entry in slices)
    assert any(entry["moved"] for entry in slices)
    longer = [entry for entry in slices if entry["days"] > 1.0]
    assert np.median([entry["error"] for entry in longer]) < 1.0
    assert all(0.1 < entry["atm"] < 2.0 for entry in slices)
