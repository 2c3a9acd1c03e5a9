"""URLs that people paste in place of an id: where they may lead is checked before anything is sent.

A stop URL (https://…/session/ID?token=…, also /e/…/session/ID) ends its session by a DELETE, a connect URL (wss://…)
by DevTools' Browser.close. Both open whatever they lead to, so a URL from a stream must lead to a host that is known:
a profile's own or the vendor's. A typed one may lead to any public host, or to this machine.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from bsess import config, network
from bsess.credentials import Token
from bsess.errors import ConfigError, UsageError
from bsess.output.text import MASK, clean, mask_url
from bsess.providers.browserless import CLOUD, NAME, is_vendors, origin_of

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from bsess.config import Config, Profile

DEVTOOLS = "cdp"
# Hosts that look more like the vendor's than this are taken for an imitation.
LIKENESS = 0.8
HINT_HOST = "a profile's url makes a host known; an id from `bsess list` needs no URL"
HINT_WHOLE = "give the whole stop URL or connect URL, or an id from `bsess list`"

_STOP = re.compile(r"(?:/e/[A-Za-z0-9._~%=-]+)?/session/(?P<id>[A-Za-z0-9._-]+)/?", re.ASCII)
# A connect URL of the vendor's without one of these names no session: connecting would start a new browser.
_CONNECT = re.compile(
    r"(?:/.*)?/(?:devtools/browser|session/connect|session|reconnect|live|e/[^/]+)/(?P<id>[A-Za-z0-9._-]+)/?", re.ASCII
)
_PRIVATE_NAMES = (".local", ".internal", ".localhost", ".lan", ".home.arpa", ".intranet")
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pasted:
    """A URL that may be used. `id` is what to call its session; `profile` is the one whose host it leads to.

    `connects`: it is a connect URL.
    """

    id: str
    url: str = field(repr=False)
    profile: Profile
    connects: bool


def read(url: str, settings: Config, *, typed: bool) -> Pasted:
    """Return what a pasted URL leads to. Raises UsageError where it must not be used; nothing was sent by then."""
    parts = urlsplit(url)
    connects = parts.scheme in ("ws", "wss")
    if parts.scheme not in ("ws", "wss", "http", "https"):
        raise _refused(url, "it begins with none of https://, wss://, and http:// or ws:// on this machine", HINT_WHOLE)
    if MASK in url:
        raise _refused(url, "it is masked", "`bsess list -o url --show-secrets` prints it whole")
    own = _own_profile(url, settings)
    known = own is not None or _is_vendors(parts)
    if not known:
        _check_host(url, parts, typed=typed)
    secure = parts.scheme in network.SECURE or (parts.hostname or "") in network.LOOPBACK
    if not secure and not (own is not None and own.insecure):
        raise _refused(url, "without TLS its secrets can be read on the way")
    session_id = _connect_id(url, parts, known=known) if connects else _stop_id(url, parts, own)
    token = parse_qs(parts.query).get("token", [""])[0]
    if not connects and not token and own is None:
        raise _refused(url, "it holds no token=, and no profile has one for its host")
    given = Token(token, "the URL") if token else None
    if own is not None:
        # The token that came with the URL is the one that fits it.
        profile = replace(own, token=given or own.token)
    else:
        profile = _profile_of(parts, given, connects=connects)
    return Pasted(session_id, url, profile, connects)


def holds_secret(url: str) -> bool:
    """Tell whether whoever reads this URL can open something with it."""
    return bool(urlsplit(url).query)


def _own_profile(url: str, settings: Config) -> Profile | None:
    wanted = network.origin(url)
    for profile in settings.profiles.values():
        try:
            if profile.provider == NAME:
                own = origin_of(profile.url, profile.region)
            elif profile.url is not None:
                own = profile.url
            else:
                continue
            if network.origin(own) == wanted:
                return profile
        except (ConfigError, UsageError):
            continue
    return None


def _is_vendors(parts: SplitResult) -> bool:
    return parts.username is None and is_vendors(parts.hostname) and parts.port in (None, 443)


def _check_host(url: str, parts: SplitResult, *, typed: bool) -> None:
    host = (parts.hostname or "").lower()
    if not host or parts.username is not None or "@" in parts.netloc:
        raise _refused(url, "it names a user, as imitations do" if host else "it names no host", HINT_WHOLE)
    if host in network.LOOPBACK:
        if not typed:
            raise _refused(url, "no profile leads to it: only a typed URL may")
        return
    if _imitates(host):
        raise _refused(url, f"its host is not {CLOUD}, but looks like it")
    if _is_private(host):
        raise _refused(url, "its host is a private address, and no profile has it")
    if not typed:
        raise _refused(url, "no profile leads to its host: only a typed URL may")


def _imitates(host: str) -> bool:
    if not host.isascii() or "xn--" in host:
        return True
    name = CLOUD.partition(".")[0]
    ends = host.split(".")
    pairs = [".".join(ends[at : at + 2]) for at in range(len(ends))]
    return name in host or any(SequenceMatcher(None, pair, CLOUD).ratio() > LIKENESS for pair in pairs)


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        pass
    # 2130706433 and 0x7f.1 are 127.0.0.1 to a resolver.
    if _NUMERIC.fullmatch(host) or "." not in host.rstrip(".") or host.rstrip(".").endswith(_PRIVATE_NAMES):
        return True
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False  # the request will say so
    return any(not ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found)


def _stop_id(url: str, parts: SplitResult, own: Profile | None) -> str:
    prefix = "" if own is None or own.url is None else urlsplit(own.url).path.rstrip("/")
    match = _STOP.fullmatch(parts.path.removeprefix(prefix))
    if match is None or ".." in parts.path:
        raise _refused(url, "its path is none of a stop URL: /session/ID or /e/…/session/ID", HINT_WHOLE)
    return match["id"]


def _connect_id(url: str, parts: SplitResult, *, known: bool) -> str:
    match = _CONNECT.fullmatch(parts.path)
    if known and (match is None or ".." in parts.path):
        raise _refused(url, "it names no session: connecting to it would start a new browser", HINT_WHOLE)
    last = match["id"] if match else parts.path.rstrip("/").rpartition("/")[2]
    return clean(last)[:64] or clean(parts.hostname or "")


def _profile_of(parts: SplitResult, token: Token | None, *, connects: bool) -> Profile:
    """Return a profile for just this URL: what it needs is in it."""
    if connects:
        return config.Profile(name=DEVTOOLS, provider=DEVTOOLS, source="the URL")
    vendors = _is_vendors(parts)
    return config.Profile(
        name=NAME,
        provider=NAME,
        source="the URL",
        url=None if vendors else f"{parts.scheme}://{parts.netloc}",
        region=parts.hostname if vendors else None,
        token=token,
    )


def _refused(url: str, why: str, hint: str = HINT_HOST) -> UsageError:
    return UsageError(f"{mask_url(url)} is not used: {why}", code="url_refused", hint=hint)
