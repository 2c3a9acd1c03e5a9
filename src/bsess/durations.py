"""Durations as users write them: `90s`, `15m`, `2h`, `1d`, `1h30m`."""

from __future__ import annotations

import re

from bsess.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = r"([0-9]{1,12}(?:\.[0-9]{1,3})?)"
_PATTERN = re.compile("".join(f"(?:{_PART}{unit})?" for unit in reversed(_UNITS)), re.ASCII)
MAX_SECONDS = 100 * 365 * 86400


def parse(text: str, *, name: str, zero: bool = False) -> float:
    """Return the seconds that `text` names; none at all only with `zero`.

    `name` is the flag or key for the error. Raises UsageError.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None or not text.strip():
        raise UsageError(f"{name}: {text[:40]!r} is not a duration", hint="write it with its unit: 90s, 15m, 2h or 1d")
    seconds = sum(float(part or 0) * size for part, size in zip(match.groups(), reversed(_UNITS.values()), strict=True))
    if seconds > MAX_SECONDS:
        raise UsageError(f"{name}: {text.strip()[:40]} is more than 100 years", hint="give it less")
    if not seconds and not zero:
        raise UsageError(f"{name}: {text.strip()} is no time at all", hint="give it more: 90s, 15m, 2h or 1d")
    return seconds


def show(seconds: float) -> str:
    """Return a duration short enough for a column, in its two largest units: `1h05m`, `42s`."""
    whole = max(0, int(seconds))
    if whole < _UNITS["m"]:
        return f"{whole}s"
    if whole < _UNITS["h"]:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < _UNITS["d"]:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
