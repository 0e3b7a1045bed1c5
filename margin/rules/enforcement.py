"""``[enforcement]`` of a rule set: which margin calls are made, until when, and what follows.

A rule set without the table takes what its ``[life_cycle]`` says, see
`margin.life_cycle.call_rules.default_enforcement`.
"""

from __future__ import annotations

import fnmatch
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from margin.rules.approval import ApprovalRules
from margin.rules.values import NonNegative, Positive, Text

CallType = Literal["proactive", "initial_margin", "maintenance_margin", "settlement"]

CALL_TYPES: tuple[CallType, ...] = (
    "proactive",
    "initial_margin",
    "maintenance_margin",
    "settlement",
)
"""The types of calls in the order of the columns that hold them."""

Consequence = Literal["advice", "reduce_only", "liquidation"]

DeadlinesFrom = Literal["commit", "acknowledgement"]


class CallTypeRules(Struct, frozen=True, forbid_unknown_fields=True):
    """A type of call, e.g. ``[enforcement.maintenance_margin]``.

    Attributes
    ----------
    call_hours:
        Time to meet the call.
    grace_hours:
        Time after a missed deadline until liquidation, where that is the consequence.
    cure_share:
        The call is met this much above its level, as a share of the maintenance margin; what is
        called includes it. Without effect on ``settlement``, which is met at cash of 0.
    consequence:
        Of a missed deadline: ``liquidation`` after the grace, ``reduce_only`` until the call is
        met, or none, as the call is ``advice`` without a deadline.
    """

    call_hours: NonNegative = 24.0
    grace_hours: NonNegative = 0.0
    cure_share: NonNegative = 0.05
    consequence: Consequence = "liquidation"


class ClientClass(Struct, frozen=True, forbid_unknown_fields=True):
    """Clients with calls of their own: ``[enforcement.client_classes.NAME]``.

    Attributes
    ----------
    accounts:
        Patterns of account ids, ``*`` and ``?`` as in file names; the first class that fits counts.
    proactive, initial_margin, maintenance_margin, settlement:
        In place of the tables of the rule set; absent: as there.
    """

    accounts: tuple[Text, ...]
    proactive: CallTypeRules | UnsetType = UNSET
    initial_margin: CallTypeRules | UnsetType = UNSET
    maintenance_margin: CallTypeRules | UnsetType = UNSET
    settlement: CallTypeRules | UnsetType = UNSET

    def covers(self, account_id: str) -> bool:
        """Whether an account is of this class."""
        return any(fnmatch.fnmatchcase(account_id, pattern) for pattern in self.accounts)


class EnforcementRules(Struct, frozen=True, forbid_unknown_fields=True):
    """``[enforcement]``; a type of call whose table is absent is not made.

    Attributes
    ----------
    proactive:
        Headroom is below the add-on.
    initial_margin:
        Equity is below the opening requirement.
    maintenance_margin:
        Equity is below the maintenance margin.
    settlement:
        Cash is below 0.
    client_classes:
        Classes of clients with other terms, by name.
    recall_share:
        More is called once the outstanding amount exceeds what was called by this share of it.
    dispute_hours:
        A dispute that nobody resolved ends after this time.
    instruction_seconds:
        An instruction that the venue has not answered is given again after this time.
    deadlines_from:
        The hours of a call run from its ``commit``, also where the key is absent, or from its
        ``acknowledgement``.
    acknowledgement_hours:
        How long a call may wait for its acknowledgement: its hours run from then on without one.
    approval:
        Which overrides need a second person.
    """

    proactive: CallTypeRules | UnsetType = UNSET
    initial_margin: CallTypeRules | UnsetType = UNSET
    maintenance_margin: CallTypeRules | UnsetType = UNSET
    settlement: CallTypeRules | UnsetType = UNSET
    client_classes: dict[str, ClientClass] = msgspec.field(default_factory=dict)
    recall_share: NonNegative = 0.1
    dispute_hours: NonNegative = 24.0
    instruction_seconds: NonNegative = 300.0
    deadlines_from: DeadlinesFrom | UnsetType = UNSET
    acknowledgement_hours: Positive | UnsetType = UNSET
    approval: ApprovalRules = ApprovalRules()

    def __post_init__(self) -> None:
        hours = self.acknowledgement_hours
        if self.deadlines_from != "acknowledgement":
            if hours is not UNSET:
                raise ValueError(
                    f"acknowledgement_hours is {hours}, but deadlines run from the commit; set "
                    'deadlines_from = "acknowledgement", or leave acknowledgement_hours out'
                )
            return
        if hours is UNSET:
            raise ValueError(
                'deadlines_from is "acknowledgement" without acknowledgement_hours; give the hours '
                "after which a call runs that nobody acknowledged, or leave deadlines_from out"
            )
        classes = ("", *self.client_classes)
        if not any(
            rule and rule.consequence != "advice" for c in classes for rule in self.types(c)
        ):
            raise ValueError(
                'deadlines_from is "acknowledgement", but no type of call has a deadline; give one '
                "the consequence reduce_only or liquidation, or leave deadlines_from and "
                "acknowledgement_hours out"
            )

    @property
    def waiting_hours(self) -> float:
        """How long a call waits for its acknowledgement; 0: its hours run from its commit."""
        return 0.0 if self.acknowledgement_hours is UNSET else self.acknowledgement_hours

    def from_commit(self) -> EnforcementRules:
        """These rules where every call counts as acknowledged when it is opened."""
        return msgspec.structs.replace(self, deadlines_from=UNSET, acknowledgement_hours=UNSET)

    def types(self, client_class: str = "") -> tuple[CallTypeRules | None, ...]:
        """The rules of each of `CALL_TYPES` for a class; None where no such call is made."""
        own = self.client_classes.get(client_class)
        rules = []
        for name in CALL_TYPES:
            rule = UNSET if own is None else getattr(own, name)
            rule = getattr(self, name) if rule is UNSET else rule
            rules.append(None if rule is UNSET else rule)
        return tuple(rules)

    def client_class(self, account_id: str) -> str:
        """Name of the class of an account; empty where it is of none."""
        classes = self.client_classes.items()
        return next((name for name, kind in classes if kind.covers(account_id)), "")
