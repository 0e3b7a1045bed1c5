"""Ports for servers that are started by their number."""

from __future__ import annotations

import atexit
import secrets
import socket

_FIRST, _COUNT = 20_000, 12_000
"""Below the ports that Linux gives to clients (32768 and above), of which one could take a port
between the moment it is chosen and the moment its server listens."""


def free_port() -> int:
    """A port on the loopback interface that nothing listens on.

    The port is claimed, by the name of an abstract socket, until this process ends: no other call
    of this function on the machine returns it, however late its server listens.

    Raises
    ------
    RuntimeError
        Every port of the range is claimed or taken.
    """
    start = secrets.randbelow(_COUNT)  # unseeded: tests seed the generators of `random`
    for offset in range(_COUNT):
        port = _FIRST + (start + offset) % _COUNT
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0margincast-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)
        return port
    raise RuntimeError(f"no port from {_FIRST} to {_FIRST + _COUNT - 1} is free")
