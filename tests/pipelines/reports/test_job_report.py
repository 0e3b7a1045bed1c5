"""``drift``, ``evaluate`` and ``backtest`` with ``--out``: page, figures, log in MLflow."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from market.core.clock import HOUR, format_time
from models.mlflow.store import Tracking, mlflow_client

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any

Value: TypeAlias = str | float | list[float] | None

PAGE = Path(__file__).parents[3] / "docs" / "reports.md"
COMMANDS = [
    shlex.split(line)[1:]
    for line in re.findall(
        r"^margincast (?:drift|evaluate|backtest) .*$", PAGE.read_text("utf-8"), re.MULTILINE
    )
]


@dataclass(frozen=True)
class Made:
    """What one run of a verb wrote."""

    job: str
    html: str
    report: dict[str, Any]
    stderr: str


class Tables(HTMLParser):
    """Rows of cells by caption."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._caption = self._text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._text = ""
        if tag == "tr" and self._caption:
            self.found[self._caption].append([])

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self._caption = self._text
            assert self._caption not in self.found
            self.found[self._caption] = []
        if tag in {"td", "th"}:
            self.found[self._caption][-1].append(self._text)


@pytest.fixture(scope="module", params=COMMANDS, ids=lambda words: words[0])
def made(request: pytest.FixtureRequest, trained: TrainedMarket) -> Made:
    """The page that a command of docs/reports.md writes."""
    words, folder = request.param, trained.workspace.folder
    page, out = folder / words[words.index("--out") + 1], folder / f"{words[0]}.json"
    done = trained.workspace.run(*words, "--json", out, code=(0, 5))
    return Made(words[0], page.read_text("utf-8"), json.loads(out.read_text()), done.stderr)


def test_docs_have_a_command_for_each_page() -> None:
    assert [words[0] for words in COMMANDS] == ["drift", "evaluate", "backtest"]


def is_written(cell: str, value: Value) -> bool:
    """Whether a cell of a page says this value, rounded to the digits that it has."""
    if value is None or isinstance(value, str):
        return cell == ("\N{EN DASH}" if value is None else value)
    if isinstance(value, list):
        bounds = cell.split(" to ")
        return len(bounds) == len(value) == 2 and all(map(is_written, bounds, value))
    mantissa, _, power = cell.replace(",", "").strip("+%").partition("e")
    step = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    scale = 100.0 if cell.endswith("%") else 1.0
    return abs(value * scale - float(f"{mantissa}e{power or 0}")) <= 0.5001 * step


def drift_tables(report: dict[str, Any]) -> dict[str, list[list[Value]]]:
    monitors = report["monitors"].values()
    ranked = sorted(monitors, key=lambda m: -(m["effect"] or 0.0) / m["floor"])
    figures = ("reference", "current", "effect", "floor", "p_value", "p_holm", "verdict")
    tables = {
        f"{title}, largest effect over its limit first": [
            [m["name"], *(m[figure] for figure in figures)]
            for m in ranked
            if m["kind"] == kind and (m["verdict"] == "stable") in calm
        ]
        for title, kind, calm in (
            ("Features with an alarm (KS distance)", "feature", [False]),
            ("Missing shares with an alarm", "missing", [False]),
            ("Features without an alarm (KS distance)", "feature", [True]),
            ("Missing shares without an alarm", "missing", [True]),
            ("Scores and mean probabilities", "score", [False, True]),
            ("Outcomes", "labels", [False, True]),
        )
    }
    assert sum(map(len, tables.values())) == len(monitors)
    horizons = report["expected_performance"].items()
    return {title: rows for title, rows in tables.items() if rows} | {
        "Rows that are compared": [
            [name, *part["span"], part["rows"], part["blocks"]]
            for name, part in (("training", report["reference"]), ("now", report["current"]))
        ],
        "Expected and realised performance": [
            [f"{hours} h", name]
            + [
                horizon[metric][side + ending]
                for side in ("expected", "realised", "difference")
                for ending in ("", "_ci95")
            ]
            for hours, horizon in horizons
            for metric, name in (
                ("log_loss", "log loss, nats"),
                ("brier", "Brier score"),
                ("auc", "AUC"),
            )
        ],
        "Calls": [
            [f"{hours} h", h["expected_calls"], h["observed_calls"], h["rows"], h["blocks"]]
            for hours, h in horizons
        ],
    }


