from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.audit.forger import Forger


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def forger(url: str) -> Forger:
    return Forger(url)
