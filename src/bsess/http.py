"""The shared HTTP core: every request of every rented provider, and the only module that imports httpx.

It follows no redirect, sends a token to its own origin alone, bounds time and size, repeats only what may be
repeated, and lets no secret into a message. Each worker has a client of its own, all share one SSLContext: a shared
connection pool of 50 is 6 times slower (measured on httpcore 1.0.9).
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import httpcore
import httpx

from bsess import network
from bsess.errors import AuthError, BsessError, ConfigError, FailedError, NotFoundError, QuotaError, UnreachableError
from bsess.output.text import clean, mask_url, redact

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 20.0
BODY_MAX = 64 << 20
# Nobody waits longer than this for a provider, whatever it asks for and without a deadline too.
GATE_MAX_SECONDS = 900.0
# From so many requests on, what led to a 429 tells a rate; it is undercut by a little.
PACE_FROM = 20
PACE_SLACK = 1.02
_TOO_MANY = 429
SHOWN_MAX = 200
_CHUNK = 1 << 16
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_STATUS_SUCCESS, _STATUS_REDIRECT, _STATUS_CLIENT, _STATUS_SERVER = 200, 300, 400, 500


@dataclass(frozen=True, slots=True)
class Access:
    """How one profile reaches its provider.

    `origin` is the URL whose scheme, host and port may be given `headers` (they carry the token); `secrets` are
    redacted wherever text leaves. `insecure` allows plain http beyond loopback. `token_source` is said in a 401.
    """

    origin: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    insecure: bool = False
    token_source: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. `server_time` is its Date header in seconds since the epoch; `body` is decompressed."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    server_time: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return _STATUS_SUCCESS <= self.status < _STATUS_REDIRECT


class Client:
    """One worker's connection to one provider. Not for two threads at a time.

    `timeout` bounds one request and `seconds_left` what is left of the command, both in seconds; `log` gets one line
    for each request, without query or secret.
    """

    def __init__(
        self,
        access: Access,
        *,
        environment: Mapping[str, str],
        timeout: float,
        seconds_left: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._access = access
        self._secrets = access.secrets
        self._environment = environment
        self._timeout = timeout
        self._seconds_left = seconds_left
        self._log = log
        self._backend = _BoundedBackend()
        self._clients: dict[str, httpx.Client] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        body: object = None,
        repeatable: bool = True,
        status_only: bool = False,
        refusals: tuple[int, ...] = (),
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        What is `repeatable` is tried up to 5 times through failures, 408, 429 and 5xx, with a pause that grows; what
        is not is sent once, and again only if no byte of it left. Raises UnreachableError where no whole answer came;
        with `status_only` a body that cannot be read is no body. A status among `refusals` says that nothing was done:
        with a Retry-After such a request is sent again too.
        """
        self.check(url)
        for attempt in range(1, ATTEMPTS + 1):
            _GATE.wait(_host(url), self._seconds_left())
            try:
                answer = self._exchange(method, url, body, status_only=status_only)
            except _ExchangeError as error:
                again = error.passing and (repeatable or not error.sent) and attempt < ATTEMPTS
                if not (again and self._pause(attempt)):
                    raise self._unreachable(method, url, error) from error
                continue
            if answer.status not in _TRANSIENT:
                return answer
            pause = _retry_after(answer)
            if pause:
                _GATE.close_for(_host(url), pause, answer.status)
            if attempt == ATTEMPTS or not (repeatable or (answer.status in refusals and pause)):
                return answer
            if not (pause < self._seconds_left() if pause else self._pause(attempt)):
                return answer
        raise AssertionError  # pragma: no cover  the last attempt returns or raises

    def download(self, url: str, file: BinaryIO) -> int:
        """Write what a URL holds to a file, whatever its size, and return its bytes. Raises BsessError.

        Only the profile's own origin gets its token; no redirect is followed.
        """
        self.check(url)
        self._backend.begin(self._seconds_left())
        headers = self._headers(url)
        size = 0
        try:
            with self._client(url).stream("GET", url, headers=headers) as response:
                self._tell("GET", url, str(response.status_code), time.monotonic())
                if response.status_code != _STATUS_SUCCESS:
                    raise FailedError(f"{_host(url)} answered {response.status_code}", http_status=response.status_code)
                for chunk in response.iter_raw(_CHUNK):
                    size += file.write(chunk)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"GET {_host(url)}: {_said(error, self._backend, self._seconds_left())}", hint="repeat it"
            ) from error
        return size

    def hide(self, secrets: Iterable[str]) -> None:
        """Redact these too from now on."""
        self._secrets = tuple(sorted({*self._secrets, *secrets}, key=len, reverse=True))

    def redact(self, text: str) -> str:
        """Return `text` without this profile's secrets, and without what looks like one."""
        return redact(text, self._secrets)

    def failure(self, answer: Answer, *, what: str, session: str | None = None) -> BsessError:
        """Return the error that an answer without success is, worded for people."""
        # Cut only what is redacted: half a secret is not found.
        said = self.redact(first_line(answer))[:SHOWN_MAX]
        message = f"{what}: {_host(answer.url)} answered {answer.status}{f': {said}' if said else ''}"
        kind, code, hint = _verdict(answer, self._access)
        return kind(message, code=code, hint=hint, session=session, http_status=answer.status)

    def json(self, answer: Answer, *, what: str) -> Any:  # noqa: ANN401  whatever the server sent
        """Return a body read as JSON. Raises UnreachableError, which says what came instead."""
        try:
            return json.loads(answer.body.decode("utf-8"))
        except UnicodeDecodeError:
            wrong = "text that is not UTF-8"
        except (ValueError, RecursionError):
            wrong = _what_it_is(answer)
        raise UnreachableError(
            f"{what}: {_host(answer.url)} answered {answer.status} with {wrong} instead of JSON",
            code="malformed",
            http_status=answer.status,
        )

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def check(self, url: str) -> None:
        """Refuse, before anything is sent, a URL of another kind and plain http beyond loopback. Raises ConfigError."""
        try:
            parts = network.split(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ConfigError:
            usable = False
        if not usable:
            raise ConfigError(f"{mask_url(url)} is no http or https URL", code="url", hint="correct the profile's url")
        if parts.scheme == "http" and parts.hostname not in network.LOOPBACK and not self._access.insecure:
            raise ConfigError(
                f"plain http to {parts.hostname} would show the token to everybody on the way",
                code="insecure",
                hint="use https, or set insecure = true in the profile",
            )

    def _exchange(self, method: str, url: str, body: object, *, status_only: bool) -> Answer:
        left = min(self._timeout, self._seconds_left())
        if left <= 0:
            raise _ExchangeError("the deadline has passed", sent=False, passing=False)
        headers = {"accept": "application/json", **self._headers(url)}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        self._backend.begin(left)
        began = time.monotonic()
        try:
            with self._client(url).stream(method, url, content=content, headers=headers) as response:
                data = self._body(response, needed=not status_only)
        except httpx.HTTPError as error:
            said = _said(error, self._backend, left)
            self._tell(method, url, said, began)
            raise _ExchangeError(said, sent=self._backend.sent, passing=_is_passing(error)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            if self._backend.sent:  # httpx reads where a redirect leads, although it does not go there
                raise _ExchangeError("its answer leads to no URL", sent=True, passing=False) from error
            raise ConfigError(f"{mask_url(url)} is no URL", code="url") from error
        self._tell(method, url, str(response.status_code), began)
        return Answer(method, url, response.status_code, response.headers, data, _date(response.headers))

    def _headers(self, url: str) -> dict[str, str]:
        # Asked for uncompressed: a bomb is then the server's fault alone, and is still bounded.
        headers = {"accept-encoding": "identity"}
        if network.origin(url) == network.origin(self._access.origin):
            headers |= {key.lower(): value for key, value in self._access.headers.items()}
        return headers

    def _tell(self, method: str, url: str, result: str, began: float) -> None:
        shown = urlsplit(url)._replace(query="", fragment="").geturl()
        self._log(f"{method} {self.redact(shown)} {self.redact(result)} {(time.monotonic() - began) * 1000:.0f} ms")

    def _body(self, response: httpx.Response, *, needed: bool) -> bytes:
        try:
            return b"".join(self._read(response))
        except (httpx.HTTPError, _ExchangeError):
            if needed:
                raise
            return b""

    def _read(self, response: httpx.Response) -> Iterator[bytes]:
        unpack = _unpacker(response.headers.get("content-encoding", ""))
        size = 0
        for chunk in response.iter_raw(_CHUNK):
            for part in unpack(chunk):
                size += len(part)
                if size > BODY_MAX:
                    raise _ExchangeError(f"its answer is larger than {BODY_MAX >> 20} MB", sent=True, passing=False)
                yield part

    def _client(self, url: str) -> httpx.Client:
        proxy = network.proxy_for(url, self._environment)
        secure = url.startswith("https:") or (proxy or "").startswith("https:")
        key = f"{proxy} {secure}"
        if key not in self._clients:
            context = network.trusting(network.certificates(self._environment)) if secure else network.trusting_nobody()
            transport = _BoundedTransport(self._backend, context, proxy)
            self._clients[key] = httpx.Client(transport=transport, trust_env=False, follow_redirects=False)
        return self._clients[key]

    def _pause(self, attempt: int) -> bool:
        """Wait before another attempt, longer each time; False at once where the deadline leaves no time for it."""
        pause = min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  jitter
        if pause >= self._seconds_left():
            return False
        time.sleep(pause)
        return True

    def _unreachable(self, method: str, url: str, error: _ExchangeError) -> UnreachableError:
        hint = "check the network, the profile's url and the provider's status page"
        unreachable = UnreachableError(
            f"{method} {_host(url)}: {self.redact(str(error))}",
            code="unreachable" if not error.sent else "no_answer",
            hint=hint,
        )
        unreachable.sent = error.sent
        return unreachable


def first_line(answer: Answer) -> str:
    """Return what an error's body says in one line, whatever its type; of HTML its text."""
    text = answer.body[:8192].decode("utf-8", "replace")
    try:
        document = json.loads(answer.body) if len(answer.body) < len(text) * 4 else None
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        text = next((str(document[key]) for key in ("message", "error", "detail") if document.get(key)), text)
    elif "<" in text:
        text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", "\n", text)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return clean(line)


class _ExchangeError(Exception):
    """No whole answer came. `sent`: a byte of the request may have arrived; `passing`: another try may do."""

    def __init__(self, message: str, *, sent: bool, passing: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        self.passing = passing


@dataclass(slots=True)
class _Pace:
    """How one host may be asked: not before `until`, and then every `interval` seconds; monotonic times.

    `count` requests were let through `since` the gate last opened; `status` is what closed it.
    """

    until: float = 0.0
    next_at: float = 0.0
    interval: float = 0.0
    since: float = 0.0
    count: int = 0
    status: int = 0


class _Gate:
    """What all workers of this process keep to, for each host: its Retry-After, and the rate that led to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, _Pace] = {}

    def close_for(self, host: str, seconds: float, status: int) -> None:
        """Keep all workers off a host; learn from a 429 how many requests it takes in which time."""
        now = time.monotonic()
        with self._lock:
            pace = self._hosts.setdefault(host, _Pace())
            # Those that were under way when the first was refused are refused as well, and teach nothing.
            if now >= pace.until:
                if status == _TOO_MANY and pace.count >= PACE_FROM:
                    pace.interval = (now - pace.since + seconds) / pace.count * PACE_SLACK
                pace.count = 0
            pace.until = max(pace.until, now + seconds)
            pace.next_at = pace.until
            pace.status = status

    def wait(self, host: str, seconds_left: float) -> None:
        """Wait until the host may be asked. Raises at once where that is beyond the deadline."""
        while True:
            now = time.monotonic()
            with self._lock:
                pace = self._hosts.setdefault(host, _Pace())
                pause = max(pace.until, pace.next_at) - now
                if pause <= 0:
                    if pace.count == 0:
                        pace.since = now
                    pace.count += 1
                    # What was not used of the time before is not made up for.
                    pace.next_at = max(pace.next_at, now - pace.interval) + pace.interval
                    return
                status = pace.status
            if pause > min(seconds_left, GATE_MAX_SECONDS):
                kind = QuotaError if status == _TOO_MANY else UnreachableError
                raise kind(
                    f"{host} asks to wait {pause:.0f} s, and that is too long here",
                    code="rate" if status == _TOO_MANY else "server",
                    hint="repeat later, or with a longer --deadline",
                )
            time.sleep(pause)


_GATE = _Gate()


class _BoundedStream(httpcore.NetworkStream):
    """A stream whose every wait ends with the request: one byte a second must not prolong it."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _BoundedBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._backend.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._backend.sent = True
        self._stream.write(buffer, self._backend.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left = self._backend.left(httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        # What a proxy was told to reach us through is not the request.
        self._backend.sent = False
        return _BoundedStream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401
        return self._stream.get_extra_info(info)


class _BoundedBackend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()
        self._until = 0.0
        self.sent = False

    def begin(self, seconds: float) -> None:
        """Give the next request so many seconds in all."""
        self._until = time.monotonic() + seconds
        self.sent = False

    def left(self, late: type[Exception]) -> float:
        """Return the seconds left; raises `late` where there are none."""
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise late
        return seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self.left(httpcore.ConnectTimeout)
        return _BoundedStream(self._backend.connect_tcp(host, port, left, local_address, socket_options), self)


class _BoundedTransport(httpx.HTTPTransport):
    """httpx's transport over one connection of a bounded backend, which httpx itself has no argument for."""

    def __init__(self, backend: _BoundedBackend, context: ssl.SSLContext, proxy: str | None) -> None:
        limits = {"max_connections": 1, "max_keepalive_connections": 1, "network_backend": backend}
        if proxy is None:
            self._pool = httpcore.ConnectionPool(ssl_context=context, **limits)  # type: ignore[arg-type]
            return
        parts = httpx.URL(proxy)
        auth = (parts.username.encode(), parts.password.encode()) if parts.username or parts.password else None
        self._pool = httpcore.HTTPProxy(
            proxy_url=httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=b"/"),
            proxy_auth=auth,
            ssl_context=context,
            proxy_ssl_context=context if parts.scheme == "https" else None,
            **limits,  # type: ignore[arg-type]
        )


def _unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    if encoding.strip().lower() in ("", "identity"):
        return lambda chunk: iter((chunk,))
    if encoding.strip().lower() not in ("gzip", "deflate", "x-gzip"):
        raise _ExchangeError(
            f"its answer is packed as {clean(encoding)[:20]}, which was not asked for", sent=True, passing=False
        )
    unpacker = zlib.decompressobj(wbits=47)

    def unpack(chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                yield unpacker.decompress(chunk, _CHUNK)
                chunk = unpacker.unconsumed_tail
        except zlib.error as error:
            raise _ExchangeError(f"its answer cannot be unpacked: {error}", sent=True, passing=False) from error

    return unpack


def _verdict(answer: Answer, access: Access) -> tuple[type[BsessError], str, str | None]:
    status = answer.status
    source = f" (the token is from {access.token_source})" if access.token_source else ""
    known: dict[int, tuple[type[BsessError], str, str | None]] = {
        401: (AuthError, "unauthorized", f"the token is not accepted{source}"),
        402: (QuotaError, "minutes", "the plan's minutes are used up"),
        403: (AuthError, "forbidden", f"the token or its plan does not allow this{source}"),
        404: (NotFoundError, "not_found", None),
        408: (UnreachableError, "server", "the provider has trouble: repeat later"),
        429: (QuotaError, "rate", "too many at once: wait, or end sessions with `bsess close`"),
    }
    if status in known:
        return known[status]
    if status >= _STATUS_SERVER:
        return UnreachableError, "server", "the provider has trouble: repeat later"
    if status < _STATUS_CLIENT:
        return UnreachableError, "redirect", "bsess follows no redirect: correct the profile's url"
    return FailedError, "refused", None


def _what_it_is(answer: Answer) -> str:
    start = answer.body[:512].lstrip().lower()
    if not start:
        return "nothing"
    if start.startswith((b"<!doctype", b"<html", b"<")):
        return "HTML"
    return "truncated JSON" if start.startswith((b"{", b"[")) else "text"


def _said(error: httpx.HTTPError, backend: _BoundedBackend, seconds: float) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"{'no whole answer' if backend.sent else 'no connection'} within {seconds:.0f} s"
    if isinstance(error, httpx.ConnectError):
        return f"no connection: {error}"
    return f"the connection broke: {str(error) or type(error).__name__}"


def _is_passing(error: httpx.HTTPError) -> bool:
    # A certificate that is wrong now is wrong in a second.
    return "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _retry_after(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        moment = _parse_date(text)
        if moment is None:
            return None
        seconds = moment - (answer.server_time or time.time())
    return max(0.0, seconds) if seconds == seconds else None  # noqa: PLR0124  not a number


def _date(headers: Mapping[str, str]) -> float | None:
    return _parse_date(headers.get("date", ""))


def _parse_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2]
