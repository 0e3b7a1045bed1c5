"""The page on the floors shows the figures of the presets as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from margin.floors.registry import FLOORS
from margin.rules.ruleset import load_ruleset

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "floors.md").read_text(encoding="utf-8")
DEPTH = ("depth", "depth_of_others")


def scalars(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every figure but the curves, under its dotted key."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= {} if key in DEPTH else scalars(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def test_every_floor_has_its_row() -> None:
    for name in FLOORS:
        assert re.search(rf"^\| `{name}` \| ", PAGE, re.MULTILINE), name


def test_figures_of_both_rule_sets_are_those_of_the_files() -> None:
    presets = [scalars(load_ruleset(n).content()["floors"]) for n in ("linear-tiers", "emir-tiers")]
    rows = re.findall(r"^\| `([a-z_.]+\.[a-z_.]+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    shown = {key: values for key, *values in rows}
    assert set(shown) == set().union(*presets)
    for key, values in shown.items():
        expected = [json.dumps(p[key]) if key in p else "-" for p in presets]
        assert values == expected, key


def test_depth_curves_are_those_of_the_file() -> None:
    depth = load_ruleset("emir-tiers").content()["floors"]["liquidity"]["depth"]
    for symbol, curve in depth.items():
        coin = symbol.removesuffix("USDT")
        (row,) = re.findall(rf"^\| {coin} \| (.+) \|$", PAGE, re.MULTILINE)
        shown = [float(cell) for cell in row.split(" | ")]
        figures = [curve["half_spread"], *(share for _, share in curve["slippage"])]
        assert shown == pytest.approx([1e4 * share for share in figures], abs=0.0051)
