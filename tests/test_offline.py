"""The tests' own ban on the network: it holds in this process and in the processes that a test starts."""

import socket
import subprocess
import sys

import pytest

# 192.0.2.1 and 2001:db8::1 are reserved for documentation: nobody answers there, even if the ban were broken.
ATTEMPTS = {
    "IPv4 connection": "socket.socket().connect(('192.0.2.1', 80))",
    "connection without an exception": "socket.socket().connect_ex(('192.0.2.1', 80))",
    "IPv6 connection": "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "look-up": "socket.getaddrinfo('name.invalid', 443)",
    "look-up of bytes": "socket.getaddrinfo(b'name.invalid', 443)",
    "old look-up": "socket.gethostbyname('name.invalid')",
    "reverse look-up": "socket.gethostbyaddr('192.0.2.1')",
    "reverse look-up of a port": "socket.getnameinfo(('192.0.2.1', 80), 0)",
    "datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 80))",
    "connection by name": "socket.create_connection(('name.invalid', 443), timeout=1)",
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_the_network_is_refused_in_this_process(attempt):
    with pytest.raises(PermissionError, match="tests run without a network"):
        exec(attempt)


@pytest.mark.parametrize("attempt", ["look-up", "IPv4 connection"])
def test_the_network_is_refused_in_a_child_process(attempt):
    child = subprocess.run(
        [sys.executable, "-c", f"import socket; {ATTEMPTS[attempt]}"], capture_output=True, text=True, check=False
    )
    assert child.returncode == 1
    assert "PermissionError: tests run without a network" in child.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_works(host):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection((host, server.getsockname()[1]), timeout=5) as client,
        server.accept()[0] as connection,
    ):
        client.sendall(b"hello")
        assert connection.recv(5) == b"hello"


def test_a_unix_socket_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path: those of Unix sockets are limited to some hundred bytes
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")
        connection, _ = server.accept()
        connection.close()
