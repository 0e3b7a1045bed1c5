"""Archiving and the structure of the tables on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from ledger.archive.archived import ArchivedRecords
from ledger.archive.archiver import Archiver
from ledger.audit.heads import heads
from ledger.store import Ledger
from ledger.verify import Checks, verify
from market.core.clock import DAY
from tests.ledger.archive.test_archiver import all_decisions, fill


def test_archiving_on_postgres_loses_nothing(postgres_url: str, tmp_path: Path) -> None:
    with Ledger(postgres_url, chain="serving") as ledger:
        boundary = fill(ledger, postgres_url)
        records, before = all_decisions(ledger), heads(ledger.engine)
        _, contents = Archiver(ledger, tmp_path).run(boundary)
        assert contents == 15
        archive = ArchivedRecords(ledger, tmp_path)
        assert all(archive.get_record(record.id) == record for record in records)
        checks = Checks(archive=tmp_path, answers_kept=DAY)
        assert verify(ledger.engine, before, checks).problems == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("CREATE VIEW v AS SELECT 1", "view 'v'"),
        ("CREATE TABLE extra (x int)", "table 'extra'"),
        ("CREATE INDEX i ON records (kind)", "index of table 'records' on kind was added"),
        ("DROP INDEX records_by_kind", "is missing, it was dropped"),
        ("CREATE RULE r AS ON DELETE TO records DO INSTEAD NOTHING", "rule 'r'"),
        ("ALTER TABLE api_keys ADD COLUMN x text", "column 'x'"),
        ("ALTER TABLE records ADD CONSTRAINT c CHECK (account_id <> 'x')", "constraint 'c'"),
        (
            "ALTER TABLE answers ADD CONSTRAINT f FOREIGN KEY (record_id) REFERENCES records (id)",
            "constraint 'f'",
        ),
        ("ALTER TABLE api_keys ALTER revoked_at SET DEFAULT 1", "column 'revoked_at'"),
        ("ALTER TABLE api_keys ALTER label SET DEFAULT 'x'", "column 'label'"),
        ('ALTER TABLE contents ALTER kind TYPE text COLLATE "C"', "column 'kind'"),
        (
            "CREATE TRIGGER t BEFORE UPDATE ON records FOR EACH ROW "
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "trigger 't'",
        ),
    ],
)
def test_a_change_of_the_structure_on_postgres_is_found(
    postgres_url: str, change: str, said: str
) -> None:
    with Ledger(postgres_url) as ledger:
        assert verify(ledger.engine).problems == []
        with ledger.engine.begin() as connection:
            connection.execute(text(change))
        (problem,) = verify(ledger.engine).problems
    assert said in problem
