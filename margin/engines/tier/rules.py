"""``[tier]`` of a rule set: brackets by notional, and what scales the margin beyond them.

`margin.engines.tier.tiers` and `margin.engines.tier.scaling` give the formulas; the presets
document the keys: brackets ``linear-tiers.toml``, classes, open interest and quantum
``dydx-v4.toml``, sizes ``drift-v2.toml``.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from margin.rules.values import NonNegative, Share


class Bracket(Struct, frozen=True, forbid_unknown_fields=True):
    """Rates of notionals up to `upper_bound`; None: the last, unbounded bracket.

    The maintenance rate applies to the part of a notional inside the bracket, the initial rate to
    that part or to the whole notional, see `TierRules.initial_margin_basis`.
    """

    maintenance_rate: Share
    initial_rate: Share
    upper_bound: NonNegative | None = None

    def __post_init__(self) -> None:
        if self.maintenance_rate > self.initial_rate:
            raise ValueError(
                f"maintenance_rate {self.maintenance_rate} is above "
                f"initial_rate {self.initial_rate}; it must be at most that"
            )


class OpenInterestCaps(Struct, frozen=True, forbid_unknown_fields=True):
    """Open interest, settlement currency, over which the initial margin rises to the notional.

    Both 0: it does not.
    """

    lower: NonNegative
    upper: NonNegative

    def __post_init__(self) -> None:
        if self.lower > self.upper:
            raise ValueError(f"lower {self.lower} is above upper {self.upper}; it must be at most")


class Brackets(Struct, frozen=True, forbid_unknown_fields=True):
    """Brackets of one symbol, in rising order of notional, and what scales its margin.

    Attributes
    ----------
    open_interest:
        Absent: the initial margin does not depend on it.
    imf_factor:
        Raises both margins with the root of the size in units of the underlying; absent: none.
    """

    brackets: tuple[Bracket, ...]
    open_interest: OpenInterestCaps | UnsetType = UNSET
    imf_factor: NonNegative | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_brackets(self.brackets)

    @property
    def caps(self) -> OpenInterestCaps | None:
        """The caps on open interest, where they have an effect."""
        caps = self.open_interest
        return None if caps is UNSET or caps.upper == 0.0 else caps

    @property
    def imf(self) -> float:
        """The size factor, 0 where there is none."""
        return 0.0 if self.imf_factor is UNSET else self.imf_factor


class MarketClass(Brackets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Symbols that share one table: a liquidity tier, a margin table."""

    symbols: tuple[str, ...]


class TierRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tier]``: what holds for any symbol, and for those that have a table of their own.

    Attributes
    ----------
    brackets, open_interest, imf_factor:
        As in `Brackets`, for symbols without a table of their own.
    symbols, classes:
        Whole tables, of one symbol or shared: what a table leaves out, its symbols do not have.
    quantum:
        Each position's requirements are rounded up to multiples of it; absent or 0: not rounded.
    initial_margin_basis:
        What an initial rate applies to. ``marginal``: to the part of the notional inside its
        bracket, so the margin is continuous. ``whole_notional``: that of the bracket which the
        notional reaches applies to all of it (notional / leverage, at the highest leverage that
        the bracket allows), so the margin jumps where a bracket ends. Absent: ``marginal``.
    """

    brackets: tuple[Bracket, ...]
    symbols: dict[str, Brackets] = {}
    open_interest: OpenInterestCaps | UnsetType = UNSET
    imf_factor: NonNegative | UnsetType = UNSET
    quantum: NonNegative | UnsetType = UNSET
    classes: dict[str, MarketClass] | UnsetType = UNSET
    initial_margin_basis: Literal["marginal", "whole_notional"] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check_brackets(self.brackets)
        names = Counter(name for own in self._classes() for name in own.symbols)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise ValueError(f"{twice[0]} is in more than one place in classes; keep it in one")

    def specific_table(self, symbol: str) -> Brackets | None:
        """The table of a symbol, else of its class; None where it has neither."""
        own = self.symbols.get(symbol)
        if own is not None:
            return own
        return next((each for each in self._classes() if symbol in each.symbols), None)

    def table_of(self, symbol: str) -> Brackets:
        """What holds for a symbol: its own table or its class's, else the default."""
        return self.specific_table(symbol) or self._default

    @property
    def scaled_by_size(self) -> bool:
        """Whether the maintenance margin of some symbol needs more than its notional."""
        return any(table.imf > 0.0 for table in self._tables())

    @property
    def _default(self) -> Brackets:
        return Brackets(self.brackets, self.open_interest, self.imf_factor)

    def _tables(self) -> tuple[Brackets, ...]:
        return (self._default, *self.symbols.values(), *self._classes())

    def _classes(self) -> tuple[MarketClass, ...]:
        return () if self.classes is UNSET else tuple(self.classes.values())


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
