"""The registry: a provider's name to where its adapter is, imported when it is used.

Other people's providers are entry points of the group `bsess.providers` (name = "package.module:Class"); they are
consulted only for a name that is not built in, for the look-up reads every installed package's metadata.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from bsess.errors import ConfigError

if TYPE_CHECKING:
    from bsess.providers.base import Provider, ProviderSettings

ENTRY_POINT_GROUP = "bsess.providers"

BUILT_IN = {
    "browserbase": "bsess.providers.browserbase:BrowserbaseProvider",
    "browserless": "bsess.providers.browserless:BrowserlessProvider",
    "browserless-self-hosted": "bsess.providers.browserless_self_hosted:BrowserlessSelfHostedProvider",
    "local": "bsess.providers.local:LocalProvider",
    "memory": "bsess.providers.memory:MemoryProvider",
}


def load(name: str, settings: ProviderSettings) -> Provider:
    """Return a provider of that name for one profile. Raises ConfigError where there is none, naming the nearest."""
    path = BUILT_IN.get(name) or _entry_points().get(name)
    if path is None:
        raise ConfigError(
            f"profile {settings.profile}: there is no provider {name[:40]!r}",
            code="provider_unknown",
            hint=_nearest(name),
        )
    module, _, attribute = path.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"provider {name} ({path}) cannot be loaded: {error}",
            code="provider_broken",
            hint="reinstall the package that brings it",
        ) from error
    return cast("Provider", factory(settings))


def names() -> list[str]:
    """Return the names of all providers, installed ones included."""
    return sorted({*BUILT_IN, *_entry_points()})


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    known = names()
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the providers are {', '.join(known)}"
