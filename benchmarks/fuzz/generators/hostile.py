"""Hostile values: numbers, times and names at the edges of what a body may hold."""

from __future__ import annotations

import math
import sys
from typing import Any

from benchmarks.fuzz.generators.draw import Draw
from market.core.clock import DAY, HOUR, MINUTE, SECOND, format_time

RAW = "\N{REPLACEMENT CHARACTER}raw:"
"""A text that begins like this is written into the body as it is, without quotes: for numbers
that Python cannot hold, such as 1e400."""

NUMBERS: tuple[Any, ...] = (
    0.0,
    -0.0,
    0,
    1,
    -1,
    5e-324,
    1e-312,
    2.2250738585072014e-308,
    1e-300,
    1e-160,
    1e-100,
    1e-20,
    1e-15,
    9.999999999999999e-16,
    1e-9,
    0.01,
    0.004999999999999999,
    0.1,
    0.9999999999999999,
    1.0000000000000002,
    10.0,
    10.000000000000002,
    24.0,
    999.0,
    1e6,
    1e9,
    1e12,
    1.0000000000000002e12,
    1e15,
    2**53 + 1,
    1e17,
    1e21,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**400,
    1e60,
    1e100,
    1e150,
    1.3407807929942596e154,
    1e160,
    1e200,
    1e290,
    1.65e303,
    1e305,
    1e307,
    4.4e307,
    8.9e307,
    1e308,
    1.7976931348623157e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    RAW + "1e400",
    RAW + "-1e-400",
    RAW + "1E+2",
    RAW + "-0",
    RAW + "0e0",
    RAW + "01",
    RAW + "1.",
    RAW + ".5",
    RAW + "+1",
    RAW + "0x10",
    RAW + "1e999999999999",
    RAW + "0." + "0" * 400 + "1",
    RAW + "1" * 4_000,
)

TIMES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00-23:59",
    "0999-12-31T23:59:59Z",
    "1677-09-21T00:12:43Z",
    "1677-09-21T00:12:44Z",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00+00:01",
    "2000-02-29T00:00:00Z",
    "2025-02-29T00:00:00Z",
    "2262-04-11T23:47:16.854775Z",
    "2262-04-11T23:47:17Z",
    "2262-04-12T00:00:00Z",
    "9999-12-31T23:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "2025-W10-1",
    "2025-W10-1T00:00:00Z",
    "2025-02-01",
    "20250201T000000Z",
    "2025-02-01T00",
    "2025-02-01T00:00:00",
    "2025-02-01 00:00:00Z",
    "2025-02-01T00:00:00z",
    "2025-02-01T00:00:00,5Z",
    "2025-02-01T00:00:00.1234567890123Z",
    "2025-02-01T24:00:00Z",
    "2025-06-30T23:59:60Z",
    "2025-02-01T00:00:00+24:00",
    "2025-02-01T00:00:00+00:00:30.5",
    "2025-02-01T00:00:00 Z",
    " 2025-02-01T00:00:00Z",
    "2025-02-01T00:00:00Z\u200b",
    "\u0662\u0660\u0662\u0665-02-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "1738368000000000000",
    "not a time",
)

NAMES = (
    "",
    " ",
    ".",
    "..",
    "a/b",
    "/",
    "//",
    "a\\b",
    "%2F",
    "%",
    "%00",
    "a?b=c#d",
    "a b",
    "a\u00a0b",
    "\u200f\u202eabc",
    "e\u0301",
    "\u00e9",
    "\U0001f4a5" * 32,
    "\u6f22\u5b57",
    "\ufeffacc",
    "\ufffe",
    "\u0085",
    "\u2028",
    "\ud800",
    "\udfff\ud800",
    "a\x00b",
    "a\nb",
    "a\x7fb",
    "'; drop table records; --",
    "<script>alert(1)</script>",
    "${jndi:ldap://x}",
    "None",
    "null",
    "NaN",
    "a" * 128,
    "a" * 129,
    "a" * 100_000,
    "main",
    "-PERP",
    "BTC",
    "USD",
    "USDT",
    "USDC",
    "USDTUSDT",
    "USDT-PERP",
    "BTCUSDT",
    "BTCUSDT-PERP",
    "BTCUSDT-PERP-PERP",
    "BTCUSDT-PERP ",
    "btcusdt-perp",
    "BTCUSD",
    "DOGEUSDT-PERP",
    "00",
    "B",
    "BTC-27MAR26",
    "BTC-30FEB26-60000-C",
    "BTC-27MAR26-0-C",
    "BTC-27MAR26-0.0000000001-P",
    "BTC-27MAR26-" + "9" * 100 + "-C",
    "BTC-27MAR26-60000-X",
    "BTC-1JAN00-60000-C",
    "BTC-31DEC99-60000-P",
    "DOGE-27MAR26-1-C",
    "BTCUSDT-27MAR26-60000-C",
    "BTC-27MAR26-1e5-C",
    "\uff22\uff34\uff23USDT-PERP",
)

OTHER_TYPES: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "1.0",
    "NaN",
    [],
    {},
    [1.0],
    {"amount": 1.0},
    0,
    1.5,
)


_DENORMAL_OR_HUGE = (5e-324, 1e-312, 1e-300, 1e-200, 1e100, 1e200, 1.65e303, 1.7e308)


def hostile_scale(draw: Draw) -> float:
    """A factor on a whole account: checks must hold at any scale."""
    low, high = draw.by_weight([(4, (-323.0, -305.0)), (3, (280.0, 308.0)), (3, (-305.0, 280.0))])
    return float(10.0 ** draw.between(low, high))


def hostile_number(draw: Draw, value: float) -> Any:
    """A number in the place of `value`: off the list, or near it, or far from it."""
    kind = draw.below(12)
    if abs(value) > sys.float_info.max:
        value = 1.0  # an integer beyond any float, from an earlier mutation
    if kind > 9:
        return draw.sign() * draw.pick(_DENORMAL_OR_HUGE)
    if kind < 5:
        number = draw.pick(NUMBERS)
        if isinstance(number, int | float) and draw.chance(0.4):
            return -number
        return number
    if kind < 7:
        exponent = draw.between(-320.0, 308.0)
        return draw.sign() * draw.between(1.0, 10.0) * 10.0**exponent
    if kind == 7:
        return -value
    if kind == 8:
        return math.nextafter(value, draw.sign() * math.inf)
    try:
        return value * 10.0 ** draw.pick((-12, -6, -3, -2, -1, 1, 2, 3, 6, 12))
    except OverflowError:
        return value


def hostile_time(draw: Draw, newest: int) -> str:
    """A time off the list, or at some telling distance from the newest bar's close."""
    if draw.chance(0.5):
        return draw.pick(TIMES)
    ahead = draw.pick(
        (
            0,
            SECOND,
            5 * SECOND,
            MINUTE,
            HOUR // 2,
            HOUR,
            2 * HOUR,
            2 * HOUR + SECOND,
            8 * HOUR,
            8 * HOUR + MINUTE,
            DAY - SECOND,
            DAY,
            DAY + SECOND,
            6 * DAY,
            7 * DAY,
            8 * DAY,
            31 * DAY,
            400 * DAY,
            401 * DAY,
            3_650 * DAY,
        )
    )
    return format_time(newest + (ahead if draw.chance(0.7) else -ahead))


def hostile_name(draw: Draw) -> str:
    """A name off the list."""
    return draw.pick(NAMES)
