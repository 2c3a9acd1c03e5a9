"""How far a long command is: one line on a terminal's standard error, drawn again and again; nothing elsewhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bsess import durations

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

# What is over sooner needs no telling.
TOTAL_MIN = 20
DRAW_SECONDS = 0.1
_CLEAR = "\r\x1b[K"


class Progress:
    """Counts what is done of a total, with its rate and the time left. Safe for threads; `clock` is monotonic."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._total = 0
        self._done = 0
        self._began = 0.0
        self._drawn = 0.0

    def expect(self, total: int) -> None:
        """Begin: so many are to come."""
        with self._lock:
            self._total += total
            self._began = self._began or self._clock()

    def step(self) -> None:
        """Count one more."""
        with self._lock:
            self._done += 1
            now = self._clock()
            if self._total >= TOTAL_MIN and now - self._drawn >= DRAW_SECONDS:
                self._drawn = now
                self._write(f"{_CLEAR}{self.line()}")

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._write(_CLEAR)
            self._drawn = 0.0

    def line(self) -> str:
        """Return what is to be told now."""
        seconds = self._clock() - self._began
        rate = self._done / seconds if seconds > 0 else 0.0
        left = f", {durations.show((self._total - self._done) / rate)} left" if rate else ""
        return f"{self._done} of {self._total}, {rate:.0f}/s{left}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass
