"""The detached keeper of a session that lives only as long as a client is connected to it.

Run with the session's tracking id, which is all that the process list shows. Its order says where to connect and how
to end the session there; its answer is that the connection stands, or what came instead.

It ends the session when the ttl passes, also one that other clients keep alive by then. Once its own connection is
cut it asks the server whether the session lives on before it leaves. Below 24 MB with TLS.
"""

from __future__ import annotations

import os
import select
import sys
import time
import types

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from bsess import holder
from bsess.holder import now

TYPE_CHECKING = False  # as type checkers read it
if TYPE_CHECKING:
    from typing import Any

    from bsess.cdp import Connection, Route

PING_SECONDS = 30.0
# A server that says nothing for so long, pings included, is gone or unreachable.
SILENCE_SECONDS = 100.0
# A session outlives its last client by 1 to 1.5 s (measured on 2.42.0).
LINGER_SECONDS = 2.0
ASK_AGAIN_SECONDS = 15.0
ANSWER_SECONDS = 10.0
ANSWER_MAX = 4 << 20
KILL_ATTEMPTS = 4
STATUS_OK, STATUS_NO_CONTENT, STATUS_NOT_FOUND = 200, 204, 404


def main() -> None:
    """Hold one connection until its session ends."""
    signals = holder.detach()
    order = holder.order()
    until = now() + order["ttl"]
    # What websockets would read its own version from, in a development copy of it only: 3 MB.
    sys.modules.setdefault("importlib.metadata", types.ModuleType("importlib.metadata"))
    sys.path.append(order["packages"])
    from bsess import cdp

    route = cdp.Route(order["proxy"], (order["certificates"][0], order["certificates"][1]))
    server = _Server(order, route)
    try:
        connection = cdp.Connection(order["url"], route, seconds=order["connect_seconds"])
    except cdp.RefusedError as refusal:
        holder.try_answer({"status": refusal.status, "body": refusal.body[:2000].decode("utf-8", "replace")})
        return
    except (cdp.EndedError, TimeoutError) as failure:
        said = str(failure) or "no answer in time"
        holder.try_answer({"error": said, "sent": getattr(failure, "sent", True)})
        return
    try:
        _check_asker()
        holder.answer({"status": 101})
    except OSError:
        server.end()  # made for nobody
        return
    holder.let_go()
    if _hold(connection, signals, until) or server.lives_on(signals, until):
        server.end()
        connection.close()


def _check_asker() -> None:
    ready, _, _ = select.select([0], [], [], 0)
    if ready and not os.read(0, 1):
        raise OSError("the asking process is gone")


def _hold(connection: Connection, signals: int, until: float) -> bool:
    """Keep the connection alive; tell whether the session is now to be ended, or the connection was cut."""
    from bsess.cdp import EndedError

    heard = pinged = now()
    while not holder.is_asked_to_end():
        left = until - now()
        if left <= 0:
            return True
        ready, _, _ = select.select([connection.fileno(), signals], [], [], min(left, holder.LOOK_AGAIN))
        try:
            if signals in ready:
                os.read(signals, 64)
            if connection.fileno() in ready:
                connection.receive(ANSWER_SECONDS)
                heard = now()
            if now() - heard > SILENCE_SECONDS:
                return False
            if now() - pinged > PING_SECONDS:
                pinged = now()
                connection.ping()
        except (EndedError, TimeoutError):
            return False
    return True


class _Server:
    """The management API, as far as a holder needs it."""

    def __init__(self, order: dict[str, Any], route: Route) -> None:
        self._order = order
        self._route = route

    def end(self) -> None:
        """End the session. What cannot be ended is left to the ledger, which knows it."""
        for attempt in range(KILL_ATTEMPTS):
            status, _ = self._get(f"/kill/{self._order['tracking_id']}")
            if status in (STATUS_OK, STATUS_NO_CONTENT, STATUS_NOT_FOUND):
                return
            time.sleep(2.0**attempt)

    def lives_on(self, signals: int, until: float) -> bool:
        """Tell whether the session, which other clients may keep alive, is to be ended; False once it is gone."""
        pause = LINGER_SECONDS
        while not holder.is_asked_to_end() and now() < until:
            status, body = self._get("/sessions")
            if status == STATUS_OK and self._order["tracking_id"].encode() not in body:
                return False
            ready, _, _ = select.select([signals], [], [], min(max(0.0, until - now()), pause))
            if ready:
                os.read(signals, 64)
            pause = ASK_AGAIN_SECONDS
        return True

    def _get(self, path: str) -> tuple[int, bytes]:
        """Ask the server; a status of 0 says that there was no answer."""
        from urllib.parse import urlsplit

        from bsess import cdp

        url = f"{self._order['base']}{path}{self._order['query']}"
        parts = urlsplit(url)
        until = time.monotonic() + ANSWER_SECONDS
        # HTTP/1.0: the answer then comes in one piece.
        head = f"GET {parts.path}?{parts.query} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
        data = b""
        try:
            with cdp.dial(url, self._route, until) as stream:
                stream.sendall(head.encode())
                while len(data) < ANSWER_MAX and time.monotonic() < until:
                    chunk = stream.recv(65536)
                    if not chunk:
                        break
                    data += chunk
        except (OSError, cdp.EndedError):
            return 0, b""
        words = data.split(b" ", 2)
        return (int(words[1]) if len(words) > 2 and words[1].isdigit() else 0), data  # noqa: PLR2004


if __name__ == "__main__":
    main()
