"""The open-source Browserless server, by its management API: a session lives as long as a client is connected.

So a session of ours has a holder, a small process that keeps one connection open until the ttl passes or the session
ends. It takes one of the server's slots, as every further client does (measured on 2.42.0).

A session's id is the tracking id that bsess gives it, and thereby its tag: `bs-`, 10 characters of a hash of the
ledger's id, 10 of a hash of the owner's name. A browser that others made goes by the server's own browserId.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

from bsess import network
from bsess.errors import AuthError, BsessError, ConfigError, FailedError, NotFoundError, UnreachableError, UsageError
from bsess.holder.launch import launch
from bsess.http.answer import Answer
from bsess.model import Owner, Status, Usage
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
from bsess.providers.options import chosen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bsess.credentials import Token

# How long a session may take to be listed once its connection stands, and to be gone once it was killed. Both are at
# once (measured on 2.42.0).
LISTED_SECONDS = 5.0
GONE_SECONDS = 2.0
_POLL_SECONDS = 0.05
NOT_FOUND = 404
# The server cuts a connection after its own 30 s unless told otherwise; the holder is to be the one that ends it.
SERVER_SLACK_SECONDS = 60.0

# The server's own browserId, or a tracking id (32 characters at most). `all` would end everybody's.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_TAG = re.compile(r"bs-([a-z2-7]{10})([a-z2-7]{10})", re.ASCII)
_RESERVED = frozenset({"all"})
_OPTIONS = {"args", "headed", "stealth", "browser", "set"}
_BROWSERS = ("chromium", "chrome", "edge")
_OWN_PARAMETERS = frozenset({"token", "trackingId", "timeout"})
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class BrowserlessSelfHostedProvider:
    """One server."""

    name: ClassVar[str] = "browserless-self-hosted"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.TAG, Capability.USAGE})
    ttl_bounds: ClassVar[tuple[float, float]] = (1.0, 30 * 86_400.0)

    def __init__(self, settings: ProviderSettings) -> None:
        if settings.url is None:
            raise ConfigError(
                f"profile {settings.profile}: a server of one's own needs its url",
                code="url_missing",
                hint=f'add url = "http://127.0.0.1:3000" to profiles.{settings.profile}',
            )
        self._settings = settings
        self.base_url = network.base(settings.url)
        # Whatever the token, it is the same server with the same sessions.
        self.account = "server"
        token = _optional_token(settings)
        self.secret = None if token is None else token.value
        headers = {} if token is None else {"authorization": f"Bearer {token.value}"}
        self._client = rented.client(settings, self.base_url, token, headers)

    def validate(self, request: CreateRequest) -> None:
        """Refuse what the server has no parameter for."""
        if request.region is not None:
            raise UsageError("a server of one's own has no region", hint="leave --region out")
        _parameters(self._settings, request)

    def planned_id(self, request: CreateRequest) -> str:
        """Return the tracking id: a create cut short is found by it."""
        return _tag(request.owner.name, request.key)

    def create(self, request: CreateRequest) -> RemoteSession:
        """Start a holder that connects, and return once the server lists the session."""
        tracking = self.planned_id(request)
        path, parameters = _parameters(self._settings, request)
        limit = round((request.ttl + SERVER_SLACK_SECONDS) * 1000)
        query = self._query(trackingId=tracking, timeout=limit, **parameters)
        connect = f"{network.as_websocket(self.base_url)}/{path}{query}"
        self._client.check(self.base_url)
        answer = self._launch(connect, tracking, request)
        if answer is None:
            raise UnreachableError(f"{tracking}: lost its holder while it started", code="holder")
        if "error" in answer:
            unreachable = UnreachableError(
                f"create: {urlsplit(self.base_url).netloc}: {self._client.redact(str(answer['error']))}",
                hint="check the server and the profile's url; a full server lets a create wait: --timeout bounds it",
            )
            unreachable.sent = bool(answer.get("sent", True))
            raise unreachable
        if answer["status"] != 101:  # noqa: PLR2004  RFC 6455: the connection stands
            raise self._refusal(answer)
        return self._listed(tracking, request)

    def list(self) -> Listing:
        """Return one session for each browser; the server also lists every page of it."""
        answer = self._client.send("GET", f"{self.base_url}/sessions")
        if not answer.ok:
            raise self._client.failure(answer, what="list")
        rows = self._client.json(answer, what="list")
        if not isinstance(rows, list):
            raise UnreachableError("list: the answer is no list of sessions", code="malformed")
        now = time.time()
        found: dict[str, RemoteSession] = {}
        for row in rows:
            browser = _text(row, "browserId") or _text(row, "id")
            # A browser that only its pages tell of (older versions) is one all the same.
            if browser is not None and (browser not in found or row.get("type") == "browser"):
                found[browser] = self._session(browser, row, now)
        return Listing(sessions=tuple(found.values()), settle_seconds=LISTED_SECONDS)

    def get(self, session_id: str) -> RemoteSession | None:
        """Return the session of that tracking id or browserId."""
        return next((item for item in self.list().sessions if session_id in (item.id, item.provider_id)), None)

    def close(self, target: CloseTarget) -> CloseAnswer:
        """GET /kill/ID, and a new listing: there are versions that answer 204 to a kill that ended nothing.

        A 404 proves nothing alone either: whatever stands before a server that is down may say so.
        """
        if not self.is_id(target.id):
            return CloseAnswer(CloseState.ABSENT)
        answer = self._kill(target.id)
        if answer.status == NOT_FOUND:
            found = self.get(target.id)
            if found is None or found.provider_id is None:
                return CloseAnswer(CloseState.ABSENT, http_status=answer.status)
            answer = self._kill(found.provider_id)  # a version that knows no tracking ids
        if self._is_gone(target.id):
            return CloseAnswer(CloseState.ENDED, http_status=answer.status)
        reason = "the server accepted the kill and still lists it"
        return CloseAnswer(CloseState.STILL_LIVE, reason=reason, http_status=answer.status)

    def is_id(self, text: str) -> bool:
        """Tell whether the server could have a session of that id."""
        return _ID.fullmatch(text) is not None and text.lower() not in _RESERVED

    def disconnect(self) -> None:
        """Let go of the HTTP connections."""
        self._client.close()

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  a tag has no room
        """Return the query parameter of a connection that makes its session that owner's; good for one session."""
        return {"trackingId": _tag(owner.name, owner.key or str(time.time_ns()))}

    def usage(self) -> Usage:
        """Return what GET /pressure tells."""
        answer = self._client.send("GET", f"{self.base_url}/pressure")
        if not answer.ok:
            raise self._client.failure(answer, what="usage")
        document = self._client.json(answer, what="usage")
        pressure = document.get("pressure") if isinstance(document, dict) else None
        if not isinstance(pressure, dict):
            raise UnreachableError("usage: the answer tells no pressure", code="malformed")
        return Usage(
            running=_number(pressure, "running"),
            queued=_number(pressure, "queued"),
            slots=_number(pressure, "maxConcurrent"),
        )

    def _kill(self, name: str) -> Answer:
        answer = self._client.send("GET", f"{self.base_url}/kill/{quote(name, safe='')}")
        if not answer.ok and answer.status != NOT_FOUND:
            raise self._client.failure(answer, what="close", session=name)
        return answer

    def _launch(self, url: str, tracking: str, request: CreateRequest) -> dict[str, Any] | None:
        order = {
            "url": url,
            "base": self.base_url,
            "query": self._query(),
            "tracking_id": tracking,
            "proxy": network.proxy_for(url, self._settings.environment),
            "certificates": network.certificates(self._settings.environment),
            "connect_seconds": request.start_seconds,
            "ttl": request.ttl,
            "packages": _packages(),
        }
        return launch(
            "connection",
            tracking,
            order,
            environment={"BSESS_STATE_DIR": str(self._settings.state_dir)},
            seconds=request.start_seconds,
        )

    def _listed(self, tracking: str, request: CreateRequest) -> RemoteSession:
        until = time.monotonic() + LISTED_SECONDS
        while True:
            found = self.get(tracking)
            if found is not None:
                break
            if time.monotonic() >= until:
                raise UnreachableError(f"{tracking}: the server does not list it", code="unlisted")
            time.sleep(_POLL_SECONDS)
        limit = round((request.ttl + SERVER_SLACK_SECONDS) * 1000)
        base = network.as_websocket(self.base_url)
        return RemoteSession(
            id=tracking,
            provider_id=found.provider_id,
            status=found.status,
            live=True,
            created_at=found.created_at,
            expires_at=(found.created_at or time.time()) + request.ttl,
            owner=request.owner,
            labels=request.labels,
            connect_url=f"{base}/devtools/browser/{found.provider_id}{self._query(timeout=limit)}",
        )

    def _session(self, browser: str, row: dict[str, Any], now: float) -> RemoteSession:
        tracking = _text(row, "trackingId")
        match = _TAG.fullmatch(tracking or "")
        alive = row.get("timeAliveMs")
        return RemoteSession(
            id=tracking if match is not None and tracking is not None else browser,
            provider_id=browser,
            status=Status.RUNNING,
            live=True,
            # By the server's count, not its clock: that may be off.
            created_at=now - alive / 1000 if isinstance(alive, (int, float)) else None,
            owner=None if match is None else self._owner(match[2]),
        )

    def _owner(self, hashed: str) -> Owner:
        mine = self._settings.owner
        return Owner(mine if _hash(mine) == hashed else f"bs-{hashed}")

    def _is_gone(self, session_id: str) -> bool:
        until = time.monotonic() + GONE_SECONDS
        while self.get(session_id) is not None:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _query(self, **parameters: object) -> str:
        own = {} if self.secret is None else {"token": self.secret}
        return f"?{urlencode({**own, **parameters}, quote_via=quote)}"

    def _refusal(self, answer: Mapping[str, Any]) -> BsessError:
        status = int(answer["status"])
        error = self._client.failure(
            Answer("GET", self.base_url, status, {}, str(answer["body"]).encode()), what="create"
        )
        if isinstance(error, NotFoundError):
            return FailedError(
                error.message,
                code="no_management_api",
                hint="is the profile's url that of a Browserless server with this browser?",
                http_status=status,
            )
        if status == 429:  # noqa: PLR2004  RFC 6585
            error.code = SLOTS
        return error


