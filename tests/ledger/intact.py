"""Newest decisions that a test takes to be intact."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.records import Record
from market.core.errors import AlteredError


def intact(newest: Mapping[str, Record | AlteredError]) -> dict[str, Record]:
    """The records, none of which was altered."""
    records = {name: record for name, record in newest.items() if isinstance(record, Record)}
    assert len(records) == len(newest)
    return records
