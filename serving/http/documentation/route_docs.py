"""What every route says of itself in the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import Operation, Parameter

from serving.http.documentation.examples import add_examples
from serving.http.problems import PROBLEM_JSON, Problem

READ_PROBLEMS = (401, 403, 429, 503)
POST_PROBLEMS = (*READ_PROBLEMS, 413, 415, 422)
_TEXTS = {
    401: "No valid key.",
    403: "The key lacks the scope, or the host or origin of the request is not allowed.",
    404: "There is no such thing.",
    409: "The Idempotency-Key came with another body, or updates of an account are missing.",
    413: "The body is too long.",
    415: "The body is not application/json.",
    422: "The request is invalid.",
    429: "Too many requests of this key, or too many without a valid one; see Retry-After.",
    503: "The ledger cannot be reached, or too much is asked at once; see Retry-After.",
}


SECURITY = "key"
"""Name of the security scheme."""

TAGS = {
    "Scoring": "Decide on accounts, and look at decisions that were recorded.",
    "Accounts": "The live book: give snapshots and changes, read how accounts stand.",
    "Market": "Post bars and quotes.",
    "Calls and instructions": "Margin calls, instructions to the venue, and their answers.",
    "Overrides and modes": "Overrides, modes, notifications and what became of a command.",
    "Model and rules": "What decides: the model and the rule set in force.",
    "Health": "Whether the process answers and can decide, and its metrics.",
}
"""Groups of routes, in the order of the document, and what they are for."""

_ROUTES = {
    "score": ("Scoring", "Score accounts"),
    "what_if": ("Scoring", "Score accounts before and after changes"),
    "decision": ("Scoring", "Read a recorded decision"),
    "decision_explanation": ("Scoring", "Explain a recorded decision"),
    "account_decisions": ("Scoring", "List decisions of an account"),
    "put_account": ("Accounts", "Replace an account by a snapshot"),
    "post_updates": ("Accounts", "Apply updates of accounts"),
    "list_accounts": ("Accounts", "List accounts of the live book"),
    "get_account": ("Accounts", "Read an account of the live book"),
    "market_bars": ("Market", "Post closed bars"),
    "market_quotes": ("Market", "Post quotes"),
    "list_calls": ("Calls and instructions", "List margin calls"),
    "get_call": ("Calls and instructions", "Read a margin call"),
    "acknowledge_call": ("Calls and instructions", "Acknowledge a margin call"),
    "dispute_call": ("Calls and instructions", "Dispute a margin call"),
    "resolve_call": ("Calls and instructions", "Resolve a dispute"),
    "list_instructions": ("Calls and instructions", "List instructions"),
    "get_instruction": ("Calls and instructions", "Read an instruction"),
    "acknowledge_instruction": ("Calls and instructions", "Answer an instruction"),
    "list_overrides": ("Overrides and modes", "List overrides in force"),
    "request_override": ("Overrides and modes", "Request an override"),
    "approve_override": ("Overrides and modes", "Approve an override"),
    "reject_override": ("Overrides and modes", "Reject or end an override"),
    "get_mode": ("Overrides and modes", "Read the modes in force"),
    "set_mode": ("Overrides and modes", "Set the mode of a market"),
    "list_deliveries": ("Overrides and modes", "List notifications at sinks"),
    "skip_delivery": ("Overrides and modes", "Give up a dead notification"),
    "get_command": ("Overrides and modes", "Read what became of a command"),
    "model": ("Model and rules", "Read the model in use"),
    "rules_in_force": ("Model and rules", "Read the rule set in force"),
    "health_live": ("Health", "Check that the process answers"),
    "health_ready": ("Health", "Check that decisions can be made"),
    "prometheus": ("Health", "Read the metrics"),
}
"""Group and summary of each route, by the name of its handler, which is its operationId."""

_PARAMETERS = {
    "decision_id": "Id of the decision, as its answer gives it.",
    "account_id": "Id of the account, URL-encoded.",
    "call_id": "Id of the call.",
    "command_id": "Id of the command, as its answer gives it.",
    "instruction_id": "Id of the instruction.",
    "override_id": "Id of the override: the `command_id` of its request.",
    "event_id": "Id of the event that the notification tells of.",
    "limit": "Most entries of the page.",
    "before": "`next_before` of the page before; absent: the newest.",
    "cursor": "A cursor that another page gave; absent: the first page.",
    "as_of": "ISO 8601 time; absent: now.",
    "search": "Part of the account id, in small or capital letters.",
    "in_sync": "Only accounts of which no update is missing (true) or one is (false).",
    "suspect": "Only accounts that unconfirmed prices drive (true), or the others (false).",
    "problem": "Only accounts that could not be evaluated (true), or the others (false).",
    "least_probability": "Least probability of the longest horizon, 0 to 1.",
    "sort": "Order of the entries.",
    "state": "Only entries in this state.",
    "type": "Only entries of this type.",
    "account": "Only entries of the account with this id.",
    "open": "Only open entries (true), or those that have ended (false).",
    "status": "Only entries with this status.",
}


def needs(scope: str) -> list[dict[str, list[str]]]:
    """The security of a route whose key must have a scope, or the scope `admin`."""
    return [{SECURITY: [scope]}]


def operation_id(handler: HTTPRouteHandler, *_: object) -> str:
    """The operationId of a route: the name of its handler."""
    return handler.handler_name


@dataclass
class DocumentedOperation(Operation):
    """A route in the OpenAPI document, without the 400 that the framework adds: it is 422 here."""

    def __post_init__(self) -> None:
        if self.operation_id is not None:
            tag, self.summary = _ROUTES[self.operation_id]
            self.tags = [tag]
        for need in self.security or ():
            for scope in need[SECURITY]:
                self.description = f"{self.description}\n\nNeeds a key with the scope `{scope}`."
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter):
                parameter.description = parameter.description or _PARAMETERS[parameter.name]
        if self.responses is not None:
            self.responses.pop("400", None)
        add_examples(self)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems with which a route may answer, by status."""
    return {status: problem_response(_TEXTS[status]) for status in statuses}


def problem_response(description: str) -> ResponseSpec:
    """A problem with another description than that of its status."""
    return ResponseSpec(
        Problem, description=description, media_type=PROBLEM_JSON, generate_examples=False
    )
