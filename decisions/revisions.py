"""Revisions of the calculation: which decisions of earlier versions come out otherwise, and why.

A record names the set of a decision's fields (``schema``) and the revision of the calculation that
made it (``calculation``); records of before have neither and count as 0 and 0. Where a rule was
changed on purpose, figures replayed from an older record differ, and the change is named by its
ADR. What no change explains is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from margin.rules.ruleset import RuleSet

SCHEMA = 1
"""Raise it with every field that a decision gains or loses (`decisions.messages.Decision`)."""

CALCULATION = 1
"""Raise it with every change that moves figures on purpose, and add the change to `CHANGES`."""

ROUNDING = 1e-9
"""Relative difference up to which figures differ by the order of their arithmetic alone."""


@dataclass(frozen=True, slots=True)
class RecordedBasis:
    """What a recorded decision rests on, as far as it tells which changes concern it.

    Attributes
    ----------
    payload:
        Of the record.
    market:
        Content of the market snapshot.
    ruleset:
        The rules.
    """

    payload: Mapping[str, Any]
    market: Mapping[str, Any]
    ruleset: RuleSet


@dataclass(frozen=True, slots=True)
class Change:
    """A rule that was changed on purpose.

    Attributes
    ----------
    revision:
        The first calculation with it.
    adr:
        Number of the decision record under ``docs/adr``.
    title:
        What changed.
    fields:
        Fields of a decision that it can move; None: all figures and what is said of them.
    applies:
        Whether it concerns a decision.
    rounding_only:
        It moves figures by no more than `ROUNDING`.
    """

    revision: int
    adr: str
    title: str
    fields: frozenset[str] | None
    applies: Callable[[RecordedBasis], bool]
    rounding_only: bool = False

    def explains(self, field: str, close: bool) -> bool:
        """Whether it can have moved a field, by rounding or by more."""
        if self.rounding_only and not close:
            return False
        return field in (_FIGURES if self.fields is None else self.fields)


_SAID = frozenset({"binding", "reasons", "explain"})
_ADD_ON = frozenset(
    {"add_on", "total_requirement", "deposit_to_meet", "floor", "model_add_on", "cap"}
)
_FIGURES = (
    frozenset({"equity", "initial_margin", "maintenance_margin", "headroom", "probability"})
    | _ADD_ON
    | _SAID
)


def _has_quotes(basis: RecordedBasis) -> bool:
    return "quotes_sha256" in basis.payload["contents"]


def _has_collateral(basis: RecordedBasis) -> bool:
    return bool(basis.payload["account"].get("collateral"))


def _has_suspect_price(basis: RecordedBasis) -> bool:
    return any(basis.market["suspect"])


def _repeats_instrument(basis: RecordedBasis) -> bool:
    names = [position["instrument"] for position in basis.payload["account"]["positions"]]
    return len(set(names)) < len(names)


def _always(_: RecordedBasis) -> bool:
    return True


CHANGES: tuple[Change, ...] = (
    Change(1, "0029", "quoted marks count in every valuation", None, _has_quotes),
    Change(1, "0029", "extra haircuts of the initial margin count", None, _has_collateral),
    Change(1, "0029", "positions in one instrument are netted", None, _repeats_instrument),
    Change(1, "0029", "one valuation and one engine path", None, _always, rounding_only=True),
    Change(1, "0030", "suspect prices are valued apart", None, _has_suspect_price),
    Change(1, "0035", "what binds a level is named by its last step", _SAID, _always),
)
"""Every change since records began, the oldest first."""


def changes_between(recorded: int, current: int, basis: RecordedBasis) -> tuple[Change, ...]:
    """Changes after one revision, up to another, that concern a decision."""
    return tuple(
        change
        for change in CHANGES
        if recorded < change.revision <= current and change.applies(basis)
    )


def superseding(
    changes: Collection[Change], fields: Mapping[str, bool]
) -> tuple[Change, ...] | None:
    """The changes that explain why fields differ.

    Parameters
    ----------
    changes:
        Those that concern the decision.
    fields:
        The fields that differ, and whether by no more than `ROUNDING`.

    Returns
    -------
    In the order of `CHANGES`; None where a field is left that none of them explains.
    """
    named: list[Change] = []
    for field, close in fields.items():
        found = [change for change in changes if change.explains(field, close)]
        if not found:
            return None
        by_rounding = [change for change in found if change.rounding_only]
        named += by_rounding or found
    return tuple(change for change in changes if change in named)
