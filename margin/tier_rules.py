"""``[tier]`` of a rule set: brackets by notional."""

from __future__ import annotations

from itertools import pairwise

from msgspec import Struct

from margin.rule_values import Positive, Rate


class Bracket(Struct, frozen=True, forbid_unknown_fields=True):
    """Rates on the part of a notional up to `upper_bound`; None: the last, unbounded bracket."""

    maintenance_rate: Rate
    initial_rate: Rate
    upper_bound: Positive | None = None

    def __post_init__(self) -> None:
        if self.maintenance_rate > self.initial_rate:
            raise ValueError(
                f"maintenance_rate {self.maintenance_rate} is above "
                f"initial_rate {self.initial_rate}; it must be at most that"
            )


class Brackets(Struct, frozen=True, forbid_unknown_fields=True):
    """Brackets of one symbol, in rising order of notional."""

    brackets: tuple[Bracket, ...]

    def __post_init__(self) -> None:
        _check_brackets(self.brackets)


class TierRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tier]``: default brackets, and those of symbols that have their own."""

    brackets: tuple[Bracket, ...]
    symbols: dict[str, Brackets] = {}

    def __post_init__(self) -> None:
        _check_brackets(self.brackets)

    def of_symbol(self, symbol: str) -> tuple[Bracket, ...]:
        """Brackets of a symbol: its own, else the default."""
        own = self.symbols.get(symbol)
        return self.brackets if own is None else own.brackets


def _check_brackets(brackets: tuple[Bracket, ...]) -> None:
    """Raise ValueError, which msgspec reports with the key, unless the brackets rise."""
    if not brackets:
        raise ValueError("brackets is empty; expected at least one bracket")
    *bounded, last = brackets
    if last.upper_bound is not None:
        raise ValueError("the last of brackets has an upper_bound; leave it out, it is unbounded")
    if any(bracket.upper_bound is None for bracket in bounded):
        raise ValueError("upper_bound is missing in one of brackets; only the last has none")
    for below, above in pairwise(brackets):
        if (
            below.upper_bound is not None
            and above.upper_bound is not None
            and not below.upper_bound < above.upper_bound
        ):
            raise ValueError(
                f"upper_bound {above.upper_bound} follows {below.upper_bound} in brackets; "
                "bounds must rise"
            )
        for key in ("maintenance_rate", "initial_rate"):
            if getattr(above, key) < getattr(below, key):
                raise ValueError(
                    f"{key} {getattr(above, key)} follows {getattr(below, key)} in brackets; "
                    "rates must not fall with notional"
                )
