"""Examples run as they are written: of the public docstrings and of the page of the API."""

from __future__ import annotations

import doctest
import inspect
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

import margincast as mc

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMES = [name for name in mc.__all__ if name != "learning" and not name.endswith("Error")]


@pytest.fixture(scope="module")
def workspace(made_bundles: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a champion, as after ``margincast run --once``."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "margincast.toml").write_text("")
    shutil.copytree(made_bundles[0], folder / "var" / "bundles")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_example_of_a_docstring(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    documented = getattr(mc, name)
    module = sys.modules[documented.__module__]
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, module)
    assert [example for test in tests for example in test.examples], "give a short example"
    runner = doctest.DocTestRunner()
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


def test_examples_of_the_page_run_in_order(tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 5
    program = tmp_path / "python.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    assert "scores" in runpy.run_path(str(program))


def test_every_public_name_has_a_docstring() -> None:
    assert not [name for name in NAMES if not inspect.getdoc(getattr(mc, name))]
