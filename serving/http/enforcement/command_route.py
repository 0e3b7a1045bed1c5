"""What every route has in common that posts a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from enforcement.controls.commands import KeyedRequest
from ledger.canonical import sha256_hex
from ledger.idempotency import RequestKey
from serving.admission.lanes import Lanes
from serving.enforcement.command_posts import CommandPosts, PostedCommand
from serving.http.auth import AccessScope, requires
from serving.http.documentation.route_docs import (
    POST_PROBLEMS,
    DocumentedOperation,
    needs,
    problem_response,
    problems,
)
from serving.http.handlers import IdempotencyKey
from serving.http.problems import ProblemError
from serving.http.strict_body import Encoded, StrictBody
from serving.schemas.enforcement_messages import CommandAnswer
from serving.service import Service

T = TypeVar("T")

_CONFLICT = (
    "The Idempotency-Key came with another request, or the present state does not allow the "
    "command: the detail says why."
)


@dataclass(frozen=True, slots=True)
class CommandSender:
    """Sends the command of one request to the leader.

    Attributes
    ----------
    posts:
        Puts it on record.
    lanes:
        Threads for that.
    call_seconds:
        How long the request may wait for a thread.
    request:
        Whose requester the command names.
    key:
        Its Idempotency-Key.
    """

    posts: CommandPosts
    lanes: Lanes
    call_seconds: float
    request: Request[str, Any, State]
    key: str | None

    async def send(
        self,
        body: Encoded[T],
        read: Callable[[T], Mapping[str, Any]] = msgspec.to_builtins,
        **fields: str,
    ) -> Response[CommandAnswer]:
        """Put a command on record and answer what the leader made of it.

        Parameters
        ----------
        body:
            Of the request.
        read:
            What of the command the body says.
        fields:
            The rest, without the requester.

        Returns
        -------
        200 with the outcome, or 202 with ``Location`` where the leader has not applied it yet.

        Raises
        ------
        ProblemError
            404, 409 or 422: it cannot be applied.
        """
        keyed, requester = None, self.request.user
        if self.key is not None:
            named = f"{self.request.method} {self.request.url.path}\n".encode()
            keyed = KeyedRequest(RequestKey(requester, self.key), sha256_hex(named + body.body))

        def append() -> PostedCommand:
            command = {**fields, **read(body.decode()), "requester": requester}
            return self.posts.append(command, keyed)

        posted = await self.lanes.accounts.run(append, self.call_seconds)
        answer = await self.posts.wait(posted.command_id, self.lanes.read, self.call_seconds)
        if answer.result == "refused" and answer.outcome is not None:
            raise ProblemError(409, "command-refused", answer.outcome["refused"])
        headers = {"Idempotent-Replayed": "true"} if posted.repeated else {}
        status = HTTP_200_OK
        if answer.result == "waiting":
            status = HTTP_202_ACCEPTED
            headers["Location"] = f"/v1/commands/{posted.command_id}"
        return Response(
            msgspec.json.encode(answer),  # type: ignore[arg-type]  # sent as it is
            status_code=status,
            media_type=MediaType.JSON,
            headers=headers,
        )


def command_sender(
    request: Request[str, Any, State],
    command_posts: NamedDependency[CommandPosts],
    service: NamedDependency[Service],
    lanes: NamedDependency[Lanes],
    idempotency_key: IdempotencyKey = None,
) -> CommandSender:
    """The sender of a request's command."""
    seconds = service.settings.call_seconds
    return CommandSender(command_posts, lanes, seconds, request, idempotency_key)


def post_command(path: str, body: type[StrictBody[Any]], scope: AccessScope) -> post:
    """Decorator of a route that posts a command."""
    waiting = ResponseSpec(
        CommandAnswer,
        description="On record, not applied yet: Location shows the outcome.",
        generate_examples=False,
    )
    return post(
        path,
        dto=body,
        return_dto=None,
        dependencies={"command_sender": Provide(command_sender, sync_to_thread=False)},
        guards=[requires(scope)],
        security=needs(scope),
        status_code=HTTP_200_OK,
        responses={202: waiting, **problems(*POST_PROBLEMS, 404), 409: problem_response(_CONFLICT)},
        operation_class=DocumentedOperation,
    )
