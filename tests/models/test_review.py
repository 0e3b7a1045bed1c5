"""The review of a model: read back as recorded, refused where it does not fit its bundle."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.records import Entry
from ledger.store import Ledger
from market.core.errors import LedgerError, ModelError
from models.bundle.bundle import Bundle, load_bundle
from models.review import MODEL_REVIEW, Review, parse_review
from tests.endpoint_fixtures import Bundles, bundles, ledger
from tests.serving.console.model_bundles import record_review, review

__all__ = ["bundles", "ledger"]


@pytest.fixture
def bundle(bundles: Bundles) -> Bundle:
    return load_bundle(bundles.root / bundles.write())


def test_a_review_is_read_as_it_was_recorded(bundle: Bundle, ledger: Ledger) -> None:
    record_review(ledger, bundle)
    record = ledger.last_record(MODEL_REVIEW)
    assert record is not None
    assert parse_review(record.payload, bundle) == review(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"bundle": "0" * 64}, "it is of bundle 000"),
        ({"more": 1}, "more"),
        ({"horizons": {}}, "horizons are"),
        ({"frontier": {"flat": [[1.0]]}}, "frontier"),
    ],
)
def test_an_unsound_review_is_refused(bundle: Bundle, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_review(review(bundle).payload() | change, bundle)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [("low", [0.0], "differ in number"), ("observed", [0.0, 2.0, 0.1], "not all shares")],
)
def test_bins_that_do_not_fit_are_refused(
    bundle: Bundle, key: str, values: list[float], message: str
) -> None:
    payload = review(bundle).payload()
    payload["horizons"][str(bundle.schema.horizons[0])]["reliability"][key] = values
    with pytest.raises(ModelError, match=message):
        parse_review(payload, bundle)


def test_a_figure_that_is_not_finite_is_not_recorded(ledger: Ledger) -> None:
    made = Review.of("0" * 64, ("a", "b"), 1, {}, {"flat": [(0.1, float("nan"))]}, {})
    with pytest.raises(LedgerError):
        ledger.append([Entry(MODEL_REVIEW, made.payload())])
