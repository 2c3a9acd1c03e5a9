"""`bsess show`, `live`, `logs`, `recording`: what a provider tells of one session."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from bsess import inventory, naming, whole
from bsess.errors import FailedError, NotFoundError, UsageError
from bsess.known import known_session
from bsess.model import Result
from bsess.output.text import MASK, clean, redact
from bsess.providers.base import UNSUPPORTED, Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bsess.config import Profile
    from bsess.context import Context
    from bsess.ledger import Row
    from bsess.providers.base import TellsDetails

# By the name of a field, whatever is in it.
_SECRET = re.compile(r"connect_?url|remote_?url|signing|token|secret|password|api_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Named:
    """One session by its id, at the provider that knows it."""

    id: str
    profile: Profile
    row: Row | None


def named(context: Context, name: str, profile: str | None) -> Named:
    """Return the session that a name stands for: of the ledger, else of the named or default profile."""
    naming.check(name)
    profile_name, session_id = naming.split(context, name)
    row = naming.find_row(context, session_id, profile_name or profile)
    leading = None if row is None else inventory.profile_of(context, row)
    if row is not None and leading is not None:
        return Named(row.shown_id, leading, row)
    return Named(session_id, context.config.profile(profile_name or profile), None)


def show(context: Context, name: str, profile: str | None) -> Result:
    """Return one session as the ledger and its provider know it; what opens it is masked in the provider's words."""
    wanted = named(context, name, profile)
    provider = context.provider(wanted.profile)
    try:
        remote = provider.get(wanted.id) if provider.is_id(wanted.id) else None
    except FailedError as error:
        if error.code != UNSUPPORTED:
            raise
        remote = None
    if remote is None and wanted.row is None:
        raise _unknown(wanted)
    known = known_session(context, wanted.profile, row=wanted.row, remote=remote)
    details: Mapping[str, object] = {}
    if Capability.DETAILS in provider.capabilities:
        told = cast("TellsDetails", provider).details(wanted.id) or {}
        details = {key: _masked(value, key) for key, value in told.items()}
    return Result("show", sessions=(known.session,), details=details)


def live(context: Context, name: str, profile: str | None, *, pages: bool, browse: bool) -> Result:
    """Return the live view's URL (or one for each page); `browse` opens it in this machine's browser."""
    wanted, provider = _telling(context, name, profile, "live view")
    found = provider.live(wanted.id)
    urls = [found.get("debuggerFullscreenUrl")]
    if pages:
        rows = found.get("pages")
        urls = (
            [row.get("debuggerFullscreenUrl") for row in rows if isinstance(row, dict)]
            if isinstance(rows, list)
            else []
        )
    shown = [clean(url) for url in urls if isinstance(url, str) and url]
    if not shown:
        raise FailedError(f"{wanted.id}: it has no live view now", code="no_live_view", session=wanted.id)
    if any(urlsplit(url).scheme not in ("http", "https") for url in shown):
        raise FailedError(
            f"{wanted.id}: what stands for its live view is no web page", code="no_live_view", session=wanted.id
        )
    if browse:
        import webbrowser

        if not webbrowser.open(shown[0]):
            raise FailedError("no browser of this machine opens it", code="no_browser", hint="leave --open out")
    return Result("live", text="\n".join(shown))


def logs(context: Context, name: str, profile: str | None) -> Result:
    """Return the session's log, one record a line."""
    wanted, provider = _telling(context, name, profile, "logs")
    return Result("logs", records=tuple(provider.logs(wanted.id)))


def recording(context: Context, name: str, profile: str | None, file: str | None) -> Result:
    """Return the session's recording as rrweb events, or write it to a file that is whole or not there."""
    wanted, provider = _telling(context, name, profile, "recordings")
    events = provider.recording(wanted.id)
    if file is None:
        return Result("recording", answer=events)
    with whole.writing(file) as opened:
        opened.write(json.dumps(events).encode())
    return Result("recording", text=file)


def videos(context: Context, name: str, profile: str | None, file: str) -> Result:
    """Have the session's recording made into videos and write them: one to `file`, several beside it by page."""
    wanted, provider = _telling(context, name, profile, "recordings")

    def waiting(ready: int, total: int) -> None:
        context.note(f"{ready} of {total} videos are ready")

    found = provider.videos(wanted.id, waiting)
    written = []
    stem, ending = os.path.splitext(file)  # noqa: PTH122  a name as the user gave it
    for number, (page, url) in enumerate(found, start=1):
        name = "".join(char for char in page if char.isalnum())
        # Two that go by one name are two.
        name = f"{name}-{number}" if [page for page, _ in found].count(page) > 1 else name
        path = file if len(found) == 1 else f"{stem}-{name}{ending}"
        with whole.writing(path) as opened:
            provider.fetch(url, opened)
        written.append(path)
    return Result("recording", text="\n".join(written))


def _masked(value: object, key: str = "") -> object:
    """Return what a provider tells, without what opens a session, an account or a proxy."""
    if isinstance(value, dict):
        return {name: _masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, key) for item in value]
    if value is not None and not isinstance(value, bool) and _SECRET.search(key):
        return MASK
    return redact(value) if isinstance(value, str) else value


def _telling(context: Context, name: str, profile: str | None, what: str) -> tuple[Named, TellsDetails]:
    wanted = named(context, name, profile)
    provider = context.provider(wanted.profile)
    if Capability.DETAILS not in provider.capabilities:
        raise UsageError(f"{wanted.profile.provider} has no {what}", code=UNSUPPORTED, session=wanted.id)
    if not provider.is_id(wanted.id):
        raise _unknown(wanted)
    return wanted, cast("TellsDetails", provider)


def _unknown(wanted: Named) -> NotFoundError:
    return NotFoundError(
        naming.unknown(wanted.id, wanted.profile.name),
        hint="`bsess list` shows the sessions; the start of an id works for those in the ledger",
        session=wanted.id,
    )
