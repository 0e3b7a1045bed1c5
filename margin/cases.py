"""Margin cases: JSON lines in, JSON lines out; the rule engine alone (``margin --cases``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from margin.tier_case import CaseResult, tier_case, total
from market.errors import CaseError, MargincastError

_ENGINES: Mapping[str, Callable[[object, str | Mapping[str, Any]], CaseResult]] = {
    "tier": tier_case,
}
"""How each engine margins a decoded portfolio. A preset given by its name alone is a tier one."""


def run_case(line: bytes, number: int = 1) -> dict[str, Any]:
    """Margin one case.

    Parameters
    ----------
    line:
        JSON object ``{"id", "portfolio", "ruleset"}``; other keys are ignored. `ruleset` is the
        name of a preset or ``{"engine", "name", "parameters"}``. The portfolio is described at
        the engine, see `margin.tier_case.tier_case`.
    number:
        Of the line in its file, from 1, for errors of a case that has no id.

    Returns
    -------
    ``{"id", "initial_net_margin", "maintenance_net_margin", "mark_to_market", "components",
    "ruleset_sha256"}``, unrounded; components are signed and add up to each net margin. A case
    that cannot be computed gives ``{"id", "error"}``; its id is None where there is none.
    """
    name: object = None
    try:
        case = _decode(line)
        name = case.get("id")
        return {"id": _required(case, "id"), **_figures(case)}
    except MargincastError as error:
        name = _id_of(line) if name is None else name
        where = f"line {number}: " if name is None else ""
        return {"id": name, "error": f"{where}{error}"}


def run_cases(in_path: Path, out_path: Path) -> int:
    """Margin every line of a file, in order, one result a line; blank lines are skipped.

    Returns
    -------
    How many cases failed; their lines say why.

    Raises
    ------
    CaseError
        A file cannot be read or written, or both are the same.
    """
    if in_path.resolve() == out_path.resolve():
        raise CaseError(f"cases and results are both {in_path}; give --out another file")
    failed = 0
    try:
        with in_path.open("rb") as cases, out_path.open("wb") as results:
            for number, line in enumerate(cases, start=1):
                if line.strip():
                    result = run_case(line, number)
                    failed += "error" in result
                    results.write(msgspec.json.encode(result) + b"\n")
    except OSError as error:
        raise CaseError(f"{error.filename}: {error.strerror}") from error
    return failed


def _id_of(line: bytes) -> object:
    """The id, even of a line with numbers that JSON does not have, such as NaN or 1e400."""
    try:
        case = json.loads(line)
    except (ValueError, RecursionError):
        return None
    name = case.get("id") if isinstance(case, dict) else None
    return name if isinstance(name, str | int) else None


def _decode(line: bytes) -> dict[str, Any]:
    try:
        case = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"the line is not JSON: {error}") from error
    if not isinstance(case, dict):
        raise CaseError(f"the line is a JSON {type(case).__name__}; expected an object")
    return case


def _figures(case: dict[str, Any]) -> dict[str, Any]:
    portfolio = _required(case, "portfolio")
    ruleset = _required(case, "ruleset")
    if isinstance(ruleset, str):
        engine = "tier"
    elif isinstance(ruleset, dict):
        engine = _required(ruleset, "engine", "ruleset.")
    else:
        raise CaseError(f"ruleset is {ruleset!r}; expected a preset's name or an object")
    if not isinstance(engine, str) or engine not in _ENGINES:
        raise CaseError(
            f"engine {engine!r} is not available in this version; available: {', '.join(_ENGINES)}"
        )
    result = _ENGINES[engine](portfolio, ruleset)
    return {
        "initial_net_margin": total(result.initial.values()),
        "maintenance_net_margin": total(result.maintenance.values()),
        "mark_to_market": result.mark_to_market,
        "components": {"initial": result.initial, "maintenance": result.maintenance},
        "ruleset_sha256": result.ruleset_sha256,
    }


def _required(table: Mapping[str, Any], key: str, prefix: str = "") -> Any:
    if key not in table:
        raise CaseError(f"missing required key {prefix}{key}")
    return table[key]
