"""Results as plain records, with the keys that the contract of the command line names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bsess.output.text import clean, mask_url, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bsess.model import AccountUsage, Decision, Event, Outcome, Problem, Result, Session, SettingLine

SCHEMA = "bsess/1"


@dataclass(frozen=True, slots=True)
class View:
    """How a result is to be shown: at what time (for ages), and whether secrets may be."""

    now: float
    show_secrets: bool = False


def session(item: Session, view: View) -> dict[str, object]:
    """Return a session's record."""
    url, age = item.connect_url, item.age(view.now)
    return {
        "id": clean(item.id),
        "profile": item.profile,
        "provider": item.provider,
        "status": clean(item.status),
        "region": _clean(item.region),
        "created_at": moment(item.created_at) or None,
        "expires_at": moment(item.expires_at) or None,
        "age_seconds": None if age is None else max(0, int(age)),
        "mine": item.mine,
        "owner": _clean(item.owner),
        "run": _clean(item.run),
        "labels": {clean(key): clean(value) for key, value in item.labels.items()},
        "connect_url": None if url is None else (clean(url) if view.show_secrets else mask_url(url)),
    }


def outcome(item: Outcome) -> dict[str, object]:
    """Return an outcome's record."""
    return {
        "id": clean(item.id),
        "profile": item.profile,
        "provider": item.provider,
        "outcome": item.outcome.value,
        "reason": _clean(item.reason),
        "http_status": item.http_status,
        "provider_status": _clean(item.provider_status),
    }


def decision(item: Decision) -> dict[str, object]:
    """Return a decision's record."""
    return {
        "id": clean(item.id),
        "profile": item.profile,
        "decision": "end" if item.end else "spare",
        "reason": clean(item.reason),
    }


def event(item: Event) -> dict[str, object]:
    """Return a line of history as a record."""
    return {
        "at": moment(item.at),
        "event": item.event,
        "command": item.command,
        "id": _clean(item.id),
        "profile": item.profile,
        "provider": item.provider,
        "owner": clean(item.owner),
        "run": _clean(item.run),
        "outcome": item.outcome,
        "reason": _clean(item.reason),
    }


def usage(item: AccountUsage) -> dict[str, object]:
    """Return what an account uses as a record."""
    told = {**asdict(item.usage), "plan": _clean(item.usage.plan)}
    return {"profile": item.profile, "provider": item.provider, "mine": item.mine, **told}


def setting(item: SettingLine) -> dict[str, object]:
    """Return a setting's record."""
    return {"key": item.key, "value": clean(item.value), "source": item.source}


def problem(item: Problem) -> dict[str, object]:
    """Return a problem's record."""
    return {
        "code": item.code,
        "message": clean(item.message),
        "hint": _clean(item.hint),
        "session": _clean(item.session),
    }


def document(result: Result, view: View) -> dict[str, object]:
    """Return the envelope of `-o json`, the same for every command and every failure."""
    status = {0: "success", 3: "partial"}.get(result.exit_code, "error")
    return {
        "schema": SCHEMA,
        "command": result.command,
        "status": status,
        "exit_code": int(result.exit_code),
        "data": _data(result, view),
        "errors": [problem(item) for item in result.errors],
    }


_PLAIN: dict[str, Callable[[Any], dict[str, object]]] = {
    "decisions": decision,
    "outcomes": outcome,
    "events": event,
    "settings": setting,
    "usage": usage,
}


def _data(result: Result, view: View) -> Mapping[str, object]:
    data: dict[str, object] = {}
    if result.sessions is not None:
        data["sessions"] = [session(item, view) for item in result.sessions]
    for key, record in _PLAIN.items():
        items = getattr(result, key)
        if items is not None:
            data[key] = [record(item) for item in items]
    if result.summary is not None and result.scope is not None:
        data["summary"] = dict(result.summary)
        data["scope"] = {
            "ledger": result.scope.ledger,
            "profiles": list(result.scope.profiles),
            "missed": list(result.scope.missed),
        }
        data["errors"] = [problem(item) for item in result.list_errors or ()]
    if result.answer is not None:
        data["answer"] = result.answer
    if result.details is not None:
        data["details"] = dict(result.details)
    if result.records is not None:
        data["records"] = list(result.records)
    if result.tag is not None:
        data["tag"] = {clean(key): clean(value) for key, value in result.tag.items()}
    if result.text is not None:
        data["text"] = result.text
    return data


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text)
