"""Model bundles: content-addressed folders that are audited first and constructed second.

A bundle is a folder ``<sha256>/`` of plain files::

    model.onnx       the graph that scores
    trees.npz        its trees, which explain the scores and check the graph
    manifest.json    schema, calibration, hashes, metrics, baselines, versions
    checksums.json   SHA-256 and size of every other file
    …                further files, such as baseline graphs

Its name is the SHA-256 of ``checksums.json``. It holds no time of day: the same data and
configuration give the same bundle.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from market.core.errors import BundleError
from market.core.files import sync_path
from models.bundle.manifest import (
    MAX_JSON_BYTES,
    TrainingRecord,
    manifest_bytes,
    parse_manifest,
    priors_of,
)
from models.bundle.pointer import POINTERS, read_pointer
from models.bundle.safe_io import read_plain, write_durably
from models.bundle.schema import ModelSchema, canonical_json, is_sha256
from models.bundle.self_test import self_test
from models.onnx.audit import audit_onnx
from models.onnx.scorer import Scorer
from models.prior.score import Priors
from models.prior.spline_prior import SplinePrior
from models.trees.tree_table import TreeTable, trees_from_bytes, trees_sha256, trees_to_bytes

MODEL_FILE = "model.onnx"
TREES_FILE = "trees.npz"
MANIFEST_FILE = "manifest.json"
CHECKSUMS_FILE = "checksums.json"
REQUIRED_FILES = (MODEL_FILE, TREES_FILE, MANIFEST_FILE)
DRAFT_PREFIX = ".draft-"
"""Prefix of temporary folders in which a bundle is tested before it is written."""

MAX_FILES = 64
MAX_FILE_BYTES = 256 * 2**20
MAX_BUNDLE_BYTES = 512 * 2**20
_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle that passed its audit.

    Attributes
    ----------
    sha256:
        Its name: the SHA-256 of its checksums.
    path:
        Its folder.
    manifest:
        ``manifest.json`` as read, valid as `models.bundle.manifest.Manifest`.
    schema:
        Columns, constraints and horizons.
    trees:
        The ensemble of each horizon.
    calibration:
        Slope and intercept of each horizon.
    scorer:
        The graph, ready to score.
    checksums:
        SHA-256 of each file by name.
    priors:
        The spline prior of each horizon; empty where the schema names prior columns of logits.
    """

    sha256: str
    path: Path
    manifest: dict[str, Any]
    schema: ModelSchema
    trees: dict[int, TreeTable]
    calibration: dict[int, tuple[float, float]]
    scorer: Scorer
    checksums: dict[str, str]
    priors: dict[int, SplinePrior] = field(default_factory=dict)

    def read(self, name: str) -> bytes:
        """One file of the bundle, compared with its checksum again.

        Raises
        ------
        BundleError
            The bundle has no such file, or it changed since the audit.
        """
        if name not in self.checksums:
            raise BundleError(
                f"bundle {self.sha256} has no file {name!r}; it has {sorted(self.checksums)}"
            )
        try:
            data = read_plain(self.path / name, MAX_FILE_BYTES)
        except FileNotFoundError:
            raise BundleError(f"{self.path / name} is gone; restore the bundle") from None
        if _sha256(data) != self.checksums[name]:
            raise BundleError(f"{self.path / name} changed since it was audited; restore it")
        return data


def bundle_files(
    *,
    model: bytes,
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
    record: TrainingRecord,
    priors: Priors | None = None,
) -> dict[str, bytes]:
    """The required files of a bundle, for `write_bundle`; equal parts give equal bytes.

    Parameters
    ----------
    model:
        The graph from `models.onnx.export.export`.
    schema, trees, calibration, priors:
        What it was exported from.
    record:
        How it was trained and how well it did.

    Raises
    ------
    ModelError
        A value cannot be written as JSON, or a hash is malformed.
    """
    return {
        MODEL_FILE: model,
        TREES_FILE: trees_to_bytes(trees),
        MANIFEST_FILE: manifest_bytes(schema, trees, calibration, record, priors),
    }


def write_bundle(root: Path, files: Mapping[str, bytes]) -> str:
    """Write a bundle as a whole or not at all; an existing one is verified and stays.

    Parameters
    ----------
    root:
        Folder of the bundles; made if missing.
    files:
        Content by plain file name: those of `bundle_files` and any others.

    Returns
    -------
    The bundle's SHA-256, which is its folder's name.

    Raises
    ------
    BundleError
        A name is not plain, a required file is missing, a limit is passed, or a folder of this
        name holds something else.
    """
    missing = [name for name in REQUIRED_FILES if name not in files]
    if missing:
        raise BundleError(f"bundle lacks {missing}; give all of {list(REQUIRED_FILES)}")
    checksums = canonical_json(
        {name: {"sha256": _sha256(data), "size": len(data)} for name, data in files.items()}
    )
    _parse_checksums(checksums)
    sha = _sha256(checksums)
    root.mkdir(parents=True, exist_ok=True)
    incoming = root / f".incoming-{secrets.token_hex(8)}"
    incoming.mkdir()
    try:
        for name, data in {**files, CHECKSUMS_FILE: checksums}.items():
            write_durably(incoming / name, data)
        sync_path(incoming)
        if not (root / sha).exists():
            _move(incoming, root / sha)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    sync_path(root)
    _audit_files(root / sha)
    return sha


