"""How fast a host may be asked: its Retry-After, and the rate that led to it, for all workers of this process."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from bsess.errors import QuotaError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Nobody waits longer than this for a provider, whatever it asks for and without a deadline too.
GATE_MAX_SECONDS = 900.0
# What is asked to wait less waits this long: several are refused by one and the same window.
CLOSED_SECONDS = 0.05
# From so many requests on, what led to a 429 tells a rate; it is undercut by a little.
PACE_FROM = 20
PACE_SLACK = 1.02
# What was asked four times as often as led to a 429, and without another, may be asked a quarter faster: a server may
# have named too long a pause, or others who shared the limit may be gone.
PACE_FASTER, PACE_KEPT = 0.8, 4
TOO_MANY = 429
# As many as there are workers at most: no bound at all.
UNBOUNDED = 64


@dataclass(slots=True)
class _Pace:
    """How one host may be asked: not before `until`, and then every `interval` seconds; monotonic times.

    That was learned from so many requests (`lesson`).

    `count` requests were let through `since` the gate last opened; `status` is what closed it. Of `under_way` there
    may be `most`: once it opens again one goes first, and each that is let through makes room for two. Of those that
    wait (minus the times they were refused, and a number) the first is next.
    """

    until: float = 0.0
    next_at: float = 0.0
    interval: float = 0.0
    lesson: int = 0
    since: float = 0.0
    count: int = 0
    status: int = 0
    under_way: int = 0
    most: int = UNBOUNDED
    waiting: list[tuple[int, int]] = field(default_factory=list)


class Gate:
    """What all workers of this process keep to, for each host: its Retry-After, and the rate that led to it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._hosts: dict[str, _Pace] = {}
        self._numbers = count()

    @contextmanager
    def passing(self, host: str, seconds_left: float, *, refused: int = 0) -> Iterator[None]:
        """Ask a host within the block, once it may be asked. Raises at once where that is beyond the deadline.

        Who was `refused` more often goes first.
        """
        pace = self._enter(host, seconds_left, refused)
        closed = pace.until
        try:
            yield
        finally:
            with self._changed:
                pace.under_way -= 1
                if pace.until == closed:
                    pace.most = min(pace.most + 1, UNBOUNDED)
                self._changed.notify_all()

    def close_for(self, host: str, seconds: float, status: int) -> None:
        """Keep all workers off a host; learn from a 429 how many requests it takes in which time."""
        now = time.monotonic()
        with self._changed:
            pace = self._hosts.setdefault(host, _Pace())
            # Those that were under way when the first was refused are refused as well, and teach nothing.
            if now >= pace.until:
                if status == TOO_MANY and pace.count >= PACE_FROM:
                    # A pause is told in whole seconds, and often as the length of the window.
                    pace.interval = max(now - pace.since, seconds) / pace.count * PACE_SLACK
                    pace.lesson = pace.count
                pace.count = 0
            pace.until = max(pace.until, now + max(seconds, CLOSED_SECONDS))
            pace.next_at = pace.until
            pace.status = status
            pace.most = 1

    def _enter(self, host: str, seconds_left: float, refused: int) -> _Pace:
        until = time.monotonic() + min(seconds_left, GATE_MAX_SECONDS)
        with self._changed:
            pace = self._hosts.setdefault(host, _Pace())
            me = (-refused, next(self._numbers))
            pace.waiting.append(me)
            try:
                self._wait(host, pace, me, until)
            finally:
                pace.waiting.remove(me)
                self._changed.notify_all()
            now = time.monotonic()
            if pace.count == 0:
                pace.since = now
            pace.count += 1
            if pace.interval and pace.count % (pace.lesson * PACE_KEPT) == 0:
                pace.interval *= PACE_FASTER
            pace.under_way += 1
            # What was not used of the time before is not made up for.
            pace.next_at = max(pace.next_at, now - pace.interval) + pace.interval
            return pace

    def _wait(self, host: str, pace: _Pace, me: tuple[int, int], until: float) -> None:
        while True:
            now = time.monotonic()
            pause = max(pace.until, pace.next_at) - now
            if pause > 0 and now + pause > until:
                raise _too_long(host, pause, pace.status)
            if now > until:
                raise UnreachableError(
                    f"{host}: the deadline has passed", code="deadline", hint="give it a longer --deadline"
                )
            first = min(pace.waiting) == me
            if first and pause <= 0 and pace.under_way < pace.most:
                return
            self._changed.wait(pause if first and pause > 0 else until - now)


def _too_long(host: str, pause: float, status: int) -> QuotaError | UnreachableError:
    kind = QuotaError if status == TOO_MANY else UnreachableError
    return kind(
        f"{host} asks to wait {max(pause, 0.0):.0f} s, and that is too long here",
        code="rate" if status == TOO_MANY else "server",
        hint="repeat later, or with a longer --deadline",
    )


GATE = Gate()
