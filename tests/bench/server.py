"""A server of Browserbase's sessions that is quick enough not to be the limit: one process, no checks, no disk.

`python server.py SESSIONS LATENCY [RATE]` prints its port and then, on each line of standard input, what it counted
since the last one as JSON. A release answers after LATENCY seconds with COMPLETED; beyond RATE requests in a second
it answers 429, and that a second is to be waited.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from datetime import UTC, datetime

SESSIONS, LATENCY = int(sys.argv[1]), float(sys.argv[2])
RATE = float(sys.argv[3]) if len(sys.argv) > 3 else None


def moment(seconds: float) -> str:
    """Return a time as the API gives it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def made() -> dict[str, object]:
    """Return a session of the owner `me`, an hour past its ttl."""
    began = time.time() - 7200
    return {
        "id": str(uuid.uuid4()),
        "createdAt": moment(began),
        "updatedAt": moment(began),
        "startedAt": moment(began),
        "expiresAt": moment(began + 3600),
        "projectId": "11111111-2222-3333-4444-555555555555",
        "status": "RUNNING",
        "proxyBytes": 0,
        "keepAlive": True,
        "region": "us-west-2",
        "userMetadata": {"bsess_owner": "me"},
    }


class State:
    """The account, and what was counted."""

    def __init__(self) -> None:
        self.running: dict[str, bytes] = {}
        self.counts = {"requests": 0, "releases": 0, "refused": 0, "connections": 0}
        self.let_through = 0
        self.window_since = 0.0
        self.fill()

    def fill(self) -> None:
        """Make the sessions anew."""
        self.running = {str(item["id"]): json.dumps(item).encode() for item in (made() for _ in range(SESSIONS))}

    def refused_for(self) -> float:
        """Return the seconds that the rate makes a request wait; 0 where it is let through."""
        if RATE is None:
            return 0.0
        now = time.monotonic()
        if now - self.window_since >= 1:
            self.let_through, self.window_since = 0, now
        if self.let_through >= RATE:
            return 1.0
        self.let_through += 1
        return 0.0

    def answer(self, method: bytes, target: bytes) -> tuple[bytes, bytes, float]:
        """Return status line, body and the seconds after which they are sent."""
        self.counts["requests"] += 1
        if seconds := self.refused_for():
            self.counts["refused"] += 1
            return b"429 Too Many Requests\r\nretry-after: %d" % seconds, b'{"message":"rate"}', 0.0
        if target.startswith(b"/v1/sessions/"):
            name = target[len(b"/v1/sessions/") :].decode()
            document = self.running.get(name)
            if method == b"POST" and self.running.pop(name, None) is not None:
                self.counts["releases"] += 1
            if document is None and SESSIONS == 0:
                document = json.dumps(made()).encode()  # any id is one that lives
            if document is None:
                return b"404 Not Found", b'{"message":"none"}', LATENCY
            return b"200 OK", document.replace(b'"RUNNING"', b'"COMPLETED"'), LATENCY
        rows = b"" if b"status=PENDING" in target else b",".join(self.running.values())
        return b"200 OK", b"[" + rows + b"]", 0.0


STATE = State()


class Exchange(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        STATE.counts["connections"] += 1
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer once the whole request is there."""
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        if len(body) < length:
            return
        self.data = b""
        method, target, _ = head.split(b" ", 2)
        status, body, seconds = STATE.answer(method, target)
        text = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
            status,
            len(body),
            body,
        )
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.transport.write, text)
        else:
            self.transport.write(text)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Exchange, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        sys.stdout.write(json.dumps({**STATE.counts, "running": len(STATE.running)}) + "\n")
        sys.stdout.flush()
        STATE.counts = dict.fromkeys(STATE.counts, 0)
        STATE.fill()


asyncio.run(main())
