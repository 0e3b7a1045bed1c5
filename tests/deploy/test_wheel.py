"""The wheel: one top-level package that computes what the repository computes, bit by bit."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from deploy.wheel.wheel_layout import rewritten
from pipelines.data.provenance import source_sha256

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
MOVED = set(PACKAGES) - {"margincast"}
SECONDS = 500.0

CASE = {
    "id": "one",
    "ruleset": "linear-tiers",
    "portfolio": {
        "cash": 1000.0,
        "stable_price": 1.0,
        "underlyings": {"BTC": {"spot": 1e5, "perp_price": 1e5, "expiries": []}},
        "positions": [
            {"kind": "perp", "underlying": "BTC", "quantity": 0.1, "entry_price": 1e5},
        ],
        "collateral": [],
    },
}
SMALL = {
    "MARGINCAST__SIMULATE__DAYS": "12",
    "MARGINCAST__SIMULATE__SYMBOLS": "4",
    "MARGINCAST__SIMULATE__HALTS": "{}",
    "MARGINCAST__ACCOUNTS__COUNT": "40",
}
NONE: Mapping[str, str] = {}
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import margincast
assert not {moved} & set(sys.modules)
for found in pkgutil.walk_packages(margincast.__path__, "margincast."):
    # alembic runs these two, with a connection that nothing gives here.
    if not found.name.startswith(("margincast.ledger.migrations.env", "margincast.__main__")):
        importlib.import_module(found.name)
        print(found.name)
assert not {moved} & set(sys.modules), {moved} & set(sys.modules)
"""
FACADE = """
import margincast as mc
from {market}.core.errors import DataError
import {features}.identity
assert mc.DataError is DataError
assert callable(mc.features), "the package of that name is in its place"
book = mc.simulate(days=12, symbols=2, accounts=8)
market = mc.Market(book.bars)
print(mc.features(market).to_json())
print(mc.score(book.positions, book.collateral, market, model=None).to_json())
"""
REVISIONS = """
from pathlib import Path
from alembic.script import ScriptDirectory
from margincast.ledger import migrations
for revision in ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions():
    print(Path(revision.path).stem, revision.module.upgrade)
"""


