"""What all fakes are: an HTTP server on loopback that hands each request to one function."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class LoopbackServer:
    """Calls `handle(handler, method)` for each request, on a thread of its own. `clock` is its time of day."""

    clock = staticmethod(time.time)

    def __init__(self, handle):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body are two writes: the second would wait 40 ms for the first to be acknowledged.
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def date_time_string(self, timestamp=None):
                return super().date_time_string(server.clock() if timestamp is None else timestamp)

        for method in METHODS:
            setattr(Handler, f"do_{method}", lambda handler, method=method: handle(handler, method))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()


def send(handler, status, body=b"", kind="application/json", **headers):
    """Send a whole answer."""
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def body_of(handler):
    """Read a request's whole body; None, and nothing is done, where whoever sent it died over it."""
    length = int(handler.headers.get("content-length", 0))
    raw = handler.rfile.read(length) if length else b""
    if len(raw) < length:
        handler.close_connection = True
        return None
    return raw
