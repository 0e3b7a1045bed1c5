"""Charts show the figures of the results page, and pictures are legible on light and dark."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from research.pages.pictures.album import PICTURES
from research.pages.pictures.charts import RESULTS, Interval, skills, uncovered_losses

PAGE = RESULTS.read_text(encoding="utf-8")


def test_chart_of_uncovered_loss_reads_each_budget() -> None:
    figures = uncovered_losses(PAGE)
    assert list(figures) == ["90%", "95%", "99%"]
    for policies in figures.values():
        assert policies["flat"] == Interval(1.0, 1.0, 1.0)
        for figure in policies.values():
            assert figure.low <= figure.value <= figure.high
    line = next(x for x in PAGE.splitlines() if x.startswith("| margincast |"))
    first = figures["90%"]["margincast"]
    assert f"| {first.value:.2f} [{first.low:.2f}, {first.high:.2f}] |" in line


def test_chart_of_skill_reads_each_horizon() -> None:
    for name, by_horizon in skills(PAGE).items():
        assert list(by_horizon) == ["1 h", "8 h", "24 h"]
        for figure in by_horizon.values():
            assert f"{figure.value:+.2f}% [{figure.low:+.2f}%, {figure.high:+.2f}%]" in PAGE, name


def test_a_page_without_intervals_is_refused() -> None:
    broken = PAGE.replace("0.66 [0.58, 0.74]", "-", 1)
    assert broken != PAGE
    with pytest.raises(SystemExit, match="has no interval"):
        uncovered_losses(broken)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_svg_with_a_title_and_both_schemes(name: str) -> None:
    text = PICTURES[name]()
    root = ElementTree.fromstring(text)  # noqa: S314  our own text
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text
    assert "prefers-color-scheme:dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "loads something"
