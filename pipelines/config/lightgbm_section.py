"""The section ``[training.lightgbm]``: hyperparameters of the model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from pipelines.config.fields import Count, Section, invalid

Share = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, ge=0)]


class LightGBMConfig(Section):
    """Hyperparameters by LightGBM's names, see `training.fitting.hyperparameters`.

    The defaults are the same, and a bundle that is trained with them keeps its digest.
    """

    learning_rate: Share = 0.05
    num_leaves: Annotated[int, Field(strict=True, ge=2, le=1024)] = 7
    min_data_in_leaf: Count = 2000
    lambda_l2: NonNegative = 10.0
    feature_fraction: Share = 0.6
    bagging_fraction: Share = 0.5
    bagging_freq: Whole = 1
    max_bin: Annotated[int, Field(strict=True, ge=2, le=65_535)] = 255
    num_iterations: dict[
        Annotated[int, Field(ge=1)], Annotated[int, Field(strict=True, ge=1, le=10_000)]
    ] = Field(default={1: 80, 8: 60, 24: 45})
    seeds: tuple[Annotated[int, Field(strict=True, ge=0, lt=2**31)], ...] = (1, 2)
    blend_from_hours: Count = 6
    wide_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 1.0 / 3.0
    least_in_leaf: Count = 50
    prior_ridge: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0

    @field_validator("num_iterations")
    @classmethod
    def _some_horizon(cls, rounds: dict[int, int]) -> dict[int, int]:
        if not rounds:
            raise invalid('numbers of trees by horizon in hours, like { "1" = 80, "24" = 45 }')
        return rounds

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds):
            raise invalid("whole numbers, each once, like [1, 2]")
        return seeds
