"""Servers over real sockets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from serving.http.connections import ConnectionLimits
from tests.serving.http.small_endpoint import Endpoint


@pytest.fixture
def start() -> Iterator[Callable[..., Endpoint]]:
    switch = sys.getswitchinterval()
    with ExitStack() as stack:

        def start(**limits: Any) -> Endpoint:
            endpoint = Endpoint(ConnectionLimits(**limits))
            stack.callback(endpoint.end)
            return endpoint

        yield start
    sys.setswitchinterval(switch)
