"""What the lock files hold: no more than the extras need, under licences that we know."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
IMAGES = ROOT / "deploy" / "container"
LOCKS = {
    "requirements.lock": tuple(PROJECT["optional-dependencies"]),
    "deploy/container/serving.lock": ("postgres", "jwt"),
    "deploy/container/training.lock": ("postgres", "jwt", "training"),
}
"""Each lock file and the extras that it is for."""

PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache 2.0",
        "Apache License 2.0",
        "Apache Software License",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD License",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "3-Clause BSD License",
        "CC0-1.0",
        "ISC",
        "ISC License (ISCL)",
        "MIT",
        "MIT License",
        "MIT-0",
        "MIT-CMU",
        "NCSA",
        "PSF-2.0",
        "Python Software Foundation License",
        "Zlib",
    }
)
WEAK_COPYLEFT = frozenset(
    {"LGPL-3.0-only", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"},
)
"""Used as they are: nothing of ours is linked into them, and nothing of theirs is changed."""

READ = {"axe-playwright-python": "MIT", "huey": "MIT", "skops": "MIT"}
"""Licences of packages whose metadata name none, from the licence file that they ship."""


def locked(path: Path) -> dict[str, tuple[Requirement, str]]:
    """The requirements of a lock file that hold on this machine, with their line, by name."""
    found: dict[str, tuple[Requirement, str]] = {}
    for line in path.read_text("utf-8").replace("\\\n", "").splitlines():
        requirement = Requirement(re.split(r"\s+--hash=", line)[0])
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = (requirement, " ".join(line.split()))
    return found


def needed(roots: Iterable[Requirement]) -> set[str]:
    """Names of what these need on this machine, directly or not, by the metadata installed."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = list(roots)
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for text in importlib.metadata.requires(name) or ():
            inner = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *extras)]
            if inner.marker is None or any(map(inner.marker.evaluate, environments)):
                waiting.append(inner)
    return {name for name, _ in found}


def licences(name: str) -> set[str]:
    """Each licence that the metadata of a package name, or that its licence file was read to be."""
    metadata = importlib.metadata.metadata(name)
    for expression in metadata.get_all("License-Expression") or ():
        return set(re.split(r" (?:AND|OR) ", expression.replace("(", "").replace(")", "")))
    classifiers = metadata.get_all("Classifier") or []
    named = {text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::")}
    stated = [
        name
        for text in metadata.get_all("License") or ()
        for name in re.split(r" (?:AND|OR) ", text.strip().partition("\n")[0])
    ]
    named = named or set(filter(None, stated))
    return named - {"OSI Approved"} or {READ.get(name, "unknown")}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_holds_what_its_extras_need_and_nothing_else(lock: str) -> None:
    texts = [*PROJECT["dependencies"]]
    for extra in LOCKS[lock]:
        texts += PROJECT["optional-dependencies"][extra]
    assert set(locked(ROOT / lock)) == needed(map(Requirement, texts))


@pytest.mark.parametrize("lock", ["serving.lock", "training.lock", "build.lock"])
def test_an_image_installs_the_versions_and_files_that_were_tested(lock: str) -> None:
    tested, held = (
        # Without the platforms: other packages of the larger file ask for some packages on more.
        {
            (requirement.name, str(requirement.specifier), *sorted(re.findall(r"--hash=\S+", line)))
            for requirement, line in locked(path).values()
        }
        for path in (ROOT / "requirements.lock", IMAGES / lock)
    )
    assert held
    assert held <= tested


def test_the_image_is_built_with_the_build_system_of_the_project() -> None:
    stated = (IMAGES / "build.in").read_text("utf-8").split()
    assert stated == PYPROJECT["build-system"]["requires"]


@pytest.mark.parametrize(
    "lock",
    [*LOCKS, "deploy/container/build.lock", "deploy/audit/requirements.lock"],
)
def test_every_line_of_a_lock_file_is_pinned_and_hashed_and_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    assert "://" not in text
    for line in text.replace("\\\n", "").splitlines():
        pin = r"[a-z0-9-]+(\[[a-z,]+\])?==[^\s*,;]+( ; [^-]+(-[^-]+)*?)?"
        assert re.fullmatch(rf"{pin}(\s+--hash=sha256:[0-9a-f]{{64}})+", line), line


def test_installed_versions_are_those_of_the_lock_file() -> None:
    for name, (requirement, _) in locked(ROOT / "requirements.lock").items():
        assert requirement.specifier.contains(importlib.metadata.version(name)), name


def test_every_locked_package_has_a_licence_that_is_allowed() -> None:
    found = {name: licences(name) for name in locked(ROOT / "requirements.lock")}
    unknown = {name: names - PERMISSIVE - WEAK_COPYLEFT for name, names in found.items()}
    assert not {name: names for name, names in unknown.items() if names}


def test_licences_that_were_read_are_of_packages_that_name_none() -> None:
    for name in READ:
        assert licences(name) == {READ[name]}
        (text, *_) = (
            path.read_text()
            for path in importlib.metadata.files(name) or ()
            if "LICENSE" in path.name
        )
        assert "Permission is hereby granted, free of charge" in text


def test_the_bill_of_materials_is_valid_complete_and_the_same_each_time(tmp_path: Path) -> None:
    image = "serving"
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    recipe = re.search(r"\$\(BIN\)/cyclonedx-py (.+?) --output-file", makefile)
    assert recipe is not None, "make sbom no longer calls cyclonedx-py"
    options = recipe[1].replace("$$name", image).split()
    texts = []
    for hashed in ("1", "2"):
        out = tmp_path / f"{hashed}.json"
        subprocess.run(
            [Path(sys.executable).parent / "cyclonedx-py", *options, "--output-file", out],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hashed, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=True,
        )
        texts.append(out.read_text("utf-8"))
    assert texts[0] == texts[1]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(texts[0]) is None
    bill = json.loads(texts[0])
    held = {(each["name"], each["version"]) for each in bill["components"]}
    pins = {
        (name, str(requirement.specifier).removeprefix("=="))
        for name, (requirement, _) in locked(IMAGES / f"{image}.lock").items()
    }
    assert pins <= held
    digests = [each["externalReferences"][0]["hashes"] for each in bill["components"]]
    assert all(digests), "every component names the digests of its files"
    assert bill["metadata"]["component"]["name"] == PROJECT["name"]
