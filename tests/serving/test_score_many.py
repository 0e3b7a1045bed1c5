"""Calls in one batch: each result and each record is the one it would get alone, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from decisions import decision as decision_module
from decisions.batch import EncodedResponse, ScoreCall
from decisions.errors import (
    CallFailedError,
    NoAccountScoredError,
    NoRulesError,
    NoRulesThenError,
    RequestError,
)
from decisions.levels_in_force import LevelsInForce, level_after
from decisions.messages import Decision, ScoreRequest
from ledger.canonical import sha256_hex
from ledger.chain import extend_in_rounds
from ledger.decisions import Draft
from ledger.idempotency import LedgerConflictError
from ledger.packing import pack
from ledger.records import EncodedEntry, Entry, Record
from ledger.store import Ledger
from ledger.verify import verify
from margin.rules.history import RuleHistory
from market.core.clock import MINUTE, format_time
from market.core.errors import (
    LedgerError,
    MargincastError,
    ModelError,
    RuleSetError,
    UnrecordableError,
)
from monitoring import champion as champion_module
from serving.http.problems import encoded_refusal
from serving.service import Service
from serving.settings import ServingSettings
from serving.telemetry.metrics.metrics import Metrics

Results = list[EncodedResponse | MargincastError]
MakeService = Callable[..., Service]


@pytest.fixture
def make_service(market: Any, ruleset: Any, bundles: Any, tmp_path: Path) -> Iterator[MakeService]:
    """Makes endpoints without HTTP, each on a ledger of its own but on one market."""
    live, made = market.live(), count()
    ledgers: list[Ledger] = []

    def make(ledger: Ledger | None = None) -> Service:
        if ledger is None:
            ledger = Ledger(f"sqlite:///{tmp_path}/service-{next(made)}.db")
            ledgers.append(ledger)
        endpoint = ServingSettings(
            "127.0.0.1", 8000, bundles.root, clock="market", auth="off", max_history_bytes=200
        )
        return Service(endpoint, ledger, RuleHistory.constant(ruleset), live, Metrics())

    yield make
    for ledger in ledgers:
        ledger.close()


def call(body: dict[str, Any], key: str | None = None) -> ScoreCall:
    request = msgspec.json.decode(msgspec.json.encode(body), type=ScoreRequest)
    return ScoreCall(request, "owner", key, sha256_hex(msgspec.json.encode(body)))


def account(name: str, cash: float = 3_000.0, **rest: Any) -> dict[str, Any]:
    positions = [
        {"instrument": "BTCUSDT-PERP", "quantity": 0.1},
        {"instrument": "ETHUSDT-PERP", "quantity": -2.0},
    ]
    return {"account_id": name, "cash": cash, "positions": positions} | rest


def comparable(results: Results) -> list[Any]:
    """Results without what is fresh in every run."""
    shown: list[Any] = []
    for result in results:
        if isinstance(result, EncodedResponse):
            body = msgspec.json.decode(result.body)
            for decision in body.get("decisions", ()):
                del decision["decision_id"]
            shown.append((body, result.replayed, result.status))
        else:
            problems = result.problems if isinstance(result, NoAccountScoredError) else None
            shown.append((type(result), str(result), problems))
    return shown


def recorded(ledger: Ledger, since: int = 0) -> list[Any]:
    """What was recorded since a time, in order, without what is fresh in every run."""
    payloads = []
    for record in ledger.records("decision", since_recorded=since):
        del record.payload["decision"]["decision_id"]
        payloads.append((record.account_id, record.as_of, record.payload))
    return payloads


def check_equal(batch: Service, alone: Service, calls: Sequence[ScoreCall]) -> Results:
    """Score calls together and one at a time: results and records are equal to the last bit."""
    since = time.time_ns()
    results = batch.score_many(calls)
    singles = [result for one in calls for result in alone.score_many([one])]
    assert comparable(results) == comparable(singles)
    assert recorded(batch.ledger, since) == recorded(alone.ledger, since)
    return results


def check_continuous(records: Sequence[Record]) -> None:
    """Each record continues from the level that its predecessor left, and is later."""
    for before, after in pairwise(records):
        level = level_after(before)
        previous = after.payload["previous"]
        assert (None if level is None else msgspec.to_builtins(level)) == previous
        assert before.recorded_at < after.recorded_at


def of_account(ledger: Ledger, name: str) -> list[Record]:
    page, before = ledger.decisions_of(name, 1_000)
    assert before is None
    return page[::-1]


FAILS, CRASHES, INFINITE = "the model fails", "unexpected error", "infinite"


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deciding on accounts of certain names fails in ways that no request can provoke."""
    decide = decision_module.decide

    def with_faults(
        accounts: Any, snapshot: Any, rules: Any, model: Any, *rest: Any, **o: Any
    ) -> Any:
        names = {one.account_id.partition("/")[0] for one in accounts}
        if FAILS in names and model is not None:
            raise ModelError("the graph does not run")
        if CRASHES in names:
            raise ZeroDivisionError("unexpected error")
        return [
            msgspec.structs.replace(result, total_requirement=float("inf"))
            if isinstance(result, Decision) and result.account_id.startswith(INFINITE)
            else result
            for result in decide(accounts, snapshot, rules, model, *rest, **o)
        ]

    monkeypatch.setattr(champion_module, "decide", with_faults)


