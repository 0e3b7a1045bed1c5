"""What alembic runs for every command: `ledger.migrations.ledger_upgrade` gives it the connection.

References
----------
https://alembic.sqlalchemy.org/en/latest/cookbook.html, sharing a connection with commands.
"""

from alembic import context

from ledger.schema import versions

context.configure(
    connection=context.config.attributes["connection"],
    progress=context.config.attributes["progress"],
    version_table=versions.name,
)
with context.begin_transaction():
    context.run_migrations()