def evaluate_tables(report: dict[str, Any]) -> dict[str, list[list[Value]]]:
    horizons = report["horizons"].items()

    def group(part: dict[str, Any]) -> list[Value]:
        ratio = part["predicted_over_observed"]["margincast"]
        return [part["rows"], part["observed"], ratio, *(part[key] for key in skill)]

    metrics = ("log_loss", "auc", "average_precision", "brier_skill", "calibration_slope")
    skill = ("log_loss_skill", "log_loss_skill_ci95")
    of_horizon = (*skill, "predicted_over_observed", "oracle_gap_closed")
    return {
        f"Within {hours} h: base rate {h['base_rate']:.3%}, {h['positives']:,} calls": [
            [name, *(model[metric] for metric in metrics)]
            for name, model in h["models"].items()
            if model
        ]
        for hours, h in horizons
    } | {
        "Skill by horizon": [
            [f"{hours} h", h["best_baseline"].replace("_", " "), *(h[key] for key in of_horizon)]
            for hours, h in horizons
        ],
        "By month": [
            [month, hours, *group(part)]
            for hours, h in horizons
            for month, part in h["months"].items()
        ],
        "By segment": [
            [segment.replace("_", " "), band, hours, *group(part)]
            for hours, h in horizons
            for segment, bands in h["segments"].items()
            for band, part in bands.items()
        ],
        "Account-times": [["considered", report["considered"]], ["evaluated", report["rows"]]]
        + [[f"left out: {name.replace('_', ' ')}", n] for name, n in report["dropped"].items()],
    }


def backtest_tables(report: dict[str, Any]) -> dict[str, list[list[Value]]]:
    figures = ("uncovered", "breach_rate", "ratio_to_flat", "ratio_to_flat_ci95")
    ratios = ("ratio_to_best_simple", "ratio_to_best_simple_ci95")
    calls = ("calls", "needed", "in_vain", "prevented_breaches", "missed_breaches", "collected")
    timing = ("median_lead_hours", "flips_per_account_day")
    return {
        f"Average add-on {budget['average_add_on']:.2%} of notional, at which a flat level covers "
        f"{budget['flat_coverage']:.0%}": [
            [name, *(f[key] for key in (*figures, *ratios)), "yes" if f["matched"] else "no"]
            for name, f in budget["policies"].items()
        ]
        for budget in report["uncovered"]["budgets"]
    } | {
        "Calls by policy": [
            [name, *(f[key] for key in (*calls, *timing))]
            for name, f in report["calls"]["policies"].items()
        ],
        "Procyclicality by policy": [
            [
                *(name, f["peak_to_trough"]),
                *f["n_day_max_increase"].values(),
                f["response_to_one_extreme_return"],
            ]
            for name, f in report["procyclicality"]["policies"].items()
        ],
        "Coverage by policy": [
            [name, *f.values()] for name, f in report["coverage"]["policies"].items()
        ],
    }


TABLES = {"drift": drift_tables, "evaluate": evaluate_tables, "backtest": backtest_tables}


def test_every_cell_of_every_table_is_its_value_of_the_json(made: Made) -> None:
    tables, expected = Tables(made.html).found, TABLES[made.job](made.report)
    assert tables.keys() == expected.keys()
    for caption, rows in expected.items():
        for cells, values in zip(tables[caption][1:], rows, strict=True):
            assert len(cells) == len(values), (caption, cells)
            wrong = [pair for pair in zip(cells, values, strict=True) if not is_written(*pair)]
            assert not wrong, (caption, cells)
    assert sum(map(len, expected.values())) > 10


def test_drift_shows_alarms_and_folds_the_rest(made: Made) -> None:
    if made.job != "drift":
        assert "<details" not in made.html
        return
    open_part, folded = made.html.split("<details>")
    folded = folded.split("</details>")[0]
    for name, monitor in made.report["monitors"].items():
        if monitor["kind"] in {"feature", "missing"}:
            row = f'<th scope="row">{name}</th>'
            assert (row in folded, row in open_part) == (
                (True, False) if monitor["verdict"] == "stable" else (False, True)
            )