def _optional_token(settings: ProviderSettings) -> Token | None:
    try:
        return settings.token()
    except AuthError as error:
        if error.code == "no_token":
            return None  # a server can be run without one
        raise


def _parameters(settings: ProviderSettings, request: CreateRequest) -> tuple[str, dict[str, str]]:
    """Return the path that a session is opened at, and its parameters."""
    options = chosen(settings, request, _OPTIONS)
    browser = options.get("browser", "chromium")
    if browser not in _BROWSERS:
        raise UsageError(f"--browser {browser!r} is none of {', '.join(_BROWSERS)}")
    extra = options.get("set")
    fields = dict(extra) if isinstance(extra, dict) else {}
    own = sorted(_OWN_PARAMETERS & set(fields))
    if own:
        raise UsageError(f"--set {own[0]} is set by bsess itself")
    launching = {
        key: value
        for key, value in (
            ("args", options.get("args")),
            ("headless", False if options.get("headed") else None),
            ("stealth", True if options.get("stealth") else None),
        )
        if value is not None
    }
    given = fields.get("launch", {})
    if not isinstance(given, dict):
        raise UsageError("--set launch takes fields: --set launch.slowMo=50")
    if launching or given:
        fields["launch"] = {**launching, **given}
    return str(browser), {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}


def _tag(owner: str, key: str) -> str:
    # The ledger's part comes first: a prefix then tells one session from another.
    return f"bs-{_hash(key)}{_hash(owner)}"


def _hash(text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=10).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)


def _packages() -> str:
    found = importlib.util.find_spec("websockets")
    if found is None or found.origin is None:  # pragma: no cover  a dependency of ours
        raise ConfigError("the package websockets is not installed", code="websockets")
    return str(Path(found.origin).parent.parent)


def _text(row: object, key: str) -> str | None:
    value = row.get(key) if isinstance(row, dict) else None
    return value if isinstance(value, str) and value else None


def _number(table: dict[str, Any], key: str) -> int | None:
    value = table.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
