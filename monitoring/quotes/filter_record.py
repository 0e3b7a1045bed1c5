"""Verdicts of the outlier filter on quoted fields, as the ledger holds them with the quotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from market.quotes.quote_store import SURFACE, UNCONFIRMED, QuoteField
from market.sources.base import Figure


@dataclass(frozen=True, slots=True)
class FilterRecord:
    """Verdicts of the outlier filter on posted quotes.

    Attributes
    ----------
    suspects:
        Fields of the post that are suspect.
    confirmed:
        Suspect fields, of this post or an earlier one, that count from now on.
    """

    suspects: Sequence[QuoteField] = ()
    confirmed: Sequence[QuoteField] = ()

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> FilterRecord:
        """Read the record of a ledger entry; empty where quotes were not filtered yet.

        Raises
        ------
        msgspec.ValidationError
            Something else was recorded.
        """
        kind = list[tuple[str, Figure, int, float | tuple[float, ...], int]]
        suspects = msgspec.convert(payload.get("suspects", ()), kind)
        confirmed = msgspec.convert(payload.get("confirmed", ()), kind)
        return cls(
            [
                QuoteField(name, field, ts, _numbers(value), UNCONFIRMED, since)
                for name, field, ts, value, since in suspects
            ],
            [
                QuoteField(name, field, ts, _numbers(value), at)
                for name, field, ts, value, at in confirmed
            ],
        )

    def payload(self) -> dict[str, Any]:
        """Plain form; without the keys that would be empty."""
        suspects = [[f.instrument, f.figure, f.ts, _plain(f), f.since] for f in self.suspects]
        return ({"suspects": suspects} if suspects else {}) | confirmed_payload(self.confirmed)


def confirmed_payload(confirmed: Iterable[QuoteField]) -> dict[str, Any]:
    """Plain form of confirmed fields; empty where there are none."""
    rows = [[f.instrument, f.figure, f.ts, _plain(f), f.confirmed] for f in confirmed]
    return {"confirmed": rows} if rows else {}


def _plain(field: QuoteField) -> float | list[float]:
    """The value as a number, of a surface as a list of numbers."""
    return list(field.value) if field.key[1] == SURFACE else field.value[0]


def _numbers(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
