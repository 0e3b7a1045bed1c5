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

from models.mlflow.store import Tracking, mlflow_client

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any
TrainedMarket: TypeAlias = Any

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


def numbers(value: Any) -> set[float]:
    if isinstance(value, dict):
        keys = {float(key) for key in value if key.isdigit()}  # horizons
        return keys | {n for each in value.values() for n in numbers(each)}
    if isinstance(value, list):
        return {n for each in value for n in numbers(each)}
    return {float(value)} if isinstance(value, int | float) else set()


def is_written(cell: str, known: set[float]) -> bool:
    """Whether a figure of a page is one of these, as exact as it is written."""
    digits = cell.replace("\N{MINUS SIGN}", "-").replace(",", "").strip("+%")
    scale = 100.0 if cell.endswith("%") else 1.0
    mantissa, _, power = digits.partition("e")
    step = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    zeros = len(mantissa.rstrip("0")) if "." not in mantissa else 0
    if zeros and len(mantissa) > 4:
        step *= 10.0 ** (len(mantissa) - 4)
    return any(abs(n * scale - float(digits)) <= 0.5001 * step for n in known)


def test_every_figure_of_a_table_is_one_of_the_json(made: Made) -> None:
    known, seen = numbers(made.report), 0
    for caption, rows in Tables(made.html).found.items():
        for _, *cells in rows[1:]:
            for cell in " to ".join(cells).split(" to "):
                if re.fullmatch(r"[-+\N{MINUS SIGN}]?[\d,.]+(e[-+]\d+)?%?", cell):
                    seen += 1
                    assert is_written(cell, known), (caption, cell)
    assert seen > 40


def test_rows_hold_the_figures_of_their_own_name(made: Made) -> None:
    tables, report = Tables(made.html).found, made.report
    if made.job == "drift":
        rows = [
            row for caption, found in tables.items() if "imit" in str(found[0]) for row in found[1:]
        ]
        by_name = {row[0]: row for row in rows}
        assert by_name.keys() == report["monitors"].keys()
        for name, monitor in report["monitors"].items():
            assert by_name[name][3:5] == [f"{monitor[key]:.4g}" for key in ("effect", "floor")]
            assert by_name[name][-1] == monitor["verdict"]
        for hours, horizon in report["expected_performance"].items():
            cells = next(
                r for r in tables["Expected and realised performance"] if r[0] == f"{hours} h"
            )
            assert cells[2] == f"{horizon['log_loss']['expected']:.4g}"
    elif made.job == "evaluate":
        for row in tables["Skill by horizon"][1:]:
            horizon = report["horizons"][row[0].removesuffix(" h")]
            assert row[2] == f"{horizon['log_loss_skill']:+.2%}"
    else:
        (calls,) = (rows for caption, rows in tables.items() if caption == "Calls by policy")
        for row in calls[1:]:
            assert row[1] == f"{report['calls']['policies'][row[0]]['calls']:,.0f}"


def test_page_needs_nothing_from_outside_and_names_its_sources(made: Made) -> None:
    assert not re.search(r"<script|<link|<iframe|@import|url\(", made.html)
    assert all(
        link.startswith(("#", "data:")) for link in re.findall(r'(?:src|href)="(.*?)"', made.html)
    )
    assert not re.findall(r"\w+://[^\s\"'<)]+", made.html)
    assert "default-src 'none'" in made.html
    assert made.report["bundle"] in made.html
    assert made.report["ruleset"]["sha256"] in made.html
    if made.job != "backtest":
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
