"""The reports as markdown, for the page of the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.pages.markdown import table

MODELS = (
    *("margincast", "first_passage", "first_passage_isotonic", "logistic_distance"),
    *("lightgbm_plain", "margin_ratio"),
)


def rebuilt_lines(report: Mapping[str, Any]) -> str:
    """What was found while rebuilding, one line a figure; single checks are left out."""
    return "\n".join(f"{name}: {value}" for name, value in report.items() if name != "checks")


def study_tables(report: Mapping[str, Any]) -> str:
    """Tables of `research.real_accounts.study.study`."""
    coverage, found = report["coverage"], report["liquidations"]
    text = [
        f"Bundle `{report['bundle'][:12]}`, rule set `{report['ruleset']['name']}`, "
        f"{report['span'][0]} to {report['span'][1]}, "
        f"{report['hours_within_training']:.0f} h of it within the training data.",
        f"{coverage['accounts']} accounts, {coverage['accounts_priced']} ever priced; "
        f"{coverage['open_account_hours']:,} account-hours with a position, "
        f"{coverage['priced_account_hours']:,} priced, {coverage['scored']:,} scored. "
        f"{found['count']} liquidations of {found['accounts']} accounts"
        + (f", {found['isolated']} isolated ones besides." if found["isolated"] else "."),
        "Account-hours without bars by instrument: "
        + (", ".join(f"{n} {h:,}" for n, h in coverage["hours_without_bars"].items()) or "none")
        + ".",
    ]
    ranked = any("auc" in f["models"]["margincast"] for f in report["horizons"].values())
    if ranked:
        text += ["**Ranking among the accounts' own hours**", _ranking(report["horizons"])]
    text += ["**Counts**", _counts(report["horizons"])]
    text += ["**Before the liquidations**", _before(report["before"])]
    text += ["**Lead time**", _lead(report["lead_time"])]
    text += ["**Beside the sampled population**", _population(report["population"])]
    return "\n\n".join(text) + "\n"


def behaviour_tables(report: Mapping[str, Any]) -> str:
    """Tables of `research.real_accounts.behaviour.behaviour`."""
    sides = [name for name in report if name != "aave"]
    kinds = report[sides[0]]["rates"]
    rows = [
        [kind, band, *(_rate(report[side]["rates"][kind][band]) for side in sides)]
        for kind, bands in kinds.items()
        for band in bands
    ]
    aave = report["aave"]
    reactions = [
        [
            *(action, band, str(cell["actions"]), f"{cell['hours']:,}", f"{cell['a_day']:.2f}"),
            f"{cell['ratio']:.2f} {_bounds(cell['ratio_ci95'], '.2f')}",
        ]
        for action, bands in aave.items()
        if isinstance(bands, Mapping)
        for band, cell in bands.items()
    ]
    return "\n\n".join(
        [
            table(["action", "equity since the last transfer", *sides], rows),
            f"Aave: {aave['accounts']} borrowers, {aave['days']} days.",
            table(["action", "bitcoin, 24 h", "actions", "hours", "a day", "ratio"], reactions),
        ]
    )


def _ranking(horizons: Mapping[str, Any]) -> str:
    rows = []
    for hours, found in horizons.items():
        for name in MODELS:
            own = found["models"].get(name)
            if own is None or "auc" not in own:
                continue
            below = own.get("auc_below_model_ci95")
            rows.append(
                [
                    *(f"{hours} h", name, f"{own['auc']:.3f} {_bounds(own['auc_ci95'], '.3f')}"),
                    "" if below is None else _bounds(below, "+.3f"),
                    *(_part(cell) for cell in own["alerts"].values()),
                ]
            )
    budgets = [f"caught at {float(b):.0%}" for b in ("0.01", "0.02", "0.05", "0.1")]
    return table(["horizon", "model", "AUC", "AUC of margincast above it", *budgets], rows)


def _counts(horizons: Mapping[str, Any]) -> str:
    return table(
        [
            *("horizon", "account-hours", "followed by a liquidation", "liquidations seen"),
            *("share", "mean probability", "computed breach, book held", "predicted over real"),
        ],
        [
            [
                *(f"{hours} h", f"{found['rows']:,}", str(found["positives"])),
                *(str(found["liquidations_seen"]), f"{found['liquidated_share']:.2%}"),
                f"{found['models']['margincast']['mean']:.2%}",
                f"{found['computed_breach_share']:.2%}",
                _over(found["models"]["margincast"]),
            ]
            for hours, found in horizons.items()
        ],
    )


def _before(before: Mapping[str, Any]) -> str:
    rows = []
    for lead, found in before.items():
        for name in MODELS:
            own = found["models"].get(name)
            if own is None or own["rank"] is None:
                continue
            rows.append(
                [
                    *(f"{lead} h", name, str(found["scored"]), _spread(own["probability"])),
                    _ranked(own["rank"], own["mean_rank_ci95"]),
                    _ranked(own["reference_rank"], own["mean_reference_rank_ci95"]),
                ]
            )
    missing = "; ".join(
        f"{lead} h: " + (", ".join(f"{n} {why}" for why, n in found["missing"].items()) or "none")
        for lead, found in before.items()
    )
    head = [
        "before",
        "model",
        "scored",
        "probability",
        "rank among the accounts",
        "in reference-v1",
    ]
    return f"{table(head, rows)}\n\nNot scored: {missing}."


def _lead(lead: Mapping[str, Any]) -> str:
    rows = [
        [
            *(f"{float(name):.0%}", _part(own["alerted"]), _spread(own["first_hours"], ".1f")),
            *(_part(own["lasting"]), _spread(own["lasting_hours"], ".1f")),
            *(_part(own["runs_in_vain"]), f"{own['account_times']:.1%}"),
        ]
        for name, own in lead.items()
        if isinstance(own, Mapping) and "alerted" in own
    ]
    return (
        table(
            [
                *("p24 over", "liquidations", "hours since the first time"),
                *("over it to the end", "hours since it stayed over"),
                *("quiet runs over it", "account-hours over it"),
            ],
            rows,
        )
        + f"\n\nHours in the market before the liquidation: {_spread(lead['hours_open'], '.1f')} "
        f"({lead['scored']} of {lead['liquidations']} liquidations scored in the last hour)."
    )


def _population(sides: Mapping[str, Any]) -> str:
    names = list(sides)

    def line(title: str, *path: str, form: str) -> list[str]:
        cells = []
        for side in names:
            value: Any = sides[side]
            for key in path:
                value = value[key]
            if isinstance(value, Mapping) and "ci95" in value:
                cells.append(f"{value['mean']:{form}} {_bounds(value['ci95'], form)}")
            elif isinstance(value, Mapping):
                cells.append(" / ".join(f"{value[q]:{form}}" for q in ("q10", "median", "q90")))
            else:
                cells.append(f"{value:{form}}")
        return [title, *cells]

    rows = [
        line("accounts", "accounts", form=",d"),
        line("account-hours", "account_times", form=",d"),
        line("leverage, account-hours: 10%, median, 90%", "leverage", form=".1f"),
        line("log leverage, mean of accounts' medians", "log_leverage", "by_account", form=".2f"),
        line(
            "log leverage, spread of accounts' medians",
            "log_leverage",
            "sigma_by_account",
            form=".2f",
        ),
        line("effective coins, account-hours", "effective_coins", form=".1f"),
        line("one coin, share of hours by account", "one_coin", form=".0%"),
        line("long share, account-hours", "long_share", form=".2f"),
        line("all long, share of hours by account", "all_long", form=".0%"),
        line("all short, share of hours by account", "all_short", form=".0%"),
    ]
    held = sides["recorded"]["holding"]
    hours = _spread(held["hours"], ".1f")
    note = f"Runs in the market, flat to flat: {held['runs']}, hours {hours}; sampled: 168."
    return f"{table(['', *names], rows)}\n\n{note}"


def _spread(values: Mapping[str, float] | None, form: str = ".1%") -> str:
    """Quartiles."""
    if values is None:
        return "-"
    return " / ".join(f"{values[key]:{form}}" for key in ("q25", "median", "q75"))


def _ranked(values: Mapping[str, float], bounds: tuple[float, float] | None) -> str:
    return f"{values['median']:.1%}, mean {values['mean']:.1%} {_bounds(bounds, '.1%')}"


def _part(cell: Mapping[str, Any]) -> str:
    if cell["share"] is None:
        return "-"
    return f"{cell['count']}/{cell['of']} {_bounds(cell['ci95'], '.0%')}"


def _rate(cell: Mapping[str, Any]) -> str:
    if cell["share"] is None:
        return "-"
    low, high = cell["ci95"]
    return (
        f"{1000 * cell['share']:.1f} [{1000 * low:.1f}, {1000 * high:.1f}] "
        f"({cell['count']} of {cell['of']:,})"
    )


def _bounds(bounds: tuple[float, float] | None, form: str) -> str:
    return "" if bounds is None else f"[{bounds[0]:{form}}, {bounds[1]:{form}}]"


def _over(cell: Mapping[str, Any]) -> str:
    value = cell["predicted_over_liquidated"]
    bounds = _bounds(cell["predicted_over_liquidated_ci95"], ".2f")
    return "-" if value is None else f"{value:.2f} {bounds}".rstrip()
