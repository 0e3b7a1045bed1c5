from __future__ import annotations

import itertools

import numpy as np

from market.simulator.streams import Stream


def test_no_two_streams_share_a_number() -> None:
    """The market's prices must not move with its quotes, nor one coin with another."""
    drawn = []
    for position in (0, 1, 2):
        stream = Stream(1, position)
        drawn += [stream.start(20), stream.normals(10, 2).ravel(), stream.quotes(10, 2).ravel()]
    for one, other in itertools.combinations(drawn, 2):
        assert not np.intersect1d(one, other).size


def test_numbers_do_not_depend_on_how_many_are_drawn_at_once() -> None:
    whole, parts = Stream(3, 1), Stream(3, 1)
    for kind in ("normals", "uniforms", "exponentials", "quotes"):
        first = getattr(parts, kind)(7, 3)
        second = getattr(parts, kind)(13, 3)
        assert np.array_equal(getattr(whole, kind)(20, 3), np.vstack([first, second]))


def test_drawing_one_kind_leaves_the_others_as_they_are() -> None:
    plain, busy = Stream(3, 1), Stream(3, 1)
    busy.quotes(50, 4)
    busy.start(5)
    assert np.array_equal(plain.normals(9, 2), busy.normals(9, 2))
    assert np.array_equal(plain.uniforms(9, 2), busy.uniforms(9, 2))
