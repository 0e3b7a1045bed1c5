"""The page of the model: what the bundles hold, beside the API's answer."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import numpy as np
import pytest

from market.core.errors import BundleError
from models.bundle.bundle import load_bundle
from models.bundle.pointer import promote, set_challenger
from models.drift.distances import ks_distance, stability_index
from models.drift.reference_file import BINS, REFERENCE_FILE, read_reference_file
from serving.console.rendering import number, percent
from tests.endpoint_fixtures import Bundles, Serve
from tests.serving.console.model_bundles import (
    METRICS,
    evaluated,
    record_review,
    reference,
    with_files,
)
from tests.serving.enforcement_fixtures import Desk, desk

__all__ = ["desk"]


def page(endpoint: Any, path: str = "/model", **rest: Any) -> str:
    answer = endpoint.client.get(path, **rest)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def cells(html: str, row: str) -> list[str]:
    """Cells of the first table row whose header begins with a text."""
    found = re.search(rf'<th scope="row"[^>]*>{re.escape(row)}.*?</th>(.*?)</tr>', html, re.DOTALL)
    assert found, row
    return [re.sub("<[^>]*>", "", each).strip() for each in re.split("<td[^>]*>", found[1])[1:]]


def test_without_a_bundle_the_page_says_that_the_rule_floor_answers(serve: Serve) -> None:
    html = page(serve())
    assert "the rule floor answers" in html
    assert "no bundle" in html.lower() or "no model" in html.lower()


def test_an_older_bundle_is_shown_and_what_it_lacks_is_named(serve: Serve, champion: str) -> None:
    endpoint = serve()
    html, said = page(endpoint), endpoint.client.get("/v1/model").json()
    assert cells(html, "SHA-256")[0] == said["sha256"] == champion
    assert cells(html, "rule set")[0] == said["ruleset_sha256"]
    assert cells(html, "features")[0] == str(len(said["features"]))
    assert "No review of either bundle is on record" in html
    assert "holds no reference of its training rows" in html
    assert "figure class" not in html


def test_champion_and_challenger_stand_side_by_side(
    serve: Serve, bundles: Bundles, champion: str
) -> None:
    better = evaluated(bundles.root, champion)
    promote(bundles.root, better)
    set_challenger(bundles.root, champion)
    endpoint = serve()
    html, said = page(endpoint, params={"hours": 8}), endpoint.client.get("/v1/model").json()
    assert cells(html, "SHA-256") == [better, champion]
    figures = said["metrics"]["8"]["margincast"]
    assert figures == METRICS["margincast"]
    assert cells(html, "Log loss")[0] == number(figures["log_loss"])
    assert cells(html, "AUC") == [number(figures["auc"]), "\N{EN DASH}"]
    assert cells(html, "Calibration slope")[0] == number(figures["calibration_slope"])
    skill = 1.0 - METRICS["margincast"]["log_loss"] / METRICS["first_passage_isotonic"]["log_loss"]
    assert cells(html, "Skill over the best baseline")[0] == number(skill)
    order = [html.index(f'class="wrap">{name}') for name in ("volatility oracle", "margincast")]
    assert order == sorted(order), "the lowest log loss is first"


def test_the_newest_review_of_the_bundle_is_drawn_with_its_figures_as_tables(
    serve: Serve, bundles: Bundles, champion: str
) -> None:
    endpoint, bundle = serve(), load_bundle(bundles.root / champion)
    assert "No review of either bundle is on record" in page(endpoint)
    record_review(endpoint.ledger, bundle, rows=5)
    record_review(endpoint.ledger, bundle)
    record_review(endpoint.ledger, bundle, bundle="0" * 64, format=7)
    for hours in (1, 24):
        html = page(endpoint, params={"hours": hours})
        assert f"Reliability, {hours} h" in html
        assert "of 1,000 rows" in html
        assert number(0.03 + hours / 1_000) in cells(html, "2025-02")
        assert cells(html, percent(0.02, 4)) == [
            percent(0.018, 4),
            *(percent(0.01, 4), percent(0.03, 4), "334"),
        ]
    assert "Add-on frontier" in html
    assert cells(html, "prior")[0] == number(2.5)


def test_an_unknown_horizon_is_refused_by_its_name(serve: Serve, champion: str) -> None:
    answer = serve().client.get("/model", params={"hours": 5})
    assert answer.status_code == 422
    assert "hours is 5; give one of 1" in answer.text


def test_an_unsound_review_is_named_and_the_rest_is_shown(
    serve: Serve, bundles: Bundles, champion: str
) -> None:
    endpoint = serve()
    record_review(endpoint.ledger, load_bundle(bundles.root / champion), format=7)
    html = page(endpoint)
    assert f"the review of bundle {champion} on record cannot be read" in html
    assert "it has format 7" in html
    assert cells(html, "SHA-256")[0] == champion


def test_only_a_part_is_answered_where_the_request_names_it(serve: Serve, champion: str) -> None:
    endpoint = serve()
    part = page(endpoint, headers={"X-Fragment": "figures"})
    assert "<html" not in part
    assert part.strip() in page(endpoint)
    assert endpoint.client.get("/model", headers={"X-Fragment": "x"}).status_code == 422


@pytest.mark.parametrize("path", ["/model", "/model?drift=1", "/audit", "/record?chain=a&seq=1"])
def test_a_key_with_the_scope_read_is_needed(serve: Serve, champion: str, path: str) -> None:
    endpoint = serve(auth="keys")
    away = endpoint.client.get(path, follow_redirects=False)
    assert away.status_code == 303
    assert away.headers["location"].startswith("/login?next=%2F")
    assert endpoint.client.get(path, headers=endpoint.key("score")).status_code == 403
    assert endpoint.client.get(path, headers=endpoint.key("read")).status_code in (200, 404)


def test_drift_of_the_live_book_is_that_of_its_probabilities_and_features(
    desk: Desk, bundles: Bundles, champion: str
) -> None:
    sha = evaluated(bundles.root, champion)
    promote(bundles.root, sha)
    client, key = desk.endpoint.client, desk.key("read")
    for _ in range(300):  # the pointer is followed in a thread
        if client.get("/v1/model", headers=key).json()["sha256"] == sha:
            break
        time.sleep(0.05)
    html = client.get("/model?drift=1", headers=key).text
    accounts = client.get("/v1/accounts", headers=key).json()["accounts"]
    trained = np.zeros(BINS)
    trained[9:11] = 500
    edges = np.arange(-8.0, -8.0 + BINS - 1)
    for hours in ("1", "8", "24"):
        p = np.array([each["probability"][hours] for each in accounts])
        with np.errstate(divide="ignore"):
            logit = np.log(p) - np.log1p(-p)
        now = np.bincount(np.searchsorted(edges, logit, side="left"), minlength=BINS)
        assert cells(html, f"{hours} h") == [
            str(len(accounts)),
            percent(p.mean(), 3),
            percent(1.0 / 1_000, 3),
            number(float(ks_distance(trained, now)), 3),
            number(float(stability_index(trained, now)), 3),
        ]
    schema = load_bundle(bundles.root / sha).schema
    for name in schema.features[:3]:
        assert len(cells(html, f"<code>{name}")) == 4
    assert "Features of 2 accounts" in html


@pytest.mark.parametrize("frontier", [{}, {"another policy": [[0.1, 0.2]]}])
def test_a_review_without_a_policy_of_the_frontier_is_shown(
    serve: Serve, bundles: Bundles, champion: str, frontier: Any
) -> None:
    endpoint = serve()
    record_review(endpoint.ledger, load_bundle(bundles.root / champion), frontier=frontier)
    assert "none of the policies of the chart" in page(endpoint)


def test_an_unsound_review_is_not_said_to_be_absent(
    serve: Serve, bundles: Bundles, champion: str
) -> None:
    endpoint = serve()
    record_review(endpoint.ledger, load_bundle(bundles.root / champion), format=7)
    html = page(endpoint)
    assert "No review can be shown, see above" in html
    assert cells(html, "review")[0] == "cannot be shown, see above"


def test_contributions_name_the_bundle_that_they_are_of(
    serve: Serve, bundles: Bundles, champion: str
) -> None:
    other = with_files(bundles.root, champion, {}, metrics={})
    set_challenger(bundles.root, other)
    endpoint = serve()
    record_review(endpoint.ledger, load_bundle(bundles.root / other))
    assert "contribution by feature, challenger, 8 h" in page(endpoint)


@pytest.mark.parametrize("loss", [None, 0.0, "0.1"])
def test_a_log_loss_that_is_not_defined_leaves_the_skill_out(
    serve: Serve, bundles: Bundles, champion: str, loss: Any
) -> None:
    metrics = {str(hours): METRICS | {"prior": {"log_loss": loss}} for hours in (1, 8, 24)}
    promote(bundles.root, with_files(bundles.root, champion, {}, metrics=metrics))
    skill = 1.0 - METRICS["margincast"]["log_loss"] / METRICS["first_passage_isotonic"]["log_loss"]
    assert cells(page(serve()), "Skill over the best baseline")[0] == number(skill)


@pytest.mark.parametrize(
    "change", [{"expected": [[1.0]]}, {"blocks": [], "counts": []}, {"counts": 10**20}]
)
def test_an_unsound_reference_is_refused(
    bundles: Bundles, champion: str, change: dict[str, Any]
) -> None:
    bundle = load_bundle(bundles.root / champion)
    content = json.loads(reference(bundle, bundle.schema.features[:3]))
    if "counts" in change and change["counts"] == 10**20:
        content["counts"][0][0][0] = change["counts"]
    else:
        content |= change
    encoded = json.dumps(content).encode()
    sha = with_files(bundles.root, champion, {REFERENCE_FILE: encoded})
    with pytest.raises(BundleError, match="is unsound"):
        read_reference_file(load_bundle(bundles.root / sha))