NAMES = st.sampled_from(["a", "a", "b", "c", "d", FAILS, CRASHES, INFINITE])
POSITIONS = st.lists(
    st.tuples(
        st.sampled_from(["BTCUSDT-PERP", "ETHUSDT-PERP", "SOLUSDT", "NOTHING-PERP"]),
        st.sampled_from([0.1, -1.5, 0.0, 1e300]),
    ).map(lambda pair: {"instrument": pair[0], "quantity": pair[1]}),
    max_size=3,
)


@st.composite
def bodies(draw: st.DrawFn, newest: int) -> dict[str, Any]:
    accounts = []
    for _ in range(draw(st.integers(1, 3))):
        one = {
            "account_id": draw(NAMES),
            "cash": draw(st.sampled_from([0.0, 50.0, 3_000.0])),
            "positions": draw(POSITIONS),
        }
        if draw(st.integers(0, 4)) == 0:
            stated = draw(st.sampled_from([0, 5, 90]))
            one["previous_add_on"] = {
                "amount": draw(st.sampled_from([0.0, 2.5, 400.0])),
                "as_of": format_time(newest - (60 - stated) * MINUTE),
            }
        if draw(st.integers(0, 5)) == 0:
            one["history"] = {"note": "x" * draw(st.sampled_from([3, 300]))}
        accounts.append(one)
    body: dict[str, Any] = {"accounts": accounts}
    as_of = draw(st.sampled_from([None, None, None, 0, 7, -600, "some other day"]))
    if as_of is not None:
        body["as_of"] = (
            as_of if as_of == "some other day" else format_time(newest + int(as_of) * MINUTE)
        )
    return body


@pytest.mark.usefixtures("faulty", "champion")
def test_a_batch_gives_what_its_calls_would_give_one_at_a_time(
    make_service: MakeService, market: Any
) -> None:
    newest = int(market.panel.closes[-1])
    batch, alone, run = make_service(), make_service(), count()

    @settings(max_examples=60)
    @given(
        st.lists(
            st.tuples(bodies(newest), st.sampled_from([None, None, "k", "l", "k" * 201])),
            min_size=1,
            max_size=9,
        )
    )
    def check(drawn: list[tuple[dict[str, Any], str | None]]) -> None:
        fresh = next(run)  # accounts and keys of one example are not those of another
        for body, _ in drawn:
            for one in body["accounts"]:
                one["account_id"] = f"{one['account_id'].partition('/')[0]}/{fresh}"
        calls = [call(body, None if key is None else f"{key}{fresh}") for body, key in drawn]
        check_equal(batch, alone, calls)
        names = {one["account_id"] for body, _ in drawn for one in body["accounts"]}
        read = LevelsInForce(batch.ledger).of(names)
        assert batch._levels.expected(names) == read

    check()
    assert verify(batch.ledger.engine).intact


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize("size", [1, 2, 50, 51])
def test_every_size_of_batch_gives_the_same_bits(make_service: MakeService, size: int) -> None:
    calls = [call({"accounts": [account(f"{n % 37}", 50.0 * n)]}) for n in range(size)]
    check_equal(make_service(), make_service(), calls)


