"""Browserless's Session API: a session is a stop URL that the vendor gave; nothing lists or reads one.

Facts are those of docs.browserless.io and of clients with real accounts: the answer to a create has `id`, `connect`
(on one page `browserWSEndpoint`), `stop`, `browserQL`, `ttl`, and neither creation nor expiry. `stop` and `connect`
are opaque and secret: kept as they came, never rebuilt from an id.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

from bsess.errors import BsessError, ConfigError, FailedError, NotFoundError, QuotaError, UnreachableError, UsageError
from bsess.http import Access, Answer, Client, secrets_of
from bsess.model import Owner, Status
from bsess.providers.base import (
    Capability,
    CloseAnswer,
    CloseState,
    CloseTarget,
    CreateRequest,
    Listing,
    ProviderSettings,
    RemoteSession,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOUD = "browserless.io"
REGIONS = ("sfo", "lon", "ams")
DEFAULT_REGION = "sfo"
# 90 days is what the largest plan keeps a session's data (a third party's table); a plan's own cap is the vendor's.
TTL_MAX_SECONDS = 90 * 86_400.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_OPTIONS = {"stealth", "keep_alive", "proxy", "browser", "args", "headed", "context", "set"}
_PROXY = re.compile(r"(?:(residential|datacenter):)?([a-z]{2})(?::([A-Za-z_-]+))?(?::([A-Za-z _-]+))?", re.IGNORECASE)
_BROWSERS = ("chromium", "chrome")


class BrowserlessProvider:
    """One account in one region."""

    name: ClassVar[str] = "browserless"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.REGIONS})
    ttl_bounds: ClassVar[tuple[float, float]] = (1.0, TTL_MAX_SECONDS)

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._origin = _origin(settings.url, settings.region)
        # A session's own URLs say which region it is in: to the ledger the cloud is one place.
        self.base_url = f"https://{CLOUD}" if settings.url is None else self._origin
        found = settings.token()
        self.secret = found.value
        self.account = hashlib.blake2b(found.value.encode(), key=b"bsess account", digest_size=12).hexdigest()
        self._client = Client(
            Access(
                origin=self._origin,
                secrets=(found.value, quote(found.value, safe="")),
                insecure=settings.insecure,
                token_source=found.source,
            ),
            environment=settings.environment,
            timeout=settings.timeout,
            seconds_left=settings.seconds_left,
            log=settings.log,
        )

    def validate(self, request: CreateRequest) -> None:
        """Refuse what the API has no field for, before anything is recorded or sent."""
        _body(request)
        _origin(self._settings.url, request.region or self._settings.region)

    def planned_id(self, request: CreateRequest) -> None:
        """Return None: the vendor chooses."""

    def create(self, request: CreateRequest) -> RemoteSession:
        """POST /session, once: there is no key against a second one, and nobody could list it."""
        origin = _origin(self._settings.url, request.region or self._settings.region)
        began = time.time()
        answer = self._client.send(
            "POST", f"{origin}/session?token={quote(self.secret, safe='')}", body=_body(request), repeatable=False
        )
        if not answer.ok:
            raise self._refusal(answer)
        document = self._client.json(answer, what="create")
        if not isinstance(document, dict) or not isinstance(document.get("id"), str) or not self.is_id(document["id"]):
            raise UnreachableError("create: the answer has no usable id", code="malformed", http_status=answer.status)
        return RemoteSession(
            id=document["id"],
            status=Status.RECORDED,
            live=True,
            created_at=began,
            # No expiry is told: it counts from the request, in this machine's time.
            expires_at=began + request.ttl,
            region=request.region or self._settings.region or (None if self._settings.url else DEFAULT_REGION),
            owner=request.owner,
            labels=request.labels,
            connect_url=_text(document, "connect") or _text(document, "browserWSEndpoint"),
            stop_url=_text(document, "stop"),
            query_url=_text(document, "browserQL"),
        )

    def list(self) -> Listing:
        """Return nothing: this API lists no sessions, so the ledger is the only list and the ttl the only proof."""
        return Listing(sessions=(), complete=False, ttl_is_proof=True)

    def get(self, session_id: str) -> RemoteSession | None:
        """Refuse: this API reads no single session."""
        raise FailedError(
            f"{session_id}: Browserless tells nothing of a single session",
            code="unsupported",
            hint="`bsess list` shows those of the ledger",
            session=session_id,
        )

    def close(self, target: CloseTarget) -> CloseAnswer:
        """DELETE the stop URL; 200 ends it and 404 says that it had ended."""
        if target.stop_url is None:
            raise FailedError(
                f"{target.id}: its stop URL is not known, and Browserless ends a session by nothing else",
                code="no_stop_url",
                hint="its ttl ends it",
                session=target.id,
            )
        url = self._stop_url(target)
        self._client.hide(secrets_of(url, target.id))
        # Whatever its body is: a 2xx has ended the session.
        answer = self._client.send("DELETE", url, status_only=True)
        if answer.ok:
            return CloseAnswer(CloseState.ENDED, http_status=answer.status)
        error = self._client.failure(answer, what="close", session=target.id)
        if isinstance(error, NotFoundError):
            return CloseAnswer(CloseState.ABSENT, http_status=answer.status)
        if not target.force and answer.status in (400, 409, 423):
            error.hint = "a client may be attached: --force ends it all the same"
        raise error

    def is_id(self, text: str) -> bool:
        """Tell whether the vendor could have made such an id; their form is not documented."""
        return _ID.fullmatch(text) is not None

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002
        """Refuse: a session of this API carries nothing of ours."""
        raise UsageError("Browserless sessions carry no tag", code="unsupported", hint="make them with `bsess create`")

    def _stop_url(self, target: CloseTarget) -> str:
        url = target.stop_url or ""
        scheme, host, port = _where(url)
        in_cloud = self._settings.url is None and (host == CLOUD or host.endswith(f".{CLOUD}")) and scheme == "https"
        if not in_cloud and (scheme, host, port) != _where(self._origin):
            raise FailedError(
                f"{target.id}: its stop URL leads to {host or 'nowhere'}, not to Browserless; it is not sent",
                code="stop_url",
                session=target.id,
            )
        if "token=" not in urlsplit(url).query:
            url = _with_query(url, f"token={quote(self.secret, safe='')}")
        return _with_query(url, "force=true") if target.force else url

    def _refusal(self, answer: Answer) -> BsessError:
        error = self._client.failure(answer, what="create")
        if isinstance(error, NotFoundError):
            return FailedError(
                error.message,
                code="no_session_api",
                hint="the open-source server has no Session API: that is another provider",
                http_status=answer.status,
            )
        if isinstance(error, QuotaError) and answer.status == 429:  # noqa: PLR2004
            error.code = "slots"
        return error


def _origin(url: str | None, region: str | None) -> str:
    if url is not None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ConfigError("the profile's url is no http or https URL", code="url") from error
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    name = region or DEFAULT_REGION
    if name in REGIONS:
        return f"https://production-{name}.{CLOUD}"
    if re.fullmatch(r"[a-z0-9-]+\.browserless\.io", name):
        return f"https://{name}"
    raise UsageError(
        f"there is no Browserless region {name[:40]!r}",
        code="region",
        hint=f"one of {', '.join(REGIONS)}, or a host of browserless.io",
    )


def _body(request: CreateRequest) -> dict[str, object]:
    options = request.options
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise UsageError(f"Browserless sessions have no option {unknown[0]!r}")
    keep_alive = options.get("keep_alive")
    if isinstance(keep_alive, (int, float)) and keep_alive > request.ttl:
        raise UsageError("--keep-alive is longer than the ttl", hint="give it a longer --ttl")
    if options.get("browser") not in (None, *_BROWSERS):
        raise UsageError(f"--browser {options['browser']!r} is none of {', '.join(_BROWSERS)}")
    extra = options.get("set")
    fields = {
        "ttl": round(request.ttl * 1000),
        "stealth": True if options.get("stealth") else None,
        "processKeepAlive": round(keep_alive * 1000) if isinstance(keep_alive, (int, float)) else None,
        "headless": False if options.get("headed") else None,
        "args": options.get("args"),
        "profile": options.get("context"),
        "browser": options.get("browser"),
        "proxy": _proxy(str(options["proxy"])) if options.get("proxy") else None,
    }
    body = {key: value for key, value in fields.items() if value is not None}
    return _merged(body, extra) if isinstance(extra, dict) else body


def _merged(body: dict[str, object], extra: dict[str, object]) -> dict[str, object]:
    merged = dict(body)
    for key, value in extra.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _proxy(text: str) -> dict[str, object]:
    if text == "on":
        return {"type": "residential"}
    match = _PROXY.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--proxy {text[:60]!r} is not understood", hint="on, us, residential:us or datacenter:us:::city"
        )
    kind, country, _, city = match.groups()
    return {"type": kind or "residential", "country": country.lower(), **({"city": city} if city else {})}


def _where(url: str) -> tuple[str, str, int | None]:
    """Return a URL's scheme, host and port; all empty for what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    if not (url.isascii() and url.isprintable()):
        return "", "", None
    return parts.scheme, (parts.hostname or "").lower(), port


def _text(document: dict[str, object], key: str) -> str | None:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise UnreachableError(f"create: its answer's {key} is no text", code="malformed") from error
    return value


def _with_query(url: str, pair: str) -> str:
    head, hash_, fragment = url.partition("#")
    return f"{head}{'&' if '?' in head else '?'}{pair}{hash_}{fragment}"
