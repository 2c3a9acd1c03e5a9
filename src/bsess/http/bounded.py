"""httpx's transport with one bound on the time of a whole exchange, and the knowledge whether a byte of it left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable


class ExchangeError(Exception):
    """No whole answer came. `sent`: a byte of the request may have arrived; `passing`: another try may do."""

    def __init__(self, message: str, *, sent: bool, passing: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        self.passing = passing


class _BoundedStream(httpcore.NetworkStream):
    """A stream whose every wait ends with the request: one byte a second must not prolong it."""

    def __init__(self, stream: httpcore.NetworkStream, backend: BoundedBackend) -> None:
        self._stream = stream
        self._backend = backend
        self._held = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._backend.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        if self._backend.hold:
            # The head of a request with a body: both leave together, in one packet.
            self._backend.hold = False
            self._held = buffer
            return
        self._backend.sent = True
        held, self._held = self._held, b""
        self._stream.write(held + buffer, self._backend.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left = self._backend.left(httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        # What a proxy was told to reach us through is not the request.
        self._backend.sent = False
        return _BoundedStream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        return self._stream.get_extra_info(info)


class BoundedBackend(httpcore.NetworkBackend):
    """Connections of which no wait outlasts the exchange; `sent`: a byte of its request may have left."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()
        self._until = 0.0
        self.sent = False
        self.hold = False

    def begin(self, seconds: float, *, body: bool = False) -> None:
        """Give the next request so many seconds in all; with a `body` what is written first is its head alone."""
        self._until = time.monotonic() + seconds
        self.sent = False
        self.hold = body

    def left(self, late: type[Exception]) -> float:
        """Return the seconds left; raises `late` where there are none."""
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise late
        return seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect within what is left of the exchange."""
        left = self.left(httpcore.ConnectTimeout)
        return _BoundedStream(self._backend.connect_tcp(host, port, left, local_address, socket_options), self)


class BoundedTransport(httpx.HTTPTransport):
    """httpx's transport over one connection of a bounded backend, which httpx itself has no argument for."""

    def __init__(self, backend: BoundedBackend, context: ssl.SSLContext, proxy: str | None) -> None:
        limits = {"max_connections": 1, "max_keepalive_connections": 1, "network_backend": backend}
        if proxy is None:
            self._pool = httpcore.ConnectionPool(ssl_context=context, **limits)  # type: ignore[arg-type]
            return
        parts = httpx.URL(proxy)
        auth = (parts.username.encode(), parts.password.encode()) if parts.username or parts.password else None
        self._pool = httpcore.HTTPProxy(
            proxy_url=httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=b"/"),
            proxy_auth=auth,
            ssl_context=context,
            proxy_ssl_context=context if parts.scheme == "https" else None,
            **limits,  # type: ignore[arg-type]
        )
