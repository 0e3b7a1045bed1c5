"""A model that fails never stops the endpoint: the old one or the rule floor answers, and it says
so."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from market.core.errors import ModelError
from models.bundle.bundle import REQUIRED_FILES, load_bundle, write_bundle
from models.bundle.pointer import CHAMPION, write_pointer
from models.bundle.self_test import SelfTestError, self_test
from models.forecaster import Forecaster
from tests.models.broken_models import broken
from tests.monitoring.test_champion import model_of
from tests.waiting import wait_for

SWAPS = 20


@pytest.fixture(autouse=True)
def _look_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.champion.CHECK_SECONDS", 0.0)


def forged(bundles: Any, sha: str, fault: str) -> str:
    """A bundle whose checksums and name are right and whose graph fails."""
    files = {name: (bundles.root / sha / name).read_bytes() for name in REQUIRED_FILES}
    files["model.onnx"] = broken(files["model.onnx"], fault)
    return write_bundle(bundles.root, files)


def wait_until_more(items: Sequence[object], more: int = 3) -> None:
    least = len(items) + more
    wait_for(lambda: len(items) >= least)


def is_floor(decision: dict[str, Any]) -> bool:
    floor = decision["add_on"] == decision["floor"] > 0
    return floor and decision["model"] is None and bool(decision["degraded"])


def fail_in(root: Path, monkeypatch: pytest.MonkeyPatch, failing: list[bool]) -> None:
    """Let the models of the bundles in a folder fail while `failing` says so."""
    probability = Forecaster.probability

    def fails(self: Forecaster, features: Any) -> Any:
        if failing[0] and self.bundle.path.parent == root:
            raise ModelError("bad allocation")
        return probability(self, features)

    monkeypatch.setattr(Forecaster, "probability", fails)


@pytest.mark.parametrize("fault", ["gather_out_of_range", "nan_output", "huge_memory"])
def test_a_new_champion_that_fails_at_inference_leaves_the_old_one_in_use(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any], fault: str
) -> None:
    endpoint = serve()
    other = bundles.promote(forged(bundles, champion, fault))
    wait_for(lambda: endpoint.client.get("/health/ready").json()["status"] == "degraded")
    answer = endpoint.score(account)
    assert answer.status_code == 200
    decision = answer.json()["decisions"][0]
    assert (decision["model"], decision["degraded"]) == (champion, None)
    (reason,) = endpoint.client.get("/health/ready").json()["reasons"]
    test = "audit" if fault == "huge_memory" else "self-test"
    assert reason.startswith(f"bundle {other[:12]} failed its {test}")


@pytest.mark.parametrize("state", ["fails", "gone", "half", "no_pointer_target", "noise"])
def test_a_start_with_a_broken_champion_serves_the_rule_floor_and_says_why(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any], state: str
) -> None:
    if state == "fails":
        bundles.promote(forged(bundles, champion, "gather_out_of_range"))
    elif state == "gone":
        shutil.rmtree(bundles.root / champion)
    elif state == "half":
        (bundles.root / champion / "trees.npz").unlink()
        path = bundles.root / champion / "model.onnx"
        path.write_bytes(path.read_bytes()[:100])
    elif state == "no_pointer_target":
        (bundles.root / CHAMPION).write_text("f" * 64)
    else:
        (bundles.root / CHAMPION).write_bytes(b"\xff\x00noise")
    endpoint = serve()
    ready = endpoint.client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert "no model answers" in ready.json()["reasons"][0]
    answer = endpoint.score(account)
    assert answer.status_code == 200
    assert is_floor(answer.json()["decisions"][0])
    sound = bundles.write(intercept=1.0)
    write_pointer(bundles.root, CHAMPION, sound)
    wait_for(lambda: model_of(endpoint, account) == sound)
    assert endpoint.client.get("/health/ready").json()["status"] == "ready"


def odd(account: dict[str, Any], number: int) -> dict[str, Any]:
    return account | {"account_id": f"odd-{number}"}


def test_a_model_that_fails_on_three_calls_and_its_self_test_is_put_aside(
    serve: Any,
    champion: str,
    bundles: Any,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Fewer failures do not count once it has answered."""
    endpoint = serve()
    failing = [True]
    fail_in(bundles.root, monkeypatch, failing)

    def fails_test(*_: object) -> None:
        raise SelfTestError("the model fails on the rows of its self-test")

    monkeypatch.setattr("monitoring.champion.self_test", fails_test)
    for number, fails in enumerate((True, True, False, True, True, True)):
        failing[0] = fails
        answer = endpoint.score(odd(account, number))
        assert answer.status_code == 200, answer.text
        assert is_floor(answer.json()["decisions"][0]) == fails
    failing[0] = False
    wait_for(
        lambda: "disabled" in (endpoint.score(account).json()["decisions"][0]["degraded"] or "")
    )
    said = [record for record in caplog.records if "disabled" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.ERROR]
    ready = endpoint.client.get("/health/ready").json()
    assert ready["status"] == "degraded"
    assert champion[:12] in ready["reasons"][0]
    monkeypatch.setattr("monitoring.champion.RETRY_SECONDS", 0.0)
    assert is_floor(endpoint.score(account).json()["decisions"][0]), "tried again by itself"
    write_pointer(bundles.root, CHAMPION, champion)
    wait_for(lambda: model_of(endpoint, account) == champion)
    assert endpoint.client.get("/health/ready").json()["status"] == "ready"


