"""What all tests share: the folder of real data and the settings of hypothesis."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.endpoint_fixtures",
    "tests.pipelines.ledger_reports.recorded_days",
    "tests.postgres",
]

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MARGINCAST_DATA") or ROOT.parent / "shared" / "data")

# Threads that wait for each other on a busy machine make training many times slower. Processes that
# tests start inherit it.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shared machine makes single examples slow now and then, which says nothing about the code.
settings.register_profile("margincast", deadline=None, max_examples=50)
settings.register_profile(
    "margincast-ci", parent=settings.get_profile("margincast"), derandomize=True, print_blob=True
)
settings.load_profile("margincast-ci" if os.environ.get("CI") else "margincast")


# The files that take longest, in that order (seconds of the JUnit report of CI). They start first,
# so that no process works on one alone when the others are done.
LONGEST = (
    "pipelines/cli/test_cli.py",
    "reliability/test_database_faults.py",
    "acceptance/test_bad_input.py",
    "pipelines/cli/test_refusals.py",
    "reliability/test_soak.py",
    "reliability/test_process_killed.py",
    "pipelines/jobs/test_score_verb.py",
    "benchmarks/test_fuzz.py",
    "pipelines/jobs/test_workers.py",
    "pipelines/registry/test_alias_promotion.py",
    "margin/rules/rule_domain/test_rule_domain.py",
    "features/account/test_contract_account.py",
    "acceptance/test_live_marks.py",
    "margin/test_extreme_numbers.py",
    "training/reports/test_review_page.py",
    "fuzzing/test_openapi_document.py",
    "margin/what_if/test_presets.py",
    "models/mlflow/test_registry.py",
    "acceptance/test_crash.py",
    "benchmarks/http/test_http_bench.py",
    "acceptance/test_command_line.py",
    "acceptance/test_stopping.py",
    "decisions/test_kept_ledgers.py",
    "benchmarks/test_fuzz_harness.py",
    "test_dependencies.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take; skip tests marked realdata where there are no data, and
    mark them in the JUnit report."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in order), "LONGEST names a file that is gone"
    items.sort(key=lambda item: order.get(item.path, len(order)))
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
