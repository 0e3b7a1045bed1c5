"""What the command line says about itself: every verb has examples that parse, and JSON."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.cli.usage.examples import EXAMPLES, EXIT_CODES
from pipelines.cli.usage.shell import complete_ruleset
from pipelines.reports import report

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any

ENDLESS = {"serve", "monitor"}
"""Verbs without a result: they run until a signal."""


def verbs(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


VERBS = dict(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples_that_parse(verb: str) -> None:
    assert EXAMPLES[verb]
    for line in EXAMPLES[verb]:
        words = shlex.split(line)
        assert " ".join(words[: len(verb.split())]) == verb
        with VERBS[verb].make_context(verb, words[len(verb.split()) :]) as context:
            assert context.params.keys() >= {"json"} or verb in ENDLESS
    shown = CliRunner().invoke(app, [*verb.split(), "--help"], terminal_width=80)
    assert "Examples:" in shown.output
    text = " ".join(shown.output.split())
    assert "Exit codes: 0 done; 1 an error, in one line; 2 options that do not fit" in text
    code, _, meaning = EXIT_CODES.get(verb, "2: options that do not fit").partition(": ")
    assert f"; {code} " in text
    assert meaning in text
    assert max(map(len, shown.output.splitlines())) <= 80


def test_no_example_is_of_a_verb_that_is_gone() -> None:
    assert EXAMPLES.keys() == VERBS.keys()
    assert EXIT_CODES.keys() <= VERBS.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retrian"], "No such command 'retrian'. Did you mean 'retrain'? See margincast --help"),
        (["keys", "lst"], "Did you mean 'list'? See margincast keys --help"),
        (["score", "--acounts", "x"], "No such option: --acounts"),
        (["score"], "Missing option '--accounts'; see margincast score --help"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_exit_2(
    bare: Workspace, arguments: list[str], message: str
) -> None:
    margincast = str(Path(sys.executable).parent / "margincast")
    done = subprocess.run([margincast, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("margincast: ")
    assert message in line


def test_version_and_completion() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert shown.output.startswith("margincast ")
    assert list(complete_ruleset("emir-t")) == ["emir-tiers"]


@pytest.mark.parametrize("typed", ["data --config", "evaluate --bundle", "score --accounts"])
def test_paths_are_completed_by_the_shell(typed: str) -> None:
    words = {"COMP_WORDS": f"margincast {typed} ma", "COMP_CWORD": "3"}
    bash = completion("bash", words)
    assert not bash.split(), "then bash completes file names, as the script below lets it"
    assert completion("zsh", {"_TYPER_COMPLETE_ARGS": f"margincast {typed} ma"}).strip() == "_files"


def test_the_script_for_bash_leaves_file_names_to_bash() -> None:
    """The shell is found among the processes above, so one is started here."""
    margincast = Path(sys.executable).parent / "margincast"
    done = subprocess.run(
        ["bash", "-c", '"$0" --show-completion; exit $?', str(margincast)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "complete -o default" in done.stdout


def completion(shell: str, variables: dict[str, str]) -> str:
    """What the program tells the shell to offer."""
    margincast = str(Path(sys.executable).parent / "margincast")
    environment = os.environ | variables | {"_MARGINCAST_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [margincast], env=environment, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.stdout


def test_version_and_help_load_neither_configuration_nor_arrays() -> None:
    program = (
        "import sys; sys.argv = ['margincast', '--version']\n"
        "from pipelines.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pydantic', 'pandas', 'numba', 'mlflow', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_json_on_stdout_is_alone_there_and_secrets_go_to_stderr(bare: Workspace) -> None:
    added = bare.run("keys", "add", "--scopes", "read", "--json", "-")
    key_id = json.loads(added.stdout)["key_id"]
    assert key_id in added.stderr
    assert list(json.loads(bare.run("keys", "list", "--json", "-").stdout)) == [key_id]
    assert json.loads(bare.run("keys", "revoke", key_id, "--json", "-").stdout)["revoked"] is True
    assert "linear-tiers" in json.loads(bare.run("rulesets", "list", "--json", "-").stdout)
    assert json.loads(bare.run("ledger", "verify", "--json", "-").stdout)["intact"] is True


def test_tables_fit_80_columns_and_keep_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    monkeypatch.setattr(report, "console", Console(width=80, file=text))
    names = [f"figure number {n}" for n in range(12)]
    table = report.new_table("a wide table", ("policy",), names)
    rows = [[f"{row}{n:02d},345.678901" for n in range(12)] for row in range(1, 4)]
    for row in rows:
        table.add_row("sigma_realised_volatility_24h (unmatched)", *row)
    report.print_table(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert all(cell in text.getvalue() for row in rows for cell in row)
    assert not any("\x1b" in line for line in lines), "plain without a terminal"
