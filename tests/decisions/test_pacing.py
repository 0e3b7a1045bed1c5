"""The pace of the add-on goes on from the level that the model last set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from decisions.book_scoring import CARRIED_HOURS, PreviousAddOn
from decisions.levels_in_force import LOOK_BACK, LevelsInForce, level_after
from ledger.records import Entry
from ledger.store import Ledger
from market.core.clock import DAY, HOUR, format_time, parse_time
from models.bundle.pointer import CHAMPION
from models.onnx.scorer import Scorer
from pipelines.config.config import load_config
from pipelines.jobs.score import score_book
from pipelines.jobs.simulate import simulate
from tests.endpoint_fixtures import levels_of
from tests.ledger.intact import intact


def only(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    (decision,) = response.json()["decisions"]
    return dict(decision)


def returns_nan(self: Scorer, X: Any) -> Any:
    return np.full((len(X), 3), np.nan)


@pytest.mark.parametrize("fallbacks", [1, 3])
@pytest.mark.parametrize(("share", "binding"), [(0.01, "step"), (1.3, "release")])
def test_fallbacks_neither_lift_the_step_nor_drop_a_released_level(
    serve: Any,
    champion: str,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    binding: str,
    fallbacks: int,
) -> None:
    endpoint = serve()
    as_of = endpoint.live.newest_close
    level = only(endpoint.score(account | {"account_id": "fresh"}))["model_add_on"]
    before = {"amount": share * level, "as_of": format_time(as_of - HOUR // 10)}
    paced = only(endpoint.score(account | {"previous_add_on": before}))
    assert paced["binding"] == binding
    with monkeypatch.context() as broken:
        broken.setattr(Scorer, "probability", returns_nan)
        for _ in range(fallbacks):
            assert only(endpoint.score(account))["binding"] == "fallback"
    again = only(endpoint.score(account))
    assert again["add_on"] == paced["add_on"]
    record = endpoint.ledger.get_record(again["decision_id"])
    assert record.payload["previous"]["amount"] == paced["add_on"]
    assert record.payload["previous"]["as_of"] == parse_time(paced["as_of"])
    assert record.payload["previous"]["carried"] is True


def test_an_add_on_that_a_request_gave_is_carried_through_a_fallback(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = serve()
    as_of = format_time(endpoint.live.newest_close)
    with monkeypatch.context() as broken:
        broken.setattr(Scorer, "probability", returns_nan)
        endpoint.score(account | {"previous_add_on": {"amount": 2.5, "as_of": as_of}})
    assert only(endpoint.score(account))["binding"] in ("step", "floor")
    level = levels_of(LevelsInForce(endpoint.ledger), "acc-1")["acc-1"]
    assert level.amount < 500.0


def test_pace_gathers_for_a_day_at_most_while_the_model_does_not_answer() -> None:
    level = PreviousAddOn(1.0, 0)
    carried = PreviousAddOn(1.0, 0, carried=True)
    for hours in (-1.0, 0.0, 5.0, 24.0):
        assert level.hours_since(round(hours * HOUR)) == hours
        assert carried.hours_since(round(hours * HOUR)) == hours
    assert level.hours_since(100 * DAY) == 2_400.0
    assert carried.hours_since(100 * DAY) == CARRIED_HOURS == 24.0


def test_the_score_job_goes_on_from_the_level_before_its_fallbacks(
    bundles: Any, tmp_path: Path
) -> None:
    (tmp_path / "margincast.toml").write_text(
        "[simulate]\ndays = 12\nsymbols = 2\n[accounts]\ncount = 10\n"
        '[serving]\nbundles = "bundles"\n[ledger]\nurl = "sqlite:///ledger.db"\n'
    )
    config = load_config(tmp_path / "margincast.toml")
    simulate(config, tmp_path / "simulated")
    accounts = tmp_path / "simulated" / "accounts"
    newest = max(pq.read_table(accounts / "positions.parquet")["ts"].to_pylist())
    last = int(newest.timestamp() // 3600 * HOUR)

    def scored(as_of: int) -> dict[str, dict[str, Any]]:
        out = tmp_path / "out.parquet"
        score_book(config, accounts, format_time(as_of), out, record=True)
        return {row["account_id"]: row for row in pq.read_table(out).to_pylist()}

    bundles.promote(bundles.write(intercept=-4.0))
    begin = last - HOUR // 2
    first = scored(begin)
    (bundles.root / CHAMPION).unlink()
    for minutes in (20, 10):
        rows = scored(last - minutes * HOUR // 60)
        assert {row["binding"] for row in rows.values()} == {"fallback"}
    bundles.promote(bundles.write(intercept=4.0))
    again = scored(last)
    stepped = 0
    with Ledger(config.ledger.url) as ledger:
        for name in first.keys() & again.keys():
            row = again[name]
            payload = ledger.get_record(row["decision_id"]).payload
            before = payload["previous"]
            assert before["amount"] == first[name]["add_on"]
            assert before["as_of"] == begin
            assert before["carried"] is True
            legs = payload["account"]["positions"]
            if before["positions"] == {leg["instrument"]: leg["quantity"] for leg in legs}:
                highest = before["amount"] + 0.5 * 0.5 * row["initial_margin"]
                assert row["add_on"] <= max(highest, row["floor"]) * (1.0 + 1e-12)
                stepped += row["binding"] == "step"
    assert stepped > 0


def decision(add_on: float | None, previous: dict[str, Any] | None = None, **keys: Any) -> Entry:
    """A decision as recorded; a fallback where no level is given."""
    return Entry(
        "decision",
        {
            "decision": {
                "binding": "fallback" if add_on is None else "model",
                "add_on": 0.5 if add_on is None else add_on,
                "initial_margin": 10.0,
            },
            "account": {"positions": [{"instrument": "BTCUSDT", "quantity": 1.0}]},
            "previous": previous,
            **keys,
        },
        account_id="a",
        as_of=7,
    )


def test_an_account_that_is_degraded_for_long_needs_one_look_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    level: dict[str, Any] = {
        "amount": 3.0,
        "as_of": 1,
        "initial_margin": 10.0,
        "positions": {"BTCUSDT": 1.0},
    }
    ledger.append([decision(3.0, calculation=1)])
    for _ in range(40):
        ledger.append([decision(None, level, calculation=1)])
    looked_back: list[Any] = []

    def look_back(since: dict[str, int], text: str) -> dict[str, Any]:
        looked_back.extend(since)
        return {}

    monkeypatch.setattr(ledger, "last_decisions_without", look_back)
    found = LevelsInForce(ledger).of(["a"])
    assert found["a"].level == PreviousAddOn(**level, carried=True)
    assert looked_back == []
    assert found["a"].record == intact(ledger.last_decisions(["a"]))["a"].id


def test_records_of_before_are_looked_through_for_a_day(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10**18
    monkeypatch.setattr("ledger.chain.time.time_ns", lambda: now)
    ledger.append([decision(3.0)])
    for _ in range(5):
        ledger.append([decision(None)])
    found = levels_of(LevelsInForce(ledger), "a")["a"]
    assert found.amount == 3.0
    assert found.carried
    now += 2 * LOOK_BACK
    ledger.append([decision(None)])
    assert levels_of(LevelsInForce(ledger), "a") == {}


def test_a_level_is_that_of_the_decision_that_set_it(ledger: Ledger) -> None:
    (record,) = ledger.append([decision(3.0, {"amount": 9.0, "as_of": 1})])
    assert level_after(record) == PreviousAddOn(3.0, 7, 10.0, {"BTCUSDT": 1.0})
    (record,) = ledger.append([decision(None)])
    assert level_after(record) is None


def test_decisions_of_the_past_do_not_give_the_present_more_hours(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    newest = endpoint.live.newest_close
    times = [format_time(newest + minutes * HOUR // 60) for minutes in (1, 30)]
    start = {"amount": 1.0, "as_of": format_time(newest)}
    only(endpoint.score(account | {"previous_add_on": start}, as_of=times[1]))
    later = only(endpoint.score(account, as_of=times[1]))
    for _ in range(3):
        past = only(endpoint.score(account, as_of=times[0]))
        assert past["add_on"] <= later["add_on"]
        again = only(endpoint.score(account, as_of=times[1]))
        assert again["add_on"] == later["add_on"]
