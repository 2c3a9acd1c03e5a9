"""Browserbase on loopback: with state, its limits, and a refusal of every request that its contract does not allow."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from jsonschema import Draft202012Validator, FormatChecker

from loopback import LoopbackServer, body_of, send

API_KEY = "bb_canary_key_4711"
SIGNING = "canary-signing-0815"
CONTRACT = json.loads((Path(__file__).parent / "browserbase.openapi.json").read_text())
TERMINAL = ("ERROR", "TIMED_OUT", "COMPLETED")
PROJECT = "11111111-2222-3333-4444-555555555555"


def _closed(schema):
    """Return a schema that allows no property that it does not name, unless it says that it does."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _closed(CONTRACT["components"]["schemas"][name])
    found = {key: _closed(value) for key, value in schema.items()}
    if "properties" in found and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found


def _operations():
    for path, methods in CONTRACT["paths"].items():
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            query = {item["name"]: item["schema"] for item in operation.get("parameters", ()) if item["in"] == "query"}
            yield method.upper(), pattern, operation["operationId"], _closed(body) if body else None, query


OPERATIONS = list(_operations())


def when(seconds, digits=3):
    """A time as the API gives it, with so many digits after the second."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}"[: 20 + digits] + "+00:00"


class Window:
    """A sliding window: so many in so many seconds."""

    def __init__(self, most, seconds):
        self.most, self.seconds, self._times = most, seconds, []

    def refuse(self):
        """Count one more; the seconds until there is room again, where there is none."""
        now = time.monotonic()
        self._times = [moment for moment in self._times if moment > now - self.seconds]
        if len(self._times) >= self.most:
            return self._times[0] + self.seconds - now
        self._times.append(now)
        return None


class FakeBrowserbase(LoopbackServer):
    """An account, and what it was asked.

    `keys` are its own, `sessions` its state, `requests` what was asked (method, path, query, body), `wrong` what no
    contract has.
    `misbehave[operationId]` is a status, "lost" (done, then the connection breaks), bytes for a 200, or a function of
    the handler. `concurrency`, `rate` and `create_rate` (a Window) and `minutes_left` are its limits. A release takes
    `release_seconds`. `listed_times` makes a listing so many times as long.
    """

    def __init__(self):
        self.keys = {API_KEY}
        self.sessions = {}
        self.requests = []
        self.wrong = []
        self.misbehave = {}
        self.concurrency = None
        self.rate = None
        self.create_rate = None
        self.minutes_left = True
        self.plan = "developer"
        self.latency = 0.0
        self.release_seconds = 0.0
        self.refused = 0
        self.pages = ["0"]
        self.download_polls = 2
        self.contexts = {}
        self.listed_times = 1
        self._releases = {}
        self._lock = threading.Lock()
        super().__init__(self._handle)

    def put(self, *, status="RUNNING", metadata=None, age=0.0, ttl=900.0, **more):
        """A session that somebody made; its id."""
        now = self.clock()
        made = {
            "id": str(uuid.uuid4()),
            "createdAt": when(now - age, 3),
            "updatedAt": when(now - age, 2),
            "startedAt": when(now - age, 6),
            "expiresAt": when(now - age + ttl, 3),
            "projectId": PROJECT,
            "status": status,
            "proxyBytes": 0,
            "keepAlive": False,
            "region": "us-west-2",
            **({} if metadata is None else {"userMetadata": metadata}),
            **more,
        }
        self.sessions[made["id"]] = made
        return made["id"]

    def running(self):
        """The ids of what is not over."""
        self._settle()
        return [item["id"] for item in self.sessions.values() if item["status"] not in TERMINAL]

    def asked(self, method, ending=""):
        """The requests of that method whose path ends so."""
        return [request for request in self.requests if request[0] == method and request[1].endswith(ending)]

    def _handle(self, handler, method):
        parts = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        raw = body_of(handler)
        if raw is None:
            return
        body = json.loads(raw) if raw else None
        if self.latency:
            time.sleep(self.latency)
        if parts.path.startswith("/download/"):
            # Whoever has the URL may: the account's key is for the API.
            send(handler, 200, b"video of " + parts.path.rpartition("/")[2].encode(), kind="video/mp4")
            return
        with self._lock:
            self.requests.append((method, parts.path, query, body))
            key = handler.headers.get("x-bb-api-key")
            if key not in self.keys:
                self._fail(handler, 401, "Unauthorized" if key else "Missing x-bb-api-key header")
                return
            self._dispatch(handler, method, parts.path, query, body)

    def _dispatch(self, handler, method, path, query, body):
        found = [
            (operation, match.groupdict(), schema, parameters)
            for verb, pattern, operation, schema, parameters in OPERATIONS
            if verb == method and (match := pattern.fullmatch(path))
        ]
        problem = self._problem(found, query, body) if found else "no such operation"
        if problem or "authorization" in handler.headers:
            self.wrong.append(f"{method} {path} {query} {body}: {problem}")
            self._fail(handler, 400, problem or "an Authorization header")
            return
        operation, names, _, _ = found[0]
        pause = self.rate and self.rate.refuse()
        if pause is None and operation == "Sessions_create" and self.create_rate:
            pause = self.create_rate.refuse()
        if pause is not None:
            self.refused += 1
            headers = {"retry_after": f"{pause:.3f}", "x_ratelimit_remaining": "0", "x_ratelimit_reset": f"{pause:.3f}"}
            self._fail(handler, 429, "Rate limit exceeded", **headers)
            return
        fault = self.misbehave.get(operation)
        if callable(fault):
            fault(handler)
            return
        if isinstance(fault, int):
            self._fail(handler, fault, "it is so")
            return
        self._settle()
        status, answer = getattr(self, f"_{operation}")(names, query, body)
        if fault == "lost":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if status >= 400:
            self._fail(handler, status, answer)
            return
        send(
            handler,
            status,
            fault if isinstance(fault, bytes) else b"" if answer is None else json.dumps(answer).encode(),
        )

    def _problem(self, found, query, body):
        _, _, schema, parameters = found[0]
        for name, value in query.items():
            if name not in parameters or value not in parameters[name].get("enum", [value]):
                return f"querystring/{name} is not allowed"
        if (body is None) != (schema is None) and not (body is None and schema is not None):
            return "body is not allowed"
        if schema is None or body is None:
            return None
        errors = Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(body)
        first = next(errors, None)
        return first and f"body/{'/'.join(map(str, first.path))} {first.message}"

    def _settle(self):
        now = self.clock()
        for name, moment in list(self._releases.items()):
            if moment <= now:
                self.sessions[name]["status"] = "COMPLETED"
                del self._releases[name]

    def _fail(self, handler, status, message, **headers):
        body = {"statusCode": status, "error": "Error", "message": message}
        send(handler, status, json.dumps(body).encode(), **headers)

    def _named(self, names):
        try:
            uuid.UUID(names["id"])
        except ValueError:
            return 400, "Invalid Session ID"
        session = self.sessions.get(names["id"])
        return (404, "Session not found") if session is None else (200, session)

    def _Sessions_create(self, names, query, body):
        body = body or {}
        if not self.minutes_left:
            return 402, "Free plan browser minutes limit reached. Please upgrade your account."
        if body.get("keepAlive") and self.plan == "free":
            return 403, "Keep alive sessions are not supported on the FREE plan"
        if self.concurrency is not None and len(self.running()) >= self.concurrency:
            limit = f"(limit {self.concurrency}, currently {self.concurrency})"
            return 429, f"You've exceeded your max concurrent sessions limit {limit}. Please contact us to upgrade."
        name = self.put(
            metadata=body.get("userMetadata"),
            ttl=body.get("timeout", 300),
            keepAlive=bool(body.get("keepAlive")),
            region=body.get("region", "us-west-2"),
        )
        return 201, {**self.sessions[name], **self._secrets(name)}

    def _secrets(self, name):
        return {
            "connectUrl": f"wss://connect.usw2.browserbase.com/?signingKey={SIGNING}-{name}",
            "seleniumRemoteUrl": f"https://connect.usw2.browserbase.com/webdriver?signingKey={SIGNING}",
            "signingKey": f"{SIGNING}-{name}",
        }

    def _Sessions_list(self, names, query, body):
        rows = [item for item in self.sessions.values() if query.get("status", item["status"]) == item["status"]]
        if "q" in query:
            match = re.fullmatch(r"user_metadata((?:\['[^'\\]+'\])+):'([^'\\]*)'", query["q"])
            if match is None:
                return 400, "querystring/q is not understood"
            rows = [item for item in rows if _at(item.get("userMetadata"), match[1]) == match[2]]
        return 200, rows[::-1] * self.listed_times

    def _Sessions_get(self, names, query, body):
        status, found = self._named(names)
        if status == 200 and found["status"] == "RUNNING":
            return 200, {**found, **self._secrets(found["id"])}
        return status, found

    def _Sessions_update(self, names, query, body):
        status, found = self._named(names)
        if status == 200 and found["status"] not in TERMINAL:
            self._releases[found["id"]] = self.clock() + self.release_seconds
            self._settle()
        return status, found

    def _Sessions_getDebug(self, names, query, body):
        status, found = self._named(names)
        url = f"https://www.browserbase.com/devtools/inspector.html?wss={SIGNING}"
        page = {"id": "p1", "url": "https://example.com/", "faviconUrl": "", "title": "x", "debuggerUrl": url}
        page["debuggerFullscreenUrl"] = f"{url}-page"
        urls = {"debuggerUrl": url, "debuggerFullscreenUrl": f"{url}-full", "wsUrl": "wss://x/", "pages": [page]}
        return (200, urls) if status == 200 else (status, found)

    def _Sessions_getLogs(self, names, query, body):
        status, found = self._named(names)
        return (
            (200, [{"method": "Page.x", "pageId": 1, "sessionId": names["id"]}]) if status == 200 else (status, found)
        )

    def _Sessions_getRecording(self, names, query, body):
        status, found = self._named(names)
        event = {"data": {}, "sessionId": names["id"], "timestamp": 1, "type": 2}
        return (200, [event] * 3) if status == 200 else (status, found)

    def _Sessions_createRecordingDownloads(self, names, query, body):
        status, found = self._named(names)
        if status != 200:
            return status, found
        if found["status"] not in TERMINAL:
            return 409, "Session has not ended"
        if not self.pages:
            return 422, "Session was not recorded"
        return 202, self._downloads(names["id"], "PENDING")

    def _Sessions_listRecordingDownloads(self, names, query, body):
        status, found = self._named(names)
        self.download_polls -= 1
        ready = "COMPLETED" if self.download_polls <= 0 else "PENDING"
        return (200, self._downloads(names["id"], ready)) if status == 200 else (status, found)

    def _downloads(self, name, status):
        rows = [{"pageId": page, "status": status} for page in self.pages]
        if status == "COMPLETED":
            rows = [{**row, "downloadUrl": f"{self.url}/download/{row['pageId']}"} for row in rows]
        return {"downloads": rows}

    def _Contexts_create(self, names, query, body):
        name = str(uuid.uuid4())
        self.contexts[name] = {"id": name, "createdAt": when(self.clock()), "updatedAt": when(self.clock())}
        self.contexts[name]["projectId"] = PROJECT
        secret = {"uploadUrl": "https://x/", "publicKey": "k", "cipherAlgorithm": "a", "initializationVectorSize": 16}
        return 201, {"id": name, **secret}

    def _Contexts_get(self, names, query, body):
        found = self.contexts.get(names["id"])
        return (200, found) if found else (404, "Context not found")

    def _Contexts_delete(self, names, query, body):
        return (204, None) if self.contexts.pop(names["id"], None) else (404, "Context not found")

    def _Projects_list(self, names, query, body):
        return 200, [self._project()]

    def _Projects_get(self, names, query, body):
        return 200, self._project()

    def _Projects_usage(self, names, query, body):
        return 200, {"browserMinutes": 123, "proxyBytes": 4567}

    def _project(self):
        now = when(self.clock())
        return {
            "id": PROJECT, "createdAt": now, "updatedAt": now, "name": "p", "ownerId": "o", "defaultTimeout": 300,
            "concurrency": self.concurrency or 25,
        }  # fmt: skip


def _at(metadata, path):
    for name in re.findall(r"\['([^']+)'\]", path):
        metadata = metadata.get(name) if isinstance(metadata, dict) else None
    return metadata
