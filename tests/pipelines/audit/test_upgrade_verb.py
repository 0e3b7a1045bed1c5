"""`margincast ledger upgrade`: refused before, and after it all that was recorded is used again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from decisions.levels_in_force import LevelsInForce
from ledger.schema import FIRST_REVISION, REVISION
from ledger.store import Ledger
from pipelines.cli.main import main
from tests.endpoint_fixtures import levels_of
from tests.ledger.migrations.old_ledger import make_old

KEPT_LEDGERS = Path(__file__).parents[2] / "decisions" / "ledgers"
Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(params=sorted(path.stem for path in KEPT_LEDGERS.glob("*.json")))
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What an earlier version recorded, with its tables, bundle and heads."""
    content: dict[str, Any] = json.loads(
        (KEPT_LEDGERS / f"{request.param}.json").read_text("utf-8")
    )
    for sha, files in content["bundle"].items():
        (tmp_path / "bundles" / sha).mkdir(parents=True)
        for name, data in files.items():
            (tmp_path / "bundles" / sha / name).write_bytes(base64.b64decode(data))
    make_old(f"sqlite:///{tmp_path}/ledger.db", content, key=False)
    heads = {r["chain"]: {"seq": r["seq"], "hash": r["hash"]} for r in content["records"]}
    (tmp_path / "heads.json").write_text(
        json.dumps({"chains": heads, "at": "2026-01-01T00:00:00.000000Z"})
    )
    (tmp_path / "margincast.toml").write_text(
        f'[simulate]\ndays = 12\nsymbols = 3\n[serving]\nbundles = "{tmp_path}/bundles"\n'
        f'auth = "off"\n[ledger]\nurl = "sqlite:///{tmp_path}/ledger.db"\n'
    )
    return content


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, report and stderr of a command line."""

    def run(*words: str, report: bool = True) -> tuple[int, dict[str, Any], str]:
        out = tmp_path / "report.json"
        out.unlink(missing_ok=True)
        options = ["--config", str(tmp_path / "margincast.toml")]
        options += ["--json", str(out)] if report else []
        monkeypatch.setattr("sys.argv", ["margincast", *words, *options])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        found = json.loads(out.read_text()) if out.exists() else {}
        return int(code or 0), found, capsys.readouterr().err

    return run


def test_refused_before_and_all_of_before_is_used_after(
    kept: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    records = [row for row in kept["records"] if row["kind"] == "decision"]
    first = records[0]["id"]
    for words in (("ledger", "verify"), ("ledger", "replay", first), ("serve",)):
        code, _, errors = run(*words, report=words != ("serve",))
        assert code == 1
        assert errors.count("\n") == 1, errors
        assert "run `margincast ledger upgrade`" in errors
    code, report, _ = run("ledger", "upgrade")
    assert code == 0
    assert report == {
        "before": FIRST_REVISION,
        "after": REVISION,
        "records": len(kept["records"]),
        "kept": f"{tmp_path}/ledger.db.0001",
    }
    code, report, _ = run("ledger", "verify", "--heads", str(tmp_path / "heads.json"))
    assert (code, report["intact"], report["problems"]) == (0, True, [])
    for row in records:
        code, report, errors = run("ledger", "replay", row["id"])
        assert code == 0, errors
        assert report["verdict"] in ("equal", "superseded")
    decided = [
        json.loads(row["payload"])["decision"]
        for row in sorted(records, key=lambda row: (row["recorded_at"], row["seq"]))
        if row["account_id"] == "two coins"
    ]
    by_model = [decision for decision in decided if decision["binding"] != "fallback"]
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        level = levels_of(LevelsInForce(ledger), "two coins")["two coins"]
    assert level.amount == by_model[-1]["add_on"]
    code, report, _ = run("ledger", "upgrade")
    assert (code, report["before"], report["kept"]) == (0, REVISION, None)
