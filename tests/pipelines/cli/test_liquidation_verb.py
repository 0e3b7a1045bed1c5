"""``margincast liquidation``: answers in order, exit 2 where a case failed."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from pipelines.cli.main import app

CASE = {
    "id": "long",
    "portfolio": {
        "cash": 500.0,
        "stable_price": 1.0,
        "underlyings": {"BTC": {"spot": 100_000.0, "perp_price": 100_000.0}},
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": 0.1, "entry_price": 100_000.0}
        ],
        "collateral": [],
    },
    "ruleset": "hyperliquid",
}


def run(folder: Path, *cases: object) -> tuple[int, list[dict[str, object]]]:
    (folder / "in.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    out = folder / "out.jsonl"
    done = CliRunner().invoke(
        app, ["liquidation", "--cases", str(folder / "in.jsonl"), "--out", str(out)]
    )
    return done.exit_code, [json.loads(line) for line in out.read_text().splitlines()]


def test_answers_stand_in_the_order_of_the_cases(tmp_path: Path) -> None:
    code, (first, second) = run(tmp_path, CASE, CASE | {"id": "again"})
    assert code == 0
    assert (first["id"], second["id"]) == ("long", "again")
    legs = first["legs"]
    assert isinstance(legs, list)
    # Hyperliquid: 100,000 - (500 - 125) / 0.1 / (1 - 0.0125).
    expected = 100_000.0 - 375.0 / 0.1 / 0.9875
    assert abs(legs[0]["liquidation"]["down"] / expected - 1.0) < 1e-9


def test_a_bad_case_is_reported_and_the_others_have_results(tmp_path: Path) -> None:
    code, (bad, good) = run(tmp_path, CASE | {"id": "bad", "ruleset": "no such"}, CASE)
    assert code == 2
    assert "no preset" in str(bad["error"])
    assert "error" not in good
