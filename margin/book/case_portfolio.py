"""One portfolio with its prices: the readable form that every engine margins.

The fields are those of a margin case (``margin --cases``). `margin.book.portfolio_batch` turns
portfolios into the arrays that the engines compute on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from market.bars.daily_closes import DailyCloses
from market.core.arrays import Floats
from market.core.clock import DAY, parse_time
from market.core.errors import CaseError, DataError, InstrumentError


class Expiry(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of the options of one expiry.

    `confidence` stands for forward, rate and vol at once; `forward_confidence` and
    `vol_confidence` for one each; where several are given the least counts, missing means 1.
    """

    seconds_to_expiry: float
    forward: float
    rate: float
    confidence: float = 1.0
    forward_confidence: float = 1.0
    vol_confidence: float = 1.0


class Underlying(Struct, frozen=True, forbid_unknown_fields=True):
    """Prices of one underlying, with how far each is trusted; `open_interest` is a notional."""

    spot: float
    spot_confidence: float = 1.0
    perp_price: float | None = None
    perp_confidence: float = 1.0
    open_interest: float | None = None
    expiries: tuple[Expiry, ...] = ()


class Holding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One position: a signed quantity of ``spot``, ``perp`` or ``option``, in units of the
    underlying.

    An option names its expiry by the seconds left, its strike, type and vol. A linear position
    gives either its unrealised profit and loss or an entry price; neither: entry at the mark.
    """

    kind: Literal["spot", "perp", "option"]
    underlying: str
    quantity: float
    entry_price: float | None = None
    unrealised_pnl: float | None = None
    unrealised_funding: float = 0.0
    seconds_to_expiry: float | None = None
    strike: float | None = None
    type: Literal["call", "put"] | None = None
    vol: float | None = None
    instrument: str | None = None

    @property
    def name(self) -> str:
        """Its identifier, or what tells it from the others of the portfolio."""
        if self.instrument is not None:
            return self.instrument
        if self.kind != "option":
            return self.underlying if self.kind == "spot" else f"{self.underlying}-PERP"
        side = {"call": "C", "put": "P"}.get(self.type or "", "?")
        return f"{self.underlying}-{self.seconds_to_expiry}s-{self.strike}-{side}"


class CollateralBalance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount of a collateral asset at its price; haircuts are shares of its value.

    Without a `maintenance_haircut` those of the rule set apply. `risk_cancelling` collateral is
    shocked with the underlying.
    """

    asset: str
    amount: float
    price: float
    underlying: str | None = None
    confidence: float = 1.0
    maintenance_haircut: float | None = None
    initial_extra_haircut: float = 0.0
    risk_cancelling: bool = False


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """Daily closes of underlyings, the last one at `until` (00:00 UTC, ISO 8601).

    Every list has a number a day, the oldest first, and null where there is none. `variances` are
    the sums of the day's squared log returns; an underlying without them has the squared log
    return from close to close.
    """

    until: str
    closes: dict[str, tuple[float | None, ...]]
    variances: dict[str, tuple[float | None, ...]] = {}

    def daily_closes(self) -> DailyCloses:
        """The history as arrays; raises `CaseError` or `InstrumentError` where it is impossible."""
        try:
            until = parse_time(self.until)
        except DataError as error:
            raise CaseError(f"history.until: {error}") from error
        lengths = {len(days) for days in (*self.closes.values(), *self.variances.values())}
        if len(lengths) > 1 or not set(self.variances) <= set(self.closes):
            raise CaseError(
                f"history has closes of {', '.join(self.closes) or 'nothing'} and variances of "
                f"{', '.join(self.variances) or 'nothing'} with lists of {sorted(lengths)} days; "
                "expected lists of one length, and closes of all that has variances"
            )
        if until % DAY or until < DAY * max(lengths, default=0):
            raise CaseError(
                f"history.until is {self.until}; expected the 00:00 UTC of the last close"
            )
        symbols = tuple(sorted(self.closes))
        close = _days([self.closes[name] for name in symbols], symbols, "closes")
        variance = np.full_like(close, np.nan)
        variance[1:] = np.diff(np.log(close), axis=0) ** 2
        for name, days in self.variances.items():
            (column,) = _days([days], (name,), "variances", zero=True).T
            variance[:, symbols.index(name)] = column
        return DailyCloses(symbols, until, close, variance)


