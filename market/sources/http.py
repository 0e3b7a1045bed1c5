"""Messages of the HTTP API with market facts, as updates and back.

Prices are in the settlement currency, sizes in units of the underlying, rates and vols annual
decimals, times ISO 8601 in UTC. The ledger keeps updates in the form of these messages, so an
update of any source is written as one (`bar_message`, `quote_message`, `account_message`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from market.accounts.book import Account, Balance, Position
from market.core.clock import format_time, parse_time
from market.core.errors import DataError
from market.sources.base import AccountUpdate, BarUpdate, Batch, QuoteUpdate, Update

MAX_POSITIONS = 1_000
MAX_STRIKES = 1_000
MAX_HISTORY_DEPTH = 64

History = dict[str, Any] | None
"""What is kept of an account beside a decision: any object of JSON."""

NO_HISTORY = Raw(b"null")

# No control characters: a database may not take them, and a log may obey them.
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f])")]
Time = Annotated[str, Meta(min_length=10, max_length=40)]


class BarIn(Struct, frozen=True, forbid_unknown_fields=True):
    """One bar of a symbol."""

    symbol: Name
    """Spot symbol of the market, like `BTCUSDT`."""
    ts: Time
    """Open of the bar."""
    open: float
    """First price, settlement currency, above 0."""
    high: float
    """Highest price, settlement currency."""
    low: float
    """Lowest price, settlement currency, above 0."""
    close: float
    """Last price, settlement currency."""
    volume: float
    """Volume in units of the underlying, 0 or more."""


_When = Annotated[Time, Meta(description="When it held; absent: the decision time now.")]
_Mark = Annotated[float, Meta(description="Mark or index price, above 0.")]
_Vol = Annotated[float, Meta(description="Of an option: annual, above 0, at most 10.")]
_Forward = Annotated[float, Meta(description="Price for delivery at expiry, above 0.")]
_Rate = Annotated[float, Meta(description="Continuously compounded, a year, -2 to 2.")]
_Vols = Annotated[
    dict[str, float],
    Meta(description="Annual vol by strike; all are told anew.", max_length=MAX_STRIKES),
]
_Confidence = Annotated[
    float, Meta(description="Trust in mark and vol, of an expiry in all its figures, 0 to 1.")
]
_ForwardConfidence = Annotated[
    float, Meta(description="Trust in the forward and rate of the expiry, 0 to 1.")
]
_VolConfidence = Annotated[float, Meta(description="Trust in the vols of the expiry, 0 to 1.")]
_Funding = Annotated[
    float, Meta(description="Share of the notional that longs pay in interval_hours, -1 to 1.")
]
_Hours = Annotated[float, Meta(description="Hours between fundings, at most 24; absent: 8.")]
_OpenInterest = Annotated[float, Meta(description="In units of the underlying, above 0.")]
_ImpliedVol = Annotated[
    float, Meta(description="Volatility index of the underlying: annual, above 0, at most 10.")
]


class SviIn(Struct, frozen=True, forbid_unknown_fields=True):
    """Raw SVI of an expiry: the total variance left is a + b (rho (k - m) + sqrt((k - m)^2 +
    sigma^2)) at k = ln(strike / forward)."""

    a: float
    """Level of the total variance."""
    b: Annotated[float, Meta(description="0 or more.")]
    rho: Annotated[float, Meta(description="Between -1 and 1.")]
    m: float
    """Log strike over forward at the centre of the smile."""
    sigma: Annotated[float, Meta(description="Above 0.")]


class QuoteIn(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is new of one instrument; figures that are left out stay as they are.

    The instrument is an option (BTC-27MAR26-60000-C: mark, vol, confidence; forward, rate, vols,
    svi and their confidences are those of its expiry), an expiry (BTC-27MAR26: forward, rate, vols
    or svi, confidences), a perpetual (BTCUSDT-PERP: mark, funding, open_interest, implied_vol,
    confidence), a spot symbol (BTCUSDT: mark, open_interest, implied_vol, confidence) or a cash
    asset of the rule set (USDT: mark, the price of the settlement currency's coin, and
    confidence).
    """

    instrument: Name
    """What is quoted; see the forms above."""
    ts: _When | None = None
    mark: _Mark | None = None
    vol: _Vol | None = None
    forward: _Forward | None = None
    rate: _Rate | None = None
    vols: _Vols | None = None
    svi: SviIn | None = None
    """Smile of the expiry, told anew."""
    confidence: _Confidence | None = None
    forward_confidence: _ForwardConfidence | None = None
    vol_confidence: _VolConfidence | None = None
    funding: _Funding | None = None
    interval_hours: _Hours | None = None
    open_interest: _OpenInterest | None = None
    implied_vol: _ImpliedVol | None = None


class PositionIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A position of an account."""

    instrument: Name
    """Perpetual or option, like `BTCUSDT-PERP` or `BTC-27MAR26-60000-C`."""
    quantity: float
    """Signed quantity in units of the underlying; negative: short."""
    entry_price: float | None = None
    """Mean price at which it was entered, settlement currency, above 0; null: the mark. Updates
    with fills need it."""


class BalanceIn(Struct, frozen=True, forbid_unknown_fields=True):
    """An amount of a collateral asset."""

    asset: Name
    """Collateral asset, like `USDT` or `BTC`."""
    amount: float
    """Amount in units of the asset."""


class PreviousAddOnIn(Struct, frozen=True, forbid_unknown_fields=True):
    """The add-on in force and when it was decided."""

    amount: Annotated[float, Meta(ge=0)]
    """Add-on in force, settlement currency."""
    as_of: Time
    """When it was decided."""


class AccountMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """One account as it stands, as the ledger keeps it; `history` is kept with the decision."""

    account_id: Name
    """Id of the account."""
    cash: float
    """Cash balance in the settlement currency; negative is owed."""
    positions: list[PositionIn]
    """Open positions, one an instrument."""
    collateral: list[BalanceIn] = []
    """Balances of other assets, valued after haircuts."""
    previous_add_on: PreviousAddOnIn | None = None
    """Add-on in force, from which the new one moves at its pace; null: the newest in the ledger.
    Without one there either, the new one counts in full."""
    history: History = None
    """Any JSON object, kept with the decision and not read; null: nothing is kept."""


class AccountIn(Struct, frozen=True, forbid_unknown_fields=True):
    """One account as it stands; `history` is kept with the decision.

    The history is the JSON of a `History` and is read once its length is known to be allowed
    (`read_history`): built at once, a long one takes many times its bytes, and seconds.
    """

    account_id: Name
    """Id of the account."""
    cash: float
    """Cash balance in the settlement currency; negative is owed."""
    positions: Annotated[list[PositionIn], Meta(max_length=MAX_POSITIONS)]
    """Open positions, one an instrument."""
    collateral: Annotated[list[BalanceIn], Meta(max_length=MAX_POSITIONS)] = []
    """Balances of other assets, valued after haircuts."""
    previous_add_on: PreviousAddOnIn | None = None
    """Add-on in force, from which the new one moves at its pace; null: the newest in the ledger.
    Without one there either, the new one counts in full."""
    history: Raw = field(default_factory=lambda: NO_HISTORY)
    """Any JSON object, kept with the decision and not read; null: nothing is kept."""


def bar_updates(bars: Sequence[BarIn], known_at: int | None = None) -> Batch[BarUpdate]:
    """The updates of posted bars that became known at a time."""

    def update(bar: BarIn) -> BarUpdate:
        values = bar.open, bar.high, bar.low, bar.close, bar.volume
        return BarUpdate(bar.symbol, parse_time(bar.ts), values, known_at)

    return _batch(bars, update)


def quote_updates(quotes: Sequence[QuoteIn], known_at: int | None = None) -> Batch[QuoteUpdate]:
    """The updates of posted quotes that became known at a time."""

    def update(quote: QuoteIn) -> QuoteUpdate:
        figures: dict[Any, tuple[float, ...]] = {}
        for name in _NUMBERS:
            value = getattr(quote, name)
            if value is not None:
                figures[name] = (value,)
        if quote.vols is not None:
            figures["vols"] = _vols(quote.vols)
        if quote.svi is not None:
            figures["svi"] = msgspec.structs.astuple(quote.svi)
        ts = None if quote.ts is None else parse_time(quote.ts)
        return QuoteUpdate(quote.instrument, ts, figures, known_at)

    return _batch(quotes, update)


def read_history(history: Raw, max_bytes: int) -> History:
    """The history of an account, at most `MAX_HISTORY_DEPTH` objects and arrays in one another.

    Raises
    ------
    DataError
        It is longer than `max_bytes` as sent, nested deeper, or neither an object nor null.
    """
    if history is NO_HISTORY:
        return None
    size = len(memoryview(history))
    if size > max_bytes:
        raise DataError(f"history has {size} bytes; at most {max_bytes} are kept")
    try:
        read: History = _HISTORY.decode(history)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"history is not an object of JSON: {error}") from None
    except RecursionError:
        raise DataError(_TOO_DEEP) from None
    if _is_deeper(read, MAX_HISTORY_DEPTH):
        raise DataError(_TOO_DEEP)
    return read


def _is_deeper(value: object, limit: int) -> bool:
    """Whether objects and arrays are nested deeper than a limit; the work is bounded by it."""
    level = [value]
    for _ in range(limit + 1):
        nested = [item for item in level if isinstance(item, dict | list)]
        if not nested:
            return False
        level = [
            inner
            for item in nested
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def account_update(account: AccountMessage, ts: int) -> AccountUpdate:
    """The account of a request as it stands at a time; cash-like collateral stays collateral."""
    positions = (Position(p.instrument, p.quantity, p.entry_price) for p in account.positions)
    balances = (Balance(b.asset, b.amount) for b in account.collateral)
    stands = Account(account.account_id, account.cash, tuple(positions), tuple(balances))
    return AccountUpdate(ts, stands)


def bar_message(update: BarUpdate) -> BarIn:
    """The message of a bar."""
    return BarIn(update.symbol, format_time(update.ts), *update.values)


def quote_message(update: QuoteUpdate) -> QuoteIn:
    """The message of a quote."""
    fields: dict[str, Any] = {name: value[0] for name, value in update.figures.items()}
    vols, svi = update.figures.get("vols"), update.figures.get("svi")
    if vols is not None:
        pairs = zip(vols[::2], vols[1::2], strict=True)
        fields["vols"] = {repr(strike).removesuffix(".0"): vol for strike, vol in pairs}
    if svi is not None:
        fields["svi"] = SviIn(*svi)
    ts = None if update.ts is None else format_time(update.ts)
    return QuoteIn(update.instrument, ts, **fields)


def account_message(account: Account) -> AccountMessage:
    """The message of an account as it stands; raises `msgspec.ValidationError` where a name is
    none that a message can hold."""
    return msgspec.convert(msgspec.to_builtins(account), AccountMessage)


_NUMBERS = tuple(
    name for name in QuoteIn.__struct_fields__ if name not in ("instrument", "ts", "vols", "svi")
)
_HISTORY: msgspec.json.Decoder[History] = msgspec.json.Decoder(History)
_TOO_DEEP = (
    f"history is nested too deeply; at most {MAX_HISTORY_DEPTH} objects and arrays may be in one "
    "another, flatten it"
)
_STRIKE = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_Message = TypeVar("_Message")


def _batch(messages: Sequence[_Message], read: Callable[[_Message], Update]) -> Batch[Update]:
    batch: Batch[Update] = Batch()
    for i, message in enumerate(messages):
        try:
            batch.updates.append(read(message))
        except DataError as error:
            batch.unreadable[i] = str(error)
    return batch


def _vols(vols: Mapping[str, float]) -> tuple[float, ...]:
    """Strike and vol in turn, strikes rising."""
    by_strike: dict[float, float] = {}
    for text, vol in vols.items():
        strike = float(text) if _STRIKE.fullmatch(text) else math.nan
        if not math.isfinite(strike):
            raise DataError(f"vols has the strike {text!r}; expected a price like 60000")
        if strike in by_strike:
            raise DataError(f"vols has the strike {text!r} twice; give each strike once")
        by_strike[strike] = vol
    return tuple(number for strike in sorted(by_strike) for number in (strike, by_strike[strike]))
