"""What must hold between responses: of a batch and its accounts, before and after a deposit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.fuzz.caller import Response
from benchmarks.fuzz.generators.requests import Request
from benchmarks.fuzz.oracles.responses import decoded_request

Json = dict[str, Any]


def price_count(request: Request) -> int:
    """How many prices of the control account's coins, or of cash, a request brings."""
    if not isinstance(request.document, dict):
        return 0
    parts = [request.document.get(name) for name in ("bars", "quotes")]
    posted = [item for part in parts if isinstance(part, list) for item in part]
    names = [
        item.get("symbol", item.get("instrument")) for item in posted if isinstance(item, dict)
    ]
    return sum(str(name).startswith(("BTC", "ETH", "USD")) for name in names)


def deposit_faults(request: Request, response: Response) -> Iterator[str]:
    """A deposit moves equity by itself, and no margin by a single bit."""
    parameters, content = decoded_request(request), json.loads(response.body)
    deposits: dict[str, float] = {}
    for change in parameters.changes:
        deposits[change.account_id] = deposits.get(change.account_id, 0.0) + change.deposit
    traded = {change.account_id for change in parameters.changes if change.positions}
    after = {decision["account_id"]: decision for decision in content["after"]["decisions"]}
    for before in content["before"]["decisions"]:
        name = before["account_id"]
        other = after.get(name)
        if name not in deposits or name in traded or other is None:
            continue
        if "valuations" in before or "valuations" in other:
            continue  # with so much cash the headrooms of both valuations may be equal
        for margin in ("initial_margin", "maintenance_margin"):
            if before[margin] != other[margin]:
                yield (
                    f"a deposit moves a margin: {margin} {before[margin]!r} before, "
                    f"{other[margin]!r} after {deposits[name]!r}"
                )
        sizes = [abs(before["equity"]), abs(other["equity"])]
        sizes += [abs(item.cash) for item in parameters.accounts if item.account_id == name]
        sizes += [abs(item.deposit) for item in parameters.changes if item.account_id == name]
        if abs(other["equity"] - before["equity"] - deposits[name]) > 1e-9 * max(sizes):
            yield (
                f"a deposit is not added to equity: {before['equity']!r} before, "
                f"{other['equity']!r} after {deposits[name]!r}"
            )


def neighbour_faults(
    request: Request, response: Response, single: Mapping[str, str | None]
) -> Iterator[str]:
    """An account has the same decision in a batch and by itself, or none in both."""
    if not any(single.values()) and response.status != 200:
        return
    decisions = json.loads(response.body)["decisions"] if response.status == 200 else []
    together = {decision["account_id"]: decision_text(decision) for decision in decisions}
    for name, decision in single.items():
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
