"""Connections to public addresses only, unless a host is allowed by name.

A name is resolved once, every address that it has is checked, and the connection goes to one of
those that were checked: a name that resolves to another address a moment later (DNS rebinding)
changes nothing.

References: RFC 6890 (special-purpose addresses); RFC 6052 (addresses of NAT64).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import cast

_NAT64 = ip_network("64:ff9b::/96")


class RefusedAddressError(OSError):
    """A host has an address to which nothing is sent."""


class Deadline:
    """The end of an attempt, for all its steps together.

    Parameters
    ----------
    seconds:
        How long the attempt may take.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left, above 0.

        Raises
        ------
        TimeoutError
            None is left.
        """
        left = self._end - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("timed out")
        return left


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet.

    Private, loopback, link-local, shared, reserved and multicast addresses do not, nor does an
    IPv6 address that stands for such an IPv4 address.
    """
    parsed = ip_address(address.partition("%")[0])
    inner = _embedded(parsed)
    if inner is not None:
        return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for; None where it stands for itself."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour


def connect(
    host: str, port: int, allow_hosts: Collection[str], deadline: Deadline
) -> socket.socket:
    """A TCP connection to a host.

    Parameters
    ----------
    host, port:
        Name or address, and port.
    allow_hosts:
        Hosts, as written, whose addresses need not be public.
    deadline:
        Of the attempt.

    Raises
    ------
    RefusedAddressError
        The host is not among `allow_hosts`, and an address of it is not public.
    OSError
        The name has no address, or nothing answers there in time.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(cast(str, place[0]) for *_, place in found))
    if host not in allow_hosts and not all(map(is_public, addresses)):
        raise RefusedAddressError(
            "the host has a private, loopback or link-local address; name it in allow_hosts if "
            "that is intended"
        )
    problem: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            # A literal address: it is not resolved a second time.
            return socket.create_connection((address, port), timeout=deadline.remaining())
        except OSError as error:
            problem = error
    raise problem
