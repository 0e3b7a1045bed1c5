"""Parameters of the simulated market: TOML files in ``parameters``, checked when read.

``assumed.toml`` holds figures chosen by hand for every coin; a fitted file replaces what the data
can tell and keeps the rest, and says in ``[provenance]`` where its figures come from.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from market.core.errors import ConfigError

DEFAULT_MARKET = "binance-2022-2025"
"""Name of the parameters that are used unless others are given."""

DAYS_PER_YEAR = 365.0
HOURS_PER_YEAR = DAYS_PER_YEAR * 24.0

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
"""What a stored market may be called."""

_FOLDER = Path(__file__).with_name("parameters")

_Positive = Annotated[float, Meta(gt=0.0, le=1e15)]
_NotNegative = Annotated[float, Meta(ge=0.0, le=1e15)]
_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_Correlation = Annotated[float, Meta(ge=-1.0, le=1.0)]
_HalfLife = Annotated[float, Meta(gt=0.0, le=87_600.0)]


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the figures come from: texts for readers, a digest for machines.

    `sha256` is of the data that were fitted, empty where nothing was.
    """

    source: str
    span: str
    sha256: str
    command: str
    notes: str


class VolatilityParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log-volatility: two common Ornstein-Uhlenbeck parts, one of each coin, and noise.

    Attributes
    ----------
    sub_steps:
        Steps of the price within one bar.
    slow_spread, fast_spread, own_spread:
        Stationary standard deviations.
    slow_half_life_hours, fast_half_life_hours, own_half_life_hours:
        Time in which a part loses half of its distance from the mean.
    noise:
        Standard deviation of what is drawn anew each bar, half of its variance for all coins.
    leverage:
        Correlation between a shock to price and the shock to log-volatility.
    season:
        Volatility of each UTC hour of the day relative to the others, 24 numbers.
    """

    sub_steps: Annotated[int, Meta(ge=1, le=1_000)]
    slow_spread: Annotated[float, Meta(ge=0.0, le=2.0)]
    fast_spread: Annotated[float, Meta(ge=0.0, le=2.0)]
    own_spread: Annotated[float, Meta(ge=0.0, le=2.0)]
    slow_half_life_hours: _HalfLife
    fast_half_life_hours: _HalfLife
    own_half_life_hours: _HalfLife
    noise: Annotated[float, Meta(ge=0.0, le=2.0)]
    leverage: _Correlation
    season: Annotated[tuple[_Positive, ...], Meta(min_length=24, max_length=24)]


class JumpParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Expected jumps a year, of all coins together and of each alone; `size` is the standard
    deviation of a jump (Laplace) in daily standard deviations of the coin."""

    common_per_year: _NotNegative
    own_per_year: _NotNegative
    size: _NotNegative


class RegimeParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Calm and stress, a Markov chain in continuous time.

    Attributes
    ----------
    stress_share:
        Part of the time spent in stress.
    stress_hours:
        Mean length of a spell of stress.
    stress_volatility:
        Volatility in stress over volatility in calm.
    stress_lift:
        Part of a coin's own variance that becomes the market's in stress.
    """

    stress_share: Annotated[float, Meta(ge=0.0, lt=1.0)]
    stress_hours: _HalfLife
    stress_volatility: Annotated[float, Meta(ge=1.0, le=10.0)]
    stress_lift: _Share


class VolumeParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Volume is proportional to a power (`elasticity`) of volatility, times log-normal noise of
    standard deviation `noise` that fades with `half_life_hours`."""

    elasticity: _NotNegative
    noise: Annotated[float, Meta(ge=0.0, le=5.0)]
    half_life_hours: _HalfLife


class LiquidityParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Half-spread and the inverse of depth are proportional to powers of volatility, each times
    log-normal noise of standard deviation `noise` that fades with `half_life_hours`."""

    spread_elasticity: _NotNegative
    depth_elasticity: _NotNegative
    noise: Annotated[float, Meta(ge=0.0, le=5.0)]
    half_life_hours: _HalfLife


class BasisParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Basis of a coin around its mean, in its standard deviations: a part that follows the coin's
    momentum, and two that revert to the mean.

    Attributes
    ----------
    momentum:
        Correlation of the basis with the momentum of the coin.
    momentum_half_life_hours:
        Of the exponentially weighted mean of returns that is called momentum.
    slow_share:
        Part of the other variance that reverts slowly.
    slow_half_life_hours, fast_half_life_hours:
        Of the two parts.
    common_share:
        Part of the slow part's variance that all coins share.
    """

    momentum: _Correlation
    momentum_half_life_hours: _HalfLife
    slow_share: _Share
    slow_half_life_hours: _HalfLife
    fast_half_life_hours: _HalfLife
    common_share: _Share


class FundingParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Funding settled every eight hours: premium P + clamp(interest − P, ±clamp), within ±cap;
    each a fraction of notional per eight hours. P is the mean basis at the closes and `noise`, in
    standard deviations of the coin's basis: an exchange samples the premium more often."""

    interest: Annotated[float, Meta(ge=-0.01, le=0.01)]
    clamp: Annotated[float, Meta(ge=0.0, le=0.1)]
    cap: Annotated[float, Meta(gt=0.0, le=0.1)]
    noise: Annotated[float, Meta(ge=0.0, le=2.0)]


class ImpliedParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Index of implied volatility over 30 days, for the coins in `symbols`.

    It is the root of the model's expected variance, times 1 + `premium`, times log-normal noise of
    standard deviation `noise` that fades with `half_life_hours`.
    """

    symbols: tuple[str, ...]
    premium: Annotated[float, Meta(gt=-1.0, le=2.0)]
    noise: Annotated[float, Meta(ge=0.0, le=1.0)]
    half_life_hours: _HalfLife


class InterestParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log open interest around its level: standard deviation `spread`, faded by half after
    `half_life_hours`; its shocks correlate by `trend` with the returns of the coin."""

    spread: Annotated[float, Meta(ge=0.0, le=2.0)]
    half_life_hours: _HalfLife
    trend: _Correlation


class Coin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A simulated coin.

    Attributes
    ----------
    symbol:
        Bar symbol.
    price:
        Before the first bar, USD.
    volatility:
        Annualised, jumps included.
    market_share:
        Part of its variance that is the market's, in calm.
    turnover:
        Average traded value, USD a day.
    half_spread:
        Half of the quoted spread over mid at average volatility.
    depth:
        USD that can be traded on one side at an average cost of ten basis points against mid, at
        average volatility.
    basis_mean, basis_spread:
        Mean and standard deviation of log(perpetual / spot).
    open_interest_days:
        Open interest over the turnover of a day.
    fitted:
        Which groups of figures were measured: bars, basis, liquidity, interest.
    """

    symbol: Annotated[str, Meta(pattern=r"^[A-Z0-9]{2,20}$")]
    price: _Positive
    volatility: Annotated[float, Meta(gt=0.0, le=10.0)]
    market_share: _Share
    turnover: _Positive
    half_spread: _Positive
    depth: _Positive
    basis_mean: Annotated[float, Meta(ge=-0.1, le=0.1)]
    basis_spread: Annotated[float, Meta(ge=0.0, le=0.1)]
    open_interest_days: _Positive
    fitted: tuple[str, ...] = ()


class MarketParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a simulated market; the first n of `coins` are simulated."""

    name: str
    provenance: Provenance
    volatility: VolatilityParameters
    jumps: JumpParameters
    regimes: RegimeParameters
    volume: VolumeParameters
    liquidity: LiquidityParameters
    basis: BasisParameters
    funding: FundingParameters
    implied_volatility: ImpliedParameters
    open_interest: InterestParameters
    coins: Annotated[tuple[Coin, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        if not self.jump_share < 1.0:
            raise ConfigError(
                f"jumps would make {self.jump_share:.2f} of all variance; expected less than 1: "
                "make them fewer or smaller"
            )
        symbols = [coin.symbol for coin in self.coins]
        if len(set(symbols)) < len(symbols):
            twice = next(symbol for symbol in symbols if symbols.count(symbol) > 1)
            raise ConfigError(f"coin {twice} is given twice; name each coin once")
        unknown = sorted(set(self.implied_volatility.symbols) - set(symbols))
        if unknown:
            raise ConfigError(
                f"implied_volatility.symbols names {unknown[0]}, which is not among the coins"
            )

    @property
    def jump_share(self) -> float:
        """Part of a coin's variance that comes from jumps."""
        jumps = self.jumps.common_per_year + self.jumps.own_per_year
        return jumps * self.jumps.size**2 / DAYS_PER_YEAR

    @property
    def regime_levels(self) -> tuple[float, float]:
        """Volatility in calm and in stress over its root mean square."""
        ratio, share = self.regimes.stress_volatility, self.regimes.stress_share
        calm = 1.0 / np.sqrt(1.0 - share + share * ratio**2)
        return float(calm), float(calm * ratio)

    @property
    def sha256(self) -> str:
        """Identity of the figures, whatever the layout of the file."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @classmethod
    def load(cls, name: str = DEFAULT_MARKET) -> MarketParameters:
        """Read parameters that come with Margincast, by name; raises `ConfigError`."""
        path = _FOLDER / f"{name}.toml"
        if not NAME.fullmatch(name) or not path.is_file():
            known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
            raise ConfigError(f"simulated market {name!r} is not known; choose one of {known}")
        return _load(path)

    @classmethod
    def read(cls, path: Path) -> MarketParameters:
        """Read and check a parameter file.

        Raises
        ------
        ConfigError
            The file is missing or no TOML, has an unknown or missing key, or a figure is
            impossible; the message names the key.
        """
        try:
            parameters = msgspec.convert(tomllib.loads(path.read_text("utf-8")), cls)
        except (OSError, ValueError, ConfigError) as error:
            raise ConfigError(
                f"market parameter file {path} cannot be used: {error}; correct it, or write it "
                "anew with margincast fit-market"
            ) from error
        if parameters.name != path.stem:
            raise ConfigError(
                f"market parameter file {path} is named {parameters.name!r} inside; both must agree"
            )
        return parameters


@functools.cache
def _load(path: Path) -> MarketParameters:
    return MarketParameters.read(path)
