"""The bounds of the add-on: the model's level on top of maintenance margin, bounded by the rules.

Everything here is a pure function. The level stays between the rule floor F and ``max(F, C)``,
whatever the model says, and carries the name of the rule that decided it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.rules.ruleset import AddOnRules
from market.core.arrays import Floats

Codes = npt.NDArray[np.int8]

BINDINGS = ("floor", "model", "cap", "dead_band", "step", "release", "fallback")
"""Names of the codes in `AddOn.binding`."""
_FLOOR, _MODEL, _CAP, _DEAD_BAND, _STEP, _RELEASE, _FALLBACK = range(len(BINDINGS))

_CENT = Decimal("0.01")
_EXACT_TO = 1e13
_WHOLE_FROM = 2.0**52
_MOST_CENTS = 128
"""Below `_WHOLE_FROM` floats are half a unit apart at most: rounding costs fewer cents."""


@dataclass(frozen=True, slots=True)
class ModelLevel:
    """The add-on level that the model requires, for N accounts.

    Attributes
    ----------
    horizons:
        Targeted horizons in hours, rising, length K.
    by_horizon:
        G_h, shape (N, K); infinite where even `upper` does not suffice, NaN where the model
        did not answer.
    level:
        G, the largest G_h, shape (N,); NaN where any of them is.
    """

    horizons: tuple[int, ...]
    by_horizon: Floats
    level: Floats


@dataclass(frozen=True, slots=True)
class AddOn:
    """The add-on of N accounts, settlement currency, every array of shape (N,).

    Attributes
    ----------
    level:
        A, within [F, max(F, C)].
    binding:
        The rule that decided the level: index into `BINDINGS`.
    model_level:
        G as given.
    floor, cap:
        F and C.
    unclamped:
        The level after dead-band, step, release and freeze, before the clamp; NaN without G.
    model_weight:
        Weight that G counted with, see `phased_level`: `model_level` is the level that counted.
    """

    level: Floats
    binding: Codes
    model_level: Floats
    floor: Floats
    cap: Floats
    unclamped: Floats
    model_weight: float = 1.0


def add_on_cap(initial_margin: Floats, rules: AddOnRules) -> Floats:
    """C: `cap_im_multiple` times the rule's initial margin, shape (N,)."""
    return rules.cap_im_multiple * initial_margin


def phased_level(model_level: Floats, floor: Floats, cap: Floats, weight: Floats | float) -> Floats:
    """What counts of G during a phase-in: ``w * min(max(0, G), max(F, C))`` for a weight w under 1.

    G itself where w is 1, so that a level beyond the cap stays one. Between, it rises with w, and
    whatever bounds it afterwards keeps to [F, max(F, C)]. NaN stays NaN.

    Parameters
    ----------
    model_level, floor, cap:
        G, F and C, settlement currency, shape (N,); a cap that is not finite counts as no more
        than F, as in `bound_add_on`.
    weight:
        From 0 to 1, a number or of shape (N,), see `margin.rules.add_on.PhaseIn.weight`.
    """
    highest = np.where(cap < np.inf, np.fmax(floor, cap), floor)
    with np.errstate(invalid="ignore"):  # a floor that is not finite: the account has no figures
        weighted = weight * np.minimum(np.maximum(0.0, model_level), highest)
    return np.where(np.equal(weight, 1.0), model_level, weighted)


def in_stress(volatility_ratio: float, rules: AddOnRules) -> bool:
    """Whether the declared state rule holds levels now.

    Parameters
    ----------
    volatility_ratio:
        Fast over slow volatility of the market; NaN (warm-up) declares no stress.
    rules:
        ``state_rule`` and ``stress_ratio``.
    """
    return rules.state_rule == "hold_in_stress" and volatility_ratio > rules.stress_ratio


def bound_add_on(
    model_level: Floats,
    floor: Floats,
    cap: Floats,
    previous_level: Floats,
    hours_since: Floats,
    initial_margin: Floats,
    stress: bool,
    rules: AddOnRules,
) -> AddOn:
    """Bound the model's level by the rules. All arrays of shape (N,), settlement currency.

    In this order, P being the previous level and t the hours since it:

    1. G, at least 0;
    2. ``dead_band``: P stays where ``|G - P| <= dead_band * P``;
    3. ``step``: at most ``P + max_step_up_per_hour * initial_margin * t``;
    4. ``release``: at least ``G + (P - G) * 2^(-t / release_half_life_h)``;
    5. freeze, named ``release`` too: at least P while `stress` and the rules hold in stress;
    6. clamp to [F, max(F, C)], always last: ``floor`` or ``cap``.

    Parameters
    ----------
    model_level:
        G. Any float: infinite means that no level suffices, NaN that the model did not answer:
        the level is then the floor, bound by ``fallback``.
    floor, cap:
        F and C. A cap that is not finite counts as no more than F.
    previous_level:
        P; NaN, infinite or negative: there is none.
    hours_since:
        t; negative counts as 0, NaN as no previous level.
    initial_margin:
        The rule's.
    stress:
        The state of the market, see `in_stress`.
    rules:
        ``[add_on]`` of the rule set.

    Returns
    -------
    The level and the rule that decided it. NaN where F is not finite: such accounts are in
    `Requirement.problems`.

    References
    ----------
    Murphy, Vasios, Vause (2014), "An investigation into the procyclicality of risk-based
    initial margin models", Bank of England FSP 29.
    """
    level, binding, unclamped = _bound_all(
        model_level,
        floor,
        cap,
        previous_level,
        hours_since,
        initial_margin,
        Pace.of(rules, stress),
    )
    return AddOn(level, binding, model_level, floor, cap, unclamped)


