"""A server on loopback that misbehaves in one way, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
import time
from email.utils import formatdate


class FaultServer:
    """Answers each connection with `behave(connection, number)`; `requests` holds the head of each request read."""

    def __init__(self, behave):
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.requests = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

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
            self.requests.append(read_request(connection))
            self._behave(connection, number)
            connection.close()


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


def drip(connection, _):
    """Send a head, one byte in a tenth of a second: no single read is late, all of them are."""
    for byte in b"HTTP/1.1 200 X\r\nx-slow: " + b"y" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.1)


def flood(connection, _):
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" " * (1 << 20))


def bomb(connection, _):
    packed = gzip.compress(b" " * (300 << 20), 9)
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n" + packed)


def soon(seconds):
    """Return a moment as Retry-After takes it."""
    return formatdate(time.time() + seconds, usegmt=True)
