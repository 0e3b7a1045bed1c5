"""The versions of a rule set in the order in which they held, and the one in force at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from margin.rules.ruleset import RuleSet, list_rulesets, load_ruleset
from market.core.clock import format_time
from market.core.errors import RuleSetError


@dataclass(frozen=True, slots=True)
class RuleHistory:
    """Versions of one rule set, each taking over at the moment at which the one before ends.

    One rule set alone is a history of one version; without dates it holds at any time. One that
    was chosen by its name or file is `fixed`: it is used at any time, whatever its dates say.

    Attributes
    ----------
    versions:
        In the order of their validity; the same name, the labels ``version`` distinct. Only the
        first may be open at its beginning, only the last at its end.
    fixed:
        Whether the first and only version is used at any time.
    """

    versions: tuple[RuleSet, ...]
    fixed: bool = False

    def __post_init__(self) -> None:
        if not self.versions:
            raise RuleSetError("no version of a rule set is given; give one at least")
        if self.fixed and len(self.versions) > 1:
            raise RuleSetError(
                f"{len(self.versions)} versions of a rule set are given for all times; give one"
            )
        _check_one_name(self.versions)
        for earlier, later in pairwise(self.versions):
            _check_joined(earlier, later)

    @classmethod
    def of(cls, versions: Iterable[RuleSet]) -> RuleHistory:
        """A history of versions given in any order.

        Raises
        ------
        RuleSetError
            No version, different names, a label twice, an overlap or a gap.
        """
        return cls(tuple(sorted(versions, key=_order)))

    @classmethod
    def constant(cls, ruleset: RuleSet) -> RuleHistory:
        """One rule set for all times."""
        return cls((ruleset,), fixed=True)

    def at(self, as_of: int) -> RuleSet:
        """The version in force at a time in nanoseconds.

        ``effective_from <= as_of < effective_to``, an empty one open on its side; the only one
        of a fixed history.

        Raises
        ------
        RuleSetError
            The time lies before the first version or after the last one.
        """
        if self.fixed:
            return self.versions[0]
        for version in reversed(self.versions):
            begin, end = version.validity
            if begin is not None and as_of < begin:
                continue
            if end is not None and as_of >= end:
                break
            return version
        first, last = self.versions[0], self.versions[-1]
        raise RuleSetError(
            f"no version of rule set {first.name!r} is in force at {format_time(as_of)}; "
            f"{_count(len(self.versions))} from {first.effective_from or 'any time'} to "
            f"{last.effective_to or 'any time'}. Choose a time inside, or add the version of that "
            "time"
        )

    def changes(self) -> tuple[int, ...]:
        """When each version but the first takes over, nanoseconds, rising."""
        begins = (version.validity[0] for version in self.versions[1:])
        return tuple(begin for begin in begins if begin is not None)


def load_history(name_or_path: str | Path) -> RuleHistory:
    """Read a history: a preset by its name, one file, or a folder of ``.toml`` files.

    A preset or a file is used at any time, the versions of a folder at the times when they hold.

    Parameters
    ----------
    name_or_path:
        As in `margin.rules.ruleset.load_ruleset`, or a folder, of which every ``.toml`` file is one
        version.

    Raises
    ------
    RuleSetError
        A rule set cannot be read, or the versions do not follow each other without gap.
    """
    folder = Path(name_or_path)
    is_preset = isinstance(name_or_path, str) and name_or_path in list_rulesets()
    if is_preset or not folder.is_dir():
        return RuleHistory.constant(load_ruleset(name_or_path))
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise RuleSetError(
            f"rule set folder {folder} has no .toml file; `margincast rulesets import` writes "
            "dated versions into it"
        )
    try:
        return RuleHistory.of([load_ruleset(file) for file in files])
    except RuleSetError as error:
        raise RuleSetError(f"rule set folder {folder}: {error}") from error


def _order(version: RuleSet) -> tuple[bool, int]:
    begin, _ = version.validity
    return (begin is not None, begin or 0)


def _check_one_name(versions: tuple[RuleSet, ...]) -> None:
    names = sorted({version.name for version in versions})
    if len(names) > 1:
        raise RuleSetError(
            f"versions of different rule sets are mixed: {', '.join(names)}; keep one name in one "
            "folder"
        )
    labels = [version.version for version in versions]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise RuleSetError(
            f"rule set {names[0]!r} has version {twice[0]!r} more than once; label each version "
            "once"
        )


def _check_joined(earlier: RuleSet, later: RuleSet) -> None:
    """Raise `RuleSetError` unless `later` begins at the moment at which `earlier` ends."""
    end, begin = earlier.validity[1], later.validity[0]
    if end is not None and end == begin:
        return
    overlap = end is None or begin is None or begin < end
    problem = "overlap" if overlap else "leave a gap"
    raise RuleSetError(
        f"versions {earlier.version!r} and {later.version!r} of rule set {later.name!r} {problem}: "
        f"the first holds to {earlier.effective_to or 'any time'}, the second from "
        f"{later.effective_from or 'any time'}; let the second begin when the first ends"
    )


def _count(versions: int) -> str:
    return "its version holds" if versions == 1 else f"its {versions} versions hold"
