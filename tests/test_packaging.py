"""The packages that the project installs, and the file that pins what it depends on."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trove_classifiers import classifiers

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def locked() -> dict[str, list[str]]:
    """The lines of the lock file by requirement: the requirement itself, then its hashes."""
    entries: dict[str, list[str]] = {}
    for line in LOCK.replace("\\\n", "").splitlines():
        requirement, *hashes = re.split(r"\s+(?=--hash=)", line.strip())
        entries[requirement.strip()] = [entry.strip() for entry in hashes]
    return entries


def declared() -> list[Requirement]:
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for names in lists for text in names]


def test_no_dependency_ships_a_top_level_name_of_ours() -> None:
    owners = importlib.metadata.packages_distributions()
    foreign = {package: set(owners.get(package, [])) - {"margincast"} for package in PACKAGES}
    assert not {package: names for package, names in foreign.items() if names}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_package_is_imported_from_this_checkout(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None, "a namespace package would hide a missing __init__.py"
    assert Path(module.__file__).parent == ROOT / package


def test_every_package_of_the_checkout_is_listed() -> None:
    tools = {"tests", "benchmarks", "research"}
    found = {init.parent.name for init in ROOT.glob("[a-z]*/__init__.py")} - tools
    assert found == set(PACKAGES)


def test_every_listed_package_is_type_checked_layered_and_in_the_source_archive() -> None:
    tool = PYPROJECT["tool"]
    (contract,) = [each for each in tool["importlinter"]["contracts"] if each["type"] == "layers"]
    layers = [package for layer in contract["layers"] for package in re.split(r"\s*[|:]\s*", layer)]
    assert sorted(tool["mypy"]["files"]) == sorted(
        [*PACKAGES, "benchmarks", "research", "tests", "deploy"]
    )
    assert tool["mypy"]["strict"] is True
    assert sorted(tool["importlinter"]["root_packages"]) == sorted(PACKAGES)
    assert sorted(layers) == sorted(PACKAGES)
    assert {f"/{package}" for package in PACKAGES} <= set(
        tool["hatch"]["build"]["targets"]["sdist"]["include"]
    )


def test_every_package_but_the_first_is_moved_into_it() -> None:
    target = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert target["sources"] == {name: f"margincast/{name}" for name in PACKAGES[1:]}
    assert PACKAGES[0] == "margincast"


def test_classifiers_are_known_and_allow_an_upload() -> None:
    given = PYPROJECT["project"]["classifiers"]
    assert not [name for name in given if name.startswith("Private ::")]
    assert given == sorted(set(given) & classifiers)


def test_lock_file_names_no_address() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*-(?!-hash=)", LOCK, flags=re.MULTILINE), "an option of pip"


def test_every_locked_requirement_is_pinned_and_hashed() -> None:
    entries = locked()
    assert len(entries) > len(declared())
    for text, hashes in entries.items():
        assert re.fullmatch(r"==[^*,]+", str(Requirement(text).specifier)), text
        assert hashes, text
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), text


def test_every_declared_requirement_is_met_by_the_lock_file() -> None:
    versions: dict[str, list[str]] = {}
    for requirement in map(Requirement, locked()):
        version = str(requirement.specifier).removeprefix("==")
        versions.setdefault(canonicalize_name(requirement.name), []).append(version)
    for requirement in declared():
        pins = versions.get(canonicalize_name(requirement.name), [])
        assert pins, f"{requirement} is not in requirements.lock; run make lock"
        assert all(requirement.specifier.contains(pin) for pin in pins), requirement


def test_build_tools_come_from_the_lock_file_too() -> None:
    names = {canonicalize_name(Requirement(text).name) for text in locked()}
    required = {
        canonicalize_name(Requirement(text).name) for text in PYPROJECT["build-system"]["requires"]
    }
    assert required <= names
