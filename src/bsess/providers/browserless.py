"""Browserless's Session API: a session is a stop URL that the vendor gave; nothing lists or reads one.

Facts are those of docs.browserless.io and of clients with real accounts: the answer to a create has `id`, `connect`
(on one page `browserWSEndpoint`), `stop`, `browserQL`, `ttl`, and neither creation nor expiry. `stop` and `connect`
are opaque and secret: kept as they came, never rebuilt from an id.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from bsess import network
from bsess.errors import (
    AuthError,
    BsessError,
    ConfigError,
    FailedError,
    NotFoundError,
    QuotaError,
    UnreachableError,
    UsageError,
)
from bsess.http.answer import Wanted
from bsess.model import Owner, Status, Usage
from bsess.output.text import clean, secrets_of
from bsess.providers import rented
from bsess.providers.base import (
    SLOTS,
    UNSUPPORTED,
    Capability,
    CloseAnswer,
    CloseState,
    CloseTarget,
    CreateRequest,
    Listing,
    ProviderSettings,
    RemoteSession,
)
from bsess.providers.options import chosen, merged, proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bsess.http.answer import Answer

NAME = "browserless"
CLOUD = "browserless.io"
REGIONS = ("sfo", "lon", "ams")
DEFAULT_REGION = "sfo"
# 90 days is what the largest plan keeps a session's data (a third party's table); a plan's own cap is the vendor's.
TTL_MAX_SECONDS = 90 * 86_400.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_OPTIONS = {"stealth", "keep_alive", "proxy", "browser", "args", "headed", "context", "set"}
_BROWSERS = ("chromium", "chrome")
GRAPHQL = f"https://api.{CLOUD}/graphql"
_PAGE = 50
_PAGES_MAX = 200
_ACTIVE = """query ($apiToken: String!, $limit: Int, $skip: Int) {
  getActiveSession(apiToken: $apiToken, limit: $limit, skip: $skip) {
    sessions { browserId startTime browserName type ttl } count
  }
}"""
_SUMMARY = """query ($apiToken: String!) {
  accountSummary(apiToken: $apiToken) { plan planType cloudUnits { unitsLeft used available } }
}"""
_MILLISECONDS_FROM = 1e11


class BrowserlessProvider:
    """One account in one region."""

    name: ClassVar[str] = NAME
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.REGIONS, Capability.QUERY, Capability.USAGE, Capability.RUNNING}
    )
    ttl_bounds: ClassVar[tuple[float, float]] = (1.0, TTL_MAX_SECONDS)

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._origin = origin_of(settings.url, settings.region)
        # A session's own URLs say which region it is in: to the ledger the cloud is one place.
        self._graphql_url = _graphql_url(settings)
        self.base_url = f"https://{CLOUD}" if settings.url is None else self._origin
        token = settings.token()
        self.secret = token.value
        self.account = rented.account(token)
        self._client = rented.client(settings, self._origin, token)

    def validate(self, request: CreateRequest) -> None:
        """Refuse what the API has no field for, before anything is recorded or sent."""
        _body(self._settings, request)
        origin_of(self._settings.url, request.region or self._settings.region)

    def planned_id(self, request: CreateRequest) -> None:
        """Return None: the vendor chooses."""

    def create(self, request: CreateRequest) -> RemoteSession:
        """POST /session, once: there is no key against a second one, and nobody could list it."""
        origin = origin_of(self._settings.url, request.region or self._settings.region)
        began = time.time()
        answer = self._client.send(
            "POST",
            f"{origin}/session?token={quote(self.secret, safe='')}",
            body=_body(self._settings, request),
            repeatable=False,
        )
        if not answer.ok:
            raise self._refusal(answer)
        document = self._client.json(answer, what="create")
        if not isinstance(document, dict) or not isinstance(document.get("id"), str) or not self.is_id(document["id"]):
            self._undo(document if isinstance(document, dict) else {}, answer.status)
            raise UnreachableError(
                "create: the answer has no usable id",
                code="malformed",
                hint="is the profile's url that of Browserless? its ttl ends what may have been made",
                http_status=answer.status,
            )
        stop = _text(document, "stop")
        connect = _text(document, "connect") or _text(document, "browserWSEndpoint")
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
            connect_url=connect,
            stop_url=stop,
            query_url=_text(document, "browserQL"),
            notes=tuple(self._lacks(stop, connect)),
        )

    def list(self) -> Listing:
        """Return nothing: this API lists no sessions, so the ledger is the only list and the ttl the only proof."""
        return Listing(sessions=(), complete=False, ttl_is_proof=True)

    def get(self, session_id: str) -> RemoteSession | None:
        """Refuse: this API reads no single session."""
        raise FailedError(
            f"{session_id}: Browserless tells nothing of a single session",
            code=UNSUPPORTED,
            hint="`bsess list` shows those of the ledger",
            session=session_id,
        )

    def close(self, target: CloseTarget) -> CloseAnswer:
        """DELETE the stop URL; 200 ends it and 404 says that it had ended. An id of no session may be a browser's."""
        if target.stop_url is None and not target.recorded:
            return self._close_browser(target.id)
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
        answer = self._client.send("DELETE", url, wanted=Wanted.STATUS)
        if answer.ok:
            return CloseAnswer(CloseState.ENDED, http_status=answer.status)
        error = self._client.failure(answer, what="close", session=target.id)
        if isinstance(error, NotFoundError):
            return CloseAnswer(CloseState.ABSENT, http_status=answer.status)
        if not target.force and answer.status in (400, 409, 423):
            error.hint = "a client may be attached: --force ends it all the same"
        raise error

    def query(self, url: str, text: str, variables: Mapping[str, object]) -> object:
        """POST a BrowserQL query, once: it may click. The document is returned with its errors in it."""
        body = {"query": text, **({"variables": dict(variables)} if variables else {})}
        own = self._own_url(url, "its query URL")
        self._client.hide(secrets_of(own))
        answer = self._client.send("POST", own, body=body, repeatable=False)
        if not answer.ok:
            raise self._client.failure(answer, what="bql")
        document = self._client.json(answer, what="bql")
        if not isinstance(document, dict) or not {"data", "errors"} & set(document):
            raise UnreachableError("bql: the answer has neither data nor errors", code="malformed")
        return document

    def usage(self) -> Usage:
        """Return the plan's units and how many browsers run, by GraphQL; the slots of a plan are told nowhere."""
        summary = self._ask(_SUMMARY, {}).get("accountSummary")
        units = summary.get("cloudUnits") if isinstance(summary, dict) else None
        plan = summary.get("plan") if isinstance(summary, dict) else None
        told = units if isinstance(units, dict) else {}
        count = self._page(0).get("count")
        return Usage(
            running=count if isinstance(count, int) else None,
            plan=str(plan) if plan is not None else None,
            units_used=_number(told.get("used")),
            units_left=_number(told.get("unitsLeft")),
        )

    def running(self) -> tuple[RemoteSession, ...]:
        """Return the browsers that GraphQL lists. A browserId is no session's id: such a one may be mine unseen."""
        found: dict[str, RemoteSession] = {}
        if self._graphql_url is None:
            return ()
        for skip in range(0, _PAGES_MAX * _PAGE, _PAGE):
            rows = self._page(skip).get("sessions")
            for row in rows if isinstance(rows, list) else []:
                browser = row.get("browserId") if isinstance(row, dict) else None
                if isinstance(browser, str) and browser:
                    began = _moment(row.get("startTime"))
                    found[browser] = RemoteSession(browser, Status.RUNNING, live=True, created_at=began)
            if not isinstance(rows, list) or len(rows) < _PAGE:
                break
        return tuple(found.values())

    def is_id(self, text: str) -> bool:
        """Tell whether the vendor could have made such an id; their form is not documented."""
        return _ID.fullmatch(text) is not None

    def disconnect(self) -> None:
        """Let go of the HTTP connections."""
        self._client.close()

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002
        """Refuse: a session of this API carries nothing of ours."""
        raise UsageError("Browserless sessions carry no tag", code=UNSUPPORTED, hint="make them with `bsess create`")

    def _undo(self, document: dict[str, object], status: int) -> None:
        """End a session that has no id to call it by. Raises FailedError once it has ended."""
        stop = _text(document, "stop")
        try:
            target = CloseTarget("the new session", force=True, recorded=True, stop_url=stop)
            ended = stop is not None and self.close(target).state in (CloseState.ENDED, CloseState.ABSENT)
        except BsessError:
            return
        if ended:
            raise FailedError(
                "create: the answer had no usable id; the session is ended again", code="malformed", http_status=status
            )

    def _lacks(self, stop: str | None, connect: str | None) -> Iterator[str]:
        if stop is None:
            yield "it came without a stop URL: only its ttl ends it"
        else:
            try:
                self._own_url(stop, "its stop URL")
            except FailedError as error:
                yield f"{error.message}: only its ttl ends it"
        if connect is None:
            yield "it came without a connect URL"
            return
        try:
            self._own_url(connect, "its connect URL")
        except FailedError as error:
            yield error.message

    def _close_browser(self, browser: str) -> CloseAnswer:
        """DELETE /browser/ID, in the profile's region and then in the others: no listing tells the region."""
        others = [origin_of(None, region) for region in REGIONS] if is_vendors(urlsplit(self._origin).hostname) else []
        failure: BsessError | None = None
        status = None
        for origin in dict.fromkeys([self._origin, *others]):
            url = f"{origin}/browser/{quote(browser, safe='')}?token={quote(self.secret, safe='')}"
            try:
                answer = self._client.send("DELETE", url)
            except UnreachableError as error:
                failure = failure or error
                continue
            if answer.ok:
                return CloseAnswer(CloseState.ENDED, http_status=answer.status)
            status = answer.status
            refusal = self._client.failure(answer, what="close", session=browser)
            if not isinstance(refusal, NotFoundError):
                failure = failure or refusal
        if failure is not None:
            raise failure
        return CloseAnswer(CloseState.ABSENT, http_status=status)

    def _page(self, skip: int) -> dict[str, Any]:
        found = self._ask(_ACTIVE, {"limit": _PAGE, "skip": skip}).get("getActiveSession")
        return found if isinstance(found, dict) else {}

    def _ask(self, query: str, variables: dict[str, object]) -> dict[str, Any]:
        """Ask GraphQL. An auth error is never tried again: failed attempts lock the account until the hour is over."""
        if self._graphql_url is None:
            raise UsageError("graphql_url is empty: Browserless is not asked for that", code=UNSUPPORTED)
        body = {"query": query, "variables": {"apiToken": self.secret, **variables}}
        answer = self._client.send("POST", self._graphql_url, body=body)
        if not answer.ok:
            raise self._client.failure(answer, what="graphql")
        document = self._client.json(answer, what="graphql")
        errors = document.get("errors") if isinstance(document, dict) else None
        if errors:
            said = self._client.redact(clean(_first_message(errors)))
            refused = re.search(r"token|auth|api.?key", said, re.IGNORECASE) is not None
            raise (AuthError if refused else FailedError)(f"graphql: {said}", code="graphql")
        found = document.get("data") if isinstance(document, dict) else None
        if not isinstance(found, dict):
            raise UnreachableError("graphql: the answer has no data", code="malformed")
        return found

    def _stop_url(self, target: CloseTarget) -> str:
        url = self._own_url(target.stop_url or "", f"{target.id}: its stop URL")
        return _with_query(url, "force=true") if target.force else url

    def _own_url(self, url: str, what: str) -> str:
        """Return a URL that the vendor gave, with the token where it lacks one. Raises FailedError for a stranger's."""
        try:
            scheme, host, port = network.origin(url)
        except ConfigError:
            scheme, host, port = "", "", None
        own = (scheme, host, port) == network.origin(self._origin)
        in_cloud = scheme == "https" and is_vendors(host) and is_vendors(urlsplit(self._origin).hostname)
        if not own and not in_cloud:
            place = f"{host}:{port}" if host else "nowhere"
            raise FailedError(
                f"{what} leads to {place}, not to {urlsplit(self._origin).netloc}",
                code="stop_url",
                hint="nothing is sent there; its ttl ends the session",
            )
        if own and "token=" not in urlsplit(url).query:
            return _with_query(url, f"token={quote(self.secret, safe='')}")
        return url

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
            error.code = SLOTS
        return error


