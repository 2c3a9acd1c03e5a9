"""The management API of other versions of the open-source Browserless: what the tested one does not do."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from loopback import LoopbackServer, send

TOKEN = "canary-token-4711"


class FakeManagement(LoopbackServer):
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
        super().__init__(self._handle)

    def _handle(self, handler, method):
        path = urlsplit(handler.path).path
        self.requests.append(handler.path)
        if method != "GET":
            self.wrong.append(f"{method} {handler.path}")
        if handler.headers.get("authorization") != f"Bearer {TOKEN}":
            send(handler, 401, b"Bad or missing authentication.", "text/plain")
        elif self.answer is not None:
            send(handler, *self.answer)
        elif path == "/sessions":
            send(handler, 200, json.dumps(self.rows).encode())
        elif path.startswith("/kill/") and path != "/kill/all":
            self._kill(handler, path.removeprefix("/kill/"))
        elif path == "/pressure":
            send(handler, 200, json.dumps({"pressure": {"running": 1, "maxConcurrent": "many"}}).encode())
        else:
            self.wrong.append(handler.path)
            send(handler, 404, b"Not Found", "text/plain")

    def _kill(self, handler, name):
        known = [row for row in self.rows if name in (row.get("browserId"), row.get("trackingId"))]
        if not known or name in self.unknown:
            send(handler, 404, b"Not Found", "text/plain")
            return
        if name not in self.stubborn:
            self.rows = [row for row in self.rows if row not in known]
        send(handler, 204, b"")
