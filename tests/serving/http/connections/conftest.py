"""Servers over real sockets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from serving.http.connections import ConnectionLimits
from tests.serving.http.small_endpoint import Endpoint, application


@pytest.fixture
def start() -> Iterator[Callable[..., Endpoint]]:
    switch = sys.getswitchinterval()
    with ExitStack() as stack:

        def start(build: Callable[[], Any] = lambda: application, **limits: Any) -> Endpoint:
            endpoint = Endpoint(ConnectionLimits(**limits), build)
            stack.callback(endpoint.end)
            return endpoint

        yield start
    sys.setswitchinterval(switch)
