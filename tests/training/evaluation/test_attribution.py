"""Attribution: contributions add up, and what matters is what was put in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import training.evaluation.attribution
from features.registry import ACCOUNT_FEATURES
from models.trees.contributions import PRIOR, of_prior
from training.evaluation.attribution import (
    STRUCTURE,
    ablation,
    feature_families,
    mean_contributions,
)
from training.fitting.candidate import Candidate, fit_candidate
from training.labels.dataset import Dataset
from training.labels.splits import Block, purged_split

Blocks = npt.NDArray[np.int8]


@pytest.fixture(scope="module")
def block(dataset: Dataset) -> Blocks:
    first, last = int(dataset.time[0]), int(dataset.time[-1])
    fit_end, calibrate_end = (first + (last - first) * k // 10 for k in (6, 8))
    return purged_split(dataset.time, 8, fit_end, calibrate_end, last + 10**15)


@pytest.fixture(scope="module")
def candidate(dataset: Dataset, block: Blocks) -> Candidate:
    return fit_candidate(dataset, block)


def test_families_are_those_of_the_registry_and_priors_are_the_structure(
    candidate: Candidate,
) -> None:
    families = feature_families(candidate.schema)
    assert families.keys() == set(candidate.schema.features)
    for feature in ACCOUNT_FEATURES:
        if feature.name in families:
            prior = feature.name in candidate.schema.distance_names()
            assert families[feature.name] == (STRUCTURE if prior else feature.family)


def test_prior_and_the_column_that_decides_move_the_score_most(
    candidate: Candidate, dataset: Dataset, block: Blocks
) -> None:
    test = dataset.take(np.flatnonzero(block == Block.TEST))
    for figures in mean_contributions(candidate, test).values():
        columns = [name for name in figures["features"] if not of_prior(name)]
        assert columns[0] == "net_share"
        assert next(iter(figures["families"])) == PRIOR
        assert list(figures["features"].values()) == sorted(
            figures["features"].values(), reverse=True
        )
        assert sum(figures["features"].values()) >= sum(figures["families"].values()) - 1e-9


@pytest.fixture(scope="module")
def split_families(candidate: Candidate) -> dict[str, str]:
    """As if the registry had put the deciding column into a family of its own."""
    found = feature_families(candidate.schema)
    return {name: "direction" if name == "net_share" else family for name, family in found.items()}


@pytest.fixture
def ablated(
    candidate: Candidate,
    dataset: Dataset,
    block: Blocks,
    split_families: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    monkeypatch.setattr(
        training.evaluation.attribution, "feature_families", lambda _: split_families
    )
    return ablation(candidate, dataset, block)


def test_loss_rises_without_the_family_that_decides_and_not_without_noise(
    ablated: dict[str, Any],
) -> None:
    assert set(ablated) == {"1", "8"}
    for figures in ablated.values():
        without = figures["without"]
        assert STRUCTURE not in without, "the trees have nothing to correct without it"
        assert without["direction"]["columns"] == 1
        assert without["direction"]["loss_increase"] > 0.03
        assert without["direction"]["loss_increase_ci95"][0] > 0.0
        assert abs(without["account"]["loss_increase"]) < 0.02
        assert without["trees"]["loss_increase_ci95"][0] > 0.0