@pytest.mark.usefixtures("champion")
def test_a_thousand_calls_are_the_same_as_one_call_of_a_thousand_accounts(
    make_service: MakeService,
) -> None:
    book = [account(f"{n}", 25.0 * n) for n in range(1_000)]
    together, apart = make_service(), make_service()
    (whole,) = together.score_many([call({"accounts": book})])
    calls = apart.score_many([call({"accounts": [one]}) for one in book])
    assert isinstance(whole, EncodedResponse)
    merged = [body["decisions"][0] for body, *_ in comparable(calls)]
    assert merged == comparable([whole])[0][0]["decisions"]
    assert recorded(together.ledger) == recorded(apart.ledger)
    chosen = [call({"accounts": [book[n]]}) for n in range(0, 1_000, 61)]
    alone = [body["decisions"][0] for body, *_ in comparable(make_service().score_many(chosen))]
    assert alone == merged[::61]


@pytest.mark.usefixtures("champion")
def test_a_batch_is_one_transaction(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    append = service.ledger.append_decisions
    drafts: list[Draft] = []

    def counted(draft: Draft, renew: Any) -> Draft:
        drafts.append(draft)
        return append(draft, renew)

    monkeypatch.setattr(service.ledger, "append_decisions", counted)
    names = ["a", "b", "a", "c", "a"]
    results = service.score_many([call({"accounts": [account(name)]}) for name in names])
    assert all(isinstance(result, EncodedResponse) for result in results)
    (draft,) = drafts
    assert [[e.entry.account_id for e in entries] for entries in draft.rounds] == [
        ["a", "b"],
        ["a", "c"],
        ["a"],
    ]
    check_continuous(of_account(service.ledger, "a"))


@pytest.mark.usefixtures("champion")
def test_a_key_runs_once_in_a_batch(make_service: MakeService) -> None:
    service = make_service()
    body = {"accounts": [account("a")]}
    other = {"accounts": [account("a", 7.0)]}
    results = service.score_many([call(body, "k"), call(body, "k"), call(other, "k")])
    first, second, third = results
    assert isinstance(first, EncodedResponse)
    assert second == EncodedResponse(first.body, replayed=True)
    assert isinstance(third, LedgerConflictError)
    assert len(of_account(service.ledger, "a")) == 1


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    "refused",
    [
        {"accounts": [account("a"), account("a")]},
        {"accounts": [account("a")], "as_of": "some other day"},
    ],
    ids=["no account", "time"],
)
def test_a_refused_call_is_the_outcome_of_its_key(
    make_service: MakeService, refused: dict[str, Any]
) -> None:
    """Also for the calls of its batch, and after a restart."""
    service = make_service()
    other = {"accounts": [account("a")]}
    calls = [call(refused, "k"), call(refused, "k"), call(other, "k"), call(other)]
    results = service.score_many(calls)
    assert isinstance(results[0], RequestError)
    kept = EncodedResponse(encoded_refusal(results[0])[1], replayed=True, status=422)
    assert results[1] == kept
    assert isinstance(results[2], LedgerConflictError)
    assert isinstance(results[3], EncodedResponse)
    again = make_service(service.ledger).score_many(calls[:3])
    assert again[:2] == [kept, kept]
    assert isinstance(again[2], LedgerConflictError)
    assert len(list(service.ledger.records("answer"))) == 1
    assert verify(service.ledger.engine).intact


