"""Ending a browser through its connect URL: DevTools' Browser.close, and a look at whether it obeyed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bsess import cdp, network
from bsess.errors import AuthError, BsessError, FailedError, QuotaError, UnreachableError
from bsess.output.text import clean, redact, secrets_of
from bsess.providers.base import CloseAnswer, CloseState

if TYPE_CHECKING:
    from bsess.context import Context

# A browser that obeys is gone within 0.1 s (measured on 2.42.0 with Chromium 156). Browserless ignores the command
# while a reconnect window is armed (its documentation).
OBEY_SECONDS = 10.0
_COMMAND = 1
_GONE = frozenset({404, 410})
_UNAUTHORIZED = frozenset({401, 403})
_BUSY = 429
_SERVER = 500


def end(context: Context, url: str, *, wait: float | None) -> CloseAnswer:
    """Connect, send Browser.close, and look for `wait` seconds (10 without) whether the browser goes.

    Raises BsessError; UnreachableError where nobody can say what became of it.
    """
    host = urlsplit(url).netloc
    route = cdp.Route(network.proxy_for(url, context.environment), network.certificates(context.environment))
    try:
        connection = _connect(context, url, route)
    except cdp.RefusedError as refusal:
        if refusal.status in _GONE:
            return CloseAnswer(CloseState.ABSENT, http_status=refusal.status)
        raise _refusal(url, refusal) from refusal
    except (cdp.EndedError, TimeoutError) as error:
        raise UnreachableError(
            f"{host}: {str(error) or 'no connection in time'}", hint="check the URL and the network"
        ) from error
    until = time.monotonic() + min(OBEY_SECONDS if wait is None else wait, context.seconds_left())
    try:
        answered = _ask_to_end(connection, url, until)
    except TimeoutError:
        reason = "it ignored Browser.close (as Browserless does while a reconnect window is armed)"
        return CloseAnswer(CloseState.STILL_LIVE, reason=reason)
    finally:
        connection.close()
    return CloseAnswer(CloseState.ENDED) if answered else _look_again(context, url, route, host)


def _connect(context: Context, url: str, route: cdp.Route) -> cdp.Connection:
    began = time.monotonic()
    status = "no answer"
    try:
        connection = cdp.Connection(url, route, seconds=min(context.timeout, context.seconds_left()))
        status = "101"
    except cdp.RefusedError as refusal:
        status = str(refusal.status)
        raise
    finally:
        parts = urlsplit(url)
        took = (time.monotonic() - began) * 1000
        if context.log is not None:
            context.log(f"CONNECT {parts.scheme}://{parts.netloc} {status} {took:.0f} ms")
    return connection


def _ask_to_end(connection: cdp.Connection, url: str, until: float) -> bool:
    """Return once the connection has ended: whether the browser had said yes. Raises TimeoutError if it does not."""
    answered = False
    host, secrets = urlsplit(url).netloc, secrets_of(url)
    try:
        connection.send(_COMMAND, "Browser.close")
        while True:
            for message in connection.receive(until - time.monotonic()):
                if message.get("id") == _COMMAND:
                    if "error" in message:
                        said = clean(redact(_text(message["error"]), secrets))[:200]
                        raise FailedError(f"{host}: the browser refused to close: {said}", code="refused")
                    answered = True
    except cdp.EndedError:
        return answered


def _look_again(context: Context, url: str, route: cdp.Route, host: str) -> CloseAnswer:
    """Tell what became of a browser whose connection was cut before it answered."""
    try:
        _connect(context, url, route).close()
    except cdp.RefusedError as refusal:
        if refusal.status in _GONE:
            return CloseAnswer(CloseState.ENDED, http_status=refusal.status)
    except (cdp.EndedError, TimeoutError):
        pass  # nobody there proves nothing: what listens here may be a tunnel that broke
    else:
        return CloseAnswer(CloseState.STILL_LIVE, reason="the connection was cut, and the browser lives on")
    raise UnreachableError(f"{host}: the connection was cut before the browser answered", code="no_answer")


def _text(error: object) -> str:
    return str(error.get("message") if isinstance(error, dict) else error)


def _refusal(url: str, refusal: cdp.RefusedError) -> BsessError:
    host = urlsplit(url).netloc
    body = clean(redact(refusal.body[:2000].decode("utf-8", "replace"), secrets_of(url)))
    message = f"{host} answered {refusal.status}{f': {body.strip()[:200]}' if body.strip() else ''}"
    kind: type[BsessError] = FailedError
    if refusal.status in _UNAUTHORIZED:
        kind = AuthError
    elif refusal.status == _BUSY:
        kind = QuotaError
    elif refusal.status >= _SERVER:
        kind = UnreachableError
    return kind(message, http_status=refusal.status)
