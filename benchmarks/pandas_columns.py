"""The market features that pandas can say in a line, for panels without gaps.

Formulas, windows and warm-up are those of `features.registry`; each function takes the bars as
frames of shape (T, S) and returns a frame of that shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from market.panel import CLOSE, HIGH, LOW, OPEN, VOLUME, BarPanel


@dataclass(frozen=True, slots=True)
class Frames:
    """Bars as frames, and what several columns share."""

    per_hour: int
    log_return: pd.DataFrame
    log_range: pd.DataFrame
    log_body: pd.DataFrame
    turnover: pd.DataFrame

    @classmethod
    def of(cls, panel: BarPanel) -> Frames:
        """Frames of a panel."""

        def frame(column: int) -> pd.DataFrame:
            return pd.DataFrame(panel.values[:, :, column], columns=list(panel.symbols))

        close = frame(CLOSE)
        return cls(
            per_hour=panel.interval.per_hour,
            log_return=_each(np.log, close).diff(),
            log_range=_each(np.log, frame(HIGH) / frame(LOW)),
            log_body=_each(np.log, close / frame(OPEN)),
            turnover=frame(VOLUME) * close,
        )

    def mean(self, values: pd.DataFrame, hours: int) -> pd.DataFrame:
        """Rolling mean; the first bar has no return, so one value may miss."""
        window = hours * self.per_hour
        return values.rolling(window, min_periods=window - 1).mean()


def ewma(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.volatility.ewma`."""
    bars = hours * frames.per_hour
    squares = frames.log_return**2
    return _each(np.sqrt, frames.per_hour * squares.ewm(halflife=bars, min_periods=bars).mean())


def realised(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.volatility.realised`."""
    return _each(np.sqrt, frames.per_hour * frames.mean(frames.log_return**2, hours))


def parkinson(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.volatility.parkinson`."""
    scale = frames.per_hour / (4.0 * np.log(2.0))
    return _each(np.sqrt, frames.mean(frames.log_range**2, hours) * scale)


def garman_klass(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.volatility.garman_klass`."""
    body = frames.log_body**2 * (2.0 * np.log(2.0) - 1.0)
    variance = frames.mean(frames.log_range**2 * 0.5 - body, hours)
    return _each(np.sqrt, variance * frames.per_hour)


def amihud(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.liquidity.amihud`."""
    return frames.mean(frames.log_return.abs() / (frames.turnover / 1e6), hours)


def volume_zscore(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.liquidity.volume_zscore`."""
    x = _each(np.log1p, frames.turnover)
    deviation = x.rolling(hours * frames.per_hour).std(ddof=0)
    return (x - frames.mean(x, hours)) / deviation


def average_daily_volume(frames: Frames, hours: int) -> pd.DataFrame:
    """`features.liquidity.average_daily_volume`."""
    return 24.0 * frames.per_hour * frames.mean(frames.turnover, hours)


COLUMNS: Mapping[str, tuple[Callable[[Frames, int], pd.DataFrame], int]] = {
    "ewma_volatility_12h": (ewma, 12),
    "ewma_volatility_72h": (ewma, 72),
    "realised_volatility_6h": (realised, 6),
    "realised_volatility_24h": (realised, 24),
    "realised_volatility_168h": (realised, 168),
    "parkinson_volatility_24h": (parkinson, 24),
    "garman_klass_volatility_24h": (garman_klass, 24),
    "amihud_illiquidity_24h": (amihud, 24),
    "volume_zscore_168h": (volume_zscore, 168),
    "average_daily_volume_168h": (average_daily_volume, 168),
}
"""Feature names with their function and its hours."""


def _each(function: np.ufunc, frame: pd.DataFrame) -> pd.DataFrame:
    """A function of every value: a frame again, which numpy's types do not say."""
    result: pd.DataFrame = function(frame)
    return result
