"""Refuses every connection and name look-up but loopback, in any Python process that has this folder on PYTHONPATH.

An audit hook can't be undone by the code under test, and notebook kernels and other child processes inherit it.
"""

import ipaddress
import sys


def _is_loopback(host: object) -> bool:
    if host in ("localhost", "", None):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path is a Unix socket
    elif event == "socket.getnameinfo":
        host = arguments[0][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
    else:
        return
    if not _is_loopback(host):
        raise PermissionError(f"tests run without a network: {event} to {host!r} refused")


sys.addaudithook(_refuse)
