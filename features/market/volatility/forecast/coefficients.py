"""Coefficients of the volatility forecast: a file that says on which bars they were fitted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.market.volatility.forecast.regressors import REGRESSORS
from market.core.clock import format_time, parse_time
from market.core.errors import MargincastError, ModelError
from market.core.files import replace_file

Floats = npt.NDArray[np.float64]

FORECAST_HORIZONS = (1, 8, 24, 168)
"""Hours over which volatility is forecast."""

TERMS: tuple[str, ...] = (*REGRESSORS, "constant", "seasonal_log_volatility_ahead")
"""What a coefficient multiplies, in order."""

_FILE = "coefficients.json"


@dataclass(frozen=True, slots=True)
class VolatilityCoefficients:
    """What `margincast fit-volatility` finds.

    Attributes
    ----------
    end:
        End of the fitting data in nanoseconds: no bar that closed later was used.
    bars_sha256:
        Of the hourly bars used.
    rows:
        Rows fitted at each horizon.
    values:
        Shape (4, 27): horizons `FORECAST_HORIZONS`, terms `TERMS`.
    """

    end: int
    bars_sha256: str
    rows: tuple[int, ...]
    values: Floats

    def content(self) -> dict[str, Any]:
        """Plain form; floats survive it to the last bit."""
        return {
            "end": format_time(self.end),
            "bars_sha256": self.bars_sha256,
            "horizons": list(FORECAST_HORIZONS),
            "terms": list(TERMS),
            "rows": list(self.rows),
            "coefficients": self.values.tolist(),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any], source: str) -> VolatilityCoefficients:
        """Read the plain form.

        Raises
        ------
        ModelError
            It is damaged, or of other horizons or terms; the message names `source`.
        """
        try:
            horizons, terms = tuple(content["horizons"]), tuple(content["terms"])
            values = np.array(content["coefficients"], dtype=np.float64)
            rows = tuple(int(count) for count in content["rows"])
            end, sha256 = parse_time(content["end"]), str(content["bars_sha256"])
        except (KeyError, TypeError, ValueError, MargincastError) as error:
            raise ModelError(f"volatility coefficients {source} cannot be read: {error}") from error
        if horizons != FORECAST_HORIZONS or terms != TERMS:
            raise ModelError(
                f"volatility coefficients {source} are for other horizons or terms than "
                f"{', '.join(map(str, FORECAST_HORIZONS))} h and {', '.join(TERMS)}; fit them anew "
                "with margincast fit-volatility"
            )
        shape = (len(horizons), len(terms))
        if values.shape != shape or len(rows) != len(horizons) or not np.isfinite(values).all():
            raise ModelError(
                f"volatility coefficients {source} must be {shape[0]} rows of {shape[1]} finite "
                "numbers, and as many counts of rows"
            )
        return cls(end, sha256, rows, values)

    def save(self, path: Path) -> None:
        """Write the file, replacing it as a whole."""
        text = json.dumps(self.content(), indent=1, allow_nan=False)
        replace_file(path, f"{text}\n".encode())


@cache
def shipped_coefficients() -> VolatilityCoefficients:
    """Those that the forecast columns are computed with."""
    text = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return VolatilityCoefficients.from_content(json.loads(text), _FILE)
