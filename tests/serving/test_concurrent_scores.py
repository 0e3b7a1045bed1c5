"""Concurrent scores of one account: each decision goes on from the one recorded before it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from decisions.batch import EncodedResponse, ScoreCall
from decisions.levels_in_force import level_after
from decisions.messages import ScoreRequest
from features.state.market_state import MarketState
from ledger.canonical import sha256_of
from ledger.records import Record
from ledger.store import Ledger
from ledger.verify import verify
from margin.rules.history import RuleHistory
from margin.rules.ruleset import load_ruleset
from market.bars.history import MarketHistory
from market.core.clock import HOUR, Interval, format_time
from market.simulator.simulated_market import simulate_bars
from monitoring.market_state.live_market import LiveMarket
from serving.service import Service
from serving.settings import ServingSettings
from serving.telemetry.metrics.metrics import Metrics

STEP_PER_HOUR = 0.5
"""``max_step_up_per_hour`` of linear-tiers."""


def check_sequence(decisions: list[Record]) -> None:
    """Each decision continues from the level of the newest decision time before it and rises no
    faster than the rules allow."""
    in_force = decisions[0]
    for after in decisions[1:]:
        previous, level = after.payload["previous"], in_force.payload["decision"]["add_on"]
        assert previous["amount"] == level
        assert previous["as_of"] == in_force.as_of
        decision = after.payload["decision"]
        assert after.as_of is not None
        assert in_force.as_of is not None
        if in_force.payload["account"]["positions"] == after.payload["account"]["positions"]:
            hours = max(0.0, (after.as_of - in_force.as_of) / HOUR)
            highest = level + STEP_PER_HOUR * hours * decision["initial_margin"]
            assert decision["add_on"] <= max(highest, decision["floor"]) * (1.0 + 1e-12)
        if after.as_of >= in_force.as_of:
            in_force = after


def of_account(ledger: Ledger, name: str) -> list[Record]:
    page, before = ledger.decisions_of(name, 1_000)
    assert before is None
    return page[::-1]


def test_fifty_concurrent_scores_take_one_step_in_total(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    newest = endpoint.live.newest_close
    low = account | {"previous_add_on": {"amount": 1.0, "as_of": format_time(newest - HOUR // 10)}}
    endpoint.score(low, as_of=format_time(newest))
    first = of_account(endpoint.ledger, "acc-1")[0].payload["decision"]
    assert first["binding"] == "step"
    ends = [format_time(newest + minutes * HOUR // 60) for minutes in range(50)]

    def score(as_of: str) -> int:
        return int(endpoint.score(account, as_of=as_of).status_code)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(score, reversed(ends))) == {200}
    decisions = of_account(endpoint.ledger, "acc-1")
    assert len(decisions) == 51
    check_sequence(decisions)
    assert verify(endpoint.ledger.engine).intact


def test_a_batch_is_decided_again_only_for_accounts_that_moved(
    serve: Any, champion: str, account: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, replica = serve(), serve()
    other = account | {"account_id": "other"}
    append = endpoint.ledger.append_decisions
    asked: list[list[str]] = []

    def late(draft: Any, renew: Any) -> Any:
        monkeypatch.setattr(endpoint.ledger, "append_decisions", append)
        replica.score(account)  # between reading the add-on in force and recording

        def renewed(meanwhile: Any) -> Any:
            asked.append(sorted(meanwhile.newest))
            return renew(meanwhile)

        return append(draft, renewed)

    monkeypatch.setattr(endpoint.ledger, "append_decisions", late)
    answer = endpoint.score(account, other).json()
    assert asked == [["acc-1"]]
    assert [d["account_id"] for d in answer["decisions"]] == ["acc-1", "other"]
    first, second = of_account(endpoint.ledger, "acc-1")
    check_sequence([first, second])
    assert second.payload["decision"] == answer["decisions"][0]
    assert len(of_account(endpoint.ledger, "other")) == 1


def test_concurrent_requests_of_one_idempotency_key_record_once(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    endpoint.score(account)

    def score(_: int) -> bytes:
        response = endpoint.client.post(
            "/v1/score", json={"accounts": [account]}, headers={"Idempotency-Key": "k"}
        )
        assert response.status_code == 200
        return bytes(response.content)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(score, range(24)))) == 1
    assert len(of_account(endpoint.ledger, "acc-1")) == 2


@contextmanager
def served_by_another_process(url: str, bundles: str, chain: str) -> Iterator[Service]:
    """An endpoint of another process on the same ledger: its own market, its own chain."""
    panel = simulate_bars(1, 9, 2, Interval.parse("1h"))
    state = MarketState(panel.symbols, panel.interval)
    features = state.advance(panel)
    live = LiveMarket(state, MarketHistory.from_panel(panel).last_mark(-1), features, panel)
    settings = ServingSettings("127.0.0.1", 8000, Path(bundles), "market", "off")
    with Ledger(url, chain=chain) as ledger:
        rules = RuleHistory.constant(load_ruleset("linear-tiers"))
        yield Service(settings, ledger, rules, live, Metrics())


def call_of(service: Service, names: list[str], minutes: int, key: str | None = None) -> ScoreCall:
    """A call on accounts of one book, some minutes after the newest bar."""
    state = service.live.state
    price, newest = float(state.mark[0]), state.newest_close
    assert newest is not None
    positions = [{"instrument": f"{state.head.symbols[0]}-PERP", "quantity": 1.0}]
    accounts = [{"account_id": name, "cash": 0.1 * price, "positions": positions} for name in names]
    body = {"accounts": accounts, "as_of": format_time(newest + minutes * HOUR // 60)}
    return ScoreCall(
        msgspec.json.decode(msgspec.json.encode(body), type=ScoreRequest), "o", key, sha256_of(body)
    )


def score_in_batches(url: str, bundles: str, chain: str, batches: list[int], ready: Any) -> None:
    """Two threads of a process, each with half of the batches; a batch names the account of all
    processes as often as it is long, beside accounts of its own."""
    with served_by_another_process(url, bundles, chain) as service:
        ready.wait(300)

        def score(numbered: tuple[int, int]) -> None:
            number, size = numbered
            calls = [
                call_of(service, ["a/1", f"{chain}-{number}-{n}", "b"], n) for n in range(size)
            ]
            calls.append(call_of(service, ["once"], 0, key="once"))
            results = service.score_many(calls)
            assert all(isinstance(result, EncodedResponse) for result in results)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(score, enumerate(batches)))


def run_in_processes(target: Any, arguments: list[tuple[Any, ...]]) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(len(arguments))
    workers = [spawn.Process(target=target, args=(*given, ready)) for given in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(480)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


def test_fifty_scores_in_batches_of_threads_and_processes_each_continue_from_the_one_before(
    ledger: Ledger, bundles: Any, champion: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    batches = [1, 4, 2, 1, 3, 5, 1, 2, 4, 2]
    run_in_processes(
        score_in_batches, [(url, str(bundles.root), f"p{number}", batches) for number in range(2)]
    )
    for name in ("a/1", "b"):
        decisions = of_account(ledger, name)
        assert len(decisions) == 50
        assert {record.chain for record in decisions} == {"p0", "p1"}
        for before, after in pairwise(decisions):
            level = level_after(before)
            assert level is not None
            assert after.payload["previous"] == asdict(level)
            assert before.recorded_at < after.recorded_at
        check_sequence(decisions)
    assert len(of_account(ledger, "once")) == 1
    assert verify(ledger.engine).intact
