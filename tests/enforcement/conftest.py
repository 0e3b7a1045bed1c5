"""Ledgers of both databases."""

from __future__ import annotations

import pytest

from ledger.store import Ledger


@pytest.fixture
def ledger(either_ledger: Ledger) -> Ledger:
    return either_ledger
