"""Browserless's cloud on loopback: Session API, BrowserQL, GraphQL; it refuses every request that no document has."""

from __future__ import annotations

import json
import socket
import uuid
from urllib.parse import parse_qs, urlsplit

from loopback import LoopbackServer, body_of, send

TOKEN = "canary-token-4711"
# What makes a session's own URLs secret, beside the token.
SESSION_SECRET = "canary-session-0815"
FIELDS = {
    "ttl": int,
    "processKeepAlive": int,
    "stealth": bool,
    "browser": str,
    "headless": bool,
    "args": list,
    "proxy": dict,
    "profile": str,
    "url": str,
}


class FakeBrowserless(LoopbackServer):
    """`sessions` is what lives, `requests` what was asked (method, path, query, body), `wrong` what no document has.

    `misbehave[method]`, where method may also be "graphql" or "bql", is a status, "lost" (done, the connection then
    breaks), or a bytes body for a 200. `attached` holds the ids that a client is attached to, `browsers` what GraphQL
    lists, `queried` the BrowserQL queries.
    """

    def __init__(self):
        self.sessions = {}
        self.requests = []
        self.wrong = []
        self.misbehave = {}
        self.attached = set()
        self.browsers = []
        self.queried = []
        super().__init__(self._handle)

    def methods(self):
        return [method for method, *_ in self.requests]

    def _handle(self, handler, method):
        parts = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        raw = body_of(handler)
        if raw is None:
            return
        body = json.loads(raw) if raw else None
        self.requests.append((method, parts.path, query, body))
        kind = "graphql" if parts.path == "/graphql" else "bql" if "/session/bql/" in parts.path else method
        fault = self.misbehave.get(kind)
        if isinstance(fault, int):
            send(handler, fault, b"<html>no</html>", "text/html")
            return
        if kind in ("graphql", "bql") and isinstance(fault, bytes):
            send(handler, 200, fault)
            return
        if kind == "graphql" and method == "POST":
            self._graphql(handler, body, query)
            return
        if query.get("token") != TOKEN:
            send(handler, 401, b"Invalid API key", "text/plain")
            return
        if method == "POST" and parts.path == "/session":
            self._create(handler, body, query, fault)
        elif kind == "bql" and method == "POST":
            self._bql(handler, parts.path.rpartition("/")[2], body)
        elif method == "DELETE" and parts.path.startswith("/browser/"):
            self._delete_browser(handler, parts.path.removeprefix("/browser/"), query)
        elif method == "DELETE" and parts.path.startswith(("/session/", "/e/")):
            self._delete(handler, parts.path.rpartition("/")[2], query, fault)
        else:
            self.wrong.append(f"{method} {parts.path}")
            send(handler, 404, b"Not Found", "text/plain")

    def _create(self, handler, body, query, fault):
        mistakes = [key for key, value in (body or {}).items() if key not in FIELDS or type(value) is not FIELDS[key]]
        if body is None or mistakes or "ttl" not in body or set(query) != {"token"}:
            self.wrong.append(f"create {body} {query}")
            send(handler, 400, b"bad request", "text/plain")
            return
        if not 1 <= body["ttl"] <= 86_400_000:
            send(handler, 400, b"ttl must be between 1 and 86,400,000 (your plan's maximum)", "text/plain")
            return
        session_id = str(uuid.uuid4())
        self.sessions[session_id] = body
        answer = {
            "id": session_id,
            "connect": f"wss://{self.url[7:]}/e/{SESSION_SECRET}/session/connect/{session_id}?token={TOKEN}",
            "stop": f"{self.url}/e/{SESSION_SECRET}/session/{session_id}?token={TOKEN}",
            "browserQL": f"{self.url}/e/{SESSION_SECRET}/session/bql/{session_id}?token={TOKEN}",
            "ttl": body["ttl"],
            "cloudEndpointId": None,
        }
        if fault == "lost":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        send(handler, 200, fault if isinstance(fault, bytes) else json.dumps(answer).encode())

    def _delete(self, handler, session_id, query, fault):
        if set(query) - {"token", "force"} or query.get("force", "true") != "true":
            self.wrong.append(f"delete {query}")
        if session_id not in self.sessions:
            send(handler, 404, b"Session not found", "text/plain")
            return
        if session_id in self.attached and "force" not in query:
            send(handler, 409, b"Session has active connections", "text/plain")
            return
        del self.sessions[session_id]
        if fault == "lost":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        said = {"success": True, "message": f"Session {session_id} was successfully removed", "sessionId": session_id}
        send(handler, 200, json.dumps(said).encode())

    def _delete_browser(self, handler, browser, query):
        if set(query) != {"token"}:
            self.wrong.append(f"delete browser {query}")
        before = len(self.browsers)
        self.browsers = [row for row in self.browsers if row["browserId"] != browser]
        known = len(self.browsers) < before
        send(handler, 200 if known else 404, b"" if known else b"Not Found", "text/plain")

    def _bql(self, handler, session_id, body):
        if not isinstance(body, dict) or not isinstance(body.get("query"), str) or set(body) - {"query", "variables"}:
            self.wrong.append(f"bql {body}")
        if session_id not in self.sessions or not self.sessions[session_id].get("stealth"):
            send(handler, 404, b"Session not found", "text/plain")
            return
        self.queried.append((session_id, body["query"], body.get("variables")))
        data = {"goto": {"status": 200}, "text": {"text": "Example Domain"}}
        send(handler, 200, json.dumps({"data": data}).encode())

    def _graphql(self, handler, body, query):
        variables = (body or {}).get("variables") or {}
        text = (body or {}).get("query", "")
        listing = "getActiveSession" in text
        expected = {"apiToken", "limit", "skip"} if listing else {"apiToken"}
        if query or set(variables) != expected or "authorization" in handler.headers:
            self.wrong.append(f"graphql {body} {query}")
        if variables.get("apiToken") != TOKEN:
            send(handler, 401, b'{"error":"Invalid API token"}')
            return
        if listing:
            skip, limit = variables["skip"], variables["limit"]
            if limit > 50:
                self.wrong.append(f"graphql limit {limit}")
            data = {"getActiveSession": {"sessions": self.browsers[skip : skip + limit], "count": len(self.browsers)}}
        else:
            units = {"unitsLeft": 900, "used": 100, "available": 1000}
            data = {"accountSummary": {"plan": "Starter", "planType": None, "cloudUnits": units}}
        send(handler, 200, json.dumps({"data": data}).encode())
