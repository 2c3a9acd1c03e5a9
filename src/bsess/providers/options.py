"""What a user may ask of a session, read once for all providers: `--set`, `--proxy`, a profile's own options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bsess.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bsess.providers.base import CreateRequest, ProviderSettings

_PROXY = re.compile(
    r"(?:(?P<kind>residential|datacenter):)?(?P<country>[a-z]{2})"
    r"(?::(?P<state>[a-z_-]+)|:(?=:))?(?::(?P<city>[a-z _-]+))?",
    re.IGNORECASE,
)
_HINT = "on, us, us:ny:nyc, residential:us, or http://host:port"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a session's traffic is to leave: `url` is a proxy of one's own; without either the provider chooses."""

    kind: str | None = None
    country: str | None = None
    state: str | None = None
    city: str | None = None
    url: str | None = None


def chosen(settings: ProviderSettings, request: CreateRequest, known: Collection[str]) -> dict[str, object]:
    """Return the profile's options with the request's over them, lists joined. Raises UsageError for an unknown one."""
    unknown = sorted(set(request.options) - set(known))
    if unknown:
        raise UsageError(
            f"profile {settings.profile}: sessions of this provider have no option {unknown[0]!r}",
            hint=f"they have {', '.join(sorted(known))}",
        )
    options = {key: value for key, value in settings.options.items() if key in known}
    for key, value in request.options.items():
        before = options.get(key)
        options[key] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return options


def merged(body: Mapping[str, object], extra: object, *, own: Collection[str] = ()) -> dict[str, object]:
    """Return a body with the fields of `--set` over it, tables joined.

    Raises UsageError for a field that is bsess's `own`: what is recorded must be what was sent.
    """
    taken = next((key for key in extra if key in own), None) if isinstance(extra, dict) else None
    if taken is not None:
        raise UsageError(f"--set {taken} is set by bsess itself", hint="--ttl, --label and the owner make it")
    found = dict(body)
    for key, value in extra.items() if isinstance(extra, dict) else ():
        inner = found.get(key)
        found[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return found


def proxy(text: str) -> Proxy:
    """Read `--proxy`. Raises UsageError."""
    if text == "on":
        return Proxy()
    if "://" in text:
        return Proxy(url=text)
    match = _PROXY.fullmatch(text)
    if match is None:
        raise UsageError(f"--proxy {text[:60]!r} is not understood", hint=_HINT)
    kind, country, state, city = match.group("kind", "country", "state", "city")
    return Proxy(kind and kind.lower(), country.lower(), state or None, city or None)
