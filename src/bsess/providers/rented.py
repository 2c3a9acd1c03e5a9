"""What all providers reached over HTTP have in common: a client that knows its secrets, and an account's name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from bsess.http import Access, Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bsess.credentials import Token
    from bsess.providers.base import ProviderSettings


def client(
    settings: ProviderSettings, origin: str, token: Token | None, headers: Mapping[str, str] | None = None
) -> Client:
    """Return a profile's HTTP client: `headers` go to `origin` alone, and the token into no message."""
    return Client(
        Access(
            origin=origin,
            headers=headers or {},
            secrets=() if token is None else (token.value, quote(token.value, safe="")),
            insecure=settings.insecure,
            token_source="" if token is None else token.source,
        ),
        environment=settings.environment,
        timeout=settings.timeout,
        seconds_left=settings.seconds_left,
        log=settings.log,
    )


def account(token: Token) -> str:
    """Return a name for the account that a token opens, which does not tell the token."""
    return hashlib.blake2b(token.value.encode(), key=b"bsess account", digest_size=12).hexdigest()
