"""Public names: what each package and concept folder exports, frozen in ``public_names.txt``."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
FROZEN = {
    name: tuple(names.split())
    for name, _, names in (
        line.partition(": ")
        for line in (Path(__file__).parent / "public_names.txt").read_text("utf-8").splitlines()
    )
}


def shipped_folders() -> set[str]:
    """Every folder with an ``__init__`` below a package that the list names."""
    tops = {name.partition(".")[0] for name in FROZEN}
    return {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for top in tops
        for path in (ROOT / top).rglob("__init__.py")
    }


def test_every_folder_has_its_public_names_listed() -> None:
    assert set(FROZEN) == shipped_folders()


@pytest.mark.parametrize("folder", FROZEN)
def test_public_names_are_the_listed_ones_and_can_be_imported(folder: str) -> None:
    module = importlib.import_module(folder)
    assert tuple(sorted(module.__all__)) == tuple(sorted(FROZEN[folder])), (
        "change tests/public_names.txt with the face, and the changelog with both"
    )
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("folder", FROZEN)
def test_a_public_name_hides_no_module(folder: str) -> None:
    module = importlib.import_module(folder)
    stems = {path.stem for path in (ROOT / folder.replace(".", "/")).glob("*.py")}
    for name in set(module.__all__) & stems:
        assert isinstance(getattr(module, name), ModuleType)


def test_a_face_loads_nothing_before_it_is_asked() -> None:
    program = (
        "import sys, models, training, pipelines, models.bundle, training.fitting; "
        "slow = {'lightgbm', 'mlflow', 'onnx', 'onnxruntime', 'sklearn'} & set(sys.modules); "
        "own = [n for n in sys.modules if n.startswith('training.fitting.')]; "
        "sys.exit(str((slow, own)) if slow or own else 0)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
