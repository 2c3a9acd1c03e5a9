"""A server on loopback that misbehaves in one way, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import functools
import gzip
import socket
import struct
import threading
import time
from email.utils import formatdate


def read_request(connection):
    """Read one request whole; return its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head


def read_something(connection):
    """Return the first bytes that come, whatever they are."""
    return connection.recv(65536)


class FaultServer:
    """Answers each connection with `behave(connection, number)`; `requests` holds the head of each request read.

    With `tls`, a server's SSLContext, it speaks that first. `connections` counts those that came, read or not.
    """

    def __init__(self, behave, *, tls=None, read=read_request):
        self._behave = behave
        self._tls = tls
        self._read = read
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.requests = []
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def connections(self):
        return len(self._open)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(5)

    def _serve(self):
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            number += 1
            threading.Thread(target=self._answer, args=(connection, number), daemon=True).start()

    def _answer(self, connection, number):
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self.requests.append(self._read(connection))
            self._behave(connection, number)
            connection.close()


def answer(status=200, body=b"{}", kind="application/json", **headers):
    """Return a behaviour: one plain answer."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]

    def behave(connection, _):
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return behave


def in_turn(*behaviours):
    """Return a behaviour that is each of these once, and then the last for good."""

    def behave(connection, number):
        behaviours[min(number, len(behaviours)) - 1](connection, number)

    return behave


def reset(connection, _):
    """Break the connection before a byte of the answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_in_the_body(connection, _):
    connection.sendall(b'HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n{"id": "half')
    time.sleep(0.05)
    reset(connection, _)


def end_early(connection, _):
    """Close in good order, but before all that was announced."""
    connection.sendall(b'HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n{"id": "half')


def silence(connection, _):
    connection.recv(1)


def silence_in_the_body(connection, _):
    connection.sendall(b'HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n{"id": "half')
    connection.recv(1)


def drip(connection, _):
    """Send a head, one byte in a tenth of a second: no single read is late, all of them are."""
    for byte in b"HTTP/1.1 200 X\r\nx-slow: " + b"y" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def flood(connection, _):
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" " * (1 << 20))


@functools.cache
def packed_bomb():
    """Return 300 MB as gzip packs them; its first call takes a second or two."""
    return gzip.compress(b" " * (300 << 20), 9)


def bomb(connection, _):
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n" + packed_bomb())


def soon(seconds):
    """Return a moment as Retry-After takes it."""
    return formatdate(time.time() + seconds, usegmt=True)
