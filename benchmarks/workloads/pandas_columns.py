"""Market features as short pandas expressions, for panels without gaps.

Formulas, windows and warm-up are those of `features.registry`; each function takes the bars as
frames of shape (T, S) and returns a frame of that shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from market.bars.panel import (
    BASIS,
    CLOSE,
    FUNDING,
    HIGH,
    LOW,
    OPEN,
    OPEN_INTEREST,
    VOLUME,
    BarPanel,
)

Frame = pd.DataFrame


def exogenous_of(panel: BarPanel) -> npt.NDArray[np.float64]:
    """The exogenous series of a panel."""
    if panel.exogenous is None:
        raise ValueError("the panel has no exogenous series, which these columns need")
    return panel.exogenous


@dataclass(frozen=True, slots=True)
class Frames:
    """Bars and shared terms as frames."""

    per_hour: int
    close: Frame
    log_return: Frame
    log_range: Frame
    up: Frame
    down: Frame
    body: Frame
    gap: Frame
    turnover: Frame
    funding: Frame
    basis: Frame
    open_interest: Frame

    @classmethod
    def of(cls, panel: BarPanel) -> Frames:
        """Frames of a panel with exogenous series."""
        exogenous = exogenous_of(panel)

        def frame(column: int) -> Frame:
            return Frame(panel.values[:, :, column], columns=list(panel.symbols))

        def exogenous_frame(column: int) -> Frame:
            return Frame(exogenous[:, :, column], columns=list(panel.symbols))

        opening, high, low, close = (frame(column) for column in (OPEN, HIGH, LOW, CLOSE))
        return cls(
            per_hour=panel.interval.per_hour,
            close=close,
            log_return=each(np.log, close).diff(),
            log_range=each(np.log, high / low),
            up=each(np.log, high / opening),
            down=each(np.log, low / opening),
            body=each(np.log, close / opening),
            gap=each(np.log, opening / close.shift()),
            turnover=frame(VOLUME) * close,
            funding=exogenous_frame(FUNDING).ffill(),
            basis=exogenous_frame(BASIS),
            open_interest=exogenous_frame(OPEN_INTEREST),
        )

    def mean(self, values: Frame, hours: float) -> Frame:
        """Rolling mean; the first bar has no return, so one value may be missing."""
        window = int(hours * self.per_hour)
        return values.rolling(window, min_periods=window - 1).mean()


def each(function: np.ufunc, frame: Frame) -> Frame:
    """A function of every value: a frame, which numpy's types do not state."""
    result: Frame = function(frame)
    return result


def _ewma(frames: Frames, hours: int) -> Frame:
    bars = hours * frames.per_hour
    squares = frames.log_return**2
    return each(np.sqrt, frames.per_hour * squares.ewm(halflife=bars, min_periods=bars).mean())


def _realised(frames: Frames, hours: int) -> Frame:
    return each(np.sqrt, frames.per_hour * frames.mean(frames.log_return**2, hours))


def _parkinson(frames: Frames) -> Frame:
    scale = frames.per_hour / (4.0 * np.log(2.0))
    return each(np.sqrt, frames.mean(frames.log_range**2, 24) * scale)


def _garman_klass(frames: Frames) -> Frame:
    body = frames.body**2 * (2.0 * np.log(2.0) - 1.0)
    variance = frames.mean(frames.log_range**2 * 0.5 - body, 24)
    return each(np.sqrt, variance * frames.per_hour)


def _within(frames: Frames) -> Frame:
    return frames.up * (frames.up - frames.body) + frames.down * (frames.down - frames.body)


def _rogers_satchell(frames: Frames) -> Frame:
    return each(np.sqrt, frames.per_hour * frames.mean(_within(frames), 24))


def _yang_zhang(frames: Frames) -> Frame:
    window = 24 * frames.per_hour
    k = 0.34 / (1.34 + (window + 1.0) / (window - 1.0))
    variance = frames.gap.rolling(window).var() + k * frames.body.rolling(window).var()
    variance = variance + (1.0 - k) * frames.mean(_within(frames), 24)
    return each(np.sqrt, frames.per_hour * variance)


def _long_volatility(frames: Frames) -> Frame:
    return each(np.sqrt, frames.per_hour * (frames.log_return**2).expanding().mean())


def _stressed(frames: Frames) -> Frame:
    full = (frames.log_return**2).rolling(168 * frames.per_hour).mean()
    return each(np.sqrt, full.cummax() * frames.per_hour)


def _downside(frames: Frames) -> Frame:
    falls = frames.log_return.clip(upper=0.0)
    return each(np.sqrt, frames.per_hour * frames.mean(falls**2, 24))


def _jump_share(frames: Frames) -> Frame:
    size = frames.log_return.abs()
    pairs = size * size.shift()
    squares = frames.log_return**2
    explained = 0.5 * np.pi * frames.mean(pairs, 24) / frames.mean(squares.where(pairs.notna()), 24)
    return (1.0 - explained).clip(0.0, 1.0)


