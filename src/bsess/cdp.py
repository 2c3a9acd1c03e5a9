"""DevTools over a WebSocket: one blocking connection whose every wait has an end.

The protocol is the websockets package's; the socket is ours, for its own client needs a thread, and the holder of a
connection must stay below 24 MB.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from bsess import network

_CHUNK = 1 << 16
_MESSAGE_MAX = 16 << 20
# Until its next write the server may take so long to make room: it reads what it is sent.
_WRITE_SECONDS = 10.0
_PROXY_ANSWER_MAX = 1 << 16


class RefusedError(Exception):
    """The server answered the handshake with a status instead of an open connection."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"answered {status}")
        self.status = status
        self.body = body


class EndedError(Exception):
    """The connection ended, or was never made: the message says how. `sent`: a byte of the handshake may have left."""

    sent = True


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach a server: through which proxy (a URL), and trusting which certificates (a file, a folder)."""

    proxy: str | None = None
    certificates: tuple[str | None, str | None] = (None, None)


class Connection:
    """One open WebSocket. Raises EndedError once it has ended, TimeoutError where a wait runs out."""

    def __init__(self, url: str, route: Route, *, seconds: float) -> None:
        """Connect within so many seconds. Raises RefusedError, EndedError or TimeoutError."""
        until = time.monotonic() + seconds
        self._protocol = ClientProtocol(parse_uri(url), max_size=_MESSAGE_MAX)
        self._partial = b""
        self._ended: str | None = None
        self._stream = dial(url, route, until)
        try:
            self._shake_hands(until)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the socket's number, for select."""
        return self._stream.fileno()

    def send(self, number: int, method: str) -> None:
        """Send one DevTools command without parameters."""
        self._protocol.send_text(json.dumps({"id": number, "method": method}).encode())
        self._flush()

    def ping(self) -> None:
        """Ask the server for a sign of life."""
        self._protocol.send_ping(b"")
        self._flush()

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """Wait for something to arrive and return the whole messages in it; pings are answered."""
        if self._ended is not None:
            raise EndedError(self._ended)
        self._read(time.monotonic() + seconds)
        messages = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._partial += event.data
                if event.fin:
                    messages += _message(self._partial)
                    self._partial = b""
        if self._ended is None:
            self._flush()
        return messages

    def close(self) -> None:
        """Drop the connection."""
        self._stream.close()

    def _shake_hands(self, until: float) -> None:
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while self._ended is None and self._protocol.state is State.CONNECTING:
            self._read(until)
        failure = self._protocol.handshake_exc
        if isinstance(failure, InvalidStatus):
            raise RefusedError(failure.response.status_code, bytes(failure.response.body or b""))
        if failure is not None:
            raise EndedError(f"it does not speak WebSocket: {failure}")
        if self._protocol.state is State.CONNECTING:
            raise EndedError(self._ended or "the server closed it")

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            try:
                self._stream.settimeout(_WRITE_SECONDS)
                if data:
                    self._stream.sendall(data)
            except TimeoutError:
                raise
            except OSError as error:
                raise EndedError(_said(error)) from error

    def _read(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)
        try:
            data = self._stream.recv(_CHUNK)
            # What TLS has unpacked already no select would ever announce.
            while isinstance(self._stream, ssl.SSLSocket) and self._stream.pending():
                data += self._stream.recv(_CHUNK)
        except TimeoutError:
            raise
        except OSError as error:
            self._ended = _said(error)
            return
        try:
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
        except (ConnectionClosed, WebSocketException, EOFError) as error:
            self._ended = _said(error)
        # What came before the end is still to be read.
        if self._protocol.state in (State.CLOSING, State.CLOSED) or self._protocol.handshake_exc or not data:
            self._ended = self._ended or "the server closed it"


def dial(url: str, route: Route, until: float) -> socket.socket:
    """Return a socket to a URL's host, with TLS where its scheme asks for it. `until` is a monotonic time."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", network.port(url)
    try:
        if route.proxy is None:
            stream = socket.create_connection((host, port or 0), timeout=_left(until))
        else:
            stream = _through(route.proxy, f"{host}:{port}", until)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if parts.scheme not in network.SECURE:
            return stream
        stream.settimeout(_left(until))
        return network.trusting(route.certificates).wrap_socket(stream, server_hostname=host)
    except TimeoutError:
        raise
    except (OSError, UnicodeError) as error:
        ended = EndedError(f"no connection: {_said(error)}")
        ended.sent = False
        raise ended from error


def _through(proxy: str, address: str, until: float) -> socket.socket:
    parts = urlsplit(proxy)
    if parts.scheme != "http":
        raise EndedError(f"a {parts.scheme} proxy carries no WebSocket here: only an http one does")
    stream = socket.create_connection((parts.hostname or "", network.port(proxy) or 80), timeout=_left(until))
    head = f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    stream.sendall(f"{head}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _PROXY_ANSWER_MAX:
        stream.settimeout(_left(until))
        chunk = stream.recv(1)  # what follows the answer is not the proxy's
        if not chunk:
            break
        answer += chunk
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        stream.close()
        raise EndedError(
            f"the proxy {parts.hostname} answered {b''.join(status).decode('ascii', 'replace') or 'nothing'}"
        )
    return stream


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _message(data: bytes) -> list[dict[str, Any]]:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return [message] if isinstance(message, dict) else []


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
