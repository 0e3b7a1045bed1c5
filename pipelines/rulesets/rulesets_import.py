"""Write dated versions of a rule set from a record of a venue's brackets."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from margin.engines.registry import engine_of
from margin.engines.tier.rules import Bracket
from margin.rules.history import RuleHistory
from margin.rules.ruleset import RuleSet, load_ruleset, ruleset_from_content
from market.core.clock import format_time
from market.core.errors import DataError, RuleSetError
from market.core.files import replace_file
from pipelines.rulesets.bracket_record import BracketRecord, read_brackets

HEADER = "# Written by `margincast rulesets import`; import again in the place of editing.\n"

_Tables = Mapping[str, tuple[Bracket, ...]]


def import_rulesets(
    source: Path,
    out: Path,
    *,
    base: str = "binance-usdm",
    name: str | None = None,
    symbols: Sequence[str] = (),
) -> dict[str, Any]:
    """Write one TOML file for each time at which the brackets in force changed.

    A version is in force from its first listing to that of the next version; the last one is open.
    Records are refreshed some days after a change, so a version starts late, never early. A symbol
    keeps its brackets until others are listed; the record does not show delistings. Listing the
    same brackets again, under a new name too, is no change.

    Parameters
    ----------
    source:
        See `pipelines.rulesets.bracket_record.read_brackets`.
    out:
        Folder for `margin.rules.history.load_history`: new, or one of an import, which is then
        replaced as a whole.
    base:
        Rule set, by name or path, with the brackets of symbols that the record does not list, the
        quantum, the basis of the initial margin and all tables but ``[tier]``. Its symbols and
        classes are left out.
    name:
        Name of the rule set; by default that of the base.
    symbols:
        Bar symbols to import; empty: all.

    Returns
    -------
    Provenance, counts and the versions. The same arguments write the same bytes.

    Raises
    ------
    DataError
        The source is no record of brackets, lacks one of `symbols`, or `out` holds other files.
    RuleSetError
        The base is unknown or of another engine.
    """
    rules = load_ruleset(base)
    record = read_brackets(source)
    _check_symbols(record, symbols, source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    steps = _steps(record, frozenset(symbols))
    files: dict[str, bytes] = {}
    versions: list[RuleSet] = []
    reported: list[dict[str, Any]] = []
    for i, (start, tables, counts) in enumerate(steps):
        end = steps[i + 1][0] if i + 1 < len(steps) else None
        ruleset = _version(rules, name or rules.name, start, end, tables, source.name, digest)
        file = ruleset.effective_from.replace("-", "").replace(":", "") + ".toml"  # sorts by time
        files[file] = (HEADER + "\n" + ruleset_toml(ruleset)).encode()
        versions.append(_check_round_trip(ruleset, files[file], file))
        reported.append(
            {
                "version": ruleset.version,
                "file": file,
                "effective_from": ruleset.effective_from,
                "effective_to": ruleset.effective_to,
                "symbols": len(tables),
                **counts,
                "sha256": ruleset.sha256,
            }
        )
    RuleHistory.of(versions)
    written = _replace_folder(out, files)
    return {
        "source": source.name,
        "sha256": digest,
        "name": versions[0].name,
        "base": {"name": rules.name, "version": rules.version, "sha256": rules.sha256},
        "rows": record.rows,
        "times": len(record.listings),
        "tables": sum(sum(counts.values()) for _, _, counts in steps),
        "left_out": record.left_out,
        "bad": list(record.bad),
        "written": written,
        "versions": reported,
    }


def ruleset_toml(ruleset: RuleSet) -> str:
    """A rule set as TOML; read back it has the same digest, floats to the last bit."""
    return tomli_w.dumps(_without_nulls(ruleset.content()))


def _without_nulls(content: Any) -> Any:
    """The content without None, which TOML does not have."""
    if isinstance(content, dict):
        return {k: _without_nulls(value) for k, value in content.items() if value is not None}
    return [_without_nulls(value) for value in content] if isinstance(content, list) else content


def _check_symbols(record: BracketRecord, symbols: Sequence[str], source: Path) -> None:
    listed = {name for tables in record.listings.values() for name in tables}
    unknown = sorted(set(symbols) - listed)
    if unknown:
        raise DataError(
            f"{source} lists no {', '.join(unknown)}; choose bar symbols like "
            f"{', '.join(sorted(listed)[:3])}"
        )


def _steps(
    record: BracketRecord, symbols: frozenset[str]
) -> list[tuple[int, _Tables, dict[str, int]]]:
    """Times of changes, the brackets in force from then on, and counts of the tables listed."""
    steps: list[tuple[int, _Tables, dict[str, int]]] = []
    current: dict[str, tuple[Bracket, ...]] = {}
    for time, listing in record.listings.items():
        listed = {name: table for name, table in listing.items() if not symbols or name in symbols}
        counts = {"new": 0, "changed": 0, "relisted": 0}
        for symbol, brackets in listed.items():
            before = current.get(symbol)
            kind = "new" if before is None else "relisted" if before == brackets else "changed"
            counts[kind] += 1
        current = current | listed
        if counts["new"] or counts["changed"]:
            steps.append((time, current, counts))
    return steps


def _version(
    base: RuleSet,
    name: str,
    start: int,
    end: int | None,
    tables: _Tables,
    source: str,
    digest: str,
) -> RuleSet:
    since = format_time(start)
    content = engine_of(base).with_brackets(base, tables) | {
        "name": name,
        "version": since,
        "source": (
            f"Brackets: the record {source}, SHA-256 {digest}, as it stood at {since}. It shows a "
            "change some days after the venue made it; above the last bound of a symbol the last "
            f"bracket goes on. All else: rule set {base.name} version {base.version}."
        ),
        "effective_from": since,
        "effective_to": "" if end is None else format_time(end),
    }
    return ruleset_from_content(content, origin=f"version {since}")


def _check_round_trip(ruleset: RuleSet, text: bytes, file: str) -> RuleSet:
    """The rule set as read from its file."""
    parsed = ruleset_from_content(tomllib.loads(text.decode()), origin=file)
    if parsed != ruleset:
        raise RuleSetError(f"{file} does not read back as the same rule set; report the source")
    return parsed


def _replace_folder(out: Path, files: Mapping[str, bytes]) -> bool:
    """Replace the folder as a whole; False if it has exactly these files already."""
    if out.exists():
        if not out.is_dir():
            raise DataError(f"{out} is a file; give a folder for the versions")
        present: dict[str, bytes] = {}
        for path in out.iterdir():
            present[path.name] = path.read_bytes() if path.is_file() else b""
            imported = present[path.name].startswith(HEADER.encode())
            if path.suffix != ".toml" or not imported:
                raise DataError(
                    f"{out} holds {path.name}, which no import wrote; give an empty folder"
                )
        if present == dict(files):
            return False
    new = out.parent / f".{out.name}.{secrets.token_hex(8)}"
    try:
        for name, content in files.items():
            replace_file(new / name, content)
        if not out.exists():
            new.rename(out)
            return True
        old = new.with_name(f"{new.name}.before")
        out.rename(old)
        try:
            new.rename(out)
        except BaseException:
            old.rename(out)
            raise
        shutil.rmtree(old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return True
