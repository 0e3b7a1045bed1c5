from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from market.core.errors import BundleError, ModelError
from models.bundle.bundle import (
    CHECKSUMS_FILE,
    DRAFT_PREFIX,
    REQUIRED_FILES,
    load_bundle,
    remove_unfinished,
    write_bundle,
)
from models.bundle.manifest import TrainingRecord, manifest_bytes
from models.bundle.pointer import promote
from models.bundle.schema import canonical_json
from models.onnx.export import export
from models.trees.tree_table import trees_sha256

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


@pytest.fixture
def files(small: SmallModel) -> dict[str, bytes]:
    return small.files()


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    return tmp_path / write_bundle(tmp_path, files | {"notes.json": b"{}"})


def test_bundle_scores_as_the_model_it_was_written_from(small: SmallModel, folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.schema == small.schema
    assert bundle.calibration == small.calibration
    assert bundle.manifest["metrics"] == {"auc": 0.9}
    assert bundle.read("notes.json") == b"{}"
    for horizon, table in small.trees.items():
        assert trees_sha256(bundle.trees[horizon]) == trees_sha256(table)
    raw, _ = bundle.scorer.score(small.X[:100])
    for h, (horizon, score) in enumerate(small.raw().items()):
        assert horizon == bundle.schema.horizons[h]
        expected = small.X[:100, h] + score(small.X[:100])
        np.testing.assert_allclose(raw[:, h], expected, rtol=0, atol=1e-12)


def test_name_is_the_hash_of_the_canonical_checksums(folder: Path, files: dict[str, bytes]) -> None:
    listed = json.loads((folder / CHECKSUMS_FILE).read_bytes())
    assert folder.name == hashlib.sha256(canonical_json(listed)).hexdigest()
    for name in REQUIRED_FILES:
        assert listed[name]["sha256"] == hashlib.sha256(files[name]).hexdigest()
        assert listed[name]["size"] == len(files[name])


def test_same_model_gives_same_bundle_anywhere_and_order_is_no_matter(
    tmp_path: Path, small: SmallModel, files: dict[str, bytes]
) -> None:
    backwards = dict(reversed(small.files().items()))
    first = write_bundle(tmp_path / "a", files)
    assert write_bundle(tmp_path / "b", backwards) == first
    assert write_bundle(tmp_path / "a", files) == first
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == [first]


def test_pointer_leads_to_its_bundle(folder: Path) -> None:
    promote(folder.parent, folder.name)
    assert load_bundle(folder.parent / "champion").sha256 == folder.name


def test_relative_path_is_fine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_bundle(Path()).sha256 == folder.name


@pytest.mark.parametrize("name", [*REQUIRED_FILES, CHECKSUMS_FILE, "notes.json"])
def test_one_flipped_bit_in_any_file_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize("name", [*REQUIRED_FILES, CHECKSUMS_FILE, "notes.json"])
def test_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize("name", [*REQUIRED_FILES, CHECKSUMS_FILE, "notes.json"])
def test_link_is_refused_even_to_equal_content(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError):
        load_bundle(folder)


def test_grown_file_is_refused(folder: Path) -> None:
    with (folder / "notes.json").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(BundleError, match="longer"):
        load_bundle(folder)


def test_unlisted_file_and_folder_are_refused(folder: Path) -> None:
    (folder / "extra.txt").write_text("")
    with pytest.raises(BundleError, match=r"extra\.txt"):
        load_bundle(folder)
    (folder / "extra.txt").unlink()
    (folder / "deep").mkdir()
    with pytest.raises(BundleError, match="deep"):
        load_bundle(folder)


def test_named_pipe_is_refused_without_waiting(folder: Path) -> None:
    (folder / "notes.json").unlink()
    os.mkfifo(folder / "notes.json")
    with pytest.raises(BundleError, match="regular"):
        load_bundle(folder)


def test_folder_of_another_name_is_refused(folder: Path) -> None:
    moved = folder.rename(folder.parent / ("0" * 64))
    with pytest.raises(BundleError, match="must be equal"):
        load_bundle(moved)


def test_linked_folder_is_refused(folder: Path) -> None:
    moved = folder.rename(folder.parent / "real")
    folder.symlink_to(moved)
    with pytest.raises(BundleError, match="not a bundle folder"):
        load_bundle(folder)


def test_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle folder"):
        load_bundle(tmp_path / ("0" * 64))
    with pytest.raises(BundleError, match="no pointer file"):
        load_bundle(tmp_path / "champion")


def test_pointer_to_a_lost_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "champion").write_text("0" * 64)
    with pytest.raises(BundleError, match="not a bundle folder"):
        load_bundle(tmp_path / "champion")


def test_pointer_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "champion").write_text("../elsewhere")
    with pytest.raises(BundleError, match="64"):
        load_bundle(tmp_path / "champion")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "UPPER", "", CHECKSUMS_FILE, "a" * 65])
