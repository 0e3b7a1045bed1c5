"""What must hold between answers: of a batch and its accounts, before and after a deposit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.fuzz.caller import Answer
from benchmarks.fuzz.generators.requests import Request
from benchmarks.fuzz.oracles.answers import decoded_request

Json = dict[str, Any]


def price_count(request: Request) -> int:
    """How many prices of the control account's coins, or of cash, a request brings."""
    if not isinstance(request.document, dict):
        return 0
    parts = [request.document.get(name) for name in ("bars", "quotes")]
    posted = [one for part in parts if isinstance(part, list) for one in part]
    names = [one.get("symbol", one.get("instrument")) for one in posted if isinstance(one, dict)]
    return sum(str(name).startswith(("BTC", "ETH", "USD")) for name in names)


def deposit_faults(request: Request, answer: Answer) -> Iterator[str]:
    """A deposit moves equity by itself, and no margin by a single bit."""
    asked, found = decoded_request(request), json.loads(answer.body)
    deposits: dict[str, float] = {}
    for change in asked.changes:
        deposits[change.account_id] = deposits.get(change.account_id, 0.0) + change.deposit
    traded = {change.account_id for change in asked.changes if change.positions}
    after = {one["account_id"]: one for one in found["after"]["decisions"]}
    for one in found["before"]["decisions"]:
        name = one["account_id"]
        other = after.get(name)
        if name not in deposits or name in traded or other is None:
            continue
        if "valuations" in one or "valuations" in other:
            continue  # beside so much cash the headrooms of both valuations may be one number
        for margin in ("initial_margin", "maintenance_margin"):
            if one[margin] != other[margin]:
                yield (
                    f"a deposit moves a margin: {margin} {one[margin]!r} before, "
                    f"{other[margin]!r} after {deposits[name]!r}"
                )
        sizes = [abs(one["equity"]), abs(other["equity"])]
        sizes += [abs(own.cash) for own in asked.accounts if own.account_id == name]
        sizes += [abs(own.deposit) for own in asked.changes if own.account_id == name]
        if abs(other["equity"] - one["equity"] - deposits[name]) > 1e-9 * max(sizes):
            yield (
                f"a deposit is not added to equity: {one['equity']!r} before, "
                f"{other['equity']!r} after {deposits[name]!r}"
            )


def neighbour_faults(
    request: Request, answer: Answer, alone: Mapping[str, str | None]
) -> Iterator[str]:
    """Each account has in its batch the decision that it has alone, or none both times."""
    if not any(alone.values()) and answer.status != 200:
        return
    decisions = json.loads(answer.body)["decisions"] if answer.status == 200 else []
    together = {decision["account_id"]: decision_text(decision) for decision in decisions}
    for name, decision in alone.items():
        if decision is not None and name not in together:
            yield f"refused for a neighbour: {name!r} has a decision alone, not in its batch"
        elif decision is None and name in together:
            yield f"decided for a neighbour: {name!r} has a decision in its batch, not alone"
        elif decision != together.get(name):
            yield f"differs for a neighbour: {_difference(str(decision), together[name])}"


def decision_text(decision: Json) -> str:
    """A decision without its id, for comparison to the last bit."""
    return json.dumps({key: value for key, value in decision.items() if key != "decision_id"})


def _difference(alone: str, together: str) -> str:
    first, second = json.loads(alone), json.loads(together)
    return "; ".join(
        f"{key} {first.get(key)!r} alone, {second.get(key)!r} together"
        for key in (*first, *(set(second) - set(first)))
        if json.dumps(first.get(key)) != json.dumps(second.get(key))
    )
