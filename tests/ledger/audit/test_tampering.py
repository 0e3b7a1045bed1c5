"""What a database administrator can change beside the chains, and how it is found."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import insert, text

from ledger.audit import slices
from ledger.audit.heads import Heads, heads
from ledger.audit.heads_series import KeptHeads
from ledger.chain import extend
from ledger.decisions import Draft
from ledger.idempotency import IdempotentAnswer
from ledger.records import EncodedEntry, Entry
from ledger.schema import api_keys
from ledger.store import Ledger
from ledger.verify import Checks, verify
from market.core.clock import DAY, HOUR, SECOND, format_time
from market.core.errors import AlteredError
from tests.ledger.audit.forger import Forger

MONTH = Checks(answers_kept=30 * DAY)


@pytest.fixture(autouse=True)
def _filled(url: str) -> None:
    """Decisions with answers, and two keys of which one is revoked."""
    with Ledger(url) as ledger:
        for n in range(6):
            entry = Entry("decision", {"n": n}, account_id=f"a{n % 3}")
            answer = IdempotentAnswer("owner", f"key-{n}", "a" * 64, 200, b'{"n":%d}' % n)
            ledger.append_decisions(Draft([[EncodedEntry.of(entry)]], answers=[answer]), _never)
    with Ledger(url, chain="keys") as ledger:
        add_key(ledger, "scorer", scopes=["score"])
        add_key(ledger, "reader", scopes=["read", "market"], label="desk", expires_at=9)
        with ledger.transaction() as connection:
            connection.execute(text("UPDATE api_keys SET revoked_at = 7 WHERE key_id = 'reader'"))
            change = {"action": "revoke", "key_id": "reader", "revoked_at": 7}
            extend(connection, "keys", [Entry("keys", change)])


def add_key(ledger: Ledger, key_id: str, *, scopes: list[str], **more: object) -> None:
    """A key as `ledger.keys` makes it, and its record."""
    row = {"secret_sha256": "a0" * 32, "created_at": 5, "label": "", **more}
    with ledger.transaction() as connection:
        connection.execute(insert(api_keys), {"key_id": key_id, "scopes": " ".join(scopes), **row})
        change = {"action": "add", "key_id": key_id, "scopes": scopes, **row}
        extend(connection, "keys", [Entry("keys", change)])


def _never(_: object) -> Draft:
    raise AssertionError("nothing was recorded meanwhile")


def test_an_untouched_ledger_is_intact(url: str) -> None:
    found = verify(url, checks=MONTH)
    assert (found.problems, found.notes) == ([], [])


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "response = (SELECT response FROM answers WHERE key = 'key-1')",
        "response = x'00'",
        "response = 'text'",
        "status = 409",
        "body_sha256 = zeroblob(32)",
        "body_sha256 = 'x'",
        "owner = 'other'",
        "key = 'key-9'",
        "answered_at = answered_at + 1",
        "record_id = (SELECT record_id FROM answers WHERE key = 'key-1')",
        "record_id = zeroblob(16)",
    ],
)
def test_an_edited_answer_is_found(url: str, forger: Forger, change: str) -> None:
    forger.sql(f"UPDATE answers SET {change} WHERE key = 'key-2'")  # noqa: S608
    assert any("answer to" in problem for problem in verify(url, checks=MONTH).problems)


def test_a_deleted_answer_is_found_while_it_is_to_be_kept(url: str, forger: Forger) -> None:
    forger.sql("DELETE FROM answers WHERE key = 'key-2'")
    (problem,) = verify(url, checks=MONTH).problems
    assert "'key-2'" in problem
    assert "deleted" in problem
    assert verify(url, checks=Checks(answers_kept=0)).intact


def test_an_answer_put_into_the_table_is_found(url: str, forger: Forger) -> None:
    forger.sql(
        "INSERT INTO answers SELECT owner, 'forged', body_sha256, status, response, answered_at, "
        "record_id FROM answers WHERE key = 'key-2'"
    )
    (problem,) = verify(url, checks=MONTH).problems
    assert "'forged'" in problem


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("scopes = 'admin' WHERE scopes = 'score'", "scopes"),
        ("label = 'other' WHERE scopes = 'score'", "label"),
        ("expires_at = 1 WHERE scopes = 'score'", "expires_at"),
        ("rate_per_minute = 1 WHERE scopes = 'score'", "rate_per_minute"),
        ("created_at = 4 WHERE scopes = 'score'", "created_at"),
        ("revoked_at = NULL", "revoked"),
        ("revoked_at = 1 WHERE scopes = 'score'", "revoked"),
        ("revoked_at = 8 WHERE revoked_at = 7", "revoked"),
        ("secret_sha256 = replace(secret_sha256, '0', '1')", "another secret"),
        ("key_id = 'forged' WHERE scopes = 'score'", "put into the table"),
    ],
)
def test_an_edited_key_is_found(url: str, forger: Forger, change: str, said: str) -> None:
    forger.sql(f"UPDATE api_keys SET {change}")  # noqa: S608
    assert any(said in problem for problem in verify(url).problems)


def test_a_deleted_key_and_one_put_into_the_table_are_found(url: str, forger: Forger) -> None:
    forger.sql("DELETE FROM api_keys WHERE scopes = 'score'")
    assert "deleted" in verify(url).problems[0]
    forger.sql(
        "INSERT INTO api_keys (key_id, secret_sha256, scopes, created_at) "
        "VALUES ('forged', 'ab', 'admin', 1)"
    )
    assert any("'forged' has no record" in problem for problem in verify(url).problems)


@pytest.mark.parametrize(
    ("change", "row", "said"),
    [
        (
            {"action": "expire", "key_id": "reader", "expires_at": 9, "scopes": ["admin"]},
            "scopes = 'admin' WHERE key_id = 'reader'",
            "the action 'expire' sets scopes",
        ),
        (
            {"action": "revoke", "key_id": "reader", "revoked_at": 7, "secret_sha256": "b" * 64},
            "secret_sha256 = '" + "b" * 64 + "' WHERE key_id = 'reader'",
            "the action 'revoke' sets secret_sha256",
        ),
        (
            {"action": "raise", "key_id": "scorer", "scopes": ["admin"]},
            "scopes = 'admin' WHERE key_id = 'scorer'",
            "the unknown action 'raise'",
        ),
        (
            {"action": "expire", "key_id": "reader", "expires_at": 99},
            "expires_at = 99 WHERE key_id = 'reader'",
            "an expiry that lengthens the life",
        ),
        (
            {"action": "add", "key_id": "scorer", "scopes": ["admin"]},
            "scopes = 'admin' WHERE key_id = 'scorer'",
            "a second addition",
        ),
    ],
)
def test_a_record_with_a_correct_hash_raises_no_key(
    url: str, forger: Forger, change: dict[str, object], row: str, said: str
) -> None:
    with Ledger(url, chain="forged") as ledger, ledger.transaction() as connection:
        extend(connection, "forged", [Entry("keys", change)])
    forger.sql(f"UPDATE api_keys SET {row}")  # noqa: S608
    problems = verify(url).problems
    assert any(said in problem and "forged" in problem for problem in problems), problems


def test_keys_of_an_earlier_version_are_named_as_unproven(url: str, forger: Forger) -> None:
    with Ledger(url, chain="keys") as ledger, ledger.transaction() as connection:
        extend(
            connection, "keys", [Entry("keys", {"action": "add", "key_id": "old", "scopes": []})]
        )
    forger.sql(
        "INSERT INTO api_keys (key_id, secret_sha256, scopes, created_at) "
        "VALUES ('old', 'ab', '', 1)"
    )
    found = verify(url)
    assert found.intact
    assert "earlier version" in found.notes[0]
    assert "old" in found.notes[0]
    forger.sql("UPDATE api_keys SET scopes = 'admin' WHERE key_id = 'old'")
    assert "scopes" in verify(url).problems[0]


# --- structure ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON records BEGIN SELECT 1; END", "trigger 't'"),
        ("CREATE VIEW v AS SELECT * FROM records", "view 'v'"),
        ("CREATE TABLE extra (x)", "table 'extra'"),
        ("CREATE INDEX i ON records (kind)", "index of table 'records' on kind was added"),
        ("CREATE UNIQUE INDEX i ON records (kind, seq, hash)", "unique index of table 'records'"),
        ("DROP INDEX records_by_kind", "is missing, it was dropped"),
        ("DROP TABLE segments", "table 'segments' is missing"),
        ("ALTER TABLE api_keys ADD COLUMN x TEXT", "column 'x' of table 'api_keys'"),
        ("ALTER TABLE api_keys DROP COLUMN label", "column 'label' of table 'api_keys'"),
        ("INSERT INTO ledger_version VALUES ('9999')", "revision"),
    ],
)
def test_a_change_of_the_structure_is_found(
    url: str, forger: Forger, change: str, said: str
) -> None:
    with Ledger(url) as ledger:  # open before: a database of another revision is not opened
        forger.sql(change)
        found = verify(ledger.engine)
    assert any(said in problem for problem in found.problems), found.problems


def test_a_column_of_another_type_is_found(url: str, forger: Forger) -> None:
    forger.sql(
        "ALTER TABLE api_keys RENAME COLUMN rate_per_minute TO old",
        "ALTER TABLE api_keys ADD COLUMN rate_per_minute TEXT",
        "ALTER TABLE api_keys DROP COLUMN old",
    )
    assert any("'rate_per_minute'" in problem for problem in verify(url).problems)


@pytest.mark.parametrize("change", ["DELETE FROM ledger_version", "DROP TABLE ledger_version"])
def test_a_ledger_that_lost_its_revision_is_altered_not_old(
    url: str, forger: Forger, change: str
) -> None:
    forger.sql(change)
    with pytest.raises(AlteredError, match="it was altered"):
        verify(url)


WRITABLE = "PRAGMA writable_schema = ON"
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON records BEGIN SELECT 1; END"


def test_a_trigger_with_a_name_of_sqlite_is_found(url: str, forger: Forger) -> None:
    forger.sql(
        TRIGGER,
        WRITABLE,
        "UPDATE sqlite_master SET name = 'sqlite_t', sql = replace(sql, 'TRIGGER t', "
        "'TRIGGER sqlite_t') WHERE name = 't'",
    )
    (problem,) = verify(url).problems
    assert "trigger 'sqlite_t'" in problem


def test_a_table_with_a_name_of_sqlite_is_found(url: str, forger: Forger) -> None:
    forger.sql(
        "CREATE TABLE extra (x)",
        WRITABLE,
        "UPDATE sqlite_master SET name = 'sqlite_x', tbl_name = 'sqlite_x', "
        "sql = 'CREATE TABLE sqlite_x (x)' WHERE name = 'extra'",
    )
    (problem,) = verify(url).problems
    assert "table 'sqlite_x'" in problem


def test_statistics_of_sqlite_are_no_problem(url: str, forger: Forger) -> None:
    forger.sql("ANALYZE")
    assert forger.one("SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_stat1'") == 1
    assert verify(url).problems == []


@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        ("records", "account_id TEXT", "account_id TEXT COLLATE NOCASE"),
        ("records", "account_id TEXT", "account_id TEXT CHECK (account_id <> ''a1'')"),
        ("records", "UNIQUE (id)", "UNIQUE (id) ON CONFLICT REPLACE"),
        ("api_keys", "revoked_at BIGINT", "revoked_at BIGINT DEFAULT 1"),
        ("api_keys", "label TEXT DEFAULT ''''", "label TEXT DEFAULT ''x''"),
        ("records_by_account", "''decision''", "''decisions''"),
    ],
)
def test_a_definition_that_columns_and_indices_do_not_show_is_found(
    url: str, forger: Forger, table: str, old: str, new: str
) -> None:
    forger.sql(
        WRITABLE,
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') "  # noqa: S608
        f"WHERE name = '{table}'",
    )
    problems = verify(url).problems
    assert any("was changed" in problem for problem in problems), problems


# --- heads --------------------------------------------------------------------------------------


def later(kept: Heads, nanoseconds: int) -> Heads:
    """Heads as if they had been written so much later."""
    return Heads(chains=kept["chains"], at=format_time(time.time_ns() + nanoseconds))


def test_a_forged_new_chain_with_records_from_before_the_heads_is_found(url: str) -> None:
    kept = later(heads(url), HOUR)
    with Ledger(url, chain="forged") as ledger:
        ledger.append([Entry("decision", {"n": 1}, account_id="a0")])
    found = verify(url, kept)
    (problem,) = found.problems
    assert "'forged' seq 1" in problem
    assert "before the newest heads" in problem


def test_records_forged_at_the_end_of_a_chain_with_an_early_time_are_found(url: str) -> None:
    kept = later(heads(url), HOUR)
    with Ledger(url) as ledger:
        ledger.append([Entry("decision", {"n": n}, account_id="a0") for n in range(50)])
    (problem,) = verify(url, kept).problems
    assert "forged" in problem


def test_records_after_the_heads_are_not_covered_yet(url: str) -> None:
    kept = heads(url)
    with Ledger(url) as ledger:
        ledger.append([Entry("market", {}), Entry("market", {})])
    found = verify(url, kept)
    assert found.intact
    assert found.coverage is not None
    assert found.coverage.uncovered == 2
    assert any("not covered yet: 2 records" in note for note in found.notes)
    time.sleep(0.02)
    late = verify(url, kept, Checks(longest_uncovered=10_000_000))
    assert sum("records are in no heads" in problem for problem in late.problems) == 1
    assert verify(url, kept, Checks(longest_uncovered=HOUR)).intact


def test_keys_added_since_the_heads_are_named(url: str) -> None:
    kept = heads(url)
    assert not any("were added" in note for note in verify(url, kept).notes)
    with Ledger(url, chain="keys") as ledger:
        add_key(ledger, "late", scopes=["admin"])
    found = verify(url, kept)
    assert found.problems == []
    (note,) = (note for note in found.notes if "were added" in note)
    assert "1 API keys were added since the heads: 'late' (scopes ['admin'])" in note


def test_stale_heads_are_found_where_they_must_be_fresh(url: str) -> None:
    kept = later(heads(url), -2 * HOUR)
    assert verify(url, kept).intact
    (problem,) = verify(url, kept, Checks(longest_uncovered=HOUR)).problems
    assert "stale" in problem
    assert "2 h" in problem


def test_every_kept_head_is_compared_not_the_newest_alone(url: str, forger: Forger) -> None:
    first = heads(url)
    with Ledger(url) as ledger:
        ledger.append([Entry("market", {})])
    early = Heads(chains={**first["chains"], "main": {"seq": 3, "hash": "0" * 64}}, at=first["at"])
    (problem,) = verify(url, KeptHeads([early, heads(url)])).problems
    assert "'main' seq 3" in problem
    assert "rewritten" in problem


def test_a_chain_that_is_gone_is_named(url: str, forger: Forger) -> None:
    kept = heads(url)
    forger.sql("DELETE FROM records WHERE chain = 'keys'", "DELETE FROM api_keys")
    assert verify(url).intact
    (problem,) = verify(url, kept).problems
    assert "'keys'" in problem
    assert "the chain is missing, 3 records are gone" in problem


# --- slices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_slices_and_processes_find_what_one_walk_finds(
    url: str, forger: Forger, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(slices, "SLICE", 4)
    with Ledger(url) as ledger:
        ledger.append([Entry("market", {"n": n}) for n in range(40)])
    kept = heads(url)
    found = verify(url, kept, Checks(answers_kept=DAY, workers=workers))
    assert found.problems == []
    assert found.chains["main"].records == 52
    assert found.chains["main"].head == kept["chains"]["main"]["hash"]
    forger.sql(
        "DELETE FROM records WHERE chain = 'main' AND seq BETWEEN 20 AND 29",
        "DELETE FROM records WHERE chain = 'main' AND seq = 4",
        "UPDATE records SET as_of = 1 WHERE chain = 'main' AND seq = 33",
    )
    problems = "\n".join(verify(url, kept, Checks(workers=workers)).problems)
    for said in ("follows seq 19", "follows seq 3,", "seq 33 "):
        assert said in problems


def test_the_slack_of_a_transaction_is_no_forgery(url: str) -> None:
    kept = later(heads(url), 30 * SECOND)
    with Ledger(url) as ledger:
        ledger.append([Entry("market", {})])
    assert verify(url, kept).intact
