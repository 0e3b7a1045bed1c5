"""Rule sets: the rules as data, read from one TOML file each and identified by their content.

``margin/rules/presets/linear-tiers.toml`` documents every key, but those of the floors that it
does not use, which stand in ``emir-ccp.toml``.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from margin.rules.add_on import PhaseIn, PStarReasoning
from margin.rules.asset_weights import AssetWeights
from margin.rules.enforcement import EnforcementRules
from margin.rules.floors import FloorRules
from margin.rules.life_cycle import LifeCycleRules
from margin.rules.liquidation import LiquidationRules
from margin.rules.promotion import PromotionRules
from margin.rules.values import NonNegative, Probability, Share, Text
from market.accounts.book import SETTLEMENT_CURRENCY
from market.bars.outlier_filter import (
    DEFAULT_CASH_BAND,
    DEFAULT_HARD_BAND,
    DEFAULT_VOL_BAND,
    OutlierFilter,
)
from market.core.clock import parse_time
from market.core.errors import DataError, RuleSetError

_FOLDER = Path(__file__).parent / "presets"

Horizon = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}$")]
"""Whole hours, as the key of a table."""

Table = TypeVar("Table", bound=Struct)


class CollateralRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[collateral]``: what counts as cash, and the haircut of everything else.

    An asset in `weights` takes those in the place of a haircut, see
    `margin.rules.asset_weights`.

    Attributes
    ----------
    cash_assets:
        What the venue settles in: worth 1 each, no haircut. The settlement currency itself, USD,
        is cash under every rule set, named here or not.
    default_haircut, haircuts:
        Share of the value that does not count.
    initial_extra_haircuts:
        What initial margin takes beyond, by asset; absent: nothing.
    risk_cancelling:
        Assets that scenarios move with a coin, and that coin: it counts for an account that holds
        something of the underlying of that name, or of that name and USDT. Absent: none.
    """

    cash_assets: tuple[str, ...] = (SETTLEMENT_CURRENCY, "USDT", "USDC")
    default_haircut: Share = 0.2
    haircuts: dict[str, Share] = {}
    weights: dict[str, AssetWeights] | UnsetType = UNSET
    initial_extra_haircuts: dict[str, Share] | UnsetType = UNSET
    risk_cancelling: dict[str, str] | UnsetType = UNSET

    def __post_init__(self) -> None:
        for asset in self.initial_extra_haircuts or {}:
            total = self.haircut(asset) + self.initial_extra_haircut(asset)
            if total > 1.0 + 1e-9:
                raise ValueError(
                    f"collateral.initial_extra_haircuts.{asset}: with its haircut {total:g} of the "
                    "value; expected 1 at most"
                )

    def is_cash(self, asset: str) -> bool:
        """Whether an asset is cash: worth 1, no haircut. The settlement currency always is."""
        return asset == SETTLEMENT_CURRENCY or asset in self.cash_assets

    def haircut(self, asset: str) -> float:
        """Share of the asset's value that does not count, before its size; 0 for cash assets."""
        if self.is_cash(asset):
            return 0.0
        own = self.weights_of(asset)
        if own is not None:
            return 1.0 - own.maintenance_asset
        return self.haircuts.get(asset, self.default_haircut)

    def weights_of(self, asset: str) -> AssetWeights | None:
        """Weights by size of an asset that has them; None for cash assets."""
        if self.weights is UNSET or self.is_cash(asset):
            return None
        return self.weights.get(asset)

    def initial_extra_haircut(self, asset: str) -> float:
        """Share of the value that initial margin takes beyond `haircut`; 0 for cash assets."""
        if self.is_cash(asset) or self.initial_extra_haircuts is UNSET:
            return 0.0
        return self.initial_extra_haircuts.get(asset, 0.0)

    def coin(self, asset: str) -> str | None:
        """The coin that scenarios move the asset with; None where it stays."""
        return None if self.risk_cancelling is UNSET else self.risk_cancelling.get(asset)


class PriceGuardRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[price_guard]``, see `market.bars.outlier_filter`.

    `hard_band`, `cash_band` and `vol_band` came later and stay out of the digest of a rule set that
    does not name them: absent they are those of `OutlierFilter`, and the hard band is then no
    narrower than the other bands. One that is named decides also where a band is wider.
    """

    enabled: bool = True
    band: NonNegative = 0.25
    wick_band: NonNegative = 0.5
    agreement: NonNegative = 0.1
    hard_band: Annotated[float, Meta(gt=1)] | UnsetType = UNSET
    cash_band: NonNegative | UnsetType = UNSET
    vol_band: NonNegative | UnsetType = UNSET

    def outlier_filter(self) -> OutlierFilter | None:
        """Parameters of the outlier filter; None where it is switched off."""
        if not self.enabled:
            return None
        cash_band = DEFAULT_CASH_BAND if self.cash_band is UNSET else self.cash_band
        vol_band = DEFAULT_VOL_BAND if self.vol_band is UNSET else self.vol_band
        hard_band = self.hard_band
        if hard_band is UNSET:
            widest = max(self.band, cash_band, vol_band)
            # Beyond the range of float64 no price is too far.
            factor = math.exp(widest) if widest < math.log(sys.float_info.max) else math.inf
            hard_band = max(DEFAULT_HARD_BAND, factor)
        return OutlierFilter(
            self.band, self.wick_band, self.agreement, hard_band, cash_band, vol_band
        )


class ProcyclicalityLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """``[add_on.procyclicality]``: how much more margin under the add-on may move than under the
    best simple volatility estimate at equal average margin, as a ratio; a release is held to it.

    1 asks for no more movement than the simple estimate has. The default is a guard against models
    that move margin far more: docs/results.md has what the present one does.

    Attributes
    ----------
    peak_to_trough:
        Largest over smallest margin of a portfolio of fixed quantities.
    increase_1d, increase_5d, increase_20d:
        Largest growth within so many days.
    response_to_one_extreme_return:
        Growth across the most extreme day.
    """

    peak_to_trough: NonNegative = 2.0
    increase_1d: NonNegative = 2.0
    increase_5d: NonNegative = 2.0
    increase_20d: NonNegative = 2.0
    response_to_one_extreme_return: NonNegative = 2.0


class AddOnRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[add_on]``: targets of the add-on and how fast it may move, see `margin.add_on.bounds`.

    `reasoning` says how p* was chosen, `phase_in` how a model comes into force. Without
    `reasoning` the choice of p* is not documented; without `phase_in` the model counts in full.
    """

    p_star: Annotated[dict[Horizon, Probability], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: {"1": 0.002, "8": 0.01, "24": 0.02}
    )
    cap_im_multiple: NonNegative = 3.0
    dead_band: NonNegative = 0.05
    max_step_up_per_hour: NonNegative = 0.5
    release_half_life_h: NonNegative = 12.0
    state_rule: Literal["none", "hold_in_stress"] = "none"
    stress_ratio: NonNegative = 2.0
    procyclicality: ProcyclicalityLimits | UnsetType = UNSET
    reasoning: PStarReasoning | UnsetType = UNSET
    phase_in: PhaseIn | UnsetType = UNSET

    @property
    def procyclicality_limits(self) -> dict[str, float]:
        """Limits of ``[add_on.procyclicality]`` by name, the defaults where it is absent."""
        limits = ProcyclicalityLimits() if self.procyclicality is UNSET else self.procyclicality
        return msgspec.structs.asdict(limits)

    def model_weight(self, as_of: int) -> float:
        """Weight of the model's level at a time in nanoseconds; 1 without a phase-in."""
        return 1.0 if self.phase_in is UNSET else self.phase_in.weight(as_of)

    @property
    def targets(self) -> dict[int, float]:
        """Highest tolerated probability by horizon in hours, horizons rising."""
        return {hours: self.p_star[key] for hours, key in sorted((int(k), k) for k in self.p_star)}


