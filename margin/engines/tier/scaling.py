"""Scaling of a tier margin beyond brackets of notional: size, open interest and rounding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.engines.tier.rounding import round_up
from margin.engines.tier.rules import TierRules
from margin.engines.tier.tiers import bracket_table
from margin.rules.asset_weights import liability_weight
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LegMargins:
    """Margins of L legs, settlement currency, shape (L,).

    `steps` says how they came about: what each step adds to the initial and to the maintenance
    margin, in order.
    """

    initial: Floats
    maintenance: Floats
    steps: tuple[tuple[str, Floats, Floats], ...]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Of S symbols, shape (S,): size factors, 0 without one, and caps on open interest, 0 and
    infinity without; `quantum` is 0 where nothing is rounded."""

    imf_factor: Floats
    lower: Floats
    upper: Floats
    quantum: float

    @property
    def has_caps(self) -> Bools:
        """Whose initial margin depends on the open interest, shape (S,)."""
        return np.isfinite(self.upper)


@lru_cache(maxsize=64)
def table_symbols(ruleset: RuleSet, underlyings: tuple[str, ...]) -> tuple[str, ...]:
    """The symbol whose table each underlying X takes: X where the rule set names it, else XUSDT.

    Raises
    ------
    RuleSetError
        The rule set has another engine.
    """
    rules = ruleset.engine_rules(TierRules)
    return tuple(
        f"{name}USDT" if rules.specific_table(name) is None else name for name in underlyings
    )


@lru_cache(maxsize=64)
def scaling_of(ruleset: RuleSet, symbols: tuple[str, ...]) -> Scaling | None:
    """How a rule set scales the margins of some symbols; None where brackets are all there is.

    Raises
    ------
    RuleSetError
        The rule set has another engine.
    """
    rules = ruleset.engine_rules(TierRules)
    tables = [rules.table_of(symbol) for symbol in symbols]
    quantum = 0.0 if rules.quantum is UNSET else rules.quantum
    if quantum == 0.0 and all(table.imf == 0.0 and table.caps is None for table in tables):
        return None
    caps = [table.caps for table in tables]
    columns = (
        np.array([table.imf for table in tables], dtype=np.float64),
        np.array([0.0 if cap is None else cap.lower for cap in caps], dtype=np.float64),
        np.array([np.inf if cap is None else cap.upper for cap in caps], dtype=np.float64),
    )
    for column in columns:
        column.flags.writeable = False  # shared by every caller
    return Scaling(*columns, quantum)


def leg_margins(
    ruleset: RuleSet,
    symbols: tuple[str, ...],
    row: Ints,
    quantity: Floats,
    notional: Floats,
    open_interest: Floats,
) -> LegMargins:
    """Margins of L legs, each on its own.

    In this order, each step where the rule set has it:

    1. brackets: ``m = |notional| * rate - deduction``, `margin.engines.tier.tiers`, the initial
       margin without deduction where the rule set takes it on the whole notional;
    2. size: ``max(m, 0.8 m + imf * sqrt(|quantity|) * |notional|)``, both margins;
    3. open interest: ``m + clamp((OI - lower) / (upper - lower), 0, 1) * (|notional| - m)``, the
       initial margin alone. With one bracket that is ``|notional|`` times
       ``base + clamp(...) * (1 - base)``;
    4. quantum q: the initial margin is rounded up to a multiple of it. The maintenance margin is
       its share of the initial margin without step 3, which is rounded up, and is rounded up
       again.

    Parameters
    ----------
    symbols:
        Length S.
    row:
        Of each leg in `symbols`, shape (L,); −1 gives NaN.
    quantity, notional:
        Signed, units of the underlying and settlement currency, shape (L,); NaN gives NaN.
    open_interest:
        Notional, by symbol, shape (S,). NaN gives a NaN initial margin where the symbol has caps
        and its leg is not empty, and is not looked at elsewhere.

    References
    ----------
    dYdX v4, ``protocol/x/perpetuals/types/liquidity_tier.go`` (3, 4); Drift Protocol v2,
    ``programs/drift/src/math/margin.rs`` (2).
    """
    table = bracket_table(ruleset, symbols)
    initial, maintenance = table.initial(notional, row), table.maintenance(notional, row)
    steps = [("tier margin", initial, maintenance)]
    scaling = scaling_of(ruleset, symbols)
    if scaling is None:
        return LegMargins(initial, maintenance, tuple(steps))
    size = np.abs(notional)
    if (scaling.imf_factor > 0.0).any():
        # The weight of a notional of 0 does not matter, its margin is 0.
        unit = np.where(size > 0.0, size, 1.0)
        imf = scaling.imf_factor[row]
        raised = [
            np.maximum(margin, liability_weight(margin / unit, imf, quantity) * size)
            for margin in (initial, maintenance)
        ]
        steps.append(("size premium", raised[0] - initial, raised[1] - maintenance))
        initial, maintenance = raised
    unscaled = initial
    if scaling.has_caps.any():
        initial = _scale(initial, size, scaling, row, open_interest)
        steps.append(("open interest", initial - unscaled, np.zeros_like(maintenance)))
    if scaling.quantum > 0.0:
        whole = round_up(initial, scaling.quantum)
        # A rounding error apart, m/i is the maintenance fraction that the rule set is made from.
        fraction = np.divide(
            maintenance, unscaled, out=np.zeros_like(unscaled), where=unscaled > 0.0
        )
        rounded = round_up(round_up(unscaled, scaling.quantum) * fraction, scaling.quantum)
        rounded = np.where(np.isnan(maintenance), np.nan, rounded)
        steps.append(("rounding", whole - initial, rounded - maintenance))
        initial, maintenance = whole, rounded
    return LegMargins(initial, maintenance, tuple(steps))


def _scale(margin: Floats, size: Floats, scaling: Scaling, row: Ints, interest: Floats) -> Floats:
    """Step 3; a symbol without caps keeps its margin, whatever its open interest."""
    lower, upper = scaling.lower[row], scaling.upper[row]
    capped = np.isfinite(upper)
    width = np.where(capped & (upper > lower), upper - lower, 1.0)
    above = np.where(capped, interest[row] - lower, 0.0)
    share = np.clip(above / width, 0.0, 1.0)
    # Caps that coincide are a step: nothing below, the notional from there on.
    share = np.where(capped & (upper == lower), (above >= 0.0).astype(np.float64), share)
    share = np.where(capped & np.isnan(interest[row]), np.nan, share)
    return np.where(capped & (size > 0.0), margin + share * (size - margin), margin)
