"""Structure of a ledger's database: only the tables that it was created with.

A trigger can change what is recorded, a view or a rule can answer for a table, a dropped index
makes the endpoint slow: none of them alters a record, so no hash shows it.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, Index, Table, UniqueConstraint, create_engine, select, text

from ledger.schema import REVISION, metadata, versions

_Columns = tuple[str, ...]
_IndexShape = tuple[bool, _Columns]
_SQLITE_TABLES = re.compile("sqlite_sequence|sqlite_stat[1-4]")
"""Tables that SQLite makes by itself. Nothing else is passed over for its name: by
``PRAGMA writable_schema`` a trigger gets any."""
_NAMED_KEY = re.compile("CONSTRAINT ledger_version_pkc PRIMARY KEY")
"""As alembic writes it where a ledger was upgraded."""


def structure_problems(connection: Connection) -> list[str]:
    """Problems of the structure of a ledger's database: what was added, dropped or changed.

    On SQLite every object of the file is compared; on PostgreSQL those of the schema that holds
    the ledger, which therefore should hold nothing else.
    """
    compare = _sqlite_problems if connection.dialect.name == "sqlite" else _postgres_problems
    problems = list(compare(connection))
    if not any(f"{versions.name!r}" in problem for problem in problems):
        found = list(connection.execute(select(versions.c.version_num)).scalars())
        if found != [REVISION]:
            problems.append(f"the tables say they are of revision {found}, not {REVISION!r}")
    return problems


def _sqlite_problems(connection: Connection) -> Iterator[str]:
    raw: object = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):
        return
    model = create_engine("sqlite://")
    try:
        metadata.create_all(model)
        with model.connect() as expected:
            made: object = expected.connection.dbapi_connection
            if isinstance(made, sqlite3.Connection):
                yield from _compare_sqlite(raw, made)
    finally:
        model.dispose()


def _compare_sqlite(found: sqlite3.Connection, made: sqlite3.Connection) -> Iterator[str]:
    tables: set[str] = set()
    for kind, name, table in found.execute(
        "SELECT type, name, tbl_name FROM sqlite_master"
    ).fetchall():
        if kind == "table":
            if not _SQLITE_TABLES.fullmatch(name):
                tables.add(name)
        elif kind != "index":  # indices are compared with their table
            yield f"{kind} {name!r} on {table!r} is not one of the ledger's, it was added"
    for extra in sorted(tables - metadata.tables.keys()):
        yield f"table {extra!r} is not one of the ledger's, it was added"
    for name in metadata.tables:
        if name not in tables:
            yield f"table {name!r} is missing"
            continue
        problems = [
            *_compare_columns(name, _sqlite_columns(found, name), _sqlite_columns(made, name)),
            *_compare_indices(name, _sqlite_indices(found, name), _sqlite_indices(made, name)),
        ]
        yield from problems or _compare_sql(name, _sqlite_sql(found, name), _sqlite_sql(made, name))


def _compare_sql(table: str, found: Counter[str], made: Counter[str]) -> Iterator[str]:
    """Where nothing else differs: CHECK, DEFAULT, COLLATE, the condition of an index."""
    for added in sorted((found - made).elements()):
        yield f"table {table!r} was changed: {added!r} is not one of the ledger's definitions"
    for dropped in sorted((made - found).elements()):
        yield f"table {table!r} was changed: {dropped!r} is missing"


def _sqlite_sql(raw: sqlite3.Connection, table: str) -> Counter[str]:
    """The statements that define a table and its indices; SQLite's own indices have none."""
    rows = raw.execute(
        "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('table', 'index') "
        "AND sql IS NOT NULL",
        (table,),
    ).fetchall()
    return Counter(_NAMED_KEY.sub("PRIMARY KEY", " ".join(str(sql).split())) for (sql,) in rows)


def _sqlite_columns(raw: sqlite3.Connection, table: str) -> dict[str, tuple[object, ...]]:
    """Type, constraints and place in the primary key of each column."""
    rows = raw.execute("SELECT * FROM pragma_table_xinfo(?)", (table,)).fetchall()
    return {name: (kind, null, key, hidden) for _, name, kind, null, _, key, hidden in rows}


def _sqlite_indices(raw: sqlite3.Connection, table: str) -> Counter[_IndexShape]:
    shapes: Counter[_IndexShape] = Counter()
    for _, name, unique, _, partial in raw.execute(
        "SELECT * FROM pragma_index_list(?)", (table,)
    ).fetchall():
        columns = tuple(
            f"{column}{' DESC' if descending else ''}" if cid >= 0 else "(expression)"
            for _, cid, column, descending, _, is_key in raw.execute(
                "SELECT * FROM pragma_index_xinfo(?)", (name,)
            ).fetchall()
            if is_key
        )
        shapes[bool(unique), (*columns, *(["(partial)"] if partial else []))] += 1
    return shapes


