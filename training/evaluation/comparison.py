"""Comparison of champion and challenger: figures, inputs, and gates that decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.reports.run_record import RunRecord

MODEL = "margincast"
CHAMPION = "champion"

_FIGURES = (
    ("log loss", "log_loss", "lower"),
    ("AUC", "auc", "higher"),
    ("average precision", "average_precision", "higher"),
    ("Brier skill", "brier_skill", "higher"),
    ("ECE / base rate", "ece_over_base_rate", "lower"),
    ("calibration slope", "calibration_slope", "one"),
    ("top decile ratio", "top_decile_ratio", "one"),
)
_HORIZON_FIGURES = (
    ("skill against its best baseline", "log_loss_skill", "higher"),
    ("predicted / observed", "predicted_over_observed", "one"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both.

    Attributes
    ----------
    horizon:
        In hours.
    figure:
        For the reader.
    champion, challenger:
        Values, None where undefined.
    better:
        ``challenger``, ``champion``, or empty where they are equal or one is undefined: which
        value is on the better side, not whether chance explains it.
    """

    horizon: int
    figure: str
    champion: float | None
    challenger: float | None
    better: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the two were made from and do not share."""

    what: str
    champion: str
    challenger: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The champion against the challenger.

    Attributes
    ----------
    champion, challenger:
        The trainings.
    same_rows:
        Whether both were evaluated on the same data over the same span: if not, their figures are
        of different rows, and only the paired gates compare the same rows.
    lines:
        Figures side by side.
    paired:
        The challenger's gates that hold both against the same rows, by name; empty where it was
        trained beside another champion.
    differences:
        Data, rules, features, code, spans, rows and settings that differ.
    gates_changed:
        Names of gates that one passed and the other did not, with who passed.
    """

    champion: RunRecord
    challenger: RunRecord
    same_rows: bool
    lines: tuple[Line, ...]
    paired: Mapping[str, Mapping[str, Any]]
    differences: tuple[Difference, ...]
    gates_changed: Mapping[str, str]


def compare(champion: RunRecord, challenger: RunRecord) -> Comparison:
    """Set two trainings side by side; horizons that one of them lacks are left out."""
    differences = tuple(_differences(champion, challenger))
    changed = {item.what for item in differences}
    same_champion = challenger.incumbent == champion.bundle
    return Comparison(
        champion=champion,
        challenger=challenger,
        same_rows=not changed & {"data", "test span"},
        lines=tuple(_lines(champion.evaluation, challenger.evaluation)),
        paired={
            name: gate
            for name, gate in challenger.gates.items()
            if same_champion and f"than_{CHAMPION}_" in name
        },
        differences=differences,
        gates_changed={
            name: CHAMPION if champion.gates[name]["passed"] else "challenger"
            for name in champion.gates
            if name in challenger.gates
            and champion.gates[name]["passed"] != challenger.gates[name]["passed"]
        },
    )


def _lines(champion: Mapping[str, Any], challenger: Mapping[str, Any]) -> list[Line]:
    lines: list[Line] = []
    for hours, before in champion["horizons"].items():
        after = challenger["horizons"].get(hours)
        if after is None:
            continue
        pairs = [
            (title, before["models"][MODEL].get(key), after["models"][MODEL].get(key), side)
            for title, key, side in _FIGURES
        ] + [
            (title, before.get(key), after.get(key), side) for title, key, side in _HORIZON_FIGURES
        ]
        lines += [
            Line(int(hours), title, old, new, _better(old, new, side))
            for title, old, new, side in pairs
        ]
    return lines


def _better(champion: float | None, challenger: float | None, side: str) -> str:
    if champion is None or challenger is None or champion == challenger:
        return ""
    if side == "one":
        return "challenger" if abs(challenger - 1.0) < abs(champion - 1.0) else CHAMPION
    higher = challenger > champion
    return "challenger" if higher == (side == "higher") else CHAMPION


def _differences(champion: RunRecord, challenger: RunRecord) -> list[Difference]:
    def facts(run: RunRecord) -> dict[str, str]:
        manifest, evaluation = run.manifest, run.evaluation
        provenance = (run.review or {}).get("provenance") or {}
        return {
            "data": str(manifest["training_data_sha256"])[:12],
            "rule set": str(manifest["ruleset_sha256"])[:12],
            "features": str(manifest["schema"]["features_sha256"])[:12],
            "code": str(provenance.get("code_sha256", "not logged"))[:12],
            "test span": " to ".join(evaluation["span"]),
            "test rows": f"{evaluation['rows']:,}",
            "what is real": ", ".join(f"{k} {v}" for k, v in evaluation["data"].items()),
            "symbols": ", ".join(evaluation.get("symbols", ())),
            **{
                f"library {name}": str(version)
                for name, version in sorted(manifest["versions"].items())
            },
            **{f"setting {name}": str(value) for name, value in sorted(run.params.items())},
        }

    before, after = facts(champion), facts(challenger)
    return [
        Difference(what, before.get(what, "none"), after.get(what, "none"))
        for what in dict.fromkeys([*before, *after])
        if before.get(what) != after.get(what)
    ]
