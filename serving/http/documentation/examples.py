"""Examples of requests and answers in the OpenAPI document.

Each route has a file of its own under ``examples/``, named by its operationId: a ``request`` where
it takes a body, and ``answers`` by status. Those of ``common.json`` count for all routes. Numbers
are those that a small simulated market gave; long lists and free objects are cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
from litestar.openapi.spec import Operation, RequestBody
from litestar.openapi.spec.base import BaseSchemaObject

COMMON = "common"


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The examples of one file.

    Attributes
    ----------
    answers:
        Body of an answer by its status; a text where it is not JSON.
    request:
        Body of a request; None where the route takes none.
    """

    answers: dict[str, Any]
    request: Any = None


@dataclass
class _Body(BaseSchemaObject):
    """A body as it is: the framework would leave out the fields of a dict that are null."""

    body: Any

    def to_schema(self) -> Any:
        return self.body


def examples_of(name: str) -> Examples:
    """The examples of an operation, or those of all (`COMMON`)."""
    content = files(__package__).joinpath("examples", f"{name}.json").read_bytes()
    return msgspec.json.decode(content, type=Examples)


def add_examples(operation: Operation) -> None:
    """Give each body of an operation its example; raises `KeyError` where one is missing."""
    if operation.operation_id is None:
        return
    own = examples_of(operation.operation_id)
    answers = examples_of(COMMON).answers | own.answers
    if isinstance(operation.request_body, RequestBody):
        for media in operation.request_body.content.values():
            media.example = _Body(own.request)
    for status, answer in (operation.responses or {}).items():
        for media in (getattr(answer, "content", None) or {}).values():
            media.example = _Body(answers[status])
