"""Stop listening without resetting a connection that is already made."""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress

SETTLE_SECONDS = 0.1
"""Connections that are being made when no new one is taken any more are complete within this."""

_SO_ATTACH_FILTER = 26
_FLAGS_BYTE, _SYN = 13, 0x02
_PROGRAM = (
    (0x30, 0, 0, _FLAGS_BYTE),  # load the byte with the flags of the TCP header
    (0x45, 0, 1, _SYN),  # SYN: go on; else: skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take
)


def take_no_more(listener: socket.socket) -> None:
    """Let the kernel drop what opens new connections to a listening socket.

    Closing a listening socket resets the connections that it has made and nobody has accepted yet.
    So a socket filter drops the packets that open one (SYN), and what is there can be accepted
    before the socket is closed. A client whose packet was dropped sends it again a second later,
    to whoever listens then. On systems without socket filters nothing is done.

    References
    ----------
    Linux kernel documentation, networking/filter: SO_ATTACH_FILTER.
    """
    program = b"".join(struct.pack("HBBI", *step) for step in _PROGRAM)
    buffer = ctypes.create_string_buffer(program, len(program))
    filtered = struct.pack("HP", len(_PROGRAM), ctypes.addressof(buffer))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtered)
