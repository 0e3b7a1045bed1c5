"""The page stands alone, escapes what it is given and hides nothing."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from training.evaluation.comparison import compare
from training.reports.review_page import review_page
from training.reports.run_record import RunRecord

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags, ids, links and visible text of a page; complains of tags that do not pair."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)


def changed(record: RunRecord, **changes: Any) -> RunRecord:
    return dataclasses.replace(record, **changes)


def test_page_needs_nothing_from_outside(record: RunRecord) -> None:
    html = review_page(record)
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in page.links)
    assert not re.findall(r"\w+://[^\s\"'<)]+", html)
    assert not re.search(r"url\(|@import|\son\w+=", html)
    assert "default-src 'none'" in html


def test_hyperparameters_and_search_have_lines_of_their_own(record: RunRecord) -> None:
    params = {"max_rows": 1000, "lightgbm/num_leaves": 7, "search/used": "true"}
    bare = Page(review_page(changed(record, params=params))).text
    assert "Settings max rows 1000 Hyperparameters num leaves 7 " in bare
    assert "Search for hyperparameters" not in bare
    record.manifest["training"]["search"] = {
        "trials": 5, "reason": "trial 3 is used", "skill": 0.1163, "skill_ci95": [0.0997, 0.1343],
    }  # fmt: skip
    page = Page(review_page(changed(record, params=params))).text
    assert "5 trials: trial 3 is used; skill there +11.63% (+9.97% to +13.43%)" in page
    record.manifest["training"]["search"] |= {"skill": None, "skill_ci95": None}
    assert "skill there" not in Page(review_page(changed(record, params=params))).text


def test_every_link_of_the_page_leads_to_a_section_of_its_own(
    record: RunRecord, charts: dict[str, str]
) -> None:
    page = Page(review_page(record, compare(changed(record, bundle="9" * 64), record), charts))
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} == set(page.ids)


def test_page_holds_verdict_figures_hashes_gates_and_limits(
    record: RunRecord, charts: dict[str, str]
) -> None:
    page = Page(review_page(record, charts=charts))
    own = record.evaluation["horizons"]["8"]
    for part in (
        "Kept",
        record.reasons[0],
        f"{own['models']['margincast']['log_loss']:.4g}",
        f"{own['log_loss_skill']:+.2%}",
        "best baseline" if "best baseline" in page.text else own["best_baseline"].replace("_", " "),
        *(letter * 64 for letter in "abcdef"),
        "not from a checkout",
        "0.9 to 1.1",
        "✗ failed",
        "Accepted by an operator: one window, <reviewed>",
        "all blocks",
        "test block, this bundle",
        "walk forward 2022-12-01 was not evaluated:",
        "no account was called",
        "No trees at 1 h",
        "ftx",
        "Accounts are sampled",
        "Reviewers only",
        "numpy 2.4.6",
    ):
        assert part in page.text, part


HOSTILE = '<embed src=x onerror=alert(1)>"&'


def test_names_from_configuration_and_data_are_escaped(
    record: RunRecord, charts: dict[str, str]
) -> None:
    evaluation = {**record.evaluation, "symbols": [HOSTILE]}
    evaluation["data"] = {**evaluation["data"], "population": HOSTILE}
    other = changed(
        record,
        evaluation=evaluation,
        reasons=[HOSTILE],
        params={HOSTILE: HOSTILE},
        gates={**record.gates, HOSTILE: {**record.gates["parity"], "detail": HOSTILE}},
        manifest={**record.manifest, "versions": {HOSTILE: HOSTILE}},
    )
    html = review_page(other, compare(record, other), charts)
    page = Page(html)
    assert "embed" not in page.tags
    assert page.text.count(HOSTILE) >= 6


@pytest.mark.parametrize(
    "changes",
    [
        {"review": None, "backtest": None},
        {"backtest": {"not_evaluated": "the span is too short"}},
        {"version": None, "created": None, "aliases": (), "run_id": None},
    ],
    ids=["logged by an earlier version", "no backtest", "not registered yet"],
)
def test_page_names_what_is_missing(
    record: RunRecord, charts: dict[str, str], changes: dict[str, Any]
) -> None:
    drawn = charts if "version" in changes else None  # the others have fewer charts
    page = Page(review_page(changed(record, **changes), charts=drawn))
    expected = {
        "review": ["No walk-forward was made", "No backtest was made", "not logged"],
        "backtest": ["the span is too short"],
        "version": ["bundle ffffffffffff"],
    }
    for part in expected[next(iter(changes))]:
        assert part in page.text
    assert "None" not in page.text
    assert not re.search(r"\b(nan|inf)\b", page.text)


def test_ablation_that_was_not_made_gives_the_reason(
    record: RunRecord, charts: dict[str, str]
) -> None:
    review = {**(record.review or {}), "ablation": {"not_evaluated": "one class only"}}
    text = Page(review_page(changed(record, review=review), charts=charts)).text
    assert "The ablation was not made: one class only" in text


def test_undefined_figures_are_dashes(record: RunRecord) -> None:
    horizon = record.evaluation["horizons"]["8"]
    horizon["log_loss_skill_ci95"] = None
    horizon["predicted_over_observed"] = None
    horizon["models"]["margincast"]["auc"] = None
    text = Page(review_page(record)).text
    assert "None" not in text
    assert "\N{EN DASH}" in text


def test_simulated_prices_are_named_before_any_figure(
    record: RunRecord, charts: dict[str, str]
) -> None:
    data = {**record.evaluation["data"], "prices": "simulated"}
    simulated = changed(record, evaluation={**record.evaluation, "data": data})
    text = Page(review_page(simulated, charts=charts)).text
    assert text.index("Simulated prices.") < text.index("the best baseline")
    assert "Nobody, for a decision on a real account" in text
    assert "Simulated prices." not in Page(review_page(record, charts=charts)).text


def test_same_training_gives_the_same_page(record: RunRecord, charts: dict[str, str]) -> None:
    assert review_page(record) == review_page(record, charts=charts)


def test_champion_stands_beside_the_challenger(record: RunRecord, charts: dict[str, str]) -> None:
    champion = changed(
        record,
        bundle="9" * 64,
        version=1,
        gates={**record.gates, "parity": {**record.gates["parity"], "passed": False}},
        manifest={**record.manifest, "training_data_sha256": "8" * 64},
    )
    text = Page(review_page(record, compare(champion, record), charts)).text
    for part in (
        "The champion is version 1 ( 999999999999 ), the challenger version 2",
        "They were evaluated on different rows",
        "not worse than champion 8h",
        "passed by the challenger only",
        "888888888888",
    ):
        assert part in text, part
