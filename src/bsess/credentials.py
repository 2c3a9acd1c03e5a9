"""Tokens: where each comes from. Read only when a provider is about to be asked, never for help or completion."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bsess.errors import AuthError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND_SECONDS = 10.0
TOKEN_MAX = 4096
# The variables that the field uses, the vendor's own first.
VARIABLES: dict[str, tuple[str, ...]] = {
    "browserbase": ("BROWSERBASE_API_KEY",),
    "browserless": ("BROWSERLESS_TOKEN", "BROWSERLESS_API_KEY", "BROWSERLESS_API_TOKEN"),
    "browserless-self-hosted": ("BROWSERLESS_TOKEN",),
}
# Those that a token alone leads to: a profile of their name is there as soon as it is in the environment.
CLOUDS = ("browserless", "browserbase")
# Where the field's other tools name the vendor's address.
URLS = {"browserless": "BROWSERLESS_API_URL", "browserbase": "BROWSERBASE_BASE_URL"}


@dataclass(frozen=True, slots=True)
class Token:
    """A secret, and where it came from: that may be said, the secret may not."""

    value: str = field(repr=False)
    source: str
    warning: str | None = None


def in_environment(provider: str, environment: Mapping[str, str]) -> str | None:
    """Return the name of the variable that holds a provider's token, or None."""
    return next((name for name in VARIABLES.get(provider, ()) if environment.get(name)), None)


def token(
    provider: str,
    profile: str,
    environment: Mapping[str, str],
    *,
    command: str | None = None,
    file: str | None = None,
    config: Path | None = None,
) -> Token:
    """Return a profile's token. Raises AuthError where there is none, ConfigError where a source is broken."""
    name = in_environment(provider, environment)
    if name is not None:
        return _checked(environment[name], f"env {name}")
    if command is not None:
        return _checked(_run(command, profile, environment, config), f"config.toml profiles.{profile}.token_command")
    if file is not None:
        found = _checked(_read(file, profile), f"config.toml profiles.{profile}.token_file")
        return replace(found, warning=_readable_by_others(Path(file).expanduser()))
    names = ", ".join(VARIABLES.get(provider, ()))
    raise AuthError(
        f"profile {profile}: there is no token for {provider}",
        code="no_token",
        hint=f"set {names.split(', ')[0]}, or token_command or token_file in profiles.{profile}",
    )


def _checked(value: str, source: str) -> Token:
    text = value.strip()
    if not text or len(text) > TOKEN_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError(f"{source}: what it gives is no token", code="token", hint="one line of printable characters")
    return Token(text, source)


def _run(command: str, profile: str, environment: Mapping[str, str], config: Path | None) -> str:
    source = f"profiles.{profile}.token_command"
    if config is not None and _others_can_write(config):
        raise ConfigError(
            f"{source} is not run: others can write {config}", code="config_writable", hint=f"chmod go-w {config}"
        )
    import shlex  # with subprocess 6 ms, and most tokens are in the environment
    import subprocess

    try:
        words = shlex.split(command)
        ended = subprocess.run(  # noqa: S603  the user's own command, split as a shell does, run without one
            words,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{source} did not end within {COMMAND_SECONDS:g} s", code="token_command") from error
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{source} cannot be run: {error}", code="token_command") from error
    if ended.returncode:
        raise ConfigError(
            f"{source} ended with {ended.returncode}", code="token_command", hint="run it by hand to see why"
        )
    return ended.stdout.decode("utf-8", "replace")


def _read(path: str, profile: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(
            f"profiles.{profile}.token_file {path} cannot be read: {reason}", code="token_file"
        ) from error


def _readable_by_others(path: Path) -> str | None:
    try:
        readable = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    except OSError:
        return None
    return f"the token file {path} can be read by others: chmod 600 {path}" if readable else None


def _others_can_write(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or status.st_uid not in (0, os.geteuid())
