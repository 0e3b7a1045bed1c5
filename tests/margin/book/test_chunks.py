"""Huge books in chunks: the same bits, in order, with memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest

from margin.book.case_batch import flatten
from margin.book.case_portfolio import CollateralBalance, Expiry, Holding, Portfolio, Underlying
from margin.book.chunks import chunks_of, compute_chunks
from margin.book.portfolio_batch import Portfolios
from margin.engines.registry import compute_margins
from margin.rules.ruleset import RuleSet, load_ruleset
from market.core.errors import InstrumentError


@pytest.fixture(scope="module")
def pmrm2() -> RuleSet:
    return load_ruleset("derive-pmrm2")


def book(size: int, ruleset: RuleSet) -> Portfolios:
    """Accounts of none to six positions, given in no order, some twice; some with collateral."""
    rng = np.random.default_rng(5)
    market = {"U": Underlying(spot=100.0, perp_price=100.0, expiries=(Expiry(9e5, 101.0, 0.0),))}
    portfolios = []
    for i in range(size):
        held = [
            Holding(
                kind="option",
                underlying="U",
                quantity=float(rng.normal()),
                strike=float(strike),
                type="put",
                vol=0.8,
                seconds_to_expiry=9e5,
            )
            for strike in rng.choice([80.0, 90.0, 110.0, 120.0], rng.integers(0, 5))
        ]
        held += [Holding(kind="perp", underlying="U", quantity=1.0)] * int(rng.integers(0, 3))
        pledge = CollateralBalance(asset="USDE", amount=float(i), price=1.0)
        portfolios.append(
            Portfolio(float(rng.normal()), 1.0, market, tuple(held), (pledge,) * (i % 3))
        )
    return flatten(portfolios, ruleset.collateral)


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("workers", [1, 2])
def test_chunks_are_the_whole_to_the_last_bit(pmrm2: RuleSet, size: int, workers: int) -> None:
    whole = book(60, pmrm2)
    expected = compute_margins(whole, pmrm2)
    got = list(compute_chunks(chunks_of(whole, size), pmrm2, workers))
    assert expected.scenario_pnl is not None
    np.testing.assert_array_equal(
        np.concatenate([one.initial_net for one in got]), expected.initial_net
    )
    np.testing.assert_array_equal(
        np.concatenate([one.leg_maintenance for one in got]), expected.leg_maintenance
    )
    np.testing.assert_array_equal(
        np.concatenate([one.scenario_pnl for one in got]), expected.scenario_pnl
    )


def test_a_chunk_keeps_names_positions_and_pledges_of_its_own(pmrm2: RuleSet) -> None:
    whole = book(20, pmrm2)
    legs = positions = 0
    for i, one in enumerate(chunks_of(whole, 1)):
        start, end = whole.start[i], whole.start[i + 1]
        assert one.name == whole.name[start:end]
        assert one.collateral.asset == ("USDE",) * (i % 3)
        for field in fields(whole):
            mine, all_of = getattr(one, field.name), getattr(whole, field.name)
            if field.name == "position_leg" or not isinstance(all_of, np.ndarray):
                continue
            if len(all_of) == len(whole.name):
                np.testing.assert_array_equal(mine, all_of[start:end], field.name)
            else:
                assert len(mine) == len(one) + (field.name == "start")
        if len(one.name):
            assert set(one.position_leg) == set(range(len(one.name)))
        legs += len(one.name)
        positions += len(one.position_leg)
    assert (legs, positions) == (len(whole.name), len(whole.position_leg))


def test_memory_is_that_of_a_few_chunks(pmrm2: RuleSet) -> None:
    chunk = book(400, pmrm2)

    def peak(count: int) -> int:
        def repeated() -> Iterator[Portfolios]:
            for _ in range(count):
                yield chunk.between(0, len(chunk))

        tracemalloc.start()
        total = sum(float(one.initial_net.sum()) for one in compute_chunks(repeated(), pmrm2, 2))
        assert total != 0.0
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)  # compiled
    assert peak(60) < 1.5 * peak(6)


def test_an_error_comes_where_its_chunk_would_have(pmrm2: RuleSet) -> None:
    whole = book(9, pmrm2)
    whole.underlyings.spot[4] = np.nan
    answers = compute_chunks(chunks_of(whole, 1), pmrm2, 2)
    for _ in range(4):
        next(answers)
    with pytest.raises(InstrumentError, match="spot"):
        list(answers)


def test_sizes_that_are_none_are_refused(pmrm2: RuleSet) -> None:
    whole = book(2, pmrm2)
    with pytest.raises(ValueError, match="chunk of 0"):
        next(chunks_of(whole, 0))
    with pytest.raises(ValueError, match="0 workers"):
        next(compute_chunks(chunks_of(whole, 1), pmrm2, 0))
