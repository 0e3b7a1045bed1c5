"""The model card: intended use, training data, figures and limits of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from market.core.clock import format_time

MODEL = "margincast"

INTENDED_USE = (
    "Forecasts the probability that a crypto derivatives account falls under its maintenance "
    "margin within each horizon, and so the smallest add-on that prevents it. The add-on is "
    "bounded by deterministic rules whatever the model answers. Not meant for forecasting prices, "
    "for trading, or for accounts and venues unlike those it learned from."
)

_LIMITS: Mapping[tuple[str, str], str] = {
    ("prices", "simulated"): (
        "Prices are simulated: no figure here says anything about a real market."
    ),
    ("accounts", "sampled"): (
        "Accounts are sampled from a documented population, not observed; behaviour of real "
        "account holders is unknown to the model."
    ),
    ("labels", "computed"): (
        "Calls are computed by the rule engine on point-in-time data, not taken from a venue's "
        "records."
    ),
    ("book", "static"): (
        "The book is static: positions are held through the horizon, without top-ups, trades or "
        "partial liquidation."
    ),
    ("extremes", "close"): (
        "Breaches are seen at bar closes only; those that recover within a bar are missed."
    ),
    ("extremes", "bound"): (
        "Breaches are taken from each leg's worst price of a bar, which need not have occurred at "
        "once: an upper bound."
    ),
}
_GENERAL_LIMITS = (
    "Calibration drifts with the regime of the market: recalibrate as labels mature.",
    "The volatility oracle knows the future: it is a limit, never a baseline.",
)
_FIGURES = (
    ("log_loss", "log loss"),
    ("auc", "AUC"),
    ("average_precision", "average precision"),
    ("brier_skill", "Brier skill"),
    ("ece_over_base_rate", "ECE / base rate"),
    ("calibration_slope", "slope"),
    ("top_decile_ratio", "top decile"),
)
_POLICY_FIGURES = (
    ("uncovered", "uncovered loss"),
    ("breach_rate", "breach rate"),
    ("ratio_to_flat", "to flat"),
    ("ratio_to_best_simple", "to best simple"),
)


def model_card(
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    gates: Mapping[str, Mapping[str, Any]],
    *,
    bundle_sha256: str,
    verdict: str,
    reasons: Sequence[str],
    backtest: Mapping[str, Any] | None = None,
    walk_forward: Mapping[str, Any] | None = None,
) -> str:
    """The card as Markdown; the same input gives the same text.

    Parameters
    ----------
    manifest:
        ``manifest.json`` of the bundle as a mapping.
    evaluation:
        The object of ``evaluate --json`` on the test span.
    gates:
        By name ``{"passed", "value", "limit", …}``.
    bundle_sha256:
        Name of the bundle.
    verdict, reasons:
        What was decided and why.
    backtest:
        The object of ``backtest --json``, or None: the section is then left out.
    walk_forward:
        That of the training's review, or None: likewise.

    Returns
    -------
    str
        Undefined figures (null) are shown as n/a.

    References
    ----------
    Mitchell et al. (2019), "Model cards for model reporting".
    """
    walked = [] if not walk_forward else [("Walk-forward", _walk_forward(walk_forward))]
    policies = [] if backtest is None else [("Add-on policies", _policies(backtest))]
    sections = [
        ("Intended use", INTENDED_USE),
        ("Data", _data(manifest, evaluation)),
        ("Model", _model(manifest)),
        *walked,
        *(
            (f"Test block at {hours} h", _figures(horizon))
            for hours, horizon in evaluation["horizons"].items()
        ),
        *policies,
        ("Gates", _gates(gates, verdict, reasons)),
        ("Limits", _list(limits(evaluation["data"]))),
        ("Who may rely on it", _list(reliance(evaluation["data"], verdict))),
        ("Hashes", _hashes(manifest, bundle_sha256)),
    ]
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)
    return f"# Margincast {bundle_sha256[:12]}\n\n{body}\n"


def _data(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    provenance = ", ".join(f"{key} {value}" for key, value in evaluation["data"].items())
    dropped = ", ".join(f"{key} {value:,}" for key, value in evaluation["dropped"].items())
    first, last = evaluation["span"]
    trained_from, trained_to = (format_time(t) for t in manifest["training"]["span_ns"])
    rows = manifest["training"].get("rows", {})
    learned = "".join(f", {name} {count:,} rows" for name, count in rows.items())
    return _list(
        [
            f"Provenance: {provenance}",
            f"Trained on {trained_from} to {trained_to}{learned}",
            f"Evaluated on {first} to {last}, {evaluation['rows']:,} rows "
            f"({_number(evaluation['overlap_with_training_hours'])} h overlap with training)",
            f"Dropped from the evaluation: {dropped or 'nothing'}",
            f"Symbols: {', '.join(evaluation['symbols']) or 'none'}",
        ]
    )


def _model(manifest: Mapping[str, Any]) -> str:
    schema = manifest["schema"]
    distances = [name for names in schema.get("prior_distances", ()) for name in names]
    prior = ", ".join(schema["prior"] or dict.fromkeys(distances))
    structure = f"the structural prior ({prior}), corrected by trees" if prior else "trees"
    constrained = sum(1 for direction in schema["monotone"] if direction)
    calibration = [
        f"Calibration at {hours} h: logit p = {_number(slope)} · score + {_number(intercept)}"
        for hours, (slope, intercept) in sorted(
            manifest["calibration"].items(), key=lambda item: int(item[0])
        )
    ]
    return _list(
        [
            f"Horizons: {', '.join(str(hours) for hours in schema['horizons'])} h",
            f"Features: {len(schema['features'])}, {constrained} of them monotone",
            f"Form: {structure}; probabilities never fall with the horizon",
            *calibration,
        ]
    )


def _walk_forward(walk_forward: Mapping[str, Any]) -> str:
    """Pooled figures; a training may have none, with a reason."""
    pooled = walk_forward.get("pooled")
    if not pooled:
        return str(walk_forward.get("not_evaluated", "No block was evaluated."))
    rows = []
    for hours, table in pooled.items():
        low, high = table["log_loss_skill_ci95"] or (None, None)
        rows.append(
            [
                f"{hours} h",
                f"{table['positives']:,}",
                table["best_baseline"],
                _number(table["log_loss_skill"]),
                f"{_number(low)} to {_number(high)}",
                _number(table["predicted_over_observed"]),
            ]
        )
    header = ["horizon", "calls", "best baseline", "skill", "95% interval", "predicted / observed"]
    return (
        f"Blocks of {walk_forward['block_length']}, each evaluated after a training on everything "
        f"before it (at most {walk_forward['most_rows']:,} rows), pooled.\n\n"
        f"{_table(header, rows)}"
    )


def _figures(horizon: Mapping[str, Any]) -> str:
    models = horizon["models"]
    best = horizon["best_baseline"]
    rows = [
        [_model_name(name, best), *(_number((figures or {}).get(key)) for key, _ in _FIGURES)]
        for name, figures in models.items()
    ]
    low, high = horizon["log_loss_skill_ci95"] or (None, None)
    summary = (
        f"Base rate {_number(horizon['base_rate'])} ({horizon['positives']:,} events). Log-loss "
        f"skill against {best} {_number(horizon['log_loss_skill'])} (95% interval "
        f"{_number(low)} to {_number(high)}); gap to the volatility oracle closed "
        f"{_number(horizon['oracle_gap_closed'])}; predicted over observed events "
        f"{_number(horizon.get('predicted_over_observed'))}."
    )
    return f"{summary}\n\n{_table(['model', *(title for _, title in _FIGURES)], rows)}"


def _model_name(name: str, best: str) -> str:
    if name == MODEL:
        return f"**{name}**"
    return f"{name} (best baseline)" if name == best else name


def _policies(backtest: Mapping[str, Any]) -> str:
    """Uncovered loss at each budget, with the interval of the ratio to the best simple one."""
    found = backtest["uncovered"]
    parts = [
        f"Uncovered loss within {found['horizon_hours']} h at equal average add-on, both over "
        f"notional; the best simple estimate is {found['best_simple']}."
    ]
    header = ["policy", *(title for _, title in _POLICY_FIGURES), "95% interval"]
    for budget in found["budgets"]:
        rows = [
            [
                name,
                *(_number(figures.get(key)) for key, _ in _POLICY_FIGURES),
                " to ".join(_number(end) for end in figures["ratio_to_best_simple_ci95"] or ()),
            ]
            for name, figures in budget["policies"].items()
        ]
        parts.append(
            f"Average add-on {_number(budget['average_add_on'])}, at which a flat level covers "
            f"{budget['flat_coverage']:.0%}:"
        )
        parts.append(_table(header, rows))
    return "\n\n".join(parts)


def _gates(gates: Mapping[str, Mapping[str, Any]], verdict: str, reasons: Sequence[str]) -> str:
    rows = [
        [
            name,
            _result(gate),
            _value(gate.get("value")),
            _value(gate.get("limit")),
        ]
        for name, gate in gates.items()
    ]
    parts = [f"Verdict: **{verdict}**."]
    if reasons:
        parts.append(_list(reasons))
    parts.append(_table(["gate", "result", "value", "limit"], rows))
    return "\n\n".join(parts)


def _result(gate: Mapping[str, Any]) -> str:
    accepted = gate.get("accepted")
    if accepted:
        return f"failed, accepted by {accepted['by']}: {accepted['reason']}"
    return "passed" if gate["passed"] else "**failed**"


def limits(data: Mapping[str, str]) -> list[str]:
    """Limits of the figures, by what is real and what is sampled; one sentence each."""
    specific = [text for (key, value), text in _LIMITS.items() if data.get(key) == value]
    return [*specific, *_GENERAL_LIMITS]


def reliance(data: Mapping[str, str], verdict: str) -> list[str]:
    """Who may rely on the model, and for what; one sentence each."""
    if data.get("prices") != "real":
        return [
            "Nobody, for a decision on a real account: it learned from simulated prices and shows "
            "how the software works."
        ]
    sentences = [
        {
            "promoted": "A risk desk, for add-ons under the rule set named here: they are never "
            "below the rule floor nor above its cap, whatever the model answers.",
            "kept": "Reviewers only: it is sound, but did not pass every promotion gate against "
            "the champion.",
            "refused": "Nobody: a safety gate failed. It may serve only by a promotion with a "
            "recorded reason.",
        }.get(verdict, "Nobody: its training did not finish.")
    ]
    if data.get("accounts") != "files":
        sentences.append(
            "Its accounts are sampled, so a venue evaluates it on its own accounts first "
            "(`margincast evaluate`, which never fits)."
        )
    sentences.append("Nobody, for a forecast of prices or for trading.")
    return sentences


def _hashes(manifest: Mapping[str, Any], bundle_sha256: str) -> str:
    hashes = {
        "bundle": bundle_sha256,
        "training data": manifest["training_data_sha256"],
        "rule set": manifest["ruleset_sha256"],
        "feature registry": manifest["schema"]["features_sha256"],
        "schema": manifest["schema_sha256"],
    }
    return _list(f"{name}: `{sha}`" for name, sha in hashes.items())


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def _value(value: Any) -> str:
    """A gate's value or limit: a number, a range, a text, or one of these by horizon."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_value(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(part) for part in value)}]"
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return _number(value)
    return str(value)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        # A bar or a new line inside a cell would break the row.
        safe = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(safe)} |"

    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
