"""`bsess config`: which setting is what, and from where; a new config file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bsess.errors import ConfigError, FailedError
from bsess.model import Result, SettingLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bsess.config import Config
    from bsess.context import Context

_HEADER = """\
# The settings of bsess; `bsess config show` says which are in force and where each comes from.
# A flag comes before a BSESS_* variable, and that before this file. bsess never rewrites it.

"""
_EXAMPLE = """
# Any number of profiles: a provider with its settings, chosen with -p.
#
# [profiles.headed]
# provider = "local"
# headed = true
# ttl = "30m"
# labels = { team = "crawl" }
#
# [sweep]
# min_age = "60s"
# protect = ["label:demo", "id:abc234"]
"""


def show(context: Context) -> Result:
    """Return every setting with its source."""
    return Result("config show", settings=tuple(_lines(context.config)))


def path(config_path: Path) -> Result:
    """Return where the config file is, or would be."""
    return Result("config path", text=str(config_path))


def init(config_path: Path, *, owner: str) -> Result:
    """Write a new config file (0600). Raises ConfigError where there is one: it is never rewritten."""
    import tomli_w  # quotes the owner's name rightly

    text = _HEADER + tomli_w.dumps({"default": "local", "owner": owner}) + _EXAMPLE
    try:
        config_path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{config_path} is there already", hint="edit it, or move it away first") from error
    except OSError as error:
        raise FailedError(f"{config_path} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Result("config init", text=str(config_path))


def _lines(config: Config) -> Iterator[SettingLine]:
    missing = "" if config.exists else " (no such file)"
    yield SettingLine("config", str(config.path.value) + missing, config.path.source)
    yield SettingLine("state_dir", str(config.state_dir.value), config.state_dir.source)
    yield SettingLine("owner", config.owner.value, config.owner.source)
    yield SettingLine("run", config.run.value or "", config.run.source)
    yield SettingLine("default", config.default.value or "none", config.default.source)
    yield SettingLine("sweep.protect", ", ".join(config.protect.value), config.protect.source)
    yield SettingLine("sweep.min_age", f"{config.min_age.value:g}s", config.min_age.source)
    limit = config.max_close.value
    yield SettingLine("sweep.max_close", "" if limit is None else str(limit), config.max_close.source)
    for profile in config.profiles.values():
        if not profile.keys:
            yield SettingLine(f"profiles.{profile.name}.provider", profile.provider, profile.source)
        for key, (value, source) in profile.keys.items():
            yield SettingLine(f"profiles.{profile.name}.{key}", value, source)
