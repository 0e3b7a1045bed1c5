"""Tables of the live book and of leases."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables; every other table stays as it is."""
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("out_of_sync", sa.BigInteger),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("update_sha256", sa.LargeBinary, nullable=False),
        sa.Column("record_seq", sa.BigInteger, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
    )
    op.create_index("accounts_by_record", "accounts", ["record_seq"])
    op.create_index("accounts_by_place", "accounts", ["place"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
