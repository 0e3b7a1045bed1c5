"""The page of one decision: what is on record of it, and its replay where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decisions.errors import NotFoundError, NotReplayableError
from decisions.replay import Replay
from market.core.errors import AlteredError
from serving.console.views.accounts.requirement import requirement_chart
from serving.service import Service

AMOUNTS = {
    "equity": "equity",
    "initial_margin": "initial margin",
    "maintenance_margin": "maintenance margin",
    "headroom": "headroom",
    "add_on": "add-on",
    "total_requirement": "total requirement",
    "opening_requirement": "opening requirement",
    "deposit_to_meet": "deposit to meet",
    "floor": "rule floor",
    "model_add_on": "model level",
    "cap": "cap",
}
"""Amounts of a decision, in words."""

_SHOWN = frozenset(
    {*AMOUNTS, "decision_id", "account_id", "as_of", "probability", "binding", "degraded"}
    | {"reasons", "model", "ruleset", "marks", "valuations", "explain"}
    | {"chain", "seq", "hash", "recorded_at", "requester"}
)


def decision_view(service: Service, decision_id: str, *, replayed: bool) -> dict[str, Any]:
    """What the template is given.

    Parameters
    ----------
    service:
        Reads and replays decisions.
    decision_id:
        Its id.
    replayed:
        Whether it is made again from its inputs.

    Raises
    ------
    NotFoundError
        There is no such decision, or its record was altered.
    LedgerError
        The ledger cannot be read.
    """
    try:
        found = service.decisions.get(decision_id)
    except AlteredError as error:  # in words: whoever looks it up must know
        raise NotFoundError(f"{error}; nothing of it is shown, verify the ledger") from error
    replay, no_replay = None, ""
    if replayed:
        try:
            replay = service.decisions.replayed(decision_id)
        except (NotReplayableError, AlteredError) as error:
            no_replay = str(error)
    hours = sorted(found["probability"] or (), key=int)
    return {
        "decision": {"marks": None} | found,  # records of the first version name none
        "probability": {name: found["probability"][name] for name in hours},
        "amounts": {name: words for name, words in AMOUNTS.items() if name in found},
        "others": {name: value for name, value in found.items() if name not in _SHOWN},
        "replay": replay,
        "no_replay": no_replay,
        "differences": [] if replay is None else _differences(replay),
        "chart": None if replay is None else requirement_chart(replay.explanation),
    }


def _differences(replay: Replay) -> list[tuple[str, str, str]]:
    """Field, recorded and replayed value of each difference."""
    return [(name, _text(a), _text(b)) for name, (a, b) in replay.differences.items()]


def _text(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return "none" if value is None else str(value)
