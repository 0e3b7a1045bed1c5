"""A scored book in one table: what binds the add-on, and how many accounts are short of margin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.reports.report import new_table, print_table

_SUMS = {"equity": "equity", "requirement": "total_requirement", "add_on": "add_on"}


def summarise_book(scored: pa.Table) -> list[dict[str, Any]]:
    """One row a binding of the decisions of a book, then one of all.

    Parameters
    ----------
    scored:
        What ``margincast score --explain`` writes.

    Returns
    -------
    list of dict
        ``binding`` with the largest rule floor where a floor binds, or is in force without a
        forecast (`fallback`); ``accounts``; sums of ``equity``, ``requirement`` and ``add_on`` in
        USD; ``called``: accounts below their maintenance margin; ``short``: those above it and
        below maintenance margin plus add-on; ``margined``: the others.
    """
    names = [
        _binding(binding, explain)
        for binding, explain in zip(
            scored["binding"].to_pylist(), scored["explain"].to_pylist(), strict=True
        )
    ]
    column = {name: scored[name].to_numpy() for name in ("headroom", "deposit_to_meet")}
    called = column["headroom"] < 0.0
    short = ~called & (column["deposit_to_meet"] > 0.0)
    sums = {name: scored[field].to_numpy() for name, field in _SUMS.items()}

    def row(name: str, chosen: np.ndarray) -> dict[str, Any]:
        return {
            "binding": name,
            "accounts": int(chosen.sum()),
            **{key: round(float(values[chosen].sum()), 2) for key, values in sums.items()},
            "called": int((called & chosen).sum()),
            "short": int((short & chosen).sum()),
            "margined": int((~called & ~short & chosen).sum()),
        }

    labels = np.array(names)
    rows = [row(name, labels == name) for name in sorted(set(names))]
    return [*rows, row("all", np.ones(len(names), dtype=np.bool_))]


def _binding(binding: str, explain: str | None) -> str:
    """The binding, with the largest rule floor where it is one that decides."""
    if binding not in ("floor", "fallback") or explain is None:
        return binding
    floors: Mapping[str, float] = json.loads(explain)["floors"]
    largest = max(floors, key=lambda name: floors[name], default=None)
    if largest is None or floors[largest] <= 0.0:
        return binding
    return f"{binding}: {largest}"


def book_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows of `summarise_book`."""
    table = new_table(
        "book in million USD; short: below maintenance margin + add-on, not called",
        ("binding",),
        ["accounts", "equity", "requirement", "add-on", "called", "short", "margined"],
        padding=(0, 0),
    )
    for row in rows:
        money = [f"{row[key] / 1e6:,.2f}" for key in _SUMS]
        counts = [f"{row[key]:,}" for key in ("called", "short", "margined")]
        table.add_row(row["binding"], f"{row['accounts']:,}", *money, *counts)
    print_table(table)
