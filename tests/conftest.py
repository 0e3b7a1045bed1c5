"""What all tests share: the folder of real data and the settings of hypothesis."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.endpoint_fixtures"]

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MARGINCAST_DATA") or ROOT.parent / "shared" / "data")

# A shared machine makes single examples slow now and then, which says nothing about the code.
settings.register_profile("margincast", deadline=None, max_examples=50)
settings.register_profile(
    "margincast-ci", parent=settings.get_profile("margincast"), derandomize=True, print_blob=True
)
settings.load_profile("margincast-ci" if os.environ.get("CI") else "margincast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked realdata where there are no data; mark them in the JUnit report."""
    missing = pytest.mark.skip(reason=f"no real data in {DATA}; set MARGINCAST_DATA")
    for item in items:
        if item.get_closest_marker("realdata"):
            item.user_properties.append(("realdata", "true"))
            if not DATA.is_dir():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data; for tests marked ``realdata``, which are skipped without it."""
    if not DATA.is_dir():
        pytest.fail(f"no real data in {DATA}: mark this test realdata")
    return DATA
