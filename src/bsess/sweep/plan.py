"""Plan files: what a look would end, for a later sweep to end no more than that. They hold no secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bsess.errors import UsageError
from bsess.output.text import moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bsess.model import Decision, Session

SCHEMA = "bsess-plan/1"
# A creation time that is told as an age is off by how long the telling took.
SAME_SECONDS = 2.0
WRITTEN_BY = "`bsess sweep --plan-out FILE` writes one"


class Plan:
    """The sessions that a plan names, by profile and id, each with its creation time."""

    def __init__(self, named: dict[tuple[str, str], float | None]) -> None:
        self._named = named

    def has(self, session: Session) -> bool:
        """Tell whether this very session was planned for: the same id, made at the same time."""
        key = (session.profile, session.id)
        if key not in self._named:
            return False
        planned, found = self._named[key], session.created_at
        if planned is None or found is None:
            return planned is found
        return abs(planned - found) <= SAME_SECONDS


def document(chosen: Iterable[tuple[Session, Decision]], *, now: float) -> str:
    """Return a plan as text: what was to end at the time `now`, and why."""
    sessions = [
        {
            "id": session.id,
            "profile": session.profile,
            "provider": session.provider,
            "created_at": session.created_at,
            "reason": decision.reason,
        }
        for session, decision in chosen
    ]
    return json.dumps({"schema": SCHEMA, "made_at": moment(now), "sessions": sessions}, indent=2) + "\n"


def read(text: str, *, name: str) -> Plan:
    """Read a plan; `name` is what it is called in an error. Raises UsageError for what is none."""
    try:
        found = json.loads(text)
        schema, sessions = found["schema"], found["sessions"]
        if schema != SCHEMA:
            raise UsageError(f"{name} is a plan of another kind ({str(schema)[:40]})", code="plan", hint=WRITTEN_BY)
        rows = _rows(sessions)
        named = {(_text(item["profile"]), _text(item["id"])): _time(item["created_at"]) for item in rows}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"{name} is no plan", code="plan", hint=WRITTEN_BY) from error
    return Plan(named)


def _rows(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _time(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)
