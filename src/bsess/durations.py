"""Durations as users write them: `90s`, `15m`, `2h`, `1d`."""

from __future__ import annotations

import re

from bsess.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])", re.ASCII)


def parse(text: str, *, name: str, zero: bool = False) -> float:
    """Return the seconds that `text` names; none at all only with `zero`.

    `name` is the flag or key for the error. Raises UsageError.
    """
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{name}: {text[:40]!r} is not a duration", hint="write it with its unit: 90s, 15m, 2h or 1d")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not seconds and not zero:
        raise UsageError(f"{name}: {text.strip()} is no time at all", hint="give it more: 90s, 15m, 2h or 1d")
    return seconds


def written(seconds: float) -> str:
    """Return a duration as `parse` reads it, in the largest unit that it is whole in: `6h`, `90s`."""
    unit = next(unit for unit in reversed(_UNITS) if unit == "s" or seconds % _UNITS[unit] == 0)
    return f"{seconds / _UNITS[unit]:g}{unit}"


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