class Portfolio(Struct, frozen=True, forbid_unknown_fields=True):
    """One account and the market it is valued in, settlement currency.

    `history` is for rule sets that simulate it.
    """

    cash: float
    stable_price: float
    underlyings: dict[str, Underlying]
    positions: tuple[Holding, ...]
    collateral: tuple[CollateralBalance, ...]
    history: History | None = None


def portfolio_from(content: object) -> Portfolio:
    """A portfolio from decoded JSON, checked.

    Raises
    ------
    CaseError
        A key is missing, unknown or impossible; the error names what it is a key of.
    InstrumentError
        A number of one instrument is impossible; the error names it.
    """
    try:
        portfolio = msgspec.convert(content, Portfolio)
    except msgspec.ValidationError as error:
        raise CaseError(_where_wrong(content) or f"portfolio: {error}") from error
    check_portfolio(portfolio)
    return portfolio


def _where_wrong(content: object) -> str | None:
    """What is wrong with the first part that cannot be read, by its own name; None where that is
    the portfolio itself. Only asked once reading failed."""
    if not isinstance(content, Mapping):
        return None
    parts: list[tuple[str, object, type[Struct]]] = []
    underlyings = content.get("underlyings")
    if isinstance(underlyings, Mapping):
        parts += [(f"underlying {name!r}", one, Underlying) for name, one in underlyings.items()]
    lists: tuple[tuple[str, type[Struct]], ...] = (
        ("positions", Holding),
        ("collateral", CollateralBalance),
    )
    for key, kind in lists:
        listed = content.get(key)
        if isinstance(listed, list):
            parts += [(f"{key}[{i}]{_hint(one)}", one, kind) for i, one in enumerate(listed)]
    for where, part, kind in parts:
        try:
            msgspec.convert(part, kind)
        except msgspec.ValidationError as error:
            return f"{where}: {error}"
    return None


def _hint(part: object) -> str:
    """What a position or a balance says of itself, as far as it can be read."""
    if not isinstance(part, Mapping):
        return ""
    keys = ("instrument", "asset", "kind", "underlying", "seconds_to_expiry", "strike", "type")
    names = [str(part[key]) for key in keys if isinstance(part.get(key), str | int | float)]
    return f" ({' '.join(names)})" if names else ""


def check_portfolio(portfolio: Portfolio) -> None:
    """Raise `CaseError` or `InstrumentError` where a portfolio cannot be valued.

    Numbers must be finite, prices that are needed above 0, a held option of an expiry that is
    given and not over, haircuts shares. An expiry with no seconds left settles at its intrinsic
    value.
    """
    if not math.isfinite(portfolio.cash):
        raise CaseError(f"cash is {portfolio.cash}; expected a finite number")
    if not 0.0 < portfolio.stable_price < math.inf:
        raise CaseError(f"stable_price is {portfolio.stable_price}; expected a price above 0")
    for name, underlying in portfolio.underlyings.items():
        _check_underlying(name, underlying)
    for position in portfolio.positions:
        check_position(position, portfolio.underlyings)
    for balance in portfolio.collateral:
        _check_balance(balance, portfolio.underlyings)


def _check_underlying(name: str, underlying: Underlying) -> None:
    _price(name, "spot", underlying.spot)
    _confidence(name, "spot_confidence", underlying.spot_confidence)
    _confidence(name, "perp_confidence", underlying.perp_confidence)
    seconds = set()
    for expiry in underlying.expiries:
        where = f"{name} expiring in {expiry.seconds_to_expiry:g} s"
        if not 0.0 <= expiry.seconds_to_expiry < math.inf:
            raise InstrumentError(
                f"{where} has expired; expected seconds_to_expiry of 0 or more, take what has "
                "expired out",
                name,
            )
        if expiry.seconds_to_expiry in seconds:
            raise InstrumentError(f"{where} is listed twice; list each expiry once", name)
        seconds.add(expiry.seconds_to_expiry)
        _price(where, "forward", expiry.forward)
        if not math.isfinite(expiry.rate):
            raise InstrumentError(f"{where} has rate {expiry.rate}; expected a finite number", name)
        for key in ("confidence", "forward_confidence", "vol_confidence"):
            _confidence(where, key, getattr(expiry, key))