def remove_unfinished(root: Path) -> None:
    """Remove the temporary folders of a killed writer from the folder of the bundles.

    Only for a caller that is sure to be the only writer, as the retraining is under its lock.
    """
    for entry in os.scandir(root):
        if entry.name.startswith((".incoming-", DRAFT_PREFIX)) and entry.is_dir(
            follow_symlinks=False
        ):
            shutil.rmtree(entry.path, ignore_errors=True)


def _move(incoming: Path, target: Path) -> None:
    try:
        incoming.rename(target)
    except OSError as error:
        # Another process may have written the same bundle; the audit that follows checks it.
        if not target.is_dir():
            raise BundleError(f"bundle {target} cannot be written ({error.strerror})") from error


def load_bundle(path: Path) -> Bundle:
    """Audit a bundle and construct it.

    In order: plain file names, nothing unlisted, no links, sizes, checksums, the folder's name;
    manifest; trees; operators and size of every graph; inputs and outputs; self-test of the model.

    Parameters
    ----------
    path:
        A bundle folder, or a pointer file (``champion``, ``previous``) beside bundles.

    Raises
    ------
    BundleError
        There is no bundle, or it failed its audit.
    """
    folder = _folder(path)
    try:
        files = _audit_files(folder)
        for name, data in files.items():
            if name.endswith(".onnx"):
                audit_onnx(data)
        return _construct(folder, files)
    except BundleError:
        raise
    except Exception as error:  # whatever it holds, it is not loaded
        raise BundleError(f"bundle {folder.name} is unsound: {error}") from error


def _folder(path: Path) -> Path:
    if path.name not in POINTERS:
        return path
    sha = read_pointer(path.parent, path.name)
    if sha is None:
        raise BundleError(f"there is no pointer file {path}; retrain or promote a bundle first")
    return path.parent / sha


def _audit_files(folder: Path) -> dict[str, bytes]:
    if folder.is_symlink() or not folder.is_dir():
        raise BundleError(f"{folder} is not a bundle folder; give one, or a pointer file")
    try:
        encoded = read_plain(folder / CHECKSUMS_FILE, MAX_JSON_BYTES)
    except FileNotFoundError:
        raise BundleError(f"{folder} has no {CHECKSUMS_FILE}; it is not a bundle") from None
    sha = _sha256(encoded)
    if sha != folder.absolute().name:
        raise BundleError(
            f"bundle folder {folder} has checksums with SHA-256 {sha}; the two must be equal, "
            "restore the bundle"
        )
    checksums = _parse_checksums(encoded)
    odd = {entry.name for entry in os.scandir(folder)} ^ {*checksums, CHECKSUMS_FILE}
    if odd:
        raise BundleError(
            f"{folder} lacks files or has unlisted ones: {sorted(odd)}; restore the bundle"
        )
    return {name: _audit_file(folder / name, listed) for name, listed in checksums.items()}


def _audit_file(path: Path, listed: _File) -> bytes:
    try:
        data = read_plain(path, listed.size)
    except FileNotFoundError:
        raise BundleError(f"{path} is gone; restore the bundle") from None
    if len(data) != listed.size or _sha256(data) != listed.sha256:
        raise BundleError(f"{path} does not match its checksum; restore the bundle")
    return data


def _parse_checksums(encoded: bytes) -> dict[str, _File]:
    try:
        files = msgspec.json.decode(encoded, type=dict[str, _File])
    except msgspec.MsgspecError as error:
        raise BundleError(f"{CHECKSUMS_FILE} is malformed ({error}); restore the bundle") from error
    if len(files) > MAX_FILES or not set(REQUIRED_FILES) <= set(files):
        raise BundleError(
            f"{CHECKSUMS_FILE} lists {sorted(files)}; expected {list(REQUIRED_FILES)} and at most "
            f"{MAX_FILES} files"
        )
    for name, listed in files.items():
        if not _PLAIN_NAME.fullmatch(name) or name == CHECKSUMS_FILE:
            raise BundleError(
                f"{name!r} may not be a bundle file; use lower-case letters, digits, '_', '.', '-'"
            )
        if not is_sha256(listed.sha256) or not 0 <= listed.size <= MAX_FILE_BYTES:
            raise BundleError(f"{name} has an impossible checksum, or over {MAX_FILE_BYTES} bytes")
    if sum(listed.size for listed in files.values()) > MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle has over {MAX_BUNDLE_BYTES} bytes; keep large files elsewhere")
    if encoded != canonical_json(msgspec.to_builtins(files)):
        raise BundleError(f"{CHECKSUMS_FILE} is not in canonical form; write it with write_bundle")
    return files


def _construct(folder: Path, files: Mapping[str, bytes]) -> Bundle:
    manifest, schema = parse_manifest(files[MANIFEST_FILE])
    trees = trees_from_bytes(files[TREES_FILE], schema.horizons, len(schema.features))
    for horizon, table in trees.items():
        if trees_sha256(table) != manifest.trees_sha256[horizon]:
            raise BundleError(
                f"{TREES_FILE} has other trees of {horizon} h than {MANIFEST_FILE} names"
            )
    scorer = Scorer(files[MODEL_FILE], schema)
    priors = priors_of(manifest, schema)
    self_test(scorer, schema, trees, manifest.calibration, priors)
    return Bundle(
        sha256=folder.absolute().name,
        path=folder,
        manifest=msgspec.json.decode(files[MANIFEST_FILE]),
        schema=schema,
        trees=trees,
        calibration=dict(manifest.calibration),
        scorer=scorer,
        checksums={name: _sha256(data) for name, data in files.items()},
        priors=priors,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
