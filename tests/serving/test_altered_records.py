"""One altered record costs its account its answer, and no other account anything."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from ledger.packing import pack, unpack
from ledger.schema import records
from ledger.store import Ledger


def alter(ledger: Ledger, account_id: str, *, noise: bool = False) -> tuple[str, int]:
    """Change the newest record of an account behind the ledger's back; gives its place."""
    with ledger.engine.begin() as connection:
        query = select(records.c.chain, records.c.seq, records.c.payload)
        query = query.where(records.c.account_id == account_id, records.c.kind == "decision")
        chain, seq, payload = connection.execute(
            query.order_by(records.c.recorded_at.desc()).limit(1)
        ).one()
        text = unpack(payload)
        changed = b"\x00noise" if noise else pack(text.replace(b"3000.0", b"3001.0"))
        of_record = (records.c.chain == chain) & (records.c.seq == seq)
        connection.execute(update(records).where(of_record).values(payload=changed))
    return str(chain), int(seq)


@pytest.mark.parametrize("noise", [False, True])
def test_an_altered_record_fails_its_account_alone(
    serve: Any, champion: str, account: dict[str, Any], noise: bool
) -> None:
    accounts = [account | {"account_id": name} for name in "abc"]
    first = serve()
    assert first.score(*accounts).status_code == 200
    chain, seq = alter(first.ledger, "b", noise=noise)

    endpoint = serve()  # a restart: no level is in memory
    for _ in range(2):
        answer = endpoint.score(*accounts)
        assert answer.status_code == 200
        decisions, errors = answer.json()["decisions"], answer.json()["errors"]
        assert [decision["account_id"] for decision in decisions] == ["a", "c"]
        (problem,) = errors
        assert (problem["account_id"], problem["type"]) == ("b", "altered-record")
        assert str(seq) in problem["detail"]
    alone = endpoint.score(accounts[1])
    assert alone.status_code == 422
    assert alone.json()["errors"][0]["type"] == "altered-record"
    many = [endpoint.score(one).status_code for one in (*accounts, accounts[0])]
    assert many == [200, 422, 200, 200]
    assert endpoint.client.get("/health/ready").status_code == 200

    page = endpoint.client.get("/v1/accounts/b/decisions")
    assert page.status_code == 200
    (altered,) = page.json()["altered"]
    assert (altered["chain"], altered["seq"]) == (chain, seq)
    assert page.json()["decisions"] == []
    assert endpoint.client.get("/v1/accounts/a/decisions").json()["altered"] == []


def test_the_sound_decisions_of_a_page_with_an_altered_one_are_answered(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    endpoint = serve()
    ids = [endpoint.score(account).json()["decisions"][0]["decision_id"] for _ in range(3)]
    alter(endpoint.ledger, account["account_id"])
    page = endpoint.client.get("/v1/accounts/acc-1/decisions?limit=2").json()
    assert [decision["decision_id"] for decision in page["decisions"]] == [ids[1]]
    assert len(page["altered"]) == 1
    older = f"/v1/accounts/acc-1/decisions?before={page['next_before']}"
    rest = endpoint.client.get(older).json()
    assert [decision["decision_id"] for decision in rest["decisions"]] == [ids[0]]


def test_an_account_with_an_altered_record_goes_on_from_a_stated_add_on(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    first = serve()
    decision = first.score(account).json()["decisions"][0]
    alter(first.ledger, account["account_id"])
    endpoint = serve()
    assert endpoint.score(account).status_code == 422
    stated = {"amount": decision["add_on"], "as_of": decision["as_of"]}
    assert endpoint.score(account | {"previous_add_on": stated}).status_code == 200
    assert endpoint.score(account).status_code == 200, "its newest record is sound again"


def test_what_if_leaves_out_the_account_with_an_altered_record(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    accounts = [account | {"account_id": name} for name in "ab"]
    first = serve()
    first.score(*accounts)
    alter(first.ledger, "a")
    changes = [{"account_id": name, "deposit": 1.0} for name in "ab"]
    answer = serve().client.post("/v1/what-if", json={"accounts": accounts, "changes": changes})
    assert answer.status_code == 200
    for side in ("before", "after"):
        assert [d["account_id"] for d in answer.json()[side]["decisions"]] == ["b"]
        assert [e["type"] for e in answer.json()[side]["errors"]] == ["altered-record"]


def test_a_record_that_another_writer_altered_meanwhile_fails_its_account_alone(
    serve: Any, champion: str, account: dict[str, Any]
) -> None:
    """A second endpoint knows older records, so it decides anew inside the transaction."""
    accounts = [account | {"account_id": name} for name in "ab"]
    first, second = serve(), serve()
    assert second.score(*accounts).status_code == 200
    assert first.score(*accounts).status_code == 200
    alter(first.ledger, "a")
    answer = second.score(*accounts)
    assert answer.status_code == 200
    assert [d["account_id"] for d in answer.json()["decisions"]] == ["b"]
    assert [e["type"] for e in answer.json()["errors"]] == ["altered-record"]