def test_odd_accounts_of_one_client_do_not_take_the_model_from_the_others(
    serve: Any,
    champion: str,
    bundles: Any,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = serve()
    failing, tests = [True], list[int]()
    fail_in(bundles.root, monkeypatch, failing)

    def passes(*parts: Any) -> None:
        tests.append(1)
        self_test(*parts)

    monkeypatch.setattr("monitoring.champion.self_test", passes)
    monkeypatch.setattr("monitoring.champion.TEST_SECONDS", 0.0)
    for _ in range(5):
        assert is_floor(endpoint.score(odd(account, 0)).json()["decisions"][0])
    assert not tests, "the same call again is nothing new"
    for begin in (1, 10):  # the second time it is not said again
        for number in range(begin, begin + 4):
            assert is_floor(endpoint.score(odd(account, number)).json()["decisions"][0])
        wait_for(lambda: model_passed(endpoint, caplog))
    failing[0] = False
    assert model_of(endpoint, account) == champion
    said = [record for record in caplog.records if "passed its self-test" in record.getMessage()]
    assert len(said) == 1


def model_passed(endpoint: Any, caplog: pytest.LogCaptureFixture) -> bool:
    ready = endpoint.client.get("/health/ready").json()
    assert ready["status"] == "ready"
    return "passed its self-test" in caplog.text


def test_a_failing_model_also_leaves_what_if_and_many_calls_answered(
    serve: Any,
    champion: str,
    bundles: Any,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = serve()
    fail_in(bundles.root, monkeypatch, [True])
    change = {"account_id": "acc-1", "deposit": 100.0}
    answer = endpoint.client.post(
        "/v1/what-if", json={"accounts": [account], "changes": [change], "target_headroom": 0.0}
    )
    assert answer.status_code == 200
    assert is_floor(answer.json()["before"]["decisions"][0])
    accounts = [account | {"account_id": f"acc-{n}"} for n in range(5)]
    answer = endpoint.score(*accounts)
    assert answer.status_code == 200
    assert all(is_floor(decision) for decision in answer.json()["decisions"])


def test_pointer_swaps_and_broken_bundles_under_load_fail_no_request(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any]
) -> None:
    """Sound, failing, half-written and missing champions in a seeded order."""
    endpoint = serve()
    sound = [champion, bundles.write(intercept=1.0), bundles.write(intercept=2.0)]
    failing = forged(bundles, champion, "gather_out_of_range")
    half = bundles.write(intercept=3.0)
    (bundles.root / half / "trees.npz").unlink()
    chosen = np.random.default_rng(11)
    stop = threading.Event()
    statuses: list[int] = []
    models: set[str | None] = set()

    def load() -> None:
        while not stop.is_set():
            answer = endpoint.score(account)
            statuses.append(answer.status_code)
            models.add(answer.json()["decisions"][0]["model"])

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(SWAPS):
            sha = str(chosen.choice([*sound, failing, half]))
            write_pointer(bundles.root, CHAMPION, sha)
            wait_until_more(statuses)
        write_pointer(bundles.root, CHAMPION, sound[2])
        wait_for(lambda: model_of(endpoint, account) == sound[2])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 3 * SWAPS
    assert models <= {*sound}, "a model answered that failed its audit, or none did"
    assert len(models) > 1


def test_no_reader_sees_a_torn_pointer_or_bundle(bundles: Any, champion: str) -> None:
    """One writer of bundles and pointer, two readers: each reads one state or the other."""
    other = bundles.write(intercept=2.0)
    stop = threading.Event()
    seen: list[str] = []
    errors: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(load_bundle(bundles.root / CHAMPION).sha256)
            except BaseException as error:  # noqa: BLE001  asserted below
                errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(12):
        sha = bundles.write(intercept=2.0 if n % 2 else 0.0)
        write_pointer(bundles.root, CHAMPION, sha)
        wait_until_more(seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(seen) == {champion, other}


def test_the_load_of_a_recorded_bundle_that_fails_is_no_internal_error(
    serve: Any, champion: str, bundles: Any, account: dict[str, Any], tmp_path: Path
) -> None:
    endpoint = serve()
    decision = endpoint.score(account).json()["decisions"][0]
    other = bundles.promote(bundles.write(intercept=1.0))
    wait_for(lambda: model_of(endpoint, account) == other)
    path = bundles.root / champion / "model.onnx"
    path.write_bytes(broken(path.read_bytes(), "gather_out_of_range"))
    answer = endpoint.client.get(f"/v1/decisions/{decision['decision_id']}/explanation")
    assert answer.status_code == 409
    assert "failed its audit" in answer.json()["detail"]


def test_what_a_forecaster_meets_in_a_model_is_a_model_error(
    bundles: Any, champion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Forecaster(load_bundle(bundles.root / champion))
    monkeypatch.setattr(model, "_guesser", None)
    with pytest.raises(ModelError, match="roll back"):
        model.required_level(np.ones((1, 19)), np.ones(1), {1: 0.1})
