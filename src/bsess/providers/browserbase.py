"""Browserbase: sessions that carry our tag in their metadata, are listed, and end by asking for their release.

Facts are those of the vendor's OpenAPI document, of its Python SDK 1.22.0 and of docs.browserbase.com. A release is a
request: its answer may still say RUNNING, and there is no other way to end a session. Statuses have grown before, so
one that is not known counts as a life.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeVar
from urllib.parse import quote, urlencode

from bsess import network
from bsess.errors import (
    AuthError,
    BsessError,
    FailedError,
    NotFoundError,
    QuotaError,
    UnreachableError,
    UsageError,
)
from bsess.http.answer import Wanted
from bsess.model import Usage
from bsess.providers import browserbase_fields as fields
from bsess.providers import rented
from bsess.providers.base import (
    SLOTS,
    Capability,
    CloseAnswer,
    CloseState,
    CloseTarget,
    CreateRequest,
    Listing,
    ProviderSettings,
    RemoteSession,
)
from bsess.providers.options import chosen, merged

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping

    from bsess.http.answer import Answer
    from bsess.model import Owner

_Kind = TypeVar("_Kind")

BASE = "https://api.browserbase.com"
REGIONS = ("us-west-2", "us-east-1", "eu-central-1", "ap-southeast-1")
TERMINAL = frozenset({"ERROR", "TIMED_OUT", "COMPLETED"})

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_OPTIONS = {
    *("stealth", "keep_alive", "proxy", "context", "viewport", "block_ads", "no_record", "no_log", "verified"),
    *("os", "extension", "set"),
}
_OWN = ("timeout", "userMetadata")
# How long to wait between two looks for a video, doubled each time.
VIDEO_PAUSE_SECONDS, VIDEO_PAUSE_MAX_SECONDS = 0.25, 5.0
_NO_VIDEO = {
    409: "it has not ended: `bsess close` ends it",
    410: "its recording is no longer kept",
    422: "it was not recorded",
}
_OK, _NOT_FOUND, _PAYMENT, _FORBIDDEN, _BUSY = 200, 404, 402, 403, 429
_SLOTS_TAKEN = "concurrent sessions limit"


class BrowserbaseProvider:
    """One project: a key belongs to just one."""

    name: ClassVar[str] = "browserbase"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            *(Capability.REGIONS, Capability.TAG, Capability.USAGE, Capability.FIND),
            *(Capability.PAST, Capability.DETAILS, Capability.CONTEXTS),
        }
    )
    ttl_bounds: ClassVar[tuple[float, float]] = (60.0, 21_600.0)

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self.base_url = network.base(settings.url or BASE)
        token = settings.token()
        self.secret: str | None = token.value
        self.account = rented.account(token)
        self._client = rented.client(settings, self.base_url, token, {"x-bb-api-key": token.value})
        self._client.hide(filter(None, [settings.environment.get(fields.PROXY_PASSWORD)]))

    def validate(self, request: CreateRequest) -> None:
        """Refuse what the API has no field for, and a tag that could not be found again."""
        self._body(request)

    def planned_id(self, request: CreateRequest) -> None:
        """Return None: the vendor chooses; the tag finds it."""

    def create(self, request: CreateRequest) -> RemoteSession:
        """POST /v1/sessions, once; the vendor's own SDK repeats it, and so can make a second one."""
        url = f"{self.base_url}/v1/sessions"
        # Slots that are taken come without a Retry-After: waiting does not help there.
        answer = self._client.send("POST", url, body=self._body(request), repeatable=False, refusals=(_BUSY,))
        if not answer.ok:
            raise self._refusal(answer)
        document = self._client.json(answer, what="create")
        made = _session(document, answer.clock_ahead)
        if made is None:
            raise UnreachableError("create: the answer is no session", code="malformed", http_status=answer.status)
        return replace(made, notes=tuple(_flaws(made)))

    def list(self) -> Listing:
        """Return the sessions that run or wait. One of a status that has no name yet is in neither list."""
        found = [item for status in ("RUNNING", "PENDING") for item in self._rows({"status": status})]
        unique = {item.id: item for item in found if item is not None}
        return Listing(sessions=tuple(unique.values()), complete=False, unreadable=found.count(None))

    def past(self, status: str | None, labels: Mapping[str, str]) -> Iterator[RemoteSession]:
        """Yield the sessions of a status, or of all, ended ones too; of several labels one is asked for there."""
        query = {} if status is None else {"status": status.upper()}
        label = next(((key, value) for key, value in labels.items() if not fields.UNQUOTABLE & set(key + value)), None)
        if label is not None:
            query["q"] = fields.where(*label)
        return self._sessions(query)

    def find(self, key: str) -> tuple[RemoteSession, ...]:
        """Return the sessions that carry the tag of that ledger id."""
        return tuple(self._sessions({"q": fields.where(fields.TAG_KEY, key)}))

    def get(self, session_id: str) -> RemoteSession | None:
        """Return one session; a 404 is conclusive."""
        if not self.is_id(session_id):
            return None
        answer = self._client.send("GET", self._url(session_id))
        if answer.status == _NOT_FOUND:
            return None
        if not answer.ok:
            raise self._client.failure(answer, what="get", session=session_id)
        found = _session(self._client.json(answer, what="get"), answer.clock_ahead)
        if found is None:
            raise UnreachableError(f"{session_id}: the answer is no session", code="malformed")
        return found

    def close(self, target: CloseTarget) -> CloseAnswer:
        """Ask for its release; whatever that answered, a terminal status settles it."""
        if not self.is_id(target.id):
            return CloseAnswer(CloseState.ABSENT)
        try:
            answer = self._client.send("POST", self._url(target.id), body={"status": "REQUEST_RELEASE"})
        except UnreachableError as error:
            return self._settled(target.id, error)
        if answer.ok:
            found = self._readable(answer)
            if found is None:
                return CloseAnswer(CloseState.ACCEPTED, http_status=answer.status)
            state = CloseState.ACCEPTED if found.live else CloseState.ENDED
            return CloseAnswer(state, http_status=answer.status, provider_status=found.status.upper())
        refusal = self._client.failure(answer, what="close", session=target.id)
        if isinstance(refusal, AuthError):
            raise refusal
        return self._settled(target.id, refusal)

    def is_id(self, text: str) -> bool:
        """Tell whether `text` is a UUID."""
        return _ID.fullmatch(text) is not None

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Return the userMetadata that makes a session that owner's."""
        return fields.metadata(owner, labels)

    def usage(self) -> Usage:
        """Return the project's slots, and its minutes and bytes of this billing period."""
        projects: builtins.list[Any] = self._read("/v1/projects", list, what="usage")
        project = projects[0] if projects and isinstance(projects[0], dict) else {}
        used: dict[str, Any] = {}
        if isinstance(project.get("id"), str):
            used = self._read(f"/v1/projects/{quote(project['id'], safe='')}/usage", dict, what="usage")
        return Usage(
            running=sum(1 for _ in self._sessions({"status": "RUNNING"})),
            slots=_whole(project.get("concurrency")),
            minutes_used=_whole(used.get("browserMinutes")),
            proxy_bytes=_whole(used.get("proxyBytes")),
        )

    def details(self, session_id: str) -> Mapping[str, object] | None:
        """Return all that the vendor tells of one session, secrets included; None where it knows none."""
        answer = self._client.send("GET", self._url(session_id)) if self.is_id(session_id) else None
        if answer is None or answer.status == _NOT_FOUND:
            return None
        if not answer.ok:
            raise self._client.failure(answer, what="show", session=session_id)
        document = self._client.json(answer, what="show")
        return document if isinstance(document, dict) else {}

    def live(self, session_id: str) -> Mapping[str, object]:
        """Return the live view's URLs: whoever has one sees and drives the session."""
        path = f"/v1/sessions/{quote(session_id, safe='')}/debug"
        return self._read(path, dict, what="live", session=session_id)

    def logs(self, session_id: str) -> builtins.list[object]:
        """Return the session's DevTools log."""
        path = f"/v1/sessions/{quote(session_id, safe='')}/logs"
        return self._read(path, list, what="logs", session=session_id)

    def recording(self, session_id: str) -> builtins.list[object]:
        """Return the session's recording as rrweb events (deprecated by the vendor)."""
        path = f"/v1/sessions/{quote(session_id, safe='')}/recording"
        return self._read(path, list, what="recording", session=session_id)

    def videos(self, session_id: str, waiting: Callable[[int, int], None]) -> builtins.list[tuple[str, str]]:
        """POST for the videos, then look until each is there or has failed."""
        url = f"{self._url(session_id)}/recording/downloads"
        answer = self._client.send("POST", url)
        pause = VIDEO_PAUSE_SECONDS
        while True:
            if not answer.ok:
                raise self._no_video(answer, session_id)
            rows = self._downloads(answer)
            ready = [row for row in rows if row.get("status") in ("COMPLETED", "FAILED")]
            waiting(len(ready), len(rows))
            if len(ready) == len(rows):
                break
            if pause >= self._settings.seconds_left():
                raise UnreachableError(
                    f"{session_id}: its video is not there yet", code="deadline", hint="give it a longer --deadline"
                )
            time.sleep(pause)
            pause = min(pause * 2, VIDEO_PAUSE_MAX_SECONDS)
            answer = self._client.send("GET", url)
        found = [
            (str(row.get("pageId")), row["downloadUrl"]) for row in rows if isinstance(row.get("downloadUrl"), str)
        ]
        if not found:
            raise FailedError(f"{session_id}: no video could be made of it", code="no_video", session=session_id)
        return found

    def fetch(self, url: str, file: BinaryIO) -> int:
        """Download a video; the key goes to the API's own host alone."""
        return self._client.download(url, file)

    def create_context(self) -> str:
        """POST /v1/contexts, once."""
        try:
            answer = self._client.send("POST", f"{self.base_url}/v1/contexts", body={}, repeatable=False)
        except UnreachableError as error:
            if error.sent:
                error.hint = "it may have been made, and nothing lists contexts: leave it, or make another"
            raise
        if not answer.ok:
            raise self._client.failure(answer, what="context create")
        document = self._client.json(answer, what="context create")
        found = document.get("id") if isinstance(document, dict) else None
        if not isinstance(found, str) or not found.isprintable() or not found.strip():
            raise UnreachableError("context create: the answer has no id", code="malformed")
        return found

    def context(self, context_id: str) -> Mapping[str, object] | None:
        """GET /v1/contexts/ID."""
        answer = self._client.send("GET", self._context_url(context_id))
        if answer.status == _NOT_FOUND:
            return None
        if not answer.ok:
            raise self._client.failure(answer, what="context show")
        document = self._client.json(answer, what="context show")
        return document if isinstance(document, dict) else {}

    def delete_context(self, context_id: str) -> bool:
        """DELETE /v1/contexts/ID."""
        answer = self._client.send("DELETE", self._context_url(context_id))
        if answer.ok or answer.status == _NOT_FOUND:
            return answer.ok
        raise self._client.failure(answer, what="context delete")

    def disconnect(self) -> None:
        """Let go of the HTTP connections."""
        self._client.close()

    def _body(self, request: CreateRequest) -> dict[str, object]:
        options = chosen(self._settings, request, _OPTIONS)
        region = request.region or self._settings.region
        if region is not None and region not in REGIONS:
            raise UsageError(
                f"there is no Browserbase region {region[:40]!r}", code="region", hint=f"one of {', '.join(REGIONS)}"
            )
        keep_alive = options.get("keep_alive")
        if keep_alive not in (None, True):
            raise UsageError("Browserbase takes no duration for --keep-alive", hint="--keep-alive on, and a --ttl")
        project = self._settings.environment.get("BROWSERBASE_PROJECT_ID") or None
        body = {
            "projectId": project,
            "timeout": math.ceil(request.ttl),
            "keepAlive": keep_alive,
            "region": region,
            "proxies": fields.proxies(options.get("proxy"), self._settings.environment),
            "extensionId": options.get("extension"),
            "browserSettings": fields.browser_settings(options) or None,
            "userMetadata": fields.metadata(request.owner, request.labels),
        }
        return merged({key: value for key, value in body.items() if value is not None}, options.get("set"), own=_OWN)

    def _context_url(self, context_id: str) -> str:
        return f"{self.base_url}/v1/contexts/{quote(context_id, safe='')}"

    def _downloads(self, answer: Answer) -> builtins.list[dict[str, Any]]:
        document = self._client.json(answer, what="recording")
        rows = document.get("downloads") if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise UnreachableError("recording: the answer lists no downloads", code="malformed")
        return [row for row in rows if isinstance(row, dict)]

    def _no_video(self, answer: Answer, session_id: str) -> BsessError:
        error = self._client.failure(answer, what="recording", session=session_id)
        error.hint = _NO_VIDEO.get(answer.status, error.hint)
        return error

    def _url(self, session_id: str) -> str:
        return f"{self.base_url}/v1/sessions/{quote(session_id, safe='')}"

    def _read(self, path: str, kind: type[_Kind], *, what: str, session: str | None = None) -> _Kind:
        answer = self._client.send("GET", f"{self.base_url}{path}")
        if not answer.ok:
            raise self._client.failure(answer, what=what, session=session)
        document = self._client.json(answer, what=what)
        if not isinstance(document, kind):
            raise UnreachableError(
                f"{what}: the answer has another form than it is to have", code="malformed", http_status=answer.status
            )
        return document

    def _sessions(self, query: Mapping[str, str]) -> Iterator[RemoteSession]:
        return (item for item in self._rows(query) if item is not None)

    def _rows(self, query: Mapping[str, str]) -> Iterator[RemoteSession | None]:
        # The API has no pages: all that was ever made may come in one answer.
        url = f"{self.base_url}/v1/sessions{f'?{urlencode(query, quote_via=quote)}' if query else ''}"
        answer = self._client.send("GET", url, wanted=Wanted.FILE)
        if not answer.ok:
            raise self._client.failure(answer, what="list")
        for document in self._client.elements(answer, what="list"):
            yield _session(document, answer.clock_ahead)

    def _readable(self, answer: Answer) -> RemoteSession | None:
        try:
            return _session(self._client.json(answer, what="close"), answer.clock_ahead)
        except UnreachableError:
            return None

    def _settled(self, session_id: str, error: BsessError) -> CloseAnswer:
        """Tell what a GET says after a release whose answer settles nothing. Raises `error` where that does not."""
        try:
            found = self.get(session_id)
        except BsessError:
            raise error from None
        if found is None:
            return CloseAnswer(CloseState.ABSENT, http_status=error.http_status or _NOT_FOUND)
        if not found.live:
            return CloseAnswer(CloseState.GONE, http_status=error.http_status, provider_status=found.status.upper())
        raise error

    def _refusal(self, answer: Answer) -> BsessError:
        error = self._client.failure(answer, what="create")
        if isinstance(error, QuotaError) and answer.status == _BUSY and _SLOTS_TAKEN in error.message:
            error.code = SLOTS
            error.hint = "end one with `bsess close`; waiting does not help"
        elif answer.status == _FORBIDDEN:
            error.code = "plan"
            error.hint = "the plan does not allow this: leave it out, or change the plan"
        elif isinstance(error, NotFoundError):
            return FailedError(
                error.message, code="refused", hint="is the profile's url right?", http_status=_NOT_FOUND
            )
        return error


def _session(document: object, clock_ahead: float | None) -> RemoteSession | None:
    if not isinstance(document, dict) or not isinstance(document.get("id"), str) or not document["id"]:
        return None
    status = str(document.get("status") or "unknown")
    owner, labels = fields.read_metadata(document.get("userMetadata"))
    return RemoteSession(
        id=document["id"],
        status=status.lower(),
        live=status not in TERMINAL,
        created_at=_moment(document.get("createdAt")),
        expires_at=_moment(document.get("expiresAt")),
        region=_text(document.get("region")),
        owner=owner,
        labels=labels,
        connect_url=_websocket(document.get("connectUrl")),
        clock_ahead=clock_ahead,
    )


def _flaws(made: RemoteSession) -> Iterator[str]:
    """Yield what a session just made lacks: it exists all the same, and is to be known and ended."""
    if not made.live:
        yield f"{made.id} has ended already: {made.status}"
    elif made.connect_url is None:
        yield f"{made.id} came without a connect URL"


def _moment(value: object) -> float | None:
    """Return a time given as RFC 3339, with whatever fraction."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _websocket(value: object) -> str | None:
    text = _text(value)
    return text if text is not None and text.startswith(("wss://", "ws://")) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