class Pace(NamedTuple):
    """How fast a level may move, see `bound_add_on`."""

    frozen: bool
    dead_band: float
    step_per_hour: float
    half_life: float

    @classmethod
    def of(cls, rules: AddOnRules, stress: bool) -> Pace:
        """That of the rules, in or out of stress."""
        return cls(
            stress and rules.state_rule == "hold_in_stress",
            rules.dead_band,
            rules.max_step_up_per_hour,
            rules.release_half_life_h,
        )


@njit(cache=True, error_model="numpy")
def _paced_level(model_level, previous, hours, initial_margin, pace):  # type: ignore[no-untyped-def]
    """Steps 1 to 5: the level before the clamp and what decided it."""
    target = max(0.0, model_level)
    if not (0.0 <= previous < np.inf) or math.isnan(hours):
        return target, _MODEL
    hours = max(0.0, hours)
    if target != previous and abs(target - previous) <= pace.dead_band * previous:
        return previous, _DEAD_BAND
    if target > previous:
        highest = previous + pace.step_per_hour * initial_margin * hours
        return (highest, _STEP) if highest < target else (target, _MODEL)
    if target < previous:
        if pace.frozen:
            return previous, _RELEASE
        left = 0.5 ** (hours / pace.half_life) if pace.half_life > 0.0 else 0.0
        released = target + (previous - target) * left
        if released > target:
            return min(released, previous), _RELEASE
    return target, _MODEL


@njit(cache=True, error_model="numpy")
def bound_level(model_level, floor, cap, previous, hours, initial_margin, pace):  # type: ignore[no-untyped-def]
    """`bound_add_on` of one account, compiled: level, code of what decided it, unclamped level."""
    if not math.isfinite(floor):
        return np.nan, _FALLBACK, np.nan
    if math.isnan(model_level):
        return floor, _FALLBACK, np.nan
    highest = cap if floor < cap < np.inf else floor
    unclamped, binding = _paced_level(model_level, previous, hours, initial_margin, pace)
    level = unclamped
    # Where pace or dead-band put the level on the cap and the model level is above it, the cap
    # decides.
    if level > highest or (level == highest and model_level > highest):
        level = highest
        binding = _CAP if highest > floor else _FLOOR
    if level < floor:
        level = floor
        binding = _FLOOR
    return level, binding, unclamped


@njit(cache=True, error_model="numpy")
def _bound_all(model_level, floor, cap, previous, hours, initial_margin, pace):  # type: ignore[no-untyped-def]
    n = model_level.shape[0]
    level, unclamped = np.empty(n), np.empty(n)
    binding = np.empty(n, dtype=np.int8)
    for i in range(n):
        level[i], binding[i], unclamped[i] = bound_level(
            model_level[i], floor[i], cap[i], previous[i], hours[i], initial_margin[i], pace
        )
    return level, binding, unclamped


def opening_requirement(
    initial_margin: Floats, maintenance_margin: Floats, add_on: AddOn
) -> Floats:
    """What an account must meet to take new risk: ``max(IM, MM + A*)``, settlement currency.

    ``A* = clamp(G, F, max(F, C))`` is the add-on without pacing: a size that meets it triggers no
    call at the same market state. Where the model did not answer A* is F. Arrays of shape (N,);
    NaN gives NaN.
    """
    highest = np.where(add_on.cap < np.inf, np.fmax(add_on.floor, add_on.cap), add_on.floor)
    target = np.where(np.isnan(add_on.model_level), add_on.floor, add_on.model_level)
    unpaced = np.maximum(add_on.floor, np.minimum(target, highest))
    opening: Floats = np.maximum(initial_margin, maintenance_margin + unpaced)
    return opening


def deposit_to_meet(level: Floats, headroom: Floats) -> Floats:
    """The shortfall to the level: ``max(0, level - headroom)``, rounded up to the cent.

    Exact cents are not raised, and the deposit suffices in float64 as well:
    ``headroom + deposit >= level``. From 2**52 on floats are whole and are kept as they are.
    Arrays of shape (N,); NaN gives NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        missing = np.maximum(0.0, level - headroom)
    cents = np.flatnonzero((missing > 0) & (missing < _EXACT_TO))
    missing[cents] = _up_to_the_cent(level[cents], headroom[cents])
    for i in np.flatnonzero((missing >= _EXACT_TO) & (missing < _WHOLE_FROM)):
        missing[i] = _up_to_the_decimal_cent(float(level[i]), float(headroom[i]))
    return missing


def _up_to_the_cent(level: Floats, headroom: Floats) -> Floats:
    """The fewest whole cents whose float is not below the difference, and suffices.

    Below `_EXACT_TO` no two amounts in whole cents share a float, so a float that is one is that
    decimal: 0.07 is seven cents, not a hair more.
    """
    missing = level - headroom
    cents = np.floor(missing * 100.0) - 1.0  # at most two too few, whatever was rounded
    for _ in range(3):
        cents += cents / 100.0 < missing
    for _ in range(_MOST_CENTS):
        short = headroom + cents / 100.0 < level
        if not short.any():
            break
        cents += short
    return cents / 100.0


def _up_to_the_decimal_cent(level: float, headroom: float) -> float:
    # The shortest decimal of a float that stands for several amounts in whole cents.
    cents = Decimal(repr(level - headroom)).quantize(_CENT, rounding=ROUND_CEILING)
    for _ in range(_MOST_CENTS):
        if not headroom + float(cents) < level:
            break
        cents += _CENT
    return float(cents)
