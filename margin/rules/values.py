"""The kinds of numbers that rule sets are made of; msgspec checks them on load."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1)]


def check_rising(key: str, values: Sequence[float]) -> None:
    """Raise ValueError, which msgspec reports with the key, unless each value exceeds the last."""
    for before, after in pairwise(values):
        if not before < after:
            raise ValueError(f"{key}: {after} follows {before}; expected rising values")
