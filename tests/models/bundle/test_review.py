"""The review in a bundle: optional, read back as written, refused where it is unsound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from market.core.errors import BundleError, ModelError
from models.bundle.bundle import load_bundle
from models.bundle.review import REVIEW_FILE, Review, read_review
from tests.endpoint_fixtures import Bundles, bundles
from tests.serving.console.model_bundles import review, with_files

__all__ = ["bundles"]


def test_a_bundle_without_a_review_loads_as_before(bundles: Bundles) -> None:
    bundle = load_bundle(bundles.root / bundles.write())
    assert REVIEW_FILE not in bundle.checksums
    assert read_review(bundle) is None


def test_a_review_is_read_as_it_was_written_and_is_in_the_name(bundles: Bundles) -> None:
    plain = bundles.write()
    made = review(load_bundle(bundles.root / plain).schema.horizons)
    sha = with_files(bundles.root, plain, {REVIEW_FILE: made.to_bytes()})
    assert sha != plain
    assert read_review(load_bundle(bundles.root / sha)) == made
    assert with_files(bundles.root, plain, {REVIEW_FILE: made.to_bytes()}) == sha


def _with(change: dict[str, Any], encoded: bytes) -> bytes:
    return json.dumps(json.loads(encoded) | change).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"more": 1}, "more"),
        ({"horizons": {}}, "horizons are"),
        ({"frontier": {"flat": [[1.0]]}}, "frontier"),
    ],
)
def test_an_unsound_review_is_refused_and_its_bundle_loads(
    bundles: Bundles, change: dict[str, Any], message: str
) -> None:
    plain = bundles.write()
    made = review(load_bundle(bundles.root / plain).schema.horizons)
    sha = with_files(bundles.root, plain, {REVIEW_FILE: _with(change, made.to_bytes())})
    bundle = load_bundle(bundles.root / sha)
    with pytest.raises(BundleError, match=message):
        read_review(bundle)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [("low", [0.0], "differ in number"), ("observed", [0.0, 2.0, 0.1], "not all shares")],
)
def test_bins_that_do_not_fit_are_refused(
    bundles: Bundles, key: str, values: list[float], message: str
) -> None:
    plain = bundles.write()
    horizons = load_bundle(bundles.root / plain).schema.horizons
    content = json.loads(review(horizons).to_bytes())
    content["horizons"][str(horizons[0])]["reliability"][key] = values
    sha = with_files(bundles.root, plain, {REVIEW_FILE: json.dumps(content).encode()})
    with pytest.raises(BundleError, match=message):
        read_review(load_bundle(bundles.root / sha))


def test_a_figure_that_is_not_finite_is_not_written() -> None:
    made = Review.of(("a", "b"), 1, {}, {"flat": [(0.1, float("nan"))]}, {})
    with pytest.raises(ModelError, match="cannot be written as JSON"):
        made.to_bytes()
