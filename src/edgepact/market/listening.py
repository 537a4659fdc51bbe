"""A port is taken before anything else is started: who cannot have it leaves no trace."""

import errno
import socket

from edgepact.errors import MarketError


def listen_at(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: address of the interface, of IPv4 or IPv6.
        port: 0 for any that is free.
        backlog: connections that wait to be accepted.

    Raises:
        MarketError: the port is taken, or there is no such interface.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named since asyncio switches Nagle's algorithm off only where it is, and
    # with it on every answer waits 40 ms for the client's delayed acknowledgement.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(backlog)
        return found
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise MarketError(
                f"port {port} on {host} is in use by another program; "
                "choose another port, or 0 for any that is free"
            ) from None
        raise MarketError(f"cannot listen on {host} port {port}: {error.strerror}") from None
