"""Compare API keys with the chain: each row must follow from the ``keys`` records.

The endpoint reads the table; a row that was raised to ``admin``, put in or brought back by an
update of the database has no record that says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from ledger.records import Record
from ledger.schema import api_keys

KIND = "keys"
"""Kind of the records that change a key."""

_UNSET: Mapping[str, object] = {
    "label": "",
    "expires_at": None,
    "rate_per_minute": None,
    "revoked_at": None,
}
"""What a record leaves out."""

_SECRET = "secret_sha256"  # noqa: S105  the column's name

_CHANGES: Mapping[str, frozenset[str]] = {
    "add": frozenset(api_keys.c.keys()) - {"key_id", "revoked_at"},
    "expire": frozenset({"expires_at"}),
    "revoke": frozenset({"revoked_at"}),
}
"""What each action may set: an expiry that also raised the scopes would be a forgery."""


@dataclass(slots=True)
class KeyCheck:
    """Follows the ``keys`` records in the order of recording, then compares the table.

    `ledger.keys` says what the records hold. Those of earlier versions hold less; what they leave
    out is not compared, but that a key was revoked is.

    Attributes
    ----------
    unproven:
        Keys made by an earlier version, whose record does not hold the hash of their secret.
    """

    unproven: list[str] = field(default_factory=list)
    _state: dict[str, dict[str, object]] = field(default_factory=dict)
    _revoked: set[str] = field(default_factory=set)
    _forged: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Apply a change of a key; other records are passed over."""
        key_id = record.payload.get("key_id")
        if record.kind != KIND or not isinstance(key_id, str):
            return
        action = str(record.payload.get("action"))
        state = self._state.get(key_id)
        if wrong := _forgery(record.payload, action, state):
            place = f"chain {record.chain!r} seq {record.seq}"
            self._forged.append(f"{place}: {wrong} API key {key_id!r}, it was forged")
        if action == "add" or state is None:
            state = self._state[key_id] = dict(_UNSET) if action == "add" else {}
        for name in _CHANGES.get(action, frozenset()) & record.payload.keys():
            value = record.payload[name]
            state[name] = " ".join(map(str, value)) if isinstance(value, list) else value
        if action == "revoke":
            self._revoked.add(key_id)
            if "revoked_at" not in record.payload:
                state.pop("revoked_at", None)

    def problems(self, connection: Connection) -> list[str]:
        """Forged records, keys of the table that do not follow from the records, and those that
        are missing."""
        rows = {row.key_id: row._asdict() for row in connection.execute(select(api_keys))}
        found = self._forged + [
            f"API key {key_id!r} is not in the table, yet the chain says it was made: deleted"
            for key_id in sorted(self._state.keys() - rows.keys())
        ]
        for key_id, row in sorted(rows.items(), key=lambda item: str(item[0])):
            found += self._compare(key_id, row)
        return found

    def _compare(self, key_id: str, row: Mapping[str, Any]) -> Iterator[str]:
        state = self._state.get(key_id)
        if state is None:
            yield f"API key {key_id!r} has no record on the chain: it was put into the table"
            return
        if _SECRET not in state:
            self.unproven.append(str(key_id))
        for name, expected in state.items():
            if row[name] != expected:
                if name == _SECRET:
                    found = "another secret than the chain says"
                else:
                    found = f"{name} {row[name]!r}, the chain says {expected!r}"
                yield f"API key {key_id!r} has {found}: it was altered"
        if (row["revoked_at"] is not None) != (key_id in self._revoked):
            yield f"API key {key_id!r} is revoked by its row or by the chain, not by both"


def _forgery(
    change: Mapping[str, Any], action: str, state: Mapping[str, object] | None
) -> str | None:
    """What a record does that no command does; None for a plain change."""
    if action not in _CHANGES:
        return f"the unknown action {action!r} of"
    foreign = sorted((change.keys() & set(api_keys.c.keys())) - _CHANGES[action] - {"key_id"})
    if foreign:
        return f"the action {action!r} sets {', '.join(foreign)} of"
    if action == "add" and state is not None and "scopes" in state:
        return "a second addition of"
    if action == "expire":
        before, after = (state or {}).get("expires_at"), change.get("expires_at")
        if not isinstance(after, int) or (isinstance(before, int) and after > before):
            return "an expiry that lengthens the life of"
    return None
