"""What the outlier filter said of quoted figures, as the ledger holds it beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from market.quotes.quote_store import SURFACE, UNCONFIRMED, QuoteField
from market.sources.base import Figure


@dataclass(frozen=True, slots=True)
class FilteredFigures:
    """What the outlier filter said of posted figures, as it is recorded beside them.

    Attributes
    ----------
    suspects:
        Figures of the post that are suspect.
    confirmed:
        Suspect figures, of this post or an earlier one, that count from now on.
    """

    suspects: Sequence[QuoteField] = ()
    confirmed: Sequence[QuoteField] = ()

    @classmethod
    def recorded(cls, payload: Mapping[str, Any]) -> FilteredFigures:
        """Read what was recorded; nothing where quotes were not filtered yet.

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
                QuoteField(name, figure, ts, _numbers(value), UNCONFIRMED, since)
                for name, figure, ts, value, since in suspects
            ],
            [
                QuoteField(name, figure, ts, _numbers(value), at)
                for name, figure, ts, value, at in confirmed
            ],
        )

    def payload(self) -> dict[str, Any]:
        """Plain form; no key for what there is none of."""
        suspects = [[f.instrument, f.figure, f.ts, _plain(f), f.since] for f in self.suspects]
        return ({"suspects": suspects} if suspects else {}) | confirmed_payload(self.confirmed)


def confirmed_payload(confirmed: Iterable[QuoteField]) -> dict[str, Any]:
    """Plain form of confirmed figures; empty where there are none."""
    found = [[f.instrument, f.figure, f.ts, _plain(f), f.confirmed] for f in confirmed]
    return {"confirmed": found} if found else {}


def _plain(figure: QuoteField) -> float | list[float]:
    """A number; of a surface the list of its numbers."""
    return list(figure.value) if figure.key[1] == SURFACE else figure.value[0]


def _numbers(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
