"""What every connection obeys: which proxy leads to a host, which certificates are trusted, what one origin is.

Imported by the holder of a connection too, so nothing here imports an HTTP client.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bsess.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from urllib.parse import SplitResult

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HINT = "correct it, or the profile's url"
# The code of the error that says that something is no URL.
NO_URL = "url"
SECURE = ("https", "wss")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# To the proxy variables and to an origin's comparison a WebSocket is what it begins as.
_HTTP_NAMES = {"ws": "http", "wss": "https"}


def origin(url: str) -> tuple[str, str, int | None]:
    """Return (scheme, host, port) of a URL, ports filled in, ws and wss as http and https.

    Raises ConfigError for what is no URL.
    """
    parts = split(url)
    scheme = _HTTP_NAMES.get(parts.scheme, parts.scheme)
    return scheme, (parts.hostname or "").lower(), port(url)


def port(url: str) -> int | None:
    """Return the port that a URL leads to, or None where its scheme has none. Raises ConfigError for what is no URL."""
    parts = split(url)
    return parts.port or _PORTS.get(parts.scheme)


def base(url: str) -> str:
    """Return a profile's url without what may follow its path. Raises ConfigError for what is no http or https URL."""
    parts = split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("the profile's url is no http or https URL", code="url", hint='url = "https://…"')
    if "@" in parts.netloc:
        raise ConfigError(
            "the profile's url holds a user or a password",
            code="url",
            hint="a token comes from the environment, token_file or token_command",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


@functools.lru_cache(256)
def split(url: str) -> SplitResult:
    """Return the parts of a URL, all of which can be read. Raises ConfigError for what is no URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is read late, and may be no number
    except ValueError as error:
        raise ConfigError("what stands for a URL is none", code=NO_URL, hint=HINT) from error
    if not url.isprintable() or " " in url:
        raise ConfigError("what stands for a URL is none", code=NO_URL, hint=HINT)
    return parts


def as_websocket(url: str) -> str:
    """Return an http or https URL as ws or wss."""
    return f"ws{url.removeprefix('http')}"


def as_http(url: str) -> str:
    """Return a ws or wss URL as http or https."""
    return f"http{url.removeprefix('ws')}"


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for a URL; loopback has none."""
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK:
        return None
    proxies = {
        key.lower().removesuffix("_proxy"): value
        for key, value in environment.items()
        if key.lower().endswith("_proxy") and value
    }
    if not proxies:
        return None
    import urllib.request  # 10 ms, and most machines have no proxy

    if urllib.request.proxy_bypass_environment(parts.netloc, proxies):  # type: ignore[attr-defined]
        return None
    found = proxies.get(_HTTP_NAMES.get(parts.scheme, parts.scheme)) or proxies.get("all")
    if found is None:
        return None
    return found if "://" in found else f"http://{found}"


def certificates(environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the file and the folder that SSL_CERT_FILE and SSL_CERT_DIR name."""
    return environment.get("SSL_CERT_FILE") or None, environment.get("SSL_CERT_DIR") or None


@functools.cache
def trusting(given: tuple[str | None, str | None]) -> ssl.SSLContext:
    """Return the TLS context that trusts these certificates, else the system's. Raises ConfigError."""
    import ssl  # with its library 10 ms, and a local session needs none

    cafile, capath = given
    try:
        if cafile is None and capath is None:
            context = ssl.create_default_context()
            if context.cert_store_stats()["x509_ca"]:
                return context
            import certifi  # what httpx itself brings, where the system has no store

            cafile = certifi.where()
        return ssl.create_default_context(cafile=cafile, capath=capath)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}", code="ca") from error


@functools.cache
def trusting_nobody() -> ssl.SSLContext:
    """Return the context of a connection without TLS: loading the CA bundle costs 20 ms, and this one fails closed."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
