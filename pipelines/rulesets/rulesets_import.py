"""Dated versions of a rule set, made from a record of the brackets that a venue listed."""

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

    A version holds from the time at which the record first shows it to that of the next one; the
    last one is open. A record is refreshed some days after a change, so each version begins late,
    never early: what was not yet known is not applied. A symbol keeps its brackets until the
    record lists others; nothing tells of a symbol that was taken off. Listing the same brackets
    again, under a new name too, is no change.

    Parameters
    ----------
    source:
        See `pipelines.rulesets.bracket_record.read_brackets`.
    out:
        Folder of the versions: new, or one that an import wrote, which is then replaced as a whole.
        `margin.rules.history.load_history` reads it.
    base:
        Rule set, by name or path, that gives the brackets of symbols which the record does not
        list, the quantum, the basis of the initial margin and all tables but ``[tier]``. Its own
        symbols and classes are left out.
    name:
        Of the rule set; the base's unless given.
    symbols:
        Bar symbols to keep; empty: all.

    Returns
    -------
    Provenance, counts and the versions as written. The same arguments write the same bytes.

    Raises
    ------
    DataError
        The source is no record of brackets, lacks a symbol asked for, or `out` holds other files.
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
    for i, (moment, tables, counts) in enumerate(steps):
        end = steps[i + 1][0] if i + 1 < len(steps) else None
        ruleset = _version(rules, name or rules.name, moment, end, tables, source.name, digest)
        file = f"{_stamp(moment)}.toml"
        files[file] = (HEADER + "\n" + ruleset_toml(ruleset)).encode()
        versions.append(_checked(ruleset, files[file], file))
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
    used = sum(sum(counts.values()) for _, _, counts in steps)
    return {
        "source": source.name,
        "sha256": digest,
        "name": versions[0].name,
        "base": {"name": rules.name, "version": rules.version, "sha256": rules.sha256},
        "rows": record.rows,
        "times": len(record.listings),
        "tables": used,
        "left_out": record.left_out,
        "bad": list(record.bad),
        "written": written,
        "versions": reported,
    }


def ruleset_toml(ruleset: RuleSet) -> str:
    """A rule set as TOML; read back it has the same digest, floats to the last bit."""
    return tomli_w.dumps(_without_nulls(ruleset.content()))


def _without_nulls(content: Any) -> Any:
    """The content without absent values, which TOML cannot hold."""
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
    record: BracketRecord, chosen: frozenset[str]
) -> list[tuple[int, _Tables, dict[str, int]]]:
    """When the brackets in force changed, to what, and what became of the tables listed then."""
    steps: list[tuple[int, _Tables, dict[str, int]]] = []
    current: dict[str, tuple[Bracket, ...]] = {}
    for moment, listing in record.listings.items():
        listed = {name: own for name, own in listing.items() if not chosen or name in chosen}
        counts = {"new": 0, "changed": 0, "relisted": 0}
        for symbol, brackets in listed.items():
            before = current.get(symbol)
            kind = "new" if before is None else "relisted" if before == brackets else "changed"
            counts[kind] += 1
        current = current | listed
        if counts["new"] or counts["changed"]:
            steps.append((moment, current, counts))
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


def _checked(ruleset: RuleSet, text: bytes, file: str) -> RuleSet:
    """The rule set as its file will be read."""
    again = ruleset_from_content(tomllib.loads(text.decode()), origin=file)
    if again != ruleset:
        raise RuleSetError(
            f"{file} would not give back the rule set it was made from; report the source"
        )
    return again


def _stamp(time: int) -> str:
    """Time in a file's name: names sort like times."""
    return format_time(time).replace("-", "").replace(":", "")


def _replace_folder(out: Path, files: Mapping[str, bytes]) -> bool:
    """Put the folder in place as a whole; False where it holds just these files already."""
    if out.exists():
        if not out.is_dir():
            raise DataError(f"{out} is a file; give a folder for the versions")
        held = {path.name: path for path in out.iterdir()}
        for path in held.values():
            ours = path.suffix == ".toml" and path.is_file()
            if not (ours and path.read_bytes().startswith(HEADER.encode())):
                raise DataError(
                    f"{out} holds {path.name}, which no import wrote; give a folder of its own"
                )
        if {name: path.read_bytes() for name, path in held.items()} == dict(files):
            return False
    made = out.parent / f".{out.name}.{secrets.token_hex(8)}"
    try:
        for name, content in files.items():
            replace_file(made / name, content)
        if not out.exists():
            made.rename(out)
            return True
        before = made.with_name(f"{made.name}.before")
        out.rename(before)
        try:
            made.rename(out)
        except BaseException:
            before.rename(out)
            raise
        shutil.rmtree(before)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return True