def build(root: Path, out: Path) -> Path:
    (path,) = WheelBuilder(str(root)).build(directory=str(out), versions=["standard"])
    return Path(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel, and with our dependencies but not our folders.

    A line of a .pth file adds the folder of the dependencies; the .pth files in there, and with
    them the editable installation, are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    unpack(wheel, packages)
    dependencies = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    return folder / "bin" / "python"


def unpack(wheel: Path, folder: Path) -> None:
    shutil.unpack_archive(wheel, folder, "zip")


def run(python: Path | str, *arguments: str, cwd: Path, variables: Mapping[str, str] = NONE) -> str:
    done = subprocess.run(
        [python, "-P", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_WAIT_POLICY": "PASSIVE", **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist()), "a file is packed twice"
        return {name: archive.read(name) for name in archive.namelist()}


def modules_named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


def test_top_level_names_are_the_package_and_its_metadata(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in members(wheel)}
    assert tops == {"margincast", f"margincast-{PROJECT['project']['version']}.dist-info"}


def test_no_absolute_import_of_a_folder_of_the_repository_is_left(wheel: Path) -> None:
    named = {
        (name, module)
        for name, content in members(wheel).items()
        if name.endswith((".py", ".pyi"))
        for module in modules_named(ast.parse(content))
    }
    assert ("margincast/features/identity.py", "margincast.market.core.errors") in named
    assert not {pair for pair in named if pair[1].partition(".")[0] in MOVED}


def test_every_file_of_the_packages_is_in_the_wheel_once(wheel: Path) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        if package == "margincast"
        else f"margincast/{path.relative_to(ROOT).as_posix()}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    packed = members(wheel)
    assert expected | {"margincast/margincast.toml", "margincast/sources.json"} == {
        name for name in packed if ".dist-info/" not in name
    }
    for suffix in (
        ".html",
        ".toml",
        ".json",
        ".txt",
        ".css",
        ".pyi",
        "py.typed",
        "revision_0001.py",
    ):
        assert any(name.endswith(suffix) for name in expected), suffix
    assert packed["margincast/margincast.toml"] == (ROOT / "margincast.toml").read_bytes()


def test_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    assert build(root, tmp_path / "again").read_bytes() == wheel.read_bytes()


def test_code_has_the_digest_of_the_repository_until_it_is_edited(
    wheel: Path, tmp_path: Path
) -> None:
    unpack(wheel, tmp_path)
    root = tmp_path / "margincast"
    assert source_sha256(root) == source_sha256(ROOT)
    with (root / "features" / "identity.py").open("a") as file:
        file.write("# edited\n")
    assert source_sha256(root) != source_sha256(ROOT)


@pytest.mark.slow
def test_every_module_is_imported_and_none_from_outside_the_package(
    installed: Path, tmp_path: Path
) -> None:
    names = run(installed, "-c", IMPORT_EVERYTHING.format(moved=MOVED), cwd=tmp_path).split()
    assert len(names) > 500
    assert "revision_0004" in run(installed, "-c", REVISIONS, cwd=tmp_path)


def test_quick_verbs_run_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    script = ("-m", "margincast")
    assert "Forecast margin calls" in run(installed, *script, "--help", cwd=tmp_path)
    assert "linear-tiers" in run(installed, *script, "rulesets", "list", cwd=tmp_path)
    (tmp_path / "cases.jsonl").write_text(json.dumps(CASE) + "\n", encoding="utf-8")
    for python, out in ((installed, "wheel"), (Path(sys.executable), "repository")):
        run(python, *script, "margin", "--cases", "cases.jsonl", "--out", out, cwd=tmp_path)
    assert (tmp_path / "wheel").read_bytes() == (tmp_path / "repository").read_bytes()
    assert "error" not in json.loads((tmp_path / "wheel").read_text())


@pytest.mark.slow
def test_python_api_gives_what_it_gives_in_the_repository(installed: Path, tmp_path: Path) -> None:
    prefixes = {installed: "margincast.", Path(sys.executable): ""}
    found = [
        run(
            python,
            "-c",
            FACADE.format(market=f"{prefix}market", features=f"{prefix}features"),
            cwd=tmp_path,
        )
        for python, prefix in prefixes.items()
    ]
    assert found[0] == found[1]
    assert '"add_on"' in found[0]


@pytest.mark.slow
def test_a_decision_of_the_repository_is_that_of_the_wheel_and_is_replayed_by_it(
    installed: Path, tmp_path: Path, made_bundles: tuple[Path, str]
) -> None:
    shutil.copytree(made_bundles[0], tmp_path / "var" / "bundles")
    run(installed, "-m", "margincast", "init", cwd=tmp_path)
    repository = Path(sys.executable)
    written = ("--out", "simulated", "--json", "simulated.json")
    run(repository, "-m", "margincast", "simulate", *written, cwd=tmp_path, variables=SMALL)
    end = json.loads((tmp_path / "simulated.json").read_text())["span"][1]
    score = ("score", "--accounts", "simulated/accounts", "--as-of", end, "--record", "--explain")
    for name, python in (("repository", repository), ("wheel", installed)):
        variables = SMALL | {"MARGINCAST__LEDGER__URL": f"sqlite:///var/{name}.db"}
        out = ("--out", f"{name}.parquet")
        run(python, "-m", "margincast", *score, *out, cwd=tmp_path, variables=variables)
    first, second = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("repository", "wheel"))
    assert first.num_rows > 30
    assert set(first["model"].to_pylist()) == {made_bundles[1]}
    columns = ["decision_id"]  # drawn for each record
    assert first.drop_columns(columns).equals(second.drop_columns(columns))
    replay = ("ledger", "replay", first["decision_id"][0].as_py())
    variables = SMALL | {"MARGINCAST__LEDGER__URL": "sqlite:///var/repository.db"}
    run(installed, "-m", "margincast", *replay, cwd=tmp_path, variables=variables)


def test_imports_alone_are_rewritten_and_bind_what_they_bound() -> None:
    source = (
        '"""Of `features.x`: from features.x import y."""\n'
        "import market  # from market.a\n"
        "import os, features.a.b as é, market as m\n"
        "label = 'ä'; from features . x import (\n    y,\n)\n"
        "if label:\n    from market \\\n        import core\n"
        "text = 'features'\n"
        "from .features import z\n"
        "from marketing import w\n"
    )
    assert rewritten(source, {"market", "features"}) == (
        '"""Of `features.x`: from features.x import y."""\n'
        "import margincast.market as market  # from market.a\n"
        "import os, margincast.features.a.b as é, margincast.market as m\n"
        "label = 'ä'; from margincast.features . x import (\n    y,\n)\n"
        "if label:\n    from margincast.market \\\n        import core\n"
        "text = 'features'\n"
        "from .features import z\n"
        "from marketing import w\n"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import features.state", "binds 'features'"),
        ("import importlib\nimportlib.import_module('features.state')", "use __package__"),
        ("files('features')", "use __package__"),
        ("save(loader_module='models.mlflow.loader')", "use __package__"),
    ],
)
def test_what_would_fail_in_the_wheel_fails_the_build(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rewritten(source, MOVED)


def test_two_files_for_one_place_fail_the_build(tmp_path: Path) -> None:
    copied = ("pyproject.toml", "README.md", "LICENSE", "margincast.toml")
    for name in copied:
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "deploy" / "wheel", tmp_path / "deploy" / "wheel")
    for file in ("margincast/features/x.py", "features/x.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(ValueError, match=r"would both be margincast/features/x\.py"):
        build(tmp_path, tmp_path / "dist")
