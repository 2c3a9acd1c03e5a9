"""The fields of a Browserbase session as its API takes them, and the tag in its metadata. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from bsess import network
from bsess.errors import UsageError
from bsess.model import Owner
from bsess.providers.options import proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

METADATA_MAX = 512
PROXY_PASSWORD = "BSESS_PROXY_PASSWORD"  # noqa: S105  the name of a variable
# Our tag, as keys of the metadata beside the labels: `q` finds a session by one of them.
TAG_OWNER, TAG_RUN, TAG_KEY = "bsess_owner", "bsess_run", "bsess_key"
_TAG = "bsess_"
_SYSTEMS = ("windows", "mac", "linux", "mobile", "tablet")
_VIEWPORT = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})", re.ASCII)
# No quoting is documented for `q`: a value with one of these could not be found again.
UNQUOTABLE = frozenset("'\"\\")


def where(key: str, value: str) -> str:
    """Return a query that finds the sessions whose metadata has that value."""
    return f"user_metadata['{key}']:'{value}'"


def metadata(owner: Owner, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the tag and the labels as metadata. Raises UsageError for what `q` could not find again."""
    reserved = next((key for key in labels if key.startswith(_TAG)), None)
    if reserved is not None:
        raise UsageError(f"label {reserved} begins with {_TAG}, which is bsess's own", hint="give it another name")
    tag = {TAG_OWNER: owner.name, TAG_RUN: owner.run, TAG_KEY: owner.key}
    found = {**labels, **{key: value for key, value in tag.items() if value is not None}}
    for key, value in found.items():
        if UNQUOTABLE & set(value):
            raise UsageError(
                f"{key}={value[:40]!r} holds a quote or a backslash, and Browserbase could not find it again",
                code="metadata",
                hint="write it without",
            )
    size = len(json.dumps(found))
    if size >= METADATA_MAX:
        raise UsageError(
            f"owner, run and labels take {size} characters, and Browserbase stores fewer than {METADATA_MAX}",
            code="metadata",
            hint="give fewer or shorter labels",
        )
    return found


def read_metadata(metadata: object) -> tuple[Owner | None, dict[str, str]]:
    """Return whose session it is by its metadata, None for nobody's, and its labels."""
    found = {str(key): value for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    labels = {key: value for key, value in found.items() if isinstance(value, str) and not key.startswith(_TAG)}
    name = found.get(TAG_OWNER)
    if not isinstance(name, str) or not name:
        return None, labels
    run, key = found.get(TAG_RUN), found.get(TAG_KEY)
    return Owner(name, run if isinstance(run, str) else None, key if isinstance(key, str) else None), labels


def browser_settings(options: Mapping[str, object]) -> dict[str, object]:
    """Return the browserSettings that the options ask for. Raises UsageError."""
    system = options.get("os")
    if system is not None and system not in _SYSTEMS:
        raise UsageError(f"--os {str(system)[:40]!r} is none of {', '.join(_SYSTEMS)}")
    found = {
        "context": _context(options.get("context")),
        "viewport": _viewport(options.get("viewport")),
        "blockAds": True if options.get("block_ads") else None,
        "recordSession": False if options.get("no_record") else None,
        "logSession": False if options.get("no_log") else None,
        "verified": True if options.get("verified") or options.get("stealth") else None,
        "os": system,
    }
    return {key: value for key, value in found.items() if value is not None}


def _context(text: object) -> dict[str, object] | None:
    if text is None:
        return None
    name, colon, rest = str(text).partition(":")
    if not name or (colon and rest != "persist"):
        raise UsageError(
            f"--context {str(text)[:60]!r} is not understood", hint="--context ID, or --context ID:persist"
        )
    return {"id": name, **({"persist": True} if colon else {})}


def _viewport(text: object) -> dict[str, object] | None:
    if text is None:
        return None
    match = _VIEWPORT.fullmatch(str(text))
    if match is None:
        raise UsageError(
            f"--viewport {str(text)[:40]!r} is not understood",
            hint="width x height, each of 10 to 99999 pixels: --viewport 1280x720",
        )
    return {"width": int(match[1]), "height": int(match[2])}


def proxies(text: object, environment: Mapping[str, str]) -> object:
    """Return the proxies that `--proxy` asks for. Raises UsageError."""
    if text is None:
        return None
    wanted = proxy(str(text))
    if wanted.url is not None:
        return [_external(wanted.url, environment)]
    if wanted.kind == "datacenter":
        raise UsageError("Browserbase has no datacenter proxies", hint="--proxy on, us or us:ny:nyc")
    if wanted.country is None:
        return True
    place = {"country": wanted.country.upper(), "state": wanted.state and wanted.state.upper(), "city": wanted.city}
    return [{"type": "browserbase", "geolocation": {key: value for key, value in place.items() if value is not None}}]


def _external(url: str, environment: Mapping[str, str]) -> dict[str, object]:
    parts = network.split(url)
    if parts.password is not None:
        raise UsageError(
            "--proxy: a password on the command line is there for all to read", hint=f"put it into {PROXY_PASSWORD}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "--proxy: Browserbase takes only http:// and https:// proxies of one's own", hint="http://user@host:8080"
        )
    if environment.get(PROXY_PASSWORD) and not parts.username:
        raise UsageError(
            f"--proxy: {PROXY_PASSWORD} is set, and the URL names no user that it is of",
            hint=f"write user@ before the host, or unset {PROXY_PASSWORD}",
        )
    found = {
        "type": "external",
        "server": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        "username": parts.username,
        "password": environment.get(PROXY_PASSWORD) if parts.username else None,
    }
    return {key: value for key, value in found.items() if value is not None}
