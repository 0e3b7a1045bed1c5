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
}
"""By schema; what was released is never edited."""


def test_fields_of_a_decision_are_those_of_the_current_schema() -> None:
    now = tuple(sorted(field.name for field in msgspec.structs.fields(Decision)))
    assert now == FIELDS[SCHEMA], "a decision has other fields: raise SCHEMA and list them here"
