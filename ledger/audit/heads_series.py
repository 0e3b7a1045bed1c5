"""A series of heads files: each names the one before, so a missing or replaced one is detected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, Engine, select

from ledger.archive.segments import read_segments
from ledger.audit.heads import Head, Heads, engine_of, heads, read_heads, write_heads
from ledger.audit.signing import Signer, Verifier
from ledger.canonical import sha256_of
from ledger.packing.identifiers import unpack_sha256
from ledger.records import FIRST_PREVIOUS_HASH
from ledger.schema import database_errors, records
from market.core.clock import parse_time
from market.core.errors import AlteredError, DataError, LedgerError
from market.core.file_lock import exclusive_lock

_NAME = "heads-{:08d}.json"
_NUMBERED = re.compile("heads-([0-9]+)[.]json")
_PATTERN = "*.json"
_LOCK = ".heads.lock"
_LOCK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class KeptHeads:
    """Heads read from a file or a folder, and what is wrong with them.

    Attributes
    ----------
    files:
        The heads files, the oldest first.
    problems:
        Wrong signatures, missing and replaced files.
    signed:
        Whether each file has a signature that a trusted key made; None where no key was given.
    """

    files: Sequence[Heads]
    problems: Sequence[str] = ()
    signed: bool | None = None

    @property
    def newest(self) -> Heads:
        """The heads written last."""
        return self.files[-1]

    @property
    def newest_at(self) -> int:
        """Time of the newest heads in UTC nanoseconds."""
        return _time(self.newest)

    def hashes(self) -> dict[str, dict[int, str]]:
        """For each chain the hash at every `seq` that any of the files names."""
        found: dict[str, dict[int, str]] = {}
        for kept in self.files:
            for chain, head in kept["chains"].items():
                found.setdefault(chain, {})[head["seq"]] = head["hash"]
        return found

    def ends(self) -> dict[str, Head]:
        """The furthest head of each chain in any of the files."""
        furthest: dict[str, Head] = {}
        for kept in self.files:
            for chain, head in kept["chains"].items():
                if chain not in furthest or head["seq"] > furthest[chain]["seq"]:
                    furthest[chain] = head
        return furthest


def write_next_heads(
    source: str | Engine,
    out: Path,
    signer: Signer | None,
    previous: Path | None = None,
    public_keys: Sequence[str] = (),
) -> tuple[Path, Heads]:
    """Write the heads of a ledger as the next file of a series, signed where a signer is given.

    No heads are written for a chain that was rewritten or truncated: every head of the previous
    file must be in the ledger, as a record or inside an archived segment.

    Parameters
    ----------
    source:
        URL or engine of the ledger.
    out:
        The file, or an existing folder, where it is named ``heads-00000001.json`` and so on.
    signer:
        Signs it; None leaves it unsigned.
    previous:
        The previous file; default: the heads file with the highest counter in the folder of `out`.
    public_keys:
        Trusted besides the signer's key; with a signer, one of them must have signed the previous
        file.

    Returns
    -------
    The path of the file, and what it holds.

    Raises
    ------
    LedgerError
        There is no ledger, `previous` or a numbered file of the folder is no heads file, the
        file would replace another numbered one, or cannot be written.
    AlteredError
        The ledger lacks heads of the previous file, or its signature is missing or wrong.
    """
    folder = out if out.is_dir() else out.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(str(folder / _LOCK), _LOCK_SECONDS):
            before, counter = _before(folder, out, previous)
            path = out / _NAME.format(counter + 1) if out.is_dir() else out
            if _NUMBERED.fullmatch(path.name) and path.exists():
                raise LedgerError(
                    f"heads file {str(path)!r} exists and is not replaced; give another file, or "
                    "the folder of the newest heads"
                )
            if before is not None:
                _check_before(source, before, signer, public_keys)
            fresh = heads(source)
            fresh["counter"] = counter + 1
            fresh["previous"] = FIRST_PREVIOUS_HASH if before is None else sha256_of(before)
            if signer is not None:
                fresh = cast(Heads, signer.sign(cast(dict[str, object], fresh)))
            write_heads(path, fresh)
    except OSError as error:
        raise LedgerError(f"heads cannot be written to {str(out)!r}: {error}") from error
    return path, fresh


def read_kept_heads(path: Path, public_keys: Sequence[str] = ()) -> KeptHeads:
    """Read the heads file, or all heads files of a folder, and check that they are a series.

    Parameters
    ----------
    path:
        A file or a folder. The first file of a folder may have any counter: earlier ones may have
        been deleted.
    public_keys:
        Trusted keys; where there are any, each file must be signed by one of them.

    Raises
    ------
    LedgerError
        A file cannot be read or is no heads file, the folder has none, or a key is malformed.
    """
    verifier = Verifier(public_keys) if public_keys else None
    paths = sorted(path.glob(_PATTERN)) if path.is_dir() else [path]
    if not paths:
        raise LedgerError(f"there is no heads file in {str(path)!r}; give a heads file or a folder")
    found = [(name, read_heads(name)) for name in paths]
    found.sort(key=lambda kept: (kept[1].get("counter", 0), _time(kept[1]), kept[0].name))
    check = _SeriesCheck(verifier)
    for name, kept in found:
        check.add(name.name, kept)
    return KeptHeads([kept for _, kept in found], check.problems, check.signed)


@dataclass(slots=True)
class _SeriesCheck:
    verifier: Verifier | None
    problems: list[str] = field(default_factory=list)
    signed: bool | None = None
    _before: tuple[str, Heads] | None = None

    def add(self, name: str, kept: Heads) -> None:
        if self.verifier is not None:
            wrong = self.verifier.problem(kept)
            self.signed = wrong is None and self.signed is not False
            if wrong is not None:
                self.problems.append(f"heads file {name!r}: {wrong}")
        if self._before is not None:
            self._link(name, kept, *self._before)
        self._before = name, kept

    def _link(self, name: str, kept: Heads, before: str, last: Heads) -> None:
        counter, expected = kept.get("counter", 0), last.get("counter", 0) + 1
        if counter == 0:
            return  # of an earlier version, which did not count
        if counter != expected:
            missing = "is there twice" if counter < expected else f"follows number {expected - 1}"
            self.problems.append(
                f"heads file {name!r}: number {counter} {missing}, files are missing or replaced"
            )
        elif kept.get("previous") != sha256_of(last):
            self.problems.append(
                f"heads file {name!r}: was not written after {before!r} as it is now, one of them "
                "was replaced"
            )
        if _time(kept) < _time(last):
            self.problems.append(f"heads file {name!r}: is older than {before!r} before it")


def _before(folder: Path, out: Path, previous: Path | None) -> tuple[Heads | None, int]:
    """The previous heads, and the highest counter so far."""
    if previous is not None:
        before = read_heads(previous)
        return before, before.get("counter", 0)
    newest: Heads | None = None
    highest = 0
    for path in folder.glob(_PATTERN):
        numbered = _NUMBERED.fullmatch(path.name)
        try:
            kept = read_heads(path)
        except LedgerError:
            if numbered or path == out:
                raise
            continue  # another file of the folder
        counter = kept.get("counter", 0)
        if newest is None or counter > newest.get("counter", 0):
            newest = kept
        highest = max(highest, counter, int(numbered[1]) if numbered else 0)
    return newest, highest


def _check_before(
    source: str | Engine, before: Heads, signer: Signer | None, public_keys: Sequence[str]
) -> None:
    """Refuse to continue a series whose heads the ledger does not have, or no trusted key signed.

    The files of archived segments are not read: `verify` compares them.
    """
    problems: list[str] = []
    if signer is not None:
        wrong = Verifier([*public_keys, signer.public_key]).problem(before)
        if wrong is not None:
            problems.append(f"the heads file before: {wrong}")
    with (
        engine_of(source) as engine,
        database_errors("look up its heads"),
        engine.connect() as connection,
    ):
        for chain, head in before["chains"].items():
            found = _hash_at(connection, chain, head["seq"])
            if found is None:
                problems.append(f"record {head['seq']} of chain {chain!r} is gone")
            elif found not in (head["hash"], _ARCHIVED):
                problems.append(f"record {head['seq']} of chain {chain!r} is another one")
    if problems:
        raise AlteredError(
            f"no heads were written after those of {before['at']}: {'; '.join(problems)}. Run "
            "`margincast ledger verify --heads` with the files kept outside; only after a restore, "
            "or to sign a series that was not signed, begin a new series in an empty folder"
        )


_ARCHIVED = "archived"
"""In place of the hash of a record inside an archived segment."""


def _hash_at(connection: Connection, chain: str, seq: int) -> str | None:
    """Hash of a record; None where it is neither there nor archived."""
    place = (records.c.chain == chain, records.c.seq == seq)
    stored = connection.execute(select(records.c.hash).where(*place)).scalar_one_or_none()
    if stored is not None:
        return unpack_sha256(stored)
    # A segment is sealed before its records are deleted, so it is there by now.
    for segment in read_segments(connection):
        if segment.chain == chain and segment.first_seq <= seq <= segment.last_seq:
            return segment.last_hash if seq == segment.last_seq else _ARCHIVED
    return None


def _time(kept: Heads) -> int:
    try:
        return parse_time(kept["at"])
    except DataError as error:
        raise LedgerError(f"a heads file has the time {kept['at']!r}: {error}") from error
