"""Decisions as a table: one row an account, as files and frames hold them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa
from msgspec import UNSET

from decisions.messages import Decision
from market.core.clock import parse_time

_MONEY = (
    *("equity", "initial_margin", "maintenance_margin", "headroom", "add_on"),
    *("total_requirement", "opening_requirement", "deposit_to_meet"),
    *("floor", "model_add_on", "cap"),
)


def decision_table(decisions: Sequence[Decision], horizons: Sequence[int]) -> pa.Table:
    """One row a decision, nested parts as JSON.

    Parameters
    ----------
    decisions:
        In the order of the rows.
    horizons:
        Of the model, hours; their probabilities are ``p_1``, ``p_8`` and so on, null where the
        model did not answer.
    """

    def columns(names: Sequence[str], kind: pa.DataType) -> dict[str, pa.Array]:
        return {name: pa.array([getattr(d, name) for d in decisions], kind) for name in names}

    ids = [None if d.decision_id is UNSET else d.decision_id for d in decisions]
    times = [parse_time(d.as_of) for d in decisions]
    return pa.table(
        {
            "decision_id": pa.array(ids, pa.string()),
            **columns(("account_id",), pa.string()),
            "as_of": pa.array(times, pa.timestamp("ns", tz="UTC")),
            **columns(_MONEY, pa.float64()),
            **{
                f"p_{hours}": pa.array(
                    [(d.probability or {}).get(str(hours)) for d in decisions], pa.float64()
                )
                for hours in horizons
            },
            **columns(("binding", "degraded"), pa.string()),
            **{
                name: _as_json([getattr(d, name) for d in decisions])
                for name in ("reasons", "marks", "valuations", "explain")
            },
            **columns(("model", "ruleset"), pa.string()),
        }
    )


def _as_json(values: Sequence[object]) -> pa.Array:
    """Values as JSON; null where a value is unset."""
    texts = [None if value is UNSET else msgspec.json.encode(value).decode() for value in values]
    return pa.array(texts, pa.string())
