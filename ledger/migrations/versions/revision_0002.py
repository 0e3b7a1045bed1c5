"""Ids, hashes and texts are packed; answers have a record; keys have labels, expiry and rates."""

import sqlalchemy as sa
from alembic import op

from ledger.migrations.conversion import convert

revision = "0002"
down_revision = "0001"

_TABLES = ("records", "contents", "answers", "api_keys")
_INDICES = ("records_by_account", "records_by_kind", "records_by_as_of")


def upgrade() -> None:
    """Create the new tables, convert every row and drop the old tables."""
    for index in _INDICES:
        # Early ledgers may lack one.
        op.drop_index(index, "records", if_exists=True)
    for table in _TABLES:
        op.rename_table(table, f"{table}_0001")
    if op.get_bind().dialect.name == "postgresql":
        for index in (*(f"{table}_pkey" for table in _TABLES), "records_id_key"):
            op.execute(f'ALTER INDEX "{index}" RENAME TO "{index}_0001"')
    _create_tables()
    convert(op.get_bind(), op.get_context().opts["progress"])
    for table in _TABLES:
        op.drop_table(f"{table}_0001")


def _create_tables() -> None:
    op.create_table(
        "records",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text),
        sa.Column("as_of", sa.BigInteger),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    decisions = sa.text("kind = 'decision'")
    op.create_index("records_by_kind", "records", ["kind", "recorded_at", "chain", "seq"])
    op.create_index("records_by_as_of", "records", ["kind", "as_of"])
    op.create_index(
        "records_by_account",
        "records",
        ["account_id", "recorded_at"],
        sqlite_where=decisions,
        postgresql_where=decisions,
    )
    op.create_table(
        "contents",
        sa.Column("sha256", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("body_sha256", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("answered_at", sa.BigInteger, nullable=False),
        sa.Column("record_id", sa.LargeBinary, nullable=False),
    )
    op.create_index("answers_by_time", "answers", ["answered_at"])
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("secret_sha256", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("label", sa.Text, nullable=False, server_default=""),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("rate_per_minute", sa.Integer),
    )
    op.create_table(
        "segments",
        sa.Column("chain", sa.Text, primary_key=True),
        sa.Column("first_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("last_hash", sa.LargeBinary, nullable=False),
        sa.Column("file_sha256", sa.LargeBinary, nullable=False),
        sa.Column("sealed_at", sa.BigInteger, nullable=False),
    )
