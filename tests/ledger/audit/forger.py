"""Changes a database as its administrator could."""

from __future__ import annotations

import sqlite3
from contextlib import closing


class Forger:
    """Runs statements on the file of an SQLite ledger."""

    def __init__(self, url: str) -> None:
        self.path = url.removeprefix("sqlite:///")

    def sql(self, *statements: str) -> None:
        """Run and commit them."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def one(self, query: str) -> object:
        """The first column of the first row of a query."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchone()[0]