def is_vendors(host: str | None) -> bool:
    """Tell whether a host is the vendor's own."""
    name = (host or "").lower()
    return name == CLOUD or name.endswith(f".{CLOUD}")


def origin_of(url: str | None, region: str | None) -> str:
    """Return where a profile's Session API is. Raises UsageError for a region that there is not."""
    if url is not None:
        return network.base(url)
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


def _body(settings: ProviderSettings, request: CreateRequest) -> dict[str, object]:
    options = chosen(settings, request, _OPTIONS)
    keep_alive = options.get("keep_alive")
    if keep_alive is True:
        raise UsageError("Browserless takes a duration for --keep-alive", hint="--keep-alive 2m")
    if isinstance(keep_alive, (int, float)) and keep_alive > request.ttl:
        raise UsageError("--keep-alive is longer than the ttl", hint="give it a longer --ttl")
    if options.get("browser") not in (None, *_BROWSERS):
        raise UsageError(f"--browser {options['browser']!r} is none of {', '.join(_BROWSERS)}")
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
    return merged(body, options.get("set"), own=("ttl",))


def _proxy(text: str) -> dict[str, object]:
    wanted = proxy(text)
    if wanted.url is not None:
        raise UsageError("Browserless takes no proxy of one's own", hint="--proxy us, residential:us or datacenter:us")
    found = {"type": wanted.kind or "residential", "country": wanted.country, "city": wanted.city}
    return {key: value for key, value in found.items() if value is not None}


def _graphql_url(settings: ProviderSettings) -> str | None:
    """Return where GraphQL is; None where the profile's graphql_url is empty."""
    given = settings.options.get("graphql_url")
    if given is not None:
        return str(given) or None
    if settings.url is None or is_vendors(urlsplit(settings.url).hostname):
        return GRAPHQL
    return f"{origin_of(settings.url, None)}/graphql"


def _first_message(errors: object) -> str:
    first = errors[0] if isinstance(errors, list) and errors else errors
    return str(first.get("message") if isinstance(first, dict) else first)[:200]


def _moment(value: object) -> float | None:
    """Return a time whose form no document tells: RFC 3339, or seconds or milliseconds since the epoch."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return _moment(float(value)) if value.replace(".", "", 1).isdecimal() else None
    number = _number(value)
    return None if number is None else (number / 1000 if number > _MILLISECONDS_FROM else number)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


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