class RuleSet(Struct, frozen=True, forbid_unknown_fields=True, eq=False, dict=True):
    """One version of the rules of one venue.

    What is loaded is a subclass with the tables of the engines as further fields, see
    `margin.engines.registry.ruleset_type`; exactly one of them is there. Two rule sets are equal
    when their canonical forms are.

    Attributes
    ----------
    name, version:
        What the rules are called.
    engine:
        Name of the engine that computes the requirement.
    source:
        Where the figures come from.
    effective_from, effective_to:
        Validity, ISO 8601, the end exclusive; empty means open on that side. See `validity`, and
        `margin.rules.history` for the version in force at a time.
    spot:
        How a plain symbol counts: ``linear``, like a perpetual.
    regulation:
        ``emir``: the floors are held to its articles, see `margin.rules.floors.check_emir`.
        Absent: the rule set claims none.
    liquidation, life_cycle:
        How accounts below their margin are closed, and what comes before; absent: the defaults
        of the tables.
    promotion:
        How far a new model may move requirements by itself; absent: the default of the table.
    enforcement:
        Which margin calls are made; absent: those that `life_cycle` implies, see
        `margin.life_cycle.call_rules`.
    """

    name: Text
    version: Text
    engine: Text
    source: Text
    effective_from: str = ""
    effective_to: str = ""
    spot: Literal["linear"] = "linear"
    collateral: CollateralRules = CollateralRules()
    floors: FloorRules = FloorRules()
    price_guard: PriceGuardRules = PriceGuardRules()
    add_on: AddOnRules = msgspec.field(default_factory=AddOnRules)
    regulation: Literal["emir"] | UnsetType = UNSET
    liquidation: LiquidationRules | UnsetType = UNSET
    life_cycle: LifeCycleRules | UnsetType = UNSET
    promotion: PromotionRules | UnsetType = UNSET
    enforcement: EnforcementRules | UnsetType = UNSET

    def __post_init__(self) -> None:
        begin, end = self.validity
        if begin is not None and end is not None and begin >= end:
            raise ValueError(
                f"effective_from {self.effective_from} is not before "
                f"effective_to {self.effective_to}"
            )

    @cached_property
    def table(self) -> str:
        """Name of the one table that its engine reads."""
        tables = type(self).__struct_fields__[len(RuleSet.__struct_fields__) :]
        return next(name for name in tables if getattr(self, name) is not UNSET)

    def engine_rules(self, kind: type[Table]) -> Table:
        """The table that its engine reads, as the type that the engine gives it.

        Raises
        ------
        RuleSetError
            Another engine computes.
        """
        rules = getattr(self, self.table)
        if not isinstance(rules, kind):
            raise RuleSetError(
                f"rule set {self.name!r} has the engine {self.engine!r} and the table "
                f"[{self.table}], and {kind.__name__} are needed here; choose a rule set that has "
                "them"
            )
        return rules

    @cached_property
    def validity(self) -> tuple[int | None, int | None]:
        """When the rules hold, in nanoseconds: from the first, inclusive, to the second,
        exclusive; None where that side is open."""
        return (
            _parse_time_or_none("effective_from", self.effective_from),
            _parse_time_or_none("effective_to", self.effective_to),
        )

    @property
    def liquidation_or_default(self) -> LiquidationRules:
        """``[liquidation]``, its defaults where it is absent."""
        return LiquidationRules() if self.liquidation is UNSET else self.liquidation

    @property
    def life_cycle_or_default(self) -> LifeCycleRules:
        """``[life_cycle]``, its defaults where it is absent."""
        return LifeCycleRules() if self.life_cycle is UNSET else self.life_cycle

    @property
    def promotion_or_default(self) -> PromotionRules:
        """``[promotion]``, its default where it is absent."""
        return PromotionRules() if self.promotion is UNSET else self.promotion

    def phased_in(self) -> RuleSet:
        """These rules with the model counting in full, as at the end of a phase-in."""
        if self.add_on.phase_in is UNSET:
            return self
        add_on = msgspec.structs.replace(self.add_on, phase_in=UNSET)
        return msgspec.structs.replace(self, add_on=add_on)

    def content(self) -> dict[str, Any]:
        """Every field, defaults included, as plain JSON values: what the ledger keeps.

        Tables without a default (other engines', floors that are off) stay out when absent.
        """
        content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return content

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the canonical form: JSON of `content`, keys sorted, floats shortest."""
        canonical = json.dumps(
            self.content(),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:  # its type is made, so pickle cannot find it by name
        return ruleset_from_content, (self.content(),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RuleSet) and self.sha256 == other.sha256

    def __ne__(self, other: object) -> bool:  # the struct's own compares identities
        return not self == other

    def __hash__(self) -> int:
        return hash(self.sha256)


def list_rulesets() -> tuple[str, ...]:
    """Names of the presets, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_ruleset(name_or_path: str | Path) -> RuleSet:
    """Read a rule set: a preset by its name, or a file (ends in .toml or has a slash).

    Raises
    ------
    RuleSetError
        There is no such rule set, or its file is not TOML, or a key is unknown, missing or
        impossible; the message names file and key.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text or isinstance(name_or_path, Path):
        path = Path(text)
    elif text in list_rulesets():
        path = _FOLDER / f"{text}.toml"
    else:
        raise RuleSetError(
            f"rule set {text!r} is not known; choose one of {', '.join(list_rulesets())} "
            "or give the path of a .toml file"
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RuleSetError(f"rule set {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleSetError(f"rule set {path} is not TOML: {error}") from error
    return ruleset_from_content(raw, origin=str(path))


def ruleset_from_content(content: Mapping[str, Any], origin: str = "recorded content") -> RuleSet:
    """A rule set from its plain content; `RuleSet.content` gives the same `sha256` again.

    Parameters
    ----------
    content:
        Tables and values as in the TOML file.
    origin:
        Where the content comes from, for error messages.

    Raises
    ------
    RuleSetError
        A key is unknown, missing or impossible.
    """
    # Engines are built on rule sets; only what a rule set decodes to depends on the engines.
    from margin.engines.registry import engine_names, ruleset_type

    engine = content.get("engine")
    if isinstance(engine, str) and engine not in engine_names():
        raise RuleSetError(
            f"rule set {origin}: engine = {engine!r} is not available in this version; "
            f"available: {', '.join(engine_names())}"
        )
    for key, number in _numbers(content, "$"):
        if not math.isfinite(number):
            raise RuleSetError(f"rule set {origin}: {key} = {number}; expected a finite number")
    try:
        return msgspec.convert(dict(content), ruleset_type())
    except msgspec.ValidationError as error:
        raise RuleSetError(f"rule set {origin}: {error}") from error


def _parse_time_or_none(key: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_time(text)
    except DataError as error:
        raise ValueError(f"{key}: {error}") from error


def _numbers(value: object, key: str) -> Iterator[tuple[str, float]]:
    """Every float in the content, with its key."""
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _numbers(inner, f"{key}[{i}]")