_POSTGRES_OBJECTS = {
    "trigger": """
        SELECT t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND NOT t.tgisinternal""",
    "rule": """
        SELECT r.rulename, c.relname FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND r.rulename <> '_RETURN'""",
    "policy": """
        SELECT p.polname, c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace = CAST(:schema AS regnamespace)""",
    "constraint": """
        SELECT o.conname, c.relname FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND o.contype IN ('c', 'x', 'f')""",
    "event trigger": """
        SELECT evtname, evtevent FROM pg_event_trigger WHERE CAST(:schema AS text) <> ''""",
}
_POSTGRES_RELATIONS = """
    SELECT relname, relkind FROM pg_class
    WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
_POSTGRES_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attgenerated <> '' OR a.attidentity <> '', a.attcollation = t.typcollation,
        pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = CAST(:table AS regclass) AND a.attnum > 0 AND NOT a.attisdropped"""
_POSTGRES_INDICES = """
    SELECT i.indisunique, i.indisvalid, i.indpred IS NOT NULL,
        ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, false)
              FROM generate_series(1, i.indnkeyatts) AS n)
    FROM pg_index i WHERE i.indrelid = CAST(:table AS regclass)"""
_POSTGRES_NAMES = re.compile("varchar")
_RELATION_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}


def _postgres_problems(connection: Connection) -> Iterator[str]:
    schema = connection.execute(
        text(
            "SELECT c.relnamespace::regnamespace::text FROM pg_class c "
            "WHERE c.oid = to_regclass('records')"
        )
    ).scalar()
    for kind, query in _POSTGRES_OBJECTS.items():
        for name, table in connection.execute(text(query), {"schema": schema}):
            yield f"{kind} {name!r} on {table!r} is not one of the ledger's, it was added"
    tables: set[str] = set()
    for name, kind in connection.execute(text(_POSTGRES_RELATIONS), {"schema": schema}):
        if name in metadata.tables:
            tables.add(name)
            if kind not in ("r", "p"):
                yield f"table {name!r} is a {_RELATION_KINDS[kind]}, it was replaced"
        else:
            yield (
                f"{_RELATION_KINDS.get(kind, 'table')} {name!r} is not one of the ledger's, "
                "it was added"
            )
    for table in metadata.sorted_tables:
        if table.name not in tables:
            yield f"table {table.name!r} is missing"
            continue
        names = {"table": table.name}
        columns: dict[str, tuple[object, ...]] = {
            name: tuple(attributes)
            for name, *attributes in connection.execute(text(_POSTGRES_COLUMNS), names)
        }
        yield from _compare_columns(table.name, columns, _expected_columns(table, connection))
        indices: Counter[_IndexShape] = Counter()
        for unique, valid, partial, parts in connection.execute(text(_POSTGRES_INDICES), names):
            marks = (*(["(partial)"] if partial else []), *([] if valid else ["(invalid)"]))
            indices[unique, (*(part.strip('"') for part in parts), *marks)] += 1
        yield from _compare_indices(table.name, indices, _expected_indices(table))


def _expected_columns(table: Table, connection: Connection) -> dict[str, tuple[object, ...]]:
    return {
        column.name: (
            _POSTGRES_NAMES.sub(
                "character varying", column.type.compile(connection.dialect).lower()
            ),
            not column.nullable,
            False,
            True,
            None if column.server_default is None else "''::text",
        )
        for column in table.columns
    }


def _expected_indices(table: Table) -> Counter[_IndexShape]:
    shapes: Counter[_IndexShape] = Counter()
    if table.primary_key.columns:
        shapes[True, tuple(column.name for column in table.primary_key.columns)] += 1
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            shapes[True, tuple(column.name for column in constraint.columns)] += 1
    for index in table.indexes:
        shapes[_shape(index)] += 1
    return shapes


def _shape(index: Index) -> _IndexShape:
    partial = index.dialect_options["postgresql"]["where"] is not None
    names = tuple(str(getattr(part, "name", part)) for part in index.expressions)
    return bool(index.unique), (*names, *(["(partial)"] if partial else []))


def _compare_columns(
    table: str, found: dict[str, tuple[object, ...]], made: dict[str, tuple[object, ...]]
) -> Iterator[str]:
    for name in sorted(found.keys() - made.keys()):
        yield f"column {name!r} of table {table!r} is not one of the ledger's, it was added"
    for name in sorted(made.keys() - found.keys()):
        yield f"column {name!r} of table {table!r} is missing, it was dropped"
    for name in sorted(made.keys() & found.keys()):
        if found[name] != made[name]:
            yield f"column {name!r} of table {table!r} was changed: {found[name]}, not {made[name]}"


def _compare_indices(
    table: str, found: Counter[_IndexShape], made: Counter[_IndexShape]
) -> Iterator[str]:
    for unique, columns in sorted((found - made).elements()):
        kind = "unique index" if unique else "index"
        yield f"{kind} of table {table!r} on {', '.join(columns)} was added"
    for unique, columns in sorted((made - found).elements()):
        kind = "unique index" if unique else "index"
        yield f"{kind} of table {table!r} on {', '.join(columns)} is missing, it was dropped"
