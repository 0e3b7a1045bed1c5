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
    """Shrinkage of each tree."""
    num_leaves: Annotated[int, Field(strict=True, ge=2, le=1024)] = 7
    """Most leaves of one tree."""
    min_data_in_leaf: Count = 2000
    """Least rows of a leaf: this, or a hundredth of the rows if that is less."""
    lambda_l2: NonNegative = 10.0
    """L2 penalty on the values of the leaves."""
    feature_fraction: Share = 0.6
    """Share of the columns that each tree reads."""
    bagging_fraction: Share = 0.5
    """Share of the rows that trees are grown on."""
    bagging_freq: Whole = 1
    """Trees after which these rows are drawn again; 0: never."""
    max_bin: Annotated[int, Field(strict=True, ge=2, le=65_535)] = 255
    """Most bins of a column."""
    num_iterations: dict[
        Annotated[int, Field(ge=1)], Annotated[int, Field(strict=True, ge=1, le=10_000)]
    ] = Field(default={1: 80, 8: 60, 24: 45})
    """Trees of one seed by horizon in hours; between two horizons linear in their logarithm."""
    seeds: tuple[Annotated[int, Field(strict=True, ge=0, lt=2**31)], ...] = (1, 2)
    """One set of small trees each, whose scores are averaged; the wide trees take the first."""
    blend_from_hours: Count = 6
    """Shortest horizon, hours, that blends in trees on every column."""
    wide_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 1.0 / 3.0
    """Weight of the trees on every column in that blend."""
    least_in_leaf: Count = 50
    """Least rows of a leaf in data with few rows."""
    prior_ridge: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    """L2 penalty on the weights of the prior."""

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
