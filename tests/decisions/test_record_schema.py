"""The fields of a recorded decision by schema: a new field is a new schema."""

from __future__ import annotations

import msgspec

from decisions.messages import Decision
from decisions.records import SCHEMA

FIELDS = {
    1: (
        "account_id",
        "add_on",
        "as_of",
        "binding",
        "cap",
        "decision_id",
        "degraded",
        "deposit_to_meet",
        "equity",
        "explain",
        "floor",
        "headroom",
        "initial_margin",
        "maintenance_margin",
        "marks",
        "model",
        "model_add_on",
        "opening_requirement",
        "probability",
        "reasons",
        "ruleset",
        "total_requirement",
        "valuations",
    ),
    2: (
        "account_id",
        "add_on",
        "as_of",
        "binding",
        "cap",
        "decision_id",
        "degraded",
        "deposit_to_meet",
        "equity",
        "floor",
        "headroom",
        "initial_margin",
        "maintenance_margin",
        "marks",
        "model",
        "model_add_on",
        "opening_requirement",
        "probability",
        "reasons",
        "ruleset",
        "total_requirement",
        "valuations",
    ),
}
FIELDS[3] = FIELDS[2]  # the record beside the decision gained the requester
"""By schema; what was released is never edited."""

NEVER_RECORDED = {"explain"}
"""A replay makes it again."""


def test_fields_of_a_decision_are_those_of_the_current_schema() -> None:
    names = {field.name for field in msgspec.structs.fields(Decision)} - NEVER_RECORDED
    now = tuple(sorted(names))
    assert now == FIELDS[SCHEMA], "a decision has other fields: raise SCHEMA and list them here"
