"""The management API of other versions of the open-source Browserless: what the tested one does not do."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TOKEN = "canary-token-4711"


class FakeManagement:
    """`rows` is what it lists, `stubborn` the ids whose kill is answered and not done, `unknown`
    those that no kill knows, `wrong` what no API has.

    `answer` is a status and a body for every request, if there is one.
    """

    def __init__(self):
        self.rows = []
        self.stubborn = set()
        self.unknown = set()
        self.requests = []
        self.wrong = []
        self.answer = None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                fake._handle(self)

            def log_message(self, *_):
                pass

            def __getattr__(self, name):
                if name.startswith("do_"):
                    fake.wrong.append(name)
                raise AttributeError(name)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler):
        path = urlsplit(handler.path).path
        self.requests.append(handler.path)
        if handler.headers.get("authorization") != f"Bearer {TOKEN}":
            _send(handler, 401, b"Bad or missing authentication.", "text/plain")
        elif self.answer is not None:
            _send(handler, *self.answer)
        elif path == "/sessions":
            _send(handler, 200, json.dumps(self.rows).encode())
        elif path.startswith("/kill/") and path != "/kill/all":
            self._kill(handler, path.removeprefix("/kill/"))
        elif path == "/pressure":
            _send(handler, 200, json.dumps({"pressure": {"running": 1, "maxConcurrent": "many"}}).encode())
        else:
            self.wrong.append(handler.path)
            _send(handler, 404, b"Not Found", "text/plain")

    def _kill(self, handler, name):
        known = [row for row in self.rows if name in (row.get("browserId"), row.get("trackingId"))]
        if not known or name in self.unknown:
            _send(handler, 404, b"Not Found", "text/plain")
            return
        if name not in self.stubborn:
            self.rows = [row for row in self.rows if row not in known]
        _send(handler, 204, b"")


def _send(handler, status, body, kind="application/json"):
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
