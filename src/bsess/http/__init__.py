"""The shared HTTP core: every request of every rented provider, and the only module that imports httpx.

It follows no redirect, sends a token to its own origin alone, bounds time and size, repeats only what may be
repeated, and lets no secret into a message. Each worker has a client of its own, all share one SSLContext: a shared
connection pool of 50 is 6 times slower (measured on httpcore 1.0.9).
"""

from __future__ import annotations

import io
import json
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import httpx

from bsess import __version__, network
from bsess.errors import BsessError, ConfigError, FailedError, UnreachableError
from bsess.http import body as bodies
from bsess.http.answer import URL_HINT, Answer, Wanted, date, first_line, retry_after, verdict, what_it_is
from bsess.http.bounded import BoundedBackend, BoundedTransport, ExchangeError
from bsess.http.gate import GATE
from bsess.output.text import mask_url, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 20.0
SHOWN_MAX = 200
_SUCCESS = 200
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


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


class Client:
    """One worker's connection to one provider. Not for two threads at a time.

    `timeout` bounds one request and `seconds_left` what is left of the command, both in seconds; `log`, if any,
    gets one line for each request, without query or secret.
    """

    def __init__(
        self,
        access: Access,
        *,
        environment: Mapping[str, str],
        timeout: float,
        seconds_left: Callable[[], float],
        log: Callable[[str], None] | None,
    ) -> None:
        self._access = access
        self._secrets = access.secrets
        self._environment = environment
        self._timeout = timeout
        self._seconds_left = seconds_left
        self._log = log
        self._backend = BoundedBackend()
        self._transports: dict[str, BoundedTransport] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        body: object = None,
        repeatable: bool = True,
        refusals: tuple[int, ...] = (),
        wanted: Wanted = Wanted.BODY,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        What is `repeatable` is tried up to 5 times through failures, 408, 429 and 5xx, with a pause that grows; what
        is not is sent once, and again only if no byte of it left. Raises UnreachableError where no whole answer came. A
        status among `refusals` says that nothing was done: with a Retry-After such a request is sent again too.
        """
        self.check(url)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with GATE.passing(_host(url), self._seconds_left(), refused=attempt - 1):
                    answer = self._exchange(method, url, body, wanted=wanted)
                    pause = retry_after(answer) if answer.status in _TRANSIENT else None
                    if pause is not None:
                        GATE.close_for(_host(url), pause, answer.status)
            except ExchangeError as error:
                again = error.passing and (repeatable or not error.sent) and attempt < ATTEMPTS
                if not (again and self._pause(attempt)):
                    raise self._unreachable(method, url, error) from error
                continue
            if answer.status not in _TRANSIENT:
                return answer
            if attempt == ATTEMPTS or not (repeatable or (answer.status in refusals and pause is not None)):
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
        size = 0
        try:
            with self._answering(httpx.Request("GET", url, headers=self._headers(url))) as response:
                self._tell("GET", url, str(response.status_code), time.monotonic())
                if response.status_code != _SUCCESS:
                    raise FailedError(f"{_host(url)} answered {response.status_code}", http_status=response.status_code)
                for chunk in response.iter_raw(bodies.CHUNK):
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
        kind, code, hint = verdict(answer, self._access.token_source)
        if hint == URL_HINT and session is not None:
            hint = "`bsess list` shows the sessions"
        return kind(message, code=code, hint=hint, session=session, http_status=answer.status)

    def json(self, answer: Answer, *, what: str) -> Any:  # noqa: ANN401  whatever the server sent
        """Return a body read as JSON. Raises UnreachableError, which says what came instead."""
        try:
            return json.loads(answer.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _malformed(answer, what, error, answer.body) from error

    def elements(self, answer: Answer, *, what: str) -> Iterator[Any]:
        """Yield what is in the JSON array that a large body is, one by one. Raises UnreachableError as `json` does."""
        with answer.file or io.BytesIO(answer.body) as file:
            try:
                for element in bodies.elements(file):
                    if self._seconds_left() <= 0:
                        raise UnreachableError(
                            f"{what}: the answer was too long to be read in time",
                            code="deadline",
                            hint="give it a longer --deadline",
                        )
                    yield element
            except (ValueError, RecursionError) as error:
                file.seek(0)
                raise _malformed(answer, what, error, file.read(SHOWN_MAX), wanted="a JSON list") from error

    def close(self) -> None:
        """Let go of the connections."""
        for transport in self._transports.values():
            transport.close()
        self._transports.clear()

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

    def _exchange(self, method: str, url: str, body: object, *, wanted: Wanted) -> Answer:
        left = min(self._timeout, self._seconds_left())
        if left <= 0:
            raise ExchangeError("the deadline has passed", sent=False, passing=False)
        headers = {"accept": "application/json", **self._headers(url)}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        # Through a proxy the first thing written may be what opens the way.
        self._backend.begin(left, body=content is not None and network.proxy_for(url, self._environment) is None)
        began = time.monotonic()
        try:
            with self._answering(httpx.Request(method, url, content=content, headers=headers)) as response:
                received = time.time()
                file = self._large(response) if wanted is Wanted.FILE and response.is_success else None
                data = b"" if file else self._body(response, needed=wanted is not Wanted.STATUS)
        except httpx.HTTPError as error:
            said = _said(error, self._backend, left)
            self._tell(method, url, said, began)
            raise ExchangeError(said, sent=self._backend.sent, passing=_is_passing(error)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ConfigError(f"{mask_url(url)} is no URL", code="url") from error
        self._tell(method, url, str(response.status_code), began)
        server_time = date(response.headers)
        return Answer(method, url, response.status_code, response.headers, data, file, server_time, received)

    def _headers(self, url: str) -> dict[str, str]:
        # Asked for uncompressed: a bomb is then the server's fault alone, and is still bounded.
        headers = {"accept-encoding": "identity", "user-agent": f"bsess/{__version__}"}
        if network.origin(url) == network.origin(self._access.origin):
            headers |= {key.lower(): value for key, value in self._access.headers.items()}
        return headers

    def _tell(self, method: str, url: str, result: str, began: float) -> None:
        if self._log is None:
            return
        shown = urlsplit(url)._replace(query="", fragment="").geturl()
        self._log(f"{method} {self.redact(shown)} {self.redact(result)} {(time.monotonic() - began) * 1000:.0f} ms")

    def _body(self, response: httpx.Response, *, needed: bool) -> bytes:
        try:
            return bodies.whole(response.iter_raw(bodies.CHUNK), response.headers.get("content-encoding", ""))
        except (httpx.HTTPError, ExchangeError):
            if needed:
                raise
            return b""

    def _large(self, response: httpx.Response) -> BinaryIO:
        try:
            return bodies.spilled(response.iter_raw(bodies.CHUNK), response.headers.get("content-encoding", ""))
        except OSError as error:
            raise FailedError(
                f"an answer of {_host(str(response.url))} fits on no disk: {error.strerror}",
                hint="TMPDIR names the folder",
            ) from error

    @contextmanager
    def _answering(self, request: httpx.Request) -> Iterator[httpx.Response]:
        # httpx without its client: that looks for cookies, redirects and logins, which no provider has, for 0.3 ms.
        response = self._transport(str(request.url)).handle_request(request)
        response.request = request
        try:
            yield response
        finally:
            response.close()

    def _transport(self, url: str) -> BoundedTransport:
        proxy = network.proxy_for(url, self._environment)
        secure = url.startswith("https:") or (proxy or "").startswith("https:")
        key = f"{proxy} {secure}"
        if key not in self._transports:
            context = network.trusting(network.certificates(self._environment)) if secure else network.trusting_nobody()
            self._transports[key] = BoundedTransport(self._backend, context, proxy)
        return self._transports[key]

    def _pause(self, attempt: int) -> bool:
        """Wait before another attempt, longer each time; False at once where the deadline leaves no time for it."""
        pause = min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  jitter
        if pause >= self._seconds_left():
            return False
        time.sleep(pause)
        return True

    def _unreachable(self, method: str, url: str, error: ExchangeError) -> UnreachableError:
        late = self._seconds_left() <= 0
        unreachable = UnreachableError(
            f"{method} {_host(url)}: {self.redact(str(error))}",
            code="deadline" if late else "no_answer" if error.sent else "unreachable",
            hint="give it a longer --deadline"
            if late
            else "check the network, the profile's url and the provider's status page",
        )
        unreachable.sent = error.sent
        return unreachable


def _malformed(answer: Answer, what: str, error: Exception, start: bytes, *, wanted: str = "JSON") -> UnreachableError:
    wrong = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else what_it_is(start)
    return UnreachableError(
        f"{what}: {_host(answer.url)} answered {answer.status} with {wrong} instead of {wanted}",
        code="malformed",
        hint=URL_HINT,
        http_status=answer.status,
    )


def _said(error: httpx.HTTPError, backend: BoundedBackend, seconds: float) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"{'no whole answer' if backend.sent else 'no connection'} within {seconds:.0f} s"
    if isinstance(error, httpx.ConnectError):
        return f"no connection: {error}"
    return f"the connection broke: {str(error) or type(error).__name__}"


def _is_passing(error: httpx.HTTPError) -> bool:
    # A certificate that is wrong now is wrong in a second.
    return "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2]
