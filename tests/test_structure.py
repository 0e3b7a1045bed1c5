"""Structure: small folders, few parameters, tests that mirror the packages, one vocabulary."""

from __future__ import annotations

import ast
import io
import tokenize
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
CODE = [*PACKAGES, "benchmarks", "research"]

MOST_MODULES = 13
FEATURE_FAMILIES = {f"features/market/{name}" for name in ("volatility", "liquidity")}
"""One feature is one file, so these folders grow with the features."""

MOST_PARAMETERS = 8

OLD_NAMES = [
    "ToldQuotes",
    "ToldFigure",
    "QuoteIntake",
    "KEPT",
    "told_quotes",
    "ActedLives",
    "acted_lives",
    "Lives",
    "births",
    "slot_hash",
    "Judged",
    "witnesses",
    "price_guard_of",
    "guarded_bars",
    "quote_facts",
    "MarketMoment",
    "market_moment",
    "follow_bars",
    "follow_quotes",
    "with_posted",
    "caught_up",
    "CaughtUp",
    "take_in",
    "Figures",
    "compute_figures",
    "silence",
    "mute",
    "trouble",
    "doubts",
    "_untold",
    "_other_rules",
    "_undated",
    "_nobody",
    "what_if_questions",
    "Trained",
    "beside_champion",
    "drift_of",
    "held_accounts",
    "notified",
    "_say",
    "Pledge",
    "Pledges",
    "pledges",
    "book_pledges",
    "cut_share",
    "cut_shares",
    "readable_account",
    "ReadableAccount",
    "margined",
    "_by_engine",
    "account_problems",
    "brackets_alone",
    "check_followable",
    "level_search",
    "level_guess",
    "own_or_mean",
    "daily_memory",
    "account_times",
    "life_paths",
    "margin_walk",
    "drifting_calibration",
    "made_backtest",
    "rival",
    "rivals",
    "plain_files",
]
"""Identifiers that were renamed to the field's terms; none of them is a name any more."""

OLD_MODULES = [
    "market/told_quotes",
    "market/acted_lives",
    "market/slot_hash",
    "market/guarded_bars",
    "market/quote_facts",
    "market/simulate",
    "market/simulation",
    "serving/market_moment",
    "serving/posted_bars",
    "serving/posted_quotes",
    "serving/posted_context",
    "serving/pending_step",
    "serving/catch_up",
    "serving/intake",
    "serving/figures",
    "serving/what_if_questions",
    "pipelines/judge",
    "pipelines/examine",
    "pipelines/watch",
    "pipelines/assess",
    "pipelines/held_accounts",
    "pipelines/recorded",
    "pipelines/inputs",
    "margin/portfolio",
    "margin/portfolios",
    "margin/listing",
    "margin/pledges",
    "margin/book_pledges",
    "margin/cut_shares",
    "margin/readable_account",
    "margin/account_problems",
    "margin/simulation",
    "margin/level_search",
    "margin/addon",
    "margin/rows",
    "margin/moved",
    "models/level_guess",
    "models/plain_files",
    "features/moments",
    "features/own_or_mean",
    "features/corrected",
    "features/daily_memory",
    "training/paths",
    "training/segments",
    "training/account_times",
    "training/life_paths",
    "training/margin_walk",
    "training/matching",
    "training/coverage",
    "training/drifting_calibration",
    "training/reviewed",
    "decisions/intake",
    "decisions/figures",
    "monitoring/catch_up",
    "monitoring/pending_step",
    "monitoring/posted_context",
    "monitoring/posted_bars",
    "monitoring/posted_quotes",
    "monitoring/market_moment",
]
"""A package and the last part of a module's name, wherever the module stands in the package."""


def tracked(*folders: str) -> list[Path]:
    """The Python files below some folders that are not ignored."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


@pytest.mark.parametrize("package", CODE)
def test_no_folder_is_crowded(package: str) -> None:
    modules = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for path in tracked(package)
        if path.name not in ("__init__.py", "__main__.py")
    )
    crowded = {
        folder: count
        for folder, count in modules.items()
        if count > MOST_MODULES and folder not in FEATURE_FAMILIES
    }
    assert not crowded, "group these modules by concept"


@pytest.mark.parametrize("package", CODE)
def test_no_function_takes_too_many_parameters(package: str) -> None:
    """Named tuples and dataclasses carry more; a function takes one of them."""
    long = []
    for path in tracked(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(name.arg not in ("self", "cls") for name in names)
                if count > MOST_PARAMETERS:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {count}")
    assert not long


def test_tests_mirror_the_packages() -> None:
    apart = {"acceptance"}
    folders = {
        path.parent.relative_to(ROOT / "tests")
        for path in tracked("tests")
        if path.name.startswith("test_")
    }
    strangers = [
        folder.as_posix()
        for folder in folders
        if folder.parts and folder.parts[0] not in apart
        if not (ROOT / folder).is_dir() and not (ROOT / folder.parent).is_dir()
    ]
    assert not strangers


def names_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize("package", [*CODE, "tests"])
def test_no_old_identifier_is_left(package: str) -> None:
    old = set(OLD_NAMES)
    found = {
        path.relative_to(ROOT).as_posix(): sorted(left)
        for path in tracked(package)
        if (left := old & names_in(path))
    }
    assert not found, "vocabulary: these names were replaced by the field's terms"


def test_no_module_has_an_old_name() -> None:
    old = {tuple(name.split("/")) for name in OLD_MODULES}
    found = [
        path.relative_to(ROOT).as_posix()
        for path in tracked(*CODE)
        if (path.relative_to(ROOT).parts[0], path.stem) in old
    ]
    assert not found


def test_renamed_names_are_found_where_they_come_back(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def silence(x):\n    # births, in a comment\n    return 'Pledge' + x.rival\n")
    assert names_in(file) & set(OLD_NAMES) == {"silence", "rival"}