def _volatility_of_volatility(frames: Frames) -> Frame:
    logs = each(np.log, _ewma(frames, 12))
    return logs.rolling(168 * frames.per_hour, min_periods=1).std(ddof=0)


def _drawdown(frames: Frames) -> Frame:
    return each(np.log, frames.close.rolling(168 * frames.per_hour).max() / frames.close)


def _return_zscore(frames: Frames) -> Frame:
    sigma: Frame = _ewma(frames, 72) / np.sqrt(frames.per_hour)
    score: Frame = frames.log_return / sigma.shift()
    return score.clip(-100.0, 100.0)


def _trailing_return(frames: Frames) -> Frame:
    return frames.mean(frames.log_return, 24) * (24.0 * frames.per_hour)


def _amihud(frames: Frames) -> Frame:
    return frames.mean(frames.log_return.abs() / (frames.turnover / 1e6), 24)


def _kyle_lambda(frames: Frames) -> Frame:
    signed = frames.turnover / 1e6 * each(np.sign, frames.body)
    squares = (signed**2).where(frames.log_return.notna())
    return frames.mean(frames.log_return * signed, 24) / frames.mean(squares, 24)


def _roll_spread(frames: Frames) -> Frame:
    first, second = frames.log_return.shift(), frames.log_return
    second = second.where(first.notna())
    covariance = frames.mean(first * second, 24) - frames.mean(first, 24) * frames.mean(second, 24)
    return 2.0 * each(np.sqrt, (-covariance).clip(lower=0.0))


def _corwin_schultz(frames: Frames) -> Frame:
    k = 3.0 - 2.0 * np.sqrt(2.0)
    beta = frames.log_range**2 + frames.log_range.shift() ** 2
    high = frames.up.where(frames.up > (frames.up - frames.body).shift() - frames.gap)
    high = high.fillna((frames.up - frames.body).shift() - frames.gap)
    low = frames.down.where(frames.down < (frames.down - frames.body).shift() - frames.gap)
    low = low.fillna((frames.down - frames.body).shift() - frames.gap)
    gamma = (high - low) ** 2
    alpha = (each(np.sqrt, 2.0 * beta) - each(np.sqrt, beta)) / k - each(np.sqrt, gamma / k)
    return frames.mean((2.0 * each(np.tanh, 0.5 * alpha)).clip(lower=0.0), 24)


def _volume_zscore(frames: Frames) -> Frame:
    x = each(np.log1p, frames.turnover)
    return (x - frames.mean(x, 168)) / x.rolling(168 * frames.per_hour).std(ddof=0)


def _relative_turnover(frames: Frames) -> Frame:
    now, usual = frames.mean(frames.turnover, 24), frames.mean(frames.turnover, 168)
    return each(np.log, (1.0 + now) / (1.0 + usual))


def _average_daily_volume(frames: Frames) -> Frame:
    return frames.mean(frames.turnover, 168) * (24.0 * frames.per_hour)


def _open_interest_change(frames: Frames) -> Frame:
    before = frames.open_interest.shift(24 * frames.per_hour)
    return each(np.log, frames.open_interest / before)


def _open_interest_days(frames: Frames) -> Frame:
    return each(np.log, frames.open_interest * frames.close / _average_daily_volume(frames))


COLUMNS: Mapping[str, Callable[[Frames], Frame]] = {
    **{f"ewma_volatility_{hours}h": partial(_ewma, hours=hours) for hours in (3, 12, 72)},
    **{
        f"realised_volatility_{hours}h": partial(_realised, hours=hours)
        for hours in (1, 6, 24, 168)
    },
    "parkinson_volatility_24h": _parkinson,
    "garman_klass_volatility_24h": _garman_klass,
    "rogers_satchell_volatility_24h": _rogers_satchell,
    "yang_zhang_volatility_24h": _yang_zhang,
    "long_volatility": _long_volatility,
    "stressed_volatility_168h": _stressed,
    "downside_volatility_24h": _downside,
    "jump_share_24h": _jump_share,
    "volatility_of_volatility_168h": _volatility_of_volatility,
    "drawdown_168h": _drawdown,
    "return_zscore_72h": _return_zscore,
    "trailing_return_24h": _trailing_return,
    "amihud_illiquidity_24h": _amihud,
    "kyle_lambda_24h": _kyle_lambda,
    "roll_spread_24h": _roll_spread,
    "corwin_schultz_spread_24h": _corwin_schultz,
    "volume_zscore_168h": _volume_zscore,
    "relative_turnover_24h": _relative_turnover,
    "average_daily_volume_168h": _average_daily_volume,
    "funding_rate_24h": lambda f: f.mean(f.funding, 24),
    "basis_24h": lambda f: f.mean(f.basis, 24),
    "open_interest_change_24h": _open_interest_change,
    "open_interest_days_168h": _open_interest_days,
}
"""Feature names with their function."""
