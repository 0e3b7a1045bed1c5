"""Margin cases: JSON lines in, JSON lines out; the rule engine alone (``margin --cases``)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Portfolio, portfolio_from
from margin.cases.case_rules import case_rules
from margin.engines.margins import total
from margin.engines.registry import compute_margins
from margin.rules.ruleset import RuleSet
from market.core.errors import CaseError, MargincastError

CaseRun = Callable[[bytes, int], dict[str, Any]]
"""Answers a line, given with its number from 1."""


def run_case(line: bytes, number: int = 1) -> dict[str, Any]:
    """Margin one case.

    Parameters
    ----------
    line:
        JSON object ``{"id", "portfolio", "ruleset"}``; other keys are ignored. `ruleset` is the
        name of a preset or an object, see `margin.cases.case_rules.case_rules`; the portfolio is a
        `margin.book.case_portfolio.Portfolio`.
    number:
        Of the line in its file, from 1, for errors of a case that has no id.

    Returns
    -------
    ``{"id", "initial_net_margin", "maintenance_net_margin", "mark_to_market", "components",
    "ruleset_sha256"}``, unrounded; components are signed and add up to each net margin. A case
    that cannot be computed gives ``{"id", "error"}``; its id is None where there is none.
    """
    return answer_case(line, number, _figures)


def answer_case(
    line: bytes, number: int, answer: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The id of a case and what `answer` makes of it, or the id and the error that it raised."""
    name: object = None
    try:
        case = _decode(line)
        name = case.get("id")
        if isinstance(required(case, "id"), bool) or not isinstance(name, str | int):
            raise CaseError(f"id is {name!r}; expected a text or a whole number")
        return {"id": name, **answer(case)}
    except MargincastError as error:
        name = _id_of(line) if name is None else name
        where = f"line {number}: " if name is None else ""
        return {"id": name, "error": f"{where}{error}"}


def run_cases(in_path: Path, out_path: Path, run: CaseRun = run_case) -> int:
    """Answer every line of a file, in order, one result a line; blank lines are skipped.

    Parameters
    ----------
    in_path, out_path:
        Cases and results, JSON lines.
    run:
        Answers one line; a result with a key ``error`` failed.

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
                    result = run(line, number)
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


def _not_finite(line: bytes) -> str:
    """Where a line has a number that JSON does not have; empty where that is not its fault."""
    try:
        open_: list[tuple[str, object]] = [("", json.loads(line))]
    except (ValueError, RecursionError):
        return ""
    while open_:
        path, value = open_.pop(0)
        if isinstance(value, float) and not math.isfinite(value):
            return f"; {path} is {value}, expected a finite number"
        if isinstance(value, dict):
            open_ += [(f"{path}.{key}".lstrip("."), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            open_ += [(f"{path}[{i}]", inner) for i, inner in enumerate(value)]
    return ""


def _decode(line: bytes) -> dict[str, Any]:
    try:
        case = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CaseError(f"the line is not JSON: {error}{_not_finite(line)}") from error
    if not isinstance(case, dict):
        raise CaseError(f"the line is a JSON {type(case).__name__}; expected an object")
    return case


def read_case(case: Mapping[str, Any]) -> tuple[Portfolio, RuleSet]:
    """The portfolio and the rules of a decoded case."""
    portfolio = portfolio_from(required(case, "portfolio"))
    return portfolio, case_rules(required(case, "ruleset"))


def _figures(case: dict[str, Any]) -> dict[str, Any]:
    portfolio, ruleset = read_case(case)
    portfolios = flatten([portfolio], ruleset.collateral)
    with np.errstate(over="ignore", invalid="ignore"):  # found by `total`, with a clear error
        margins = compute_margins(portfolios, ruleset)
    initial, maintenance = (
        {name: float(column[0]) for name, column in level.items()}
        for level in (margins.initial, margins.maintenance)
    )
    figures: dict[str, Any] = {
        "initial_net_margin": total(initial.values()),
        "maintenance_net_margin": total(maintenance.values()),
        "mark_to_market": total([float(margins.mark_to_market[0])]),
        "components": {"initial": initial, "maintenance": maintenance},
        "ruleset_sha256": ruleset.sha256,
    }
    if margins.scenario_pnl is not None:
        figures["scenario_pnl"] = [total([pnl]) for pnl in margins.scenario_pnl[0].tolist()]
    return figures


def required(table: Mapping[str, Any], key: str) -> Any:
    """The value of a key that a case must have."""
    if key not in table:
        raise CaseError(f"missing required key {key}")
    return table[key]