def check_position(position: Holding, underlyings: Mapping[str, Underlying]) -> None:
    """Raise `InstrumentError` where one position cannot be valued, see `check_portfolio`."""
    name = position.name
    underlying = underlyings.get(position.underlying)
    if underlying is None:
        raise InstrumentError(
            f"{name!r} is in underlying {position.underlying!r}; portfolio.underlyings has "
            f"{', '.join(underlyings) or 'none'}",
            name,
        )
    for key in ("quantity", "unrealised_pnl", "unrealised_funding"):
        value = getattr(position, key)
        if value is not None and not math.isfinite(value):
            raise InstrumentError(f"{name!r} has {key} {value}; expected a finite number", name)
    if position.entry_price is not None:
        _price(name, "entry_price", position.entry_price)
        if position.unrealised_pnl is not None:
            raise InstrumentError(
                f"{name!r} gives both entry_price and unrealised_pnl; give one of them", name
            )
    if position.kind == "perp":
        if underlying.perp_price is None:
            raise InstrumentError(
                f"underlying {position.underlying!r} holds a perp and is missing required key "
                "perp_price",
                name,
            )
        _price(name, "perp_price", underlying.perp_price)
    elif position.kind == "option":
        _check_option(position, underlying)


def _check_option(position: Holding, underlying: Underlying) -> None:
    name = position.name
    for key in ("seconds_to_expiry", "strike", "type", "vol"):
        if getattr(position, key) is None:
            raise InstrumentError(f"option {name!r} is missing required key {key}", name)
    left = position.seconds_to_expiry
    if left is not None and not left >= 0.0:
        raise InstrumentError(
            f"option {name!r} has expired: {left:g} s are left; take what has expired out", name
        )
    if all(expiry.seconds_to_expiry != left for expiry in underlying.expiries):
        raise InstrumentError(
            f"option {name!r} expires in {left:g} s, and underlying {position.underlying!r} lists "
            "no such expiry; add it with its forward and rate",
            name,
        )
    _price(name, "strike", position.strike)
    if position.vol is None or not 0.0 <= position.vol < math.inf:
        raise InstrumentError(f"{name!r} has vol {position.vol}; expected 0 or more", name)


def _check_balance(balance: CollateralBalance, underlyings: Mapping[str, Underlying]) -> None:
    name = balance.asset
    if not math.isfinite(balance.amount):
        raise InstrumentError(
            f"collateral {name!r} has amount {balance.amount}; expected a finite number", name
        )
    _price(f"collateral {name!r}", "price", balance.price, name)
    _confidence(name, "confidence", balance.confidence)
    if balance.underlying is not None and balance.underlying not in underlyings:
        raise InstrumentError(
            f"collateral {name!r} is of underlying {balance.underlying!r}; portfolio.underlyings "
            f"has {', '.join(underlyings) or 'none'}",
            name,
        )
    maintenance = balance.maintenance_haircut
    least = 0.0 if maintenance is None else maintenance
    # Inputs such as 0.8 + 0.2 may end a rounding error above 1.
    if not (0 <= least <= 1 and 0 <= balance.initial_extra_haircut <= 1 + 1e-9 - least):
        raise InstrumentError(
            f"collateral {name!r} has maintenance_haircut {maintenance} and "
            f"initial_extra_haircut {balance.initial_extra_haircut}; expected shares, at most 1 in "
            "sum",
            name,
        )


def _days(
    columns: list[tuple[float | None, ...]], names: tuple[str, ...], key: str, *, zero: bool = False
) -> Floats:
    """Columns of days, shape (D, S), NaN for null; prices must be above 0, variances not below."""
    length = len(columns[0]) if columns else 0
    days = np.array(columns, dtype=np.float64).reshape(len(columns), length).T
    wrong = ~np.isnan(days) & ((days < 0.0) | np.isinf(days) | ((days == 0.0) & (not zero)))
    if wrong.any():
        day, column = np.argwhere(wrong)[0]
        raise InstrumentError(
            f"history.{key} of {names[column]} has {days[day, column]} as number {day + 1}; "
            f"expected numbers {'of 0 or more' if zero else 'above 0'}, null where there is none",
            names[column],
        )
    return days


def _price(where: str, key: str, value: float | None, instrument: str | None = None) -> None:
    if value is None or not 0.0 < value < math.inf:
        raise InstrumentError(
            f"{where} has {key} {value}; expected a price above 0", instrument or where
        )


def _confidence(name: str, key: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InstrumentError(f"{name} has {key} {value}; expected a share of 1", name)
