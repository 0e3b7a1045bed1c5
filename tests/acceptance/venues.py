"""Rule sets restated slowly for one linear position, from nothing but their files."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RULESETS = Path(__file__).resolve().parents[2] / "margin" / "rules" / "presets"


def presets() -> list[str]:
    """Names of the rule sets that are shipped."""
    return sorted(path.stem for path in RULESETS.glob("*.toml"))


@dataclass(frozen=True)
class Venue:
    """A rule set restated slowly for one linear position, from nothing but its file."""

    name: str
    rules: Mapping[str, Any]

    @classmethod
    def of(cls, name: str) -> Venue:
        return cls(name, tomllib.loads((RULESETS / f"{name}.toml").read_text()))

    @property
    def cash_assets(self) -> list[str]:
        assets: list[str] = self.rules["collateral"]["cash_assets"]
        return assets

    def margins(
        self, symbol: str, quantity: float, perp: float, spot: float
    ) -> tuple[float, float]:
        """Initial and maintenance margin of one perpetual position."""
        if "tier" in self.rules:
            return self._tier(symbol, quantity, perp)
        if "standard" in self.rules:
            return self._standard(symbol, quantity, perp, spot)
        if "simulation" in self.rules:
            return self._simulated(quantity, perp)
        return self._scenario(quantity, perp, spot)

    def _tier(self, symbol: str, quantity: float, price: float) -> tuple[float, float]:
        tier = self.rules["tier"]
        chosen = tier
        for table in tier.get("classes", {}).values():
            if symbol in table["symbols"]:
                chosen = table
        chosen = tier.get("symbols", {}).get(symbol, chosen)
        notional = abs(quantity) * price
        maintenance, initial, lower = 0.0, 0.0, 0.0
        for bracket in chosen["brackets"]:
            upper = bracket.get("upper_bound", math.inf)
            inside = max(0.0, min(notional, upper) - lower)
            maintenance += inside * bracket["maintenance_rate"]
            if self.name in {"binance-usdm", "hyperliquid"}:
                # Of the whole notional at the highest leverage that its bracket allows.
                if lower < notional <= upper:
                    initial = notional * bracket["initial_rate"]
            else:
                initial += inside * bracket["initial_rate"]
            lower = upper
        return initial, maintenance

    def _standard(
        self, symbol: str, quantity: float, perp: float, spot: float
    ) -> tuple[float, float]:
        common = self.rules["standard"]
        rules = common | common.get("underlyings", {}).get(symbol.removesuffix("USDT"), {})
        price = perp if rules["perp_reference"] == "perp" else spot
        size = abs(quantity)
        initial, maintenance = (
            (rules[f"{kind}_perp"] + rules.get(f"{kind}_perp_per_unit", 0.0) * size) * price * size
            for kind in ("im", "mm")
        )
        return initial, maintenance

    def _simulated(self, quantity: float, price: float) -> tuple[float, float]:
        """Of an underlying whose history is too short: the flat shock."""
        rules = self.rules["simulation"]
        maintenance = rules["unknown_move"] * abs(quantity) * price
        return maintenance * rules["initial_multiple"], maintenance

    def _scenario(self, quantity: float, perp: float, spot: float) -> tuple[float, float]:
        rules = self.rules["scenario"]
        loss = max(
            -quantity * (row["spot"] - 1.0) * perp * row.get("dampening", 1.0)
            for row in rules["grid"]
        )
        loss = max(loss, rules.get("delta_net_rate", 0.0) * abs(quantity) * spot)
        contingency = abs(quantity) * spot
        maintenance = rules["mm_factor"] * loss + rules["perp_mm_contingency"] * contingency
        both = rules["perp_mm_contingency"] + rules["perp_im_extra_contingency"]
        return rules["im_factor"] * loss + both * contingency, maintenance
