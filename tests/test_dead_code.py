"""Dead code: no shipped function, method or class is used by nothing that ships.

Vulture reads the shipped packages without tests, benchmarks and research. What it finds is wired
or deleted. Names that a library calls, or that a reader of the public interface calls, are listed
here with the reason.
"""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vulture import Vulture

import margincast
import margincast.learning

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

REGISTERED = ["@app.*", "@*_app.*", "@get", "@post", "@field_validator", "@model_validator"]
"""Decorators that hand a function to typer, Litestar or pydantic."""

CALLED_BY_LIBRARIES = {
    "to_schema": "Litestar asks an example of the OpenAPI document for its value",
    "_load_pyfunc": "MLflow loads a registered model by it",
    "upgrade": "alembic runs a revision by it",
    "get_field_value": "pydantic-settings reads a source through it",
    "settings_customise_sources": "pydantic-settings asks for the order of sources",
    "redirect_request": "urllib asks whether to follow a redirection",
    "_get_socket": "smtplib opens its connection by it",
    "do_POST": "http.server answers a request by it",
    "log_message": "http.server logs a request by it",
    "makefile": "http.client reads an answer from it",
    "readinto": "io.BufferedReader fills its buffer by it",
    "data_received": "asyncio hands a protocol what came in by it",
    "on_response_complete": "uvicorn says by it that an answer is sent",
    "handle": "Litestar calls a middleware by it",
    "on_start": "numba tells a listener by it that a compilation begins",
    "on_end": "numba tells a listener by it that a compilation ends",
    "decode_bytes": "Litestar's interface of a DTO",
    "create_for_field_definition": "Litestar's interface of a DTO",
    "create_openapi_schema": "Litestar's interface of a DTO",
    "generate_field_definitions": "Litestar's interface of a DTO",
    "detect_nested_field": "Litestar's interface of a DTO",
    "is_plugin_supported_type": "Litestar asks a plugin which types it describes",
    "to_openapi_schema": "Litestar asks a plugin for the schema of a type",
}
PYTHON_API = {name for package in (margincast, margincast.learning) for name in package.__all__} | {
    "__getattr__": "Python looks names of the package up by it",
    "quality": "method of Market",
    "newest": "method of Market",
    "monotone": "attribute of Model",
    "manifest": "attribute of Model",
    "feature_names": "attribute of Model",
    "market": "method of Simulation",
    "get_n_splits": "scikit-learn's interface of a CV object",
    "split": "scikit-learn's interface of a CV object",
    "fit": "scikit-learn's interface of an estimator",
    "predict": "scikit-learn's interface of an estimator",
    "predict_proba": "scikit-learn's interface of an estimator",
    "__sklearn_tags__": "scikit-learn's interface of an estimator",
}.keys()
"""Names that users of the Python API call."""

RUN_BY_ALEMBIC = ("ledger.migrations.env", "ledger.migrations.versions.")
"""Scripts that alembic finds in the folder of revisions."""

LOADED_BY_MLFLOW = ("margincast.mlflow_model",)
"""Modules that the ``MLmodel`` of a registered version names."""

USED_BESIDE_THE_WHEEL = {
    "main": "the script margincast of pyproject.toml",
    "set_headroom": "benchmarks and the oracles of the level search move accounts by it",
    "simulate_bars": "benchmarks and the fit of the simulator want bars without quotes",
}


LISTED = {*CALLED_BY_LIBRARIES, *USED_BESIDE_THE_WHEEL, *PYTHON_API}


def unused(folder: Path, packages: list[str]) -> list[str]:
    finder = Vulture(ignore_decorators=REGISTERED)
    before = Path.cwd()
    os.chdir(folder)  # vulture names files relative to the working directory
    try:
        finder.scavenge(packages)
        return [
            f"{item.filename}:{item.first_lineno} {item.typ} {item.name}"
            for item in finder.get_unused_code(min_confidence=60)
            if item.typ in ("function", "method", "class", "property") and item.name not in LISTED
        ]
    finally:
        os.chdir(before)


def modules() -> dict[str, Path]:
    """Every shipped module by its dotted name; packages by the name of the folder."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


def imported(path: Path) -> Iterator[str]:
    """What a file imports, also inside functions: modules, and names that may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def facade_modules() -> Iterator[str]:
    """The modules that the names of the Python API are loaded from."""
    stub = ast.parse((ROOT / "margincast" / "__init__.pyi").read_text(encoding="utf-8"))
    for node in ast.walk(stub):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield f"margincast.{node.module}"


def test_every_shipped_module_is_reached_from_the_command_line_or_the_python_api() -> None:
    known = modules()
    reached, waiting = set(), ["margincast.__main__", *facade_modules()]
    while waiting:
        name = waiting.pop()
        if name in known and name not in reached:
            reached.add(name)
            waiting += imported(known[name])
    faces = {name for name, path in known.items() if path.name == "__init__.py"}
    revisions = {name for name in known if name.startswith((*RUN_BY_ALEMBIC, *LOADED_BY_MLFLOW))}
    left = sorted(set(known) - reached - faces - revisions)
    assert not left, "no verb and no public name reaches these modules"


def test_no_shipped_code_is_reached_by_tests_alone() -> None:
    found = unused(ROOT, PACKAGES)
    assert not found, "wire or delete:\n" + "\n".join(found)


def test_a_function_that_nothing_calls_is_found(tmp_path: Path) -> None:
    package = tmp_path / "shipped"
    package.mkdir()
    (package / "used.py").write_text("def used() -> int:\n    return 1\n\n\nvalue = used()\n")
    (package / "unused.py").write_text("def forgotten() -> int:\n    return 1\n")
    assert [line.rpartition(" ")[2] for line in unused(tmp_path, ["shipped"])] == ["forgotten"]
