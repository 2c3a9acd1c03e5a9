"""Text for people and programs: cleaned of what could steer a terminal, secrets masked, times as RFC 3339."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
# Other controls, formats (bidi among them), surrogates, and the two line breaks beyond Cc.
_REMOVED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# What stands in a URL's query or a header under these names opens a session or an account.
# What is shorter than this is too common to be looked for.
_SECRET_MIN = 8
_SECRET_QUERY = re.compile(r"((?:token|api_?key|signing_?key|jwt|password|secret)=)[^&\s\"'<>]+", re.IGNORECASE)

_USER_INFO = re.compile(r"(://)[^/\s@\"'<>]+@")


def clean(text: str) -> str:
    """Return `text` without control, format and line-break characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char for char in text if unicodedata.category(char) not in _REMOVED)


def visible(text: str) -> str:
    """Return `text` with what `clean` would remove written out: what only looks like another text is not that."""
    return "".join(char if clean(char) else char.encode("unicode_escape").decode() for char in text)


def mask_url(url: str) -> str:
    """Return where a URL leads, without its path and query: they open the session."""
    scheme, slashes, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return f"{clean(scheme)}://{clean(host)}/{MASK}" if slashes else MASK


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with every given secret, every value of a query that is one by its name, and every URL's user."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return _USER_INFO.sub(rf"\1{MASK}@", _SECRET_QUERY.sub(rf"\1{MASK}", text))


def secrets_of(url: str, *known: str) -> list[str]:
    """Return what is secret in a URL that opens or ends a session, whole and in its parts, but for what is `known`."""
    parts = urlsplit(url)
    path = [word for word in parts.path.split("/") if word not in known and not _is_common(word)]
    values = {pair: pair.partition("=")[2] or pair for pair in parts.query.split("&")}
    # A value with a secret's name is one, whatever it looks like; it may end with `=`.
    query = [word for pair, word in values.items() if _SECRET_QUERY.search(pair) or not _is_common(word)]
    found = [url, parts.path[1:] if path else "", parts.query, *path, *(word for word in query if word not in known)]
    return [text for word in found for text in {word, unquote(word)} if len(text) >= _SECRET_MIN]


def _is_common(word: str) -> bool:
    # What every path may have (`session`, `browserless`) is no secret, and hiding it would spoil messages.
    return not word or (word.isalpha() and word.islower())


def moment(seconds: float | None) -> str:
    """Return a time as RFC 3339 in UTC, to the second; nothing for none."""
    if seconds is None:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