@pytest.mark.usefixtures("champion")
def test_a_call_that_failed_leaves_its_key_free(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what the rules, nor what the process lacks for now is an outcome."""
    service = make_service()
    body = {"accounts": [account("a")]}
    dated = body | {"as_of": format_time(int(service.live.state.newest_close or 0))}
    no_rules = RuleSetError("no version is in force")
    with monkeypatch.context() as broken:
        broken.setattr(RuleHistory, "at", lambda *_: (_ for _ in ()).throw(no_rules))
        results = service.score_many([call(body, "k"), call(dated, "l")])
    assert [type(result) for result in results] == [NoRulesError, NoRulesThenError]
    results = service.score_many([call(dated, "k"), call(body, "l")])
    assert [isinstance(one, EncodedResponse) and one.status for one in results] == [200, 200]


@pytest.mark.usefixtures("champion")
def test_a_refusal_that_cannot_be_recorded_is_no_answer(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    calls = [call({"accounts": [account("a"), account("a")]}, "k")]

    def fails(*_: Any) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("ledger.store.save", fails)
        assert [str(result) for result in service.score_many(calls)] == ["the disk is full"]
    assert isinstance(service.score_many(calls)[0], NoAccountScoredError)
    (repeated,) = service.score_many(calls)
    assert isinstance(repeated, EncodedResponse)


@pytest.mark.usefixtures("champion")
def test_what_another_writer_recorded_meanwhile_is_continued_from(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    other = make_service(service.ledger)
    append = service.ledger.append_decisions
    decided: list[list[str]] = []
    decide = decision_module.decide

    def counted(accounts: Any, *rest: Any, **others: Any) -> Any:
        decided.append([one.account_id for one in accounts])
        return decide(accounts, *rest, **others)

    def late(draft: Any, renew: Any) -> Any:
        monkeypatch.setattr(service.ledger, "append_decisions", append)
        other.score_many([call({"accounts": [account("a", 10.0)]}, "taken")])
        decided.clear()
        monkeypatch.setattr(champion_module, "decide", counted)
        return append(draft, renew)

    monkeypatch.setattr(service.ledger, "append_decisions", late)
    taken = {"accounts": [account("a", 10.0)]}
    results = service.score_many(
        [
            call({"accounts": [account("b")]}),
            call({"accounts": [account("a")]}),
            call({"accounts": [account("c")]}),
            call(taken, "taken"),
            call({"accounts": [account("a")]}),
        ]
    )
    assert all(isinstance(result, EncodedResponse) for result in results)
    assert isinstance(results[3], EncodedResponse)
    assert results[3].replayed
    assert decided == [["a"], ["a"]]  # b and c stand as they were decided
    records = of_account(service.ledger, "a")
    assert len(records) == 3
    check_continuous(records)
    assert verify(service.ledger.engine).intact


@pytest.mark.usefixtures("champion")
def test_a_call_that_failed_at_first_and_was_answered_meanwhile_repeats_the_answer(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    other = make_service(service.ledger)
    append, decide = service.ledger.append_decisions, decision_module.decide
    answered: list[EncodedResponse | MargincastError] = []

    def flaky(accounts: Any, *rest: Any, **others: Any) -> Any:
        if any(one.account_id == "a" for one in accounts):
            raise MemoryError("for the moment")
        return decide(accounts, *rest, **others)

    def late(draft: Draft, renew: Any) -> Draft:
        monkeypatch.setattr(champion_module, "decide", decide)
        monkeypatch.setattr(service.ledger, "append_decisions", append)
        answered.extend(other.score_many([repeated, call({"accounts": [account("b")]})]))
        return append(draft, renew)

    repeated = call({"accounts": [account("a")]}, "k")
    monkeypatch.setattr(service.ledger, "append_decisions", late)
    monkeypatch.setattr(champion_module, "decide", flaky)
    results = service.score_many(
        [repeated, *(call({"accounts": [account(name)]}) for name in "bc")]
    )
    assert isinstance(answered[0], EncodedResponse)
    assert results[0] == EncodedResponse(answered[0].body, replayed=True)
    assert [type(result) for result in results[1:]] == [EncodedResponse] * 2
    assert len(of_account(service.ledger, "a")) == 1
    check_continuous(of_account(service.ledger, "b"))


@pytest.mark.usefixtures("champion")
def test_a_record_that_is_gone_is_not_continued_from(make_service: MakeService) -> None:
    service = make_service()
    for _ in range(2):
        service.score_many([call({"accounts": [account(name)]}) for name in "ab"])
    with service.ledger.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM records WHERE account_id = 'a'")
    results = service.score_many([call({"accounts": [account(name)]}) for name in "ab"])
    assert [type(result) for result in results] == [EncodedResponse] * 2
    (record,) = of_account(service.ledger, "a")
    assert record.payload["previous"] is None
    check_continuous(of_account(service.ledger, "b"))


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    ("history", "words"),
    [
        ('{"k":' + "[" * 64 + "]" * 64 + "}", "nested too deeply"),
        ('{"note": "' + "x" * 200 + '"}', "history has 212 bytes; at most 200"),
        ('{"n": [' + "1e9," * 40 + "1e9]}", "bytes as it is recorded; at most 200"),
        ("[1]", "not an object of JSON"),
    ],
)
def test_a_history_that_is_refused_is_an_error_of_its_account_alone(
    make_service: MakeService, history: str, words: str
) -> None:
    service = make_service()
    body = msgspec.json.encode(account("a", history=msgspec.Raw(history.encode())))
    request = msgspec.json.decode(b'{"accounts": [' + body + b"]}", type=ScoreRequest)
    calls = [ScoreCall(request, "owner", None, ""), call({"accounts": [account("b")]})]
    for _ in range(2):
        refused, answered = service.score_many(calls)
        assert isinstance(refused, NoAccountScoredError)
        assert words in refused.problems[0].detail
        assert isinstance(answered, EncodedResponse)


@pytest.mark.usefixtures("champion")
def test_a_record_that_cannot_be_read_fails_only_the_call_that_needs_it(
    make_service: MakeService,
) -> None:
    service = make_service()
    names = ("list", "deep", "cut")
    texts = ("[]", '{"k":' * 100_000 + "1" + "}" * 100_000, "{")
    for name, text in zip(names, texts, strict=True):
        entry = Entry("decision", {}, account_id=name)
        with service.ledger.transaction() as connection:
            payload = text.encode()
            encoded = EncodedEntry(entry, name, sha256_hex(payload), pack(payload))
            extend_in_rounds(connection, "other", [[encoded]])
    for name in names:
        results = service.score_many(
            [call({"accounts": [account(one)]}) for one in ("a", name, "b")]
        )
        assert [type(result) for result in results] == [
            EncodedResponse,
            NoAccountScoredError,
            EncodedResponse,
        ]
        assert isinstance(results[1], NoAccountScoredError)
        assert [problem.type for problem in results[1].problems] == ["altered-record"]


@pytest.mark.usefixtures("champion")
def test_an_id_that_is_taken_fails_only_its_call(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    (taken,) = service.ledger.append([Entry("market", {})])
    ids = iter(["1" * 32, taken.id, "2" * 32])
    monkeypatch.setattr("decisions.records.new_id", lambda: next(ids))
    results = service.score_many([call({"accounts": [account(name)]}) for name in "abc"])
    assert [isinstance(result, EncodedResponse) for result in results] == [True, False, True]
    assert isinstance(results[1], UnrecordableError)
    assert [payload[0] for payload in recorded(service.ledger)] == ["a", "c"]
    assert verify(service.ledger.engine).intact


@pytest.mark.usefixtures("champion")
def test_a_database_that_fails_gives_every_call_its_error_and_leaves_no_record(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    extend = "ledger.store.extend_in_rounds"

    def fails(*_: Any) -> None:
        raise LedgerError("the disk is full")

    calls = [call({"accounts": [account(name)]}, name) for name in "ab"]
    calls.append(call({"accounts": [account("c"), account("c")]}))
    with monkeypatch.context() as broken:
        broken.setattr(extend, fails)
        results = service.score_many(calls)
    assert [str(result) for result in results[:2]] == ["the disk is full"] * 2
    assert isinstance(results[2], NoAccountScoredError)
    assert recorded(service.ledger) == []
    again = service.score_many(calls)
    assert [isinstance(result, EncodedResponse) for result in again] == [True, True, False]


@pytest.mark.usefixtures("faulty", "champion")
def test_unexpected_error_fails_its_call_alone_with_its_cause(
    make_service: MakeService,
) -> None:
    names = ["a", CRASHES, "b"]
    results = make_service().score_many([call({"accounts": [account(name)]}) for name in names])
    assert [isinstance(result, EncodedResponse) for result in results] == [True, False, True]
    assert isinstance(results[1], CallFailedError)
    assert isinstance(results[1].__cause__, ZeroDivisionError)


def test_no_calls_are_no_results(make_service: MakeService) -> None:
    assert make_service().score_many([]) == []
