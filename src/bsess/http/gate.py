"""How fast a host may be asked: its Retry-After, and the rate that led to it, for all workers of this process."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from bsess.errors import QuotaError, UnreachableError

# Nobody waits longer than this for a provider, whatever it asks for and without a deadline too.
GATE_MAX_SECONDS = 900.0
# From so many requests on, what led to a 429 tells a rate; it is undercut by a little.
PACE_FROM = 20
PACE_SLACK = 1.02
TOO_MANY = 429


@dataclass(slots=True)
class _Pace:
    """How one host may be asked: not before `until`, and then every `interval` seconds; monotonic times.

    `count` requests were let through `since` the gate last opened; `status` is what closed it.
    """

    until: float = 0.0
    next_at: float = 0.0
    interval: float = 0.0
    since: float = 0.0
    count: int = 0
    status: int = 0


class Gate:
    """What all workers of this process keep to, for each host: its Retry-After, and the rate that led to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, _Pace] = {}

    def close_for(self, host: str, seconds: float, status: int) -> None:
        """Keep all workers off a host; learn from a 429 how many requests it takes in which time."""
        now = time.monotonic()
        with self._lock:
            pace = self._hosts.setdefault(host, _Pace())
            # Those that were under way when the first was refused are refused as well, and teach nothing.
            if now >= pace.until:
                if status == TOO_MANY and pace.count >= PACE_FROM:
                    pace.interval = (now - pace.since + seconds) / pace.count * PACE_SLACK
                pace.count = 0
            pace.until = max(pace.until, now + seconds)
            pace.next_at = pace.until
            pace.status = status

    def wait(self, host: str, seconds_left: float) -> None:
        """Wait until the host may be asked. Raises at once where that is beyond the deadline."""
        while True:
            now = time.monotonic()
            with self._lock:
                pace = self._hosts.setdefault(host, _Pace())
                pause = max(pace.until, pace.next_at) - now
                if pause <= 0:
                    if pace.count == 0:
                        pace.since = now
                    pace.count += 1
                    # What was not used of the time before is not made up for.
                    pace.next_at = max(pace.next_at, now - pace.interval) + pace.interval
                    return
                status = pace.status
            if pause > min(seconds_left, GATE_MAX_SECONDS):
                kind = QuotaError if status == TOO_MANY else UnreachableError
                raise kind(
                    f"{host} asks to wait {pause:.0f} s, and that is too long here",
                    code="rate" if status == TOO_MANY else "server",
                    hint="repeat later, or with a longer --deadline",
                )
            time.sleep(pause)


GATE = Gate()
