"""The scores of a book: the same bits alone, in batches and in two processes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import desk as bench
from benchmarks.desk import Desk, ScoreColumns, concatenate_columns, slice_book
from benchmarks.workloads import sample_book
from benchmarks.workloads.sample_book import Sample
from decisions.book_scoring import DecisionBasis, score_book
from margin.rules.ruleset import RuleSet, load_ruleset
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster


@pytest.fixture(scope="module")
def sampled() -> Sample:
    return sample_book.sample(300)


@pytest.fixture(scope="module")
def bundle(sampled: Sample, ruleset: RuleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_book, "TREES", 40)
        patch.setattr(sample_book, "TRAINING_ROWS", 4_000)
        root = tmp_path_factory.mktemp("bundles")
        return root / sample_book.write_model(root, sampled, ruleset)[0]


@pytest.fixture(scope="module")
def desk(sampled: Sample, ruleset: RuleSet, bundle: Path) -> Desk:
    return Desk(sampled.snapshot, ruleset, Forecaster(load_bundle(bundle)))


def assert_same_bits(one: ScoreColumns, other: ScoreColumns) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_book_in_parts_has_the_bits_of_the_whole(sampled: Sample, desk: Desk) -> None:
    whole, _ = desk.score(sampled.book)
    bounds = [0, 1, 2, 9, 64, 200, len(sampled.book)]
    parts = [
        desk.score(slice_book(sampled.book, first, last))[0] for first, last in pairwise(bounds)
    ]
    assert_same_bits(concatenate_columns(parts), whole)


@pytest.mark.parametrize("name", ["linear-tiers", "hyperliquid", "emir-tiers", "derive-srm"])
def test_batches_of_every_size_have_the_bits_of_accounts_alone(
    name: str, sampled: Sample, desk: Desk
) -> None:
    """1, 2, 50, 51 and 1,000 rows: ONNX Runtime changes its way of working above 50."""
    rules = replace(desk, ruleset=load_ruleset(name))
    book = sampled.book.take(np.arange(1_000) % len(sampled.book))
    whole, _ = rules.score(book)
    assert np.isfinite(whole["level"]).all()
    for size in (1, 2, 50, 51):
        bounds = [0, size, 2 * size]
        parts = [rules.score(slice_book(book, first, last))[0] for first, last in pairwise(bounds)]
        some = {column: values[: 2 * size] for column, values in whole.items()}
        assert_same_bits(concatenate_columns(parts), some)


def test_model_moves_a_good_part_of_the_reference_book(sampled: Sample, desk: Desk) -> None:
    whole, seconds = desk.score(sampled.book)
    assert len(sampled.book) == 300
    assert (np.diff(sampled.book.leg_start) == sample_book.POSITIONS).all()
    assert len(seconds) == len(bench.STAGES)
    assert (whole["model_level"] > whole["floor"]).mean() >= 0.3
    assert 0.0 < np.isinf(whole["model_level"]).mean() < 0.7
    assert np.isfinite(whole["level"]).all()


def test_stages_are_reported_in_order(sampled: Sample, desk: Desk) -> None:
    stages: list[str] = []
    book = slice_book(sampled.book, 0, 3)
    basis = DecisionBasis(desk.snapshot, desk.ruleset, desk.model, {})
    score_book(book, basis, on_stage=stages.append)
    assert tuple(stages) == bench.STAGES
    stages.clear()
    score_book(book, replace(basis, model=None), "none", stages.append)
    assert stages == ["margined", "given add-ons"]


@pytest.mark.slow
def test_two_processes_have_the_bits_of_one(
    sampled: Sample, desk: Desk, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "BATCH", 70)
    one, _ = bench.score_on_one_core(desk, sampled.book)
    two, _ = bench.score_on_two_cores(sampled.snapshot, desk.ruleset, bundle, sampled.book)
    assert_same_bits(one, two)
