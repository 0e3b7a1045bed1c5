"""Drawings: places that are right, text that cannot break out, XML that is well formed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.core.errors import ModelError
from training.reports.svg import Drawing, Scale


def test_scales_place_ends_middle_and_what_lies_outside() -> None:
    even = Scale(0.0, 10.0, 100.0, 200.0)
    assert [even(v) for v in (-5.0, 0.0, 5.0, 10.0, 99.0)] == [100.0, 100.0, 150.0, 200.0, 200.0]
    log = Scale(0.01, 1.0, 200.0, 0.0, "log")
    assert log(0.1) == pytest.approx(100.0)
    assert log(0.0) == 200.0


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_rising_and_within_the_axis(low: float, span: float) -> None:
    ticks = Scale(low, low + span, 0.0, 1.0).ticks()
    assert 1 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert low - 1e-6 * span <= ticks[0]
    assert ticks[-1] <= low + span * (1 + 1e-6)


@given(st.floats(-6.0, -1.0), st.floats(0.1, 6.0))
def test_ticks_of_a_logarithmic_axis_are_powers_of_ten_where_two_fit(e: float, span: float) -> None:
    low, high = 10.0**e, 10.0 ** (e + span)
    ticks = Scale(low, high, 0.0, 1.0, "log").ticks()
    assert 1 <= len(ticks) <= 8
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


@pytest.mark.parametrize(("low", "high", "kind"), [(1.0, 1.0, "linear"), (0.0, 1.0, "log")])
def test_axis_without_length_or_at_zero_is_refused(low: float, high: float, kind: str) -> None:
    with pytest.raises(ModelError, match="axis cannot run"):
        Scale(low, high, 0.0, 1.0, kind)  # type: ignore[arg-type]


def test_text_of_any_kind_stays_text() -> None:
    hostile = '</text><script>alert("1")</script>&amp;'
    drawing = Drawing(hostile)
    drawing.heading(hostile)
    drawing.dot((1.0, 2.0), "#000000", hint=hostile)
    drawing.axes(drawing.x_scale(0, 1), drawing.y_scale(0, 1), x_label=hostile, y_label=hostile)
    root = ElementTree.fromstring(drawing.svg())  # noqa: S314
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    assert sum(node.text == hostile for node in root.iter()) == 5