def test_page_needs_nothing_from_outside_and_names_its_sources(made: Made) -> None:
    assert not re.search(r"<script|<link|<iframe|@import|url\(", made.html)
    assert all(
        link.startswith(("#", "data:")) for link in re.findall(r'(?:src|href)="(.*?)"', made.html)
    )
    assert not re.findall(r"\w+://[^\s\"'<)]+", made.html)
    assert "default-src 'none'" in made.html
    assert made.report.get("warnings", []) == []
    assert made.report["bundle"] in made.html
    assert made.report["ruleset"]["sha256"] in made.html
    assert re.fullmatch("[0-9a-f]{64}", made.report["data_sha256"])
    assert made.report["data_sha256"] in made.html


def test_page_and_json_are_one_run_of_mlflow(
    made: Made, trained: TrainedMarket, tmp_path: Path
) -> None:
    folder = trained.workspace.folder
    tracking = Tracking(f"sqlite:///{folder}/var/mlflow.db", "margincast", "margincast")
    with mlflow_client(tracking) as client:
        experiment = client.get_experiment_by_name(tracking.experiment)
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id], f"tags.job = '{made.job}'")
        logged = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
        page = (logged / f"{made.job}.html").read_text("utf-8")
        report = json.loads((logged / f"{made.job}.json").read_bytes())
    assert (page, report) == (made.html, made.report)
    assert run.info.status == "FINISHED"
    assert run.data.tags["bundle_sha256"] == trained.champion
    assert run.data.tags["data_sha256"] == made.report["data_sha256"]
    assert run.data.tags["ruleset_sha256"] == made.report["ruleset"]["sha256"]
    assert run.data.tags["mlflow.source.name"] == f"margincast {made.job}"
    assert run.info.end_time - run.info.start_time > 1_000, "the run lasts as long as its job"
    assert "not logged" not in made.stderr


def test_without_a_store_the_page_is_written_and_a_line_says_what_is_not_logged(
    workspace: Workspace,
) -> None:
    page, store = workspace.folder / "d.html", workspace.folder / "none" / "mlflow.db"
    uri = {"MARGINCAST__TRACKING__URI": f"sqlite:///{store}"}
    stderr = workspace.run("drift", "--out", page, code=(0, 5), **uri).stderr
    (line,) = (line for line in stderr.splitlines() if "not logged" in line)
    assert "drift.html and drift.json are not logged" in line
    assert page.exists()
    assert not store.parent.exists()


def test_backtest_on_a_span_that_the_training_has_seen_says_so(trained: TrainedMarket) -> None:
    workspace = trained.workspace
    manifest = json.loads((workspace.bundles / trained.champion / "manifest.json").read_bytes())
    fit_end, calibrate_end, _ = manifest["training"]["ends_ns"]
    ends = {
        "FIT_END": 2 * fit_end - calibrate_end,
        "CALIBRATE_END": fit_end,
        "TEST_END": calibrate_end,
    }
    page, out = (workspace.folder / "seen" / f"backtest.{ending}" for ending in ("html", "json"))
    page.parent.mkdir()
    variables = {f"MARGINCAST__TRAINING__{name}": format_time(end) for name, end in ends.items()}
    done = workspace.run(
        *("backtest", "--bundle", workspace.bundles / "champion", "--out", page, "--json", out),
        **variables,
        MARGINCAST__TRACKING__URI=f"sqlite:///{page.parent}/none.db",
    )
    report = json.loads(out.read_text())
    (warning,) = report["warnings"]
    hours = (manifest["training"]["span_ns"][1] - fit_end) / HOUR
    assert report["overlap_with_training_hours"] == hours > 100.0
    assert f"{hours:,.0f} h of the evaluated span" in warning
    assert f"warning: {warning}" in done.stderr
    assert warning in page.read_text("utf-8")


def test_a_store_that_fails_is_a_warning_that_names_what_is_not_logged(
    workspace: Workspace,
) -> None:
    page, store = workspace.folder / "d.html", workspace.folder / "broken.db"
    store.write_bytes(b"not a database" * 100)
    uri = {"MARGINCAST__TRACKING__URI": f"sqlite:///{store}"}
    stderr = workspace.run("drift", "--out", page, code=(0, 5), **uri).stderr
    assert "warning: " in stderr
    assert "drift.html and drift.json are not logged: MLflow" in stderr
    assert page.exists()


def test_a_page_of_another_format_is_refused_before_the_job_runs(workspace: Workspace) -> None:
    line = workspace.refusal("drift", "--out", workspace.folder / "drift.pdf")
    assert "is not an .html file" in line
