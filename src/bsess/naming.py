"""What people call a session: an id, a unique prefix of one, `profile/ID`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsess.errors import LedgerError, UsageError
from bsess.ledger import Row, RowState
from bsess.output.text import mask_url, redact

if TYPE_CHECKING:
    from bsess.context import Context

PREFIX_MIN = 6
ID_MAX = 512
URL_MAX = 8192
_SHOWN_MAX = 40
_NAMED_MAX = 5


def check(name: str, *, urls: bool = False) -> None:
    """Refuse what no provider could have made as an id and, unless `urls`, every URL. Raises UsageError."""
    if "?" in name and not (urls and is_url(name)):
        # Whatever is wrong with it, it may hold a token: it is not repeated.
        raise UsageError(
            "what was given for an id looks like a URL",
            code="id_invalid",
            hint="`bsess close` takes a whole URL, with https:// or wss:// at its start"
            if urls
            else "give the session's id",
        )
    most = URL_MAX if is_url(name) else ID_MAX
    if not name or len(name) > most or not name.isprintable() or any(char.isspace() for char in name):
        raise UsageError(
            f"{shown(name)!r} cannot be a session's id",
            code="id_invalid",
            hint="`bsess list -o name` prints the ids alone; they hold no spaces or control characters",
        )


def shown(name: str) -> str:
    """Return what may be shown of a name that is no id."""
    if "?" in name or is_url(name):
        return mask_url(name)
    text = redact(name)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def is_url(name: str) -> bool:
    """Tell whether a name is a URL rather than an id."""
    return "://" in name


def split(context: Context, name: str) -> tuple[str | None, str]:
    """Return the profile that a name begins with, or None, and the id."""
    head, slash, tail = name.partition("/")
    return (head, tail) if slash and head in context.config.profiles else (None, name)


def unknown(session_id: str, profile: str) -> str:
    """Return what to say of an id that nobody knows."""
    short = f"; the start of an id needs {PREFIX_MIN} characters" if len(session_id) < PREFIX_MIN else ""
    return f"{session_id}: no such session in profile {profile}{short}"


def find_row(context: Context, session_id: str, profile: str | None) -> Row | None:
    """Return the ledger's row of an id or of a unique prefix of an open one; living rows before closed ones.

    Raises UsageError for an ambiguous one. A ledger that cannot be used knows nothing: a warning.
    """
    ledger = context.ledger_or_none()
    if ledger is None:
        return None
    try:
        exact, prefixed = ledger.find(session_id), ledger.find_prefix(session_id)
    except LedgerError as error:
        context.warn(f"{error.message}; going on without the ledger")
        return None
    return _one(exact, prefixed, session_id, profile)


def _one(exact: list[Row], prefixed: list[Row], name: str, profile: str | None) -> Row | None:
    exact, prefixed = ([row for row in rows if profile in (None, row.profile)] for rows in (exact, prefixed))
    live = [row for row in exact if row.state is not RowState.CLOSED]
    if not exact and len(name) < PREFIX_MIN:
        return None
    candidates = live or exact[:1] or prefixed
    if len(candidates) > 1:
        named = ", ".join(f"{row.profile}/{row.shown_id}" for row in candidates[:_NAMED_MAX])
        more = f" and {len(candidates) - _NAMED_MAX} more" if len(candidates) > _NAMED_MAX else ""
        raise UsageError(
            f"{name} fits {len(candidates)} sessions: {named}{more}", code="id_ambiguous", hint="give more of the id"
        )
    return candidates[0] if candidates else None
