"""A part of the review that fails gives its reason and does not stop the training."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pipelines.registry.training_review
from market.core.errors import DataError, ModelError
from pipelines.config.config import Config
from pipelines.config.sections import ReviewConfig
from pipelines.registry.training_review import examine
from training.folds.cut import Fold
from training.folds.fold_report import FoldResult


class Anything:
    """An argument that the replaced functions ignore."""

    def __getattr__(self, _: str) -> Any:
        return self

    def __getitem__(self, _: Any) -> Any:
        return self

    def __int__(self) -> int:
        return 0


@dataclass
class TrainedMarket:
    config: Config
    ends: tuple[int, int, int] = (1, 2, 3)
    candidate: Any = field(default_factory=lambda: SimpleNamespace(ensembles={}, settings=None))

    def __getattr__(self, _: str) -> Any:
        return Anything()


def refuse(error: Exception) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> None:
        raise error

    return call


@pytest.fixture(autouse=True)
def _replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pipelines.registry.training_review, "mean_contributions", lambda *_: {"8": {}}
    )
    monkeypatch.setattr(pipelines.registry.training_review, "Forecaster", lambda _: None)
    monkeypatch.setattr(pipelines.registry.training_review, "label_market", lambda *_: None)
    monkeypatch.setattr(pipelines.registry.training_review, "read_behaving", lambda *_: None)
    monkeypatch.setattr(pipelines.registry.training_review, "describe", lambda *_: {})
    for name, error in (
        ("ablation", ModelError("one class only")),
        ("cut_blocks", ModelError("give a span")),
        ("backtest", DataError("the span is too short")),
    ):
        monkeypatch.setattr(pipelines.registry.training_review, name, refuse(error))


def test_part_without_enough_data_gives_its_reason() -> None:
    review = examine(TrainedMarket(Config()), Anything())  # type: ignore[arg-type]
    assert review["ablation"] == {"not_evaluated": "one class only"}
    assert review["backtest"] == {"not_evaluated": "the span is too short"}
    assert review["walk_forward"] == {"not_evaluated": "give a span"}
    assert review["folds"] == []


def test_disabled_part_is_null_and_does_not_run() -> None:
    config = Config(review=ReviewConfig(ablation=False, backtest=False, folds=0))
    review = examine(TrainedMarket(config), Anything())  # type: ignore[arg-type]
    assert review["ablation"] is None
    assert review["backtest"] is None
    assert review["walk_forward"] is None


def test_folds_stand_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(_: Any, fold: Fold, *__: Any) -> FoldResult:
        time.sleep(0.02 if fold.name == "luna" else 0.0)
        return FoldResult({"name": fold.name})

    names = ["luna", "ftx", "yen_carry"]
    folds = [Fold(name, "stress", np.zeros(1, dtype=np.int8)) for name in names]
    monkeypatch.setattr(pipelines.registry.training_review, "stress_folds", lambda *_: folds)
    monkeypatch.setattr(pipelines.registry.training_review, "evaluate_fold", evaluate)
    config = Config(review=ReviewConfig(stress_folds=True))
    review = examine(TrainedMarket(config), Anything())  # type: ignore[arg-type]
    assert [report["name"] for report in review["folds"]] == names


def test_other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pipelines.registry.training_review, "ablation", refuse(ZeroDivisionError("a bug"))
    )
    with pytest.raises(ZeroDivisionError):
        examine(TrainedMarket(Config()), Anything())  # type: ignore[arg-type]