def test_name_that_is_not_plain_is_not_written(
    tmp_path: Path, files: dict[str, bytes], name: str
) -> None:
    with pytest.raises(BundleError, match="may not be a bundle file"):
        write_bundle(tmp_path, files | {name: b""})
    assert not list(tmp_path.iterdir())


def forge(root: Path, files: dict[str, bytes], checksums: bytes | None = None) -> Path:
    """A folder whose name and checksums agree, whatever it holds."""
    listed = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }
    encoded = checksums or canonical_json(listed)
    folder = root / hashlib.sha256(encoded).hexdigest()
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / CHECKSUMS_FILE).write_bytes(encoded)
    return folder


def test_traversal_in_the_checksums_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    listed = {name: {"sha256": "0" * 64, "size": 0} for name in [*files, "../secret"]}
    with pytest.raises(BundleError, match="may not be a bundle file"):
        load_bundle(forge(tmp_path, files, canonical_json(listed)))


def test_checksums_out_of_canonical_form_are_refused(
    tmp_path: Path, files: dict[str, bytes], folder: Path
) -> None:
    listed = json.loads((folder / CHECKSUMS_FILE).read_bytes())
    del listed["notes.json"]
    with pytest.raises(BundleError, match="canonical"):
        load_bundle(forge(tmp_path, files, json.dumps(listed, indent=1).encode()))


@pytest.mark.parametrize("size", [-1, 2**40, "1", None])
def test_impossible_size_is_refused(tmp_path: Path, files: dict[str, bytes], size: object) -> None:
    listed = {name: {"sha256": "0" * 64, "size": size} for name in files}
    with pytest.raises(BundleError):
        load_bundle(forge(tmp_path, files, canonical_json(listed)))


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"format_version": "1"},
        {"unknown": 1},
        {"schema_sha256": "0" * 64},
        {"ruleset_sha256": "short"},
        {"calibration": {"1": [1.0, 0.0]}},
        {"calibration": {"1": [0.9, 0.1], "8": [-1.0, 0.0], "24": [1.0, 0.0]}},
        {"calibration": {"1": [0.9, 0.1], "8": [1.05, -0.21], "24": [1.0, 0.0]}},
        {"trees_sha256": {"1": "0" * 64, "8": "0" * 64, "24": "0" * 64}},
        {"schema": {}},
        {"metrics": None},
    ],
)
def test_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, files: dict[str, bytes], change: dict[str, Any]
) -> None:
    manifest = json.loads(files["manifest.json"]) | change
    files["manifest.json"] = canonical_json(manifest)
    with pytest.raises(BundleError):
        load_bundle(forge(tmp_path, files))


def test_graph_of_other_trees_fails_parity_at_load(
    tmp_path: Path, small: SmallModel, files: dict[str, bytes]
) -> None:
    swapped = small.trees | {1: small.trees[8]}
    files["model.onnx"] = export(small.schema, swapped, small.calibration)
    with pytest.raises(BundleError, match="differs"):
        load_bundle(forge(tmp_path, files))


def test_every_graph_is_audited_not_only_the_main_one(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    with pytest.raises(BundleError, match="ONNX"):
        load_bundle(tmp_path / write_bundle(tmp_path, files | {"baseline_plain.onnx": b"noise"}))


def test_writing_over_a_tampered_bundle_is_refused(folder: Path, files: dict[str, bytes]) -> None:
    (folder / "notes.json").write_bytes(b"[]")
    with pytest.raises(BundleError, match="checksum"):
        write_bundle(folder.parent, files | {"notes.json": b"{}"})


def test_file_that_changes_after_the_audit_is_not_read(folder: Path) -> None:
    bundle = load_bundle(folder)
    (folder / "notes.json").write_bytes(b"[]")
    with pytest.raises(BundleError, match="changed"):
        bundle.read("notes.json")
    with pytest.raises(BundleError, match="no file"):
        bundle.read("../secret")


def test_failed_write_leaves_nothing_behind(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("models.bundle.bundle.write_durably", full)
    with pytest.raises(OSError, match="no space"):
        write_bundle(tmp_path, files)
    assert not list(tmp_path.iterdir())


def test_missing_required_file_is_not_written(tmp_path: Path, files: dict[str, bytes]) -> None:
    del files["trees.npz"]
    with pytest.raises(BundleError, match="lacks"):
        write_bundle(tmp_path, files)


def test_nan_metric_is_refused(small: SmallModel) -> None:
    record = TrainingRecord("1" * 64, "2" * 64, {}, metrics={"auc": float("nan")})
    with pytest.raises(ModelError, match="JSON"):
        manifest_bytes(small.schema, small.trees, small.calibration, record)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    sha = write_bundle(tmp_path, files)
    promote(tmp_path, sha)
    for name in (".incoming-0123", f"{DRAFT_PREFIX}abcd"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "model.onnx").write_bytes(b"half")
    (tmp_path / ".incoming-link").symlink_to(tmp_path / sha)
    (tmp_path / "other").mkdir()
    remove_unfinished(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {sha, "champion", "other", ".incoming-link"}
    assert load_bundle(tmp_path / "champion").sha256 == sha
