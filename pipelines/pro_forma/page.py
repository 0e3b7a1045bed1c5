"""The pro-forma report as one HTML page: no script, no outside reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Cells = Sequence[object]

_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;color:#1f2933;max-width:64rem;margin:2rem auto;"
    "padding:0 1rem}table{border-collapse:collapse;margin:.6rem 0 1.4rem}"
    "th,td{padding:.2rem .7rem;border-bottom:1px solid #e4e7eb;text-align:right}"
    "th:first-child,td:first-child{text-align:left}caption{text-align:left;font-weight:600}"
)


def pro_forma_page(report: Mapping[str, Any]) -> str:
    """The page of the object of ``report pro-forma --json``; all text is escaped."""
    parts = [_part("On day one", report["day_one"])]
    if report["end_of_phase_in"] is not None:
        parts.append(_part("At the end of the phase-in", report["end_of_phase_in"]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Pro-forma report</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Pro-forma report</h1>\n<p>{escape(introduction(report))}</p>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def introduction(report: Mapping[str, Any]) -> str:
    """What is compared, in one sentence."""
    before, after = (_name(report[key]) for key in ("incumbent", "candidate"))
    source = report["book"]["source"]
    book = "the reference sample" if source == "sampled" else source
    return (
        f"{report['book']['accounts']:,} accounts of {book} at {report['as_of']}: {before} is in "
        f"force, {after} is to go live. No add-on is in force before; money is in the settlement "
        "currency."
    )


def summary_tables(part: Mapping[str, Any]) -> list[tuple[str, Cells, list[Cells]]]:
    """Tables of one comparison as title, head and rows of text."""
    required, calls = part["requirement"], part["calls"]
    money, relative = part["change_by_account"], part["relative_change_by_account"]
    return [
        (
            f"Total requirement of {part['accounts']:,} accounts, {part['changed']:,} changed, "
            f"{part['left_out']:,} left out",
            ("", "in force", "to go live", "change"),
            [
                (
                    "requirement",
                    _money(required["before"]),
                    _money(required["after"]),
                    f"{_money(required['change'])} ({_percent(required['relative'])})",
                ),
                (
                    "accounts called",
                    f"{calls['before']:,}",
                    f"{calls['after']:,}",
                    f"{calls['new']:,} new, {calls['ended']:,} ended",
                ),
                (
                    "missing deposits",
                    _money(calls["deposit_before"]),
                    _money(calls["deposit_after"]),
                    f"{_money(calls['deposit_of_new'])} of new calls",
                ),
            ],
        ),
        (
            "Change by account",
            ("", "money", "per cent"),
            [
                (name, _money(money[name]), _percent((relative or {}).get(name)))
                for name in money or ()
            ],
        ),
        (
            "Accounts by what decides the level",
            ("in force", "to go live", "accounts", "change"),
            [
                (row["before"], row["after"], f"{row['accounts']:,}", _money(row["change"]))
                for row in part["bindings"]
            ],
        ),
        (
            "Requirement by coin, an account's by its notional",
            ("coin", "in force", "to go live", "change"),
            [
                (row["coin"], *(_money(row[name]) for name in ("before", "after", "change")))
                for row in part["coins"]
            ],
        ),
        (
            "Accounts with the largest increase",
            ("account", "in force", "to go live", "change", "decided by", "missing"),
            [
                (
                    row["account_id"],
                    *(_money(row[name]) for name in ("before", "after", "change")),
                    f"{row['binding_before']}, then {row['binding_after']}",
                    _money(row["deposit_after"]),
                )
                for row in part["worst"]
            ],
        ),
    ]


def _part(heading: str, part: Mapping[str, Any]) -> str:
    tables = "\n".join(_table(*table) for table in summary_tables(part))
    return f"<h2>{escape(heading)}</h2>\n{tables}"


def _table(title: str, head: Cells, rows: Iterable[Cells]) -> str:
    body = "\n".join(_row("td", row) for row in rows)
    return f"<table><caption>{escape(title)}</caption>\n{_row('th', head)}\n{body}\n</table>"


def _row(tag: str, cells: Cells) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _name(regime: Mapping[str, Any]) -> str:
    bundle = regime["bundle"]
    model = "without a model" if bundle is None else f"with model {bundle[:12]}"
    weight = regime.get("model_weight", 1.0)
    phase = "" if weight == 1.0 else f", whose level counts with a weight of {weight:.4g}"
    return f"{regime['ruleset']} {regime['version']} {model}{phase}"


def _money(value: float) -> str:
    """With separators; small amounts, as of sampled accounts of equity 1, to four digits."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"
