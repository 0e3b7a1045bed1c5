"""The section ``[training.search]``: a search for hyperparameters before the fit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from pipelines.config.fields import Count, Section, invalid
from pipelines.config.lightgbm_section import LightGBMConfig

Finite = Annotated[float, Field(allow_inf_nan=False)]
_FACTOR = "num_iterations_factor"


def whole_or_float(value: float) -> float:
    """A number without a fraction as int, which whole hyperparameters ask for."""
    return int(value) if value.is_integer() else value


class SpaceConfig(Section):
    """Values of one hyperparameter: ``{ low = 0.02, high = 0.2, log = true }``, or a list of
    choices like ``[3, 7, 15]``; an empty list takes it out of the search."""

    low: Finite = 0.0
    """Smallest value."""
    high: Finite = 0.0
    """Largest value, above the smallest."""
    log: Annotated[bool, Field(strict=True)] = False
    """Whether the logarithm is drawn uniformly instead of the value."""
    choices: tuple[Finite, ...] = ()
    """Values instead of a range."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, given: Any) -> Any:
        # In place of the bounds, which a list does not have.
        return {"choices": given} if isinstance(given, list | tuple) else given

    @property
    def ends(self) -> tuple[float, ...]:
        """The choices or both bounds; empty where there is nothing to search."""
        if self.choices:
            return self.choices
        return (self.low, self.high) if self.low != self.high else ()


def _range(low: float, high: float, *, log: bool = False) -> SpaceConfig:
    return SpaceConfig(low=low, high=high, log=log)


class SpacesConfig(Section):
    """What is searched, by hyperparameter."""

    learning_rate: SpaceConfig = _range(0.02, 0.15, log=True)
    """Of `[training.lightgbm] learning_rate`."""
    num_leaves: SpaceConfig = SpaceConfig(choices=(4, 7, 15, 31))
    """Of `[training.lightgbm] num_leaves`."""
    min_data_in_leaf: SpaceConfig = _range(500, 4000, log=True)
    """Of `[training.lightgbm] min_data_in_leaf`."""
    lambda_l2: SpaceConfig = _range(1.0, 100.0, log=True)
    """Of `[training.lightgbm] lambda_l2`."""
    feature_fraction: SpaceConfig = _range(0.4, 1.0)
    """Of `[training.lightgbm] feature_fraction`."""
    bagging_fraction: SpaceConfig = _range(0.4, 1.0)
    """Of `[training.lightgbm] bagging_fraction`."""
    num_iterations_factor: SpaceConfig = _range(0.5, 2.0, log=True)
    """Factor on `[training.lightgbm] num_iterations` at every horizon."""

    @field_validator("*")
    @classmethod
    def _possible(cls, space: SpaceConfig, info: ValidationInfo) -> SpaceConfig:
        name = str(info.field_name)
        if space.choices and len(set(space.choices)) != len(space.choices):
            raise invalid("choices that differ, like [3, 7, 15]")
        if not space.choices and (space.low > space.high or (space.log and space.low <= 0.0)):
            raise invalid(
                "{ low = …, high = … } with low below high, and above 0 if log, or choices"
            )
        for value in space.ends:
            if name == _FACTOR:
                if not 0.0 < value <= 100.0:
                    raise invalid("factors above 0 and at most 100")
                continue
            try:
                LightGBMConfig.model_validate({name: whole_or_float(value)})
            except ValidationError as error:
                text = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise invalid(f"values that [training.lightgbm] {name} takes: {text}") from None
        return space


class SearchConfig(Section):
    """A search for hyperparameters on folds in time of the fit and calibrate rows.

    See `training.tuning.search.search_hyperparameters`; it needs the extra ``search``.
    """

    enabled: Annotated[bool, Field(strict=True)] = False
    """Whether a training searches first."""
    trials: Count = 30
    """Most sets of values that are tried."""
    timeout_seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """Seconds after which no trial begins; 0: no limit. With a limit the result depends on the
    speed of the machine."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 1
    """Of the sampler."""
    folds: Annotated[int, Field(strict=True, ge=2, le=20)] = 3
    """Folds in time; the last one confirms the best trial, the others choose it."""
    spaces: SpacesConfig = SpacesConfig()
    """Values of each hyperparameter."""
