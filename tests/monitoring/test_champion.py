from __future__ import annotations

import threading
from typing import Any

import pytest

from models.bundle.pointer import CHAMPION
from models.forecaster import Forecaster
from monitoring.champion import ChampionWatch
from tests.waiting import WAIT_SECONDS, wait_for

HORIZONS = (1, 8, 24)


def model_of(endpoint: Any, account: dict[str, Any]) -> Any:
    return endpoint.score(account).json()["decisions"][0]["model"]


@pytest.fixture(autouse=True)
def _look_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.champion.CHECK_SECONDS", 0.0)


def damage(bundles: Any, sha: str) -> bytes:
    """Changes one byte of the graph; gives the sound bytes."""
    path = bundles.root / sha / "model.onnx"
    sound = bytes(path.read_bytes())
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    return sound


def test_a_new_champion_answers_without_a_restart(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    before = endpoint.score(account).json()["decisions"][0]
    other = bundles.promote(bundles.write(intercept=2.0))
    wait_for(lambda: model_of(endpoint, account) == other)
    after = endpoint.score(account).json()["decisions"][0]
    assert (before["model"], after["model"]) == (champion, other)
    assert after["probability"]["24"] > before["probability"]["24"]
    text = endpoint.client.get("/metrics").text
    assert f'margincast_model_info{{sha256="{other}"}} 1.0' in text
    assert champion not in text


def test_model_whose_inputs_are_missing_gives_a_reason(
    serve: Any, bundles: Any, account: dict[str, Any]
) -> None:
    bundles.promote(bundles.write(with_context=True))
    endpoint = serve()
    ready = endpoint.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    (reason,) = ready.json()["reasons"]
    assert "funding_rate_24h" in reason
    assert "implied_volatility" in reason
    decision = endpoint.score(account).json()["decisions"][0]
    assert decision["probability"] is not None
    (reason_in_decision,) = [r for r in decision["reasons"] if r["name"] == "missing_context"]
    assert reason_in_decision["text"] == reason


def test_a_damaged_new_champion_leaves_the_old_one_in_use_and_is_reported(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any]
) -> None:
    endpoint = serve()
    other = bundles.write(intercept=2.0)
    damage(bundles, other)
    bundles.promote(other)
    wait_for(lambda: endpoint.client.get("/health/ready").json()["status"] == "degraded")
    decision = endpoint.score(account).json()["decisions"][0]
    assert decision["model"] == champion
    assert decision["degraded"] is None
    ready = endpoint.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert other[:12] in ready.json()["reasons"][0]
    assert str(bundles.root) not in ready.text


def test_a_damaged_only_bundle_gives_the_rule_floor_until_it_is_restored(
    serve: Any,
    champion: str,
    bundles: Any,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = damage(bundles, champion)
    endpoint = serve()
    decision = endpoint.score(account).json()["decisions"][0]
    assert "failed its audit" in decision["degraded"]
    assert decision["add_on"] == decision["floor"] > 0
    (bundles.root / champion / "model.onnx").write_bytes(sound)
    monkeypatch.setattr("monitoring.champion.RETRY_SECONDS", 0.0)
    wait_for(lambda: model_of(endpoint, account) == champion)


def test_a_pointer_that_goes_away_or_is_damaged(bundles: Any, champion: str) -> None:
    watch = ChampionWatch(bundles.root, lambda: HORIZONS)
    pointer = bundles.root / CHAMPION
    pointer.write_text("../../etc/passwd\n")
    damaged = watch.current()
    assert damaged.model is not None
    assert "pointer file" in str(damaged.health_error)
    pointer.unlink()
    assert watch.current().model is None
    pointer.write_text(champion)
    wait_for(lambda: watch.current().model is not None)
    sound = watch.current()
    assert sound.health_error is None


def test_a_bundle_of_other_features_or_without_a_targeted_horizon_is_refused(
    bundles: Any, champion: str
) -> None:
    assert ChampionWatch(bundles.root, lambda: (1, 48)).current().model is None
    bundles.promote(bundles.write(digest="e" * 64))
    refused = ChampionWatch(bundles.root, lambda: HORIZONS).current()
    assert refused.model is None
    assert "audit" in refused.unavailable_reason


def test_the_pointer_is_not_read_again_while_it_stays_the_same(
    bundles: Any, champion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ChampionWatch(bundles.root, lambda: HORIZONS)
    first = watch.current()

    def unexpected(*_: object) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr("monitoring.champion.read_pointer", unexpected)
    assert watch.current() is first


def test_no_call_waits_for_a_bundle_that_loads_and_only_one_loads_at_a_time(
    bundles: Any, champion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ChampionWatch(bundles.root, lambda: HORIZONS)
    load = ChampionWatch._load
    may, entered = threading.Event(), threading.Event()
    loaded: list[str] = []

    def slow(self: ChampionWatch, sha: str) -> Forecaster:
        loaded.append(sha)
        entered.set()
        assert may.wait(WAIT_SECONDS)
        return load(self, sha)

    monkeypatch.setattr(ChampionWatch, "_load", slow)
    second = bundles.promote(bundles.write(intercept=2.0))
    first = watch.current()
    assert entered.wait(WAIT_SECONDS)
    third = bundles.promote(bundles.write(intercept=3.0))
    for _ in range(5):
        assert watch.current() is first
        assert first.model is not None
    assert loaded == [second]
    may.set()

    def answers() -> bool:
        model = watch.current().model
        assert model is not None
        return bool(model.bundle.sha256 == third)

    wait_for(answers)
    assert loaded == [second, third]


def test_unexpected_error_of_a_load_keeps_the_old_model_and_is_retried(
    bundles: Any,
    champion: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = ChampionWatch(bundles.root, lambda: HORIZONS)
    other = bundles.promote(bundles.write(intercept=2.0))

    def fail(*_: object) -> None:
        raise IndexError("unexpected error")

    with monkeypatch.context() as patch:
        patch.setattr(ChampionWatch, "_load", fail)
        wait_for(lambda: watch.current().health_error is not None)
        kept = watch.current()
        assert kept.model is not None
        assert kept.model.bundle.sha256 == champion
        assert "unexpected error" in caplog.text
    monkeypatch.setattr("monitoring.champion.RETRY_SECONDS", 0.0)
    wait_for(lambda: watch.current().health_error is None)
    model = watch.current().model
    assert model is not None
    assert model.bundle.sha256 == other
