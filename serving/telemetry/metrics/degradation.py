"""Why a decision was made without the model, as one of a fixed few kinds."""

from __future__ import annotations

KINDS = {
    "no model: no bundle": "no-bundle",
    "no model: the model failed": "model-failed",
    "no model": "bundle-unfit",
    "stale market data": "stale-market",
    "warm-up": "warm-up",
    "incomplete market data": "incomplete-market",
    "the account": "account",
    "the model returned no number": "model-no-number",
}
"""Kinds by how the reason in a decision begins; the first that fits counts."""

OTHER = "other"


def kind_of_degradation(reason: str) -> str:
    """The kind of a reason: a label whose values do not grow with what is scored."""
    for beginning, kind in KINDS.items():
        if reason.startswith(beginning):
            return kind
    return OTHER
