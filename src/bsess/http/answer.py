"""What a server said, and what it means where it is no success."""

from __future__ import annotations

import email.utils
import json
import re
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, BinaryIO

from bsess.errors import AuthError, BsessError, FailedError, NotFoundError, QuotaError, UnreachableError
from bsess.output.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOCK_NOISE_SECONDS = 2.0
_STATUS_SUCCESS, _STATUS_REDIRECT, _STATUS_CLIENT, _STATUS_SERVER = 200, 300, 400, 500


class Wanted(Enum):
    """What of an answer is wanted. STATUS: a body that cannot be read is no body; FILE: it may be large."""

    BODY = auto()
    STATUS = auto()
    FILE = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. `body` is decompressed, and in `file` where it was asked for as a large one.

    `server_time` is its Date header and `received_at` when that came, by this machine's clock; epoch seconds.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    file: BinaryIO | None = field(default=None, repr=False)
    server_time: float | None = None
    received_at: float = 0.0

    @property
    def clock_ahead(self) -> float | None:
        """By how many seconds the server's clock is ahead of this machine's; None where it tells no time.

        A Date has whole seconds and was written before it came: it is at least so far ahead, so that nothing seems
        older than it is. What those explain is no difference.
        """
        if self.server_time is None:
            return None
        ahead = self.server_time - self.received_at
        return 0.0 if abs(ahead) <= CLOCK_NOISE_SECONDS else ahead

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return _STATUS_SUCCESS <= self.status < _STATUS_REDIRECT


URL_HINT = "is the profile's url right?"


def first_line(answer: Answer) -> str:
    """Return what an error's body says in one line, whatever its type; of HTML its text."""
    text = answer.body[:8192].decode("utf-8", "replace")
    try:
        document = json.loads(answer.body) if len(answer.body) < len(text) * 4 else None
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        text = next((_said(document[key]) for key in ("message", "error", "detail") if document.get(key)), text)
    elif "<" in text:
        text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", "\n", text)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return clean(line)


def _said(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    return value if isinstance(value, str) else json.dumps(value)


def verdict(answer: Answer, token_source: str) -> tuple[type[BsessError], str, str | None]:
    """Return the error that an answer without success is, its code and its hint."""
    status = answer.status
    source = f" (the token is from {token_source})" if token_source else ""
    known: dict[int, tuple[type[BsessError], str, str | None]] = {
        401: (AuthError, "unauthorized", f"the token is not accepted{source}"),
        402: (QuotaError, "minutes", "the plan's minutes are used up"),
        403: (AuthError, "forbidden", f"the token or its plan does not allow this{source}"),
        404: (NotFoundError, "not_found", URL_HINT),
        408: (UnreachableError, "server", "the provider has trouble: repeat later"),
        429: (QuotaError, "rate", "too many at once: wait, or end sessions with `bsess close`"),
    }
    if status in known:
        return known[status]
    if status >= _STATUS_SERVER:
        return UnreachableError, "server", "the provider has trouble: repeat later"
    if status < _STATUS_CLIENT:
        return UnreachableError, "redirect", "bsess follows no redirect: correct the profile's url"
    return FailedError, "refused", "what it said is all that is known; -v shows each request"


def what_it_is(body: bytes) -> str:
    """Return what a body that is not JSON looks like."""
    start = body[:512].lstrip().lower()
    if not start:
        return "nothing"
    if start.startswith((b"<!doctype", b"<html", b"<")):
        return "HTML"
    if start.startswith(b"{"):
        return "a JSON object" if _is_json(body) else "truncated JSON"
    return "truncated JSON" if start.startswith(b"[") else "text"


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def retry_after(answer: Answer) -> float | None:
    """Return the seconds that a server asks to wait; None where it asks for nothing."""
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


def date(headers: Mapping[str, str]) -> float | None:
    """Return the server's time that headers tell, in seconds since the epoch."""
    return _parse_date(headers.get("date", ""))


def _parse_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
