"""What a server says of its connections, below the application that shows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

ConnectionRefusal = Literal[
    "answer-not-taken",
    "body-late",
    "connections-limit",
    "framing-too-long",
    "head-late",
    "head-too-long",
    "not-http",
    "pending-bytes",
    "pipelined",
    "shutting-down",
    "starting",
]
"""Why the server answered in place of the application, or cut a connection off."""


@dataclass(slots=True)
class ConnectionCounts:
    """Connections of a server: how many are open now, and how often one was refused or cut off, by
    why."""

    open: int = 0
    refused: Counter[ConnectionRefusal] = field(default_factory=Counter)
