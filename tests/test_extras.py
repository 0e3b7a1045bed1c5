"""Extras: what pyproject.toml declares is what the code of each installation imports."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.cli.extras import MODULES

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
CLI = (
    "pipelines.cli.main",
    "pipelines.cli.jobs",
    "pipelines.cli.ledger",
    "pipelines.cli.margin",
    "pipelines.cli.policy",
    "pipelines.cli.report",
    "pipelines.cli.rulesets",
)


PYTHON_API = {"training": ("margincast.learning.classifier", "margincast.mlflow_model")}
"""Modules of the Python API that need an extra; all others belong to the base."""

OPTIONAL = {
    "jwt": "serving.http.security.json_web_tokens",
    "otel": "serving.telemetry.tracing.otel",
    "pdf": "pipelines.ledger_reports.formats.pdf",
    "search": "training.tuning.search",
}
"""The one module that imports what an extra has; the base runs without."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES: dict[str, ast.Module] = {
    name_of(path): ast.parse(path.read_text(encoding="utf-8"))
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def _is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every import within, also inside functions, but for those that only type checkers see. A
    package whose files are read counts as imported."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "files":
            yield from (str(one.value) for one in node.args if _is_text(one))
        yield from imports(ast.iter_child_nodes(node))


def reachable(names: Iterable[str]) -> set[str]:
    """These modules of ours, their packages and all that they import, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in TREES and name not in found:
            found.add(name)
            waiting += [*imports(TREES[name].body), name.rpartition(".")[0]]
    return found


def foreign(names: Iterable[str]) -> set[str]:
    """Top-level names of what is neither ours nor of the standard library."""
    tops = {name.partition(".")[0] for name in names}
    return tops - set(PACKAGES) - sys.stdlib_module_names - {"__future__"}


def extra_of(verb: ast.AST) -> str | None:
    """The extra that a verb requires before all else."""
    for node in ast.walk(verb):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
            extra = ast.literal_eval(node.args[0])
            assert isinstance(extra, str)
            return extra
    return None


def roots(extra: str | None) -> set[str]:
    """What the verbs import that require an extra, or those that require none."""
    found: set[str] = set()
    for module in CLI:
        for node in TREES[module].body:
            if not isinstance(node, ast.FunctionDef):
                if extra is None:
                    found.update(imports([node]))
            elif extra_of(node) == extra:
                found.update(imports(node.body))
    found.update(PYTHON_API.get(extra or "", ()))
    if extra is None:
        apart = {name for names in PYTHON_API.values() for name in names}
        apart.add("margincast.__main__")  # the command line
        found.update(name for name in TREES if name.startswith("margincast.") and name not in apart)
    # Of these only what each verb imports counts, which stands above.
    return {name for name in found if not name.startswith(CLI)}


def imported(extra: str | None) -> set[str]:
    modules = reachable(roots(extra))
    direct = foreign(roots(extra))
    found = direct | foreign(name for module in modules for name in imports(TREES[module].body))
    return found - {name for optional in OPTIONAL for name in MODULES[optional]}


def declared(extra: str | None) -> set[str]:
    project = PROJECT["project"]
    texts = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def distributions(modules: Iterable[str], among: set[str]) -> set[str]:
    """The distribution of each module: one of those declared where several ship it."""
    owners = importlib.metadata.packages_distributions()
    found: set[str] = set()
    for module in modules:
        names: set[str] = {canonicalize_name(name) for name in owners.get(module, [module])}
        found.update(names & among or names)
    return found


def test_base_installation_declares_what_its_verbs_import_and_nothing_else() -> None:
    assert distributions(imported(None), declared(None)) == declared(None)


def test_training_extra_declares_what_its_verbs_import_beyond_the_base() -> None:
    beyond = imported("training") - imported(None)
    assert distributions(beyond, declared("training")) == declared("training")
    assert beyond == set(MODULES["training"])


def test_postgres_extra_is_the_driver_that_the_ledger_names() -> None:
    schema = (ROOT / "ledger" / "schema.py").read_text(encoding="utf-8")
    drivers = set(re.findall(r"postgresql\+(\w+)://", schema))
    assert drivers == set(MODULES["postgres"]) == declared("postgres")


def test_no_shipped_module_imports_what_neither_base_nor_extra_declares() -> None:
    known = imported(None) | imported("training")
    stray = {
        module: names
        for module, tree in TREES.items()
        if (names := foreign(imports(tree.body)) - known)
    }
    assert stray == {module: set(MODULES[extra]) for extra, module in OPTIONAL.items()}


@pytest.mark.parametrize("extra", OPTIONAL)
def test_an_optional_extra_is_imported_inside_functions_only(extra: str) -> None:
    module = OPTIONAL[extra]
    users = [
        name
        for name, tree in TREES.items()
        if module in imports([node for node in tree.body if not _is_definition(node)])
    ]
    outside = [node for node in TREES[module].body if not _is_definition(node)]
    assert not foreign(imports(outside)) & set(MODULES[extra]) or not users


def _is_definition(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


@pytest.mark.parametrize("extra", sorted(MODULES))
def test_names_of_an_extra_are_those_of_its_imports(extra: str) -> None:
    assert list(MODULES[extra]) == sorted(MODULES[extra])
    assert distributions(MODULES[extra], declared(extra)) == declared(extra)
