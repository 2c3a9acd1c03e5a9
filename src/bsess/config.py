"""Settings and where each came from: flags, then BSESS_* variables, then the config file, then the defaults."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bsess import credentials, durations
from bsess.errors import ConfigError, UsageError
from bsess.model import LABEL_KEY_MAX, LABEL_VALUE_MAX, OWNER_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value = TypeVar("Value")

# The source of what nobody set.
DEFAULT = "default"
FILE_MAX = 4 << 20
CREATE_TTL = 15 * 60.0
RUN_TTL = 60 * 60.0
# The CI systems' own names for one run, in the order in which they are asked.
RUN_VARIABLES = ("BSESS_RUN", "GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILD_TAG")

# The keys of the file and their types; a profile's keys beyond the first five are its provider's business.
_TOP = {"default": str, "owner": str, "profiles": dict, "sweep": dict}
_PROFILE = {
    "provider": str,
    "region": str,
    "ttl": str,
    "labels": dict,
    "url": str,
    "insecure": bool,
    "graphql_url": str,
    "token_command": str,
    "token_file": str,
    "executable": str,
    "args": list,
    "headed": bool,
}
_PROFILE_OPTIONS = ("executable", "args", "headed", "graphql_url")
_SWEEP = {"max_close": int, "protect": list, "min_age": str}
_TYPE_NAMES = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "a list of strings",
    dict: "a table",
}


@dataclass(frozen=True, slots=True)
class Setting(Generic[Value]):
    """A value and where it came from: a flag, `env NAME`, `config.toml KEY`, or `default`."""

    value: Value
    source: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A named provider with its settings; `options` are handed to the provider as they are.

    `token` is one that no setting names: it came with a URL that somebody pasted.
    """

    name: str
    provider: str
    source: str
    region: str | None = None
    ttl: float | None = None
    url: str | None = None
    insecure: bool = False
    token_command: str | None = None
    token_file: str | None = None
    token: credentials.Token | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, resolved once at the start of a command."""

    path: Setting[Path]
    exists: bool
    state_dir: Setting[Path]
    owner: Setting[str]
    run: Setting[str | None]
    default: Setting[str | None]
    profiles: Mapping[str, Profile]
    protect: Setting[tuple[str, ...]]
    min_age: Setting[float]
    max_close: Setting[int | None]

    def profile(self, name: str | None = None) -> Profile:
        """Return a profile, the default one if no name is given. Raises ConfigError, naming the nearest."""
        wanted = self.default.value if name is None else name
        if wanted is None:
            raise ConfigError(
                f"there is no default profile: {self.default.source}",
                code="no_default",
                hint="name one with -p, or set default in the config file",
            )
        found = self.profiles.get(wanted)
        if found is None:
            source = "" if name is not None else f" ({self.default.source})"
            raise ConfigError(
                f"there is no profile {wanted[:60]!r}{source}",
                code="profile_unknown",
                hint=_nearest(wanted, self.profiles) or f"the profiles are {', '.join(self.profiles)}",
            )
        return found


def load(environment: Mapping[str, str], *, may_be_missing: bool = False) -> Config:
    """Read the config file and the environment. Raises ConfigError, naming file and key.

    A file that BSESS_CONFIG names must be there, unless it `may_be_missing`: without it the wrong sessions would be
    looked at, and a token go where it was not meant to.
    """
    path = config_path(environment)
    if path.source != DEFAULT and not may_be_missing and not path.value.exists():
        raise ConfigError(
            f"{path.source}: there is no {path.value}", code="config_missing", hint="`bsess config init` writes one"
        )
    document = _read(path.value)
    file = "config.toml"
    _check(document, _TOP, path.value, "")
    profiles = {name: _profile(name, table, path.value) for name, table in document.get("profiles", {}).items()}
    profiles.setdefault("local", Profile(name="local", provider="local", source=DEFAULT))
    profiles |= _implicit(profiles, environment)
    executable = environment.get("BSESS_EXECUTABLE")
    if executable:
        profiles = {
            name: _with_executable(profile, executable) if profile.provider == "local" else profile
            for name, profile in profiles.items()
        }
    sweep = document.get("sweep", {})
    _check(sweep, _SWEEP, path.value, "sweep.")
    if sweep.get("max_close", 0) < 0:
        raise ConfigError(f"{path.value}: sweep.max_close is below 0", code="config_type")
    for rule in sweep.get("protect", ()):
        check_protect(rule, name=f"{path.value}: sweep.protect")
    return Config(
        path=path,
        exists=path.value.exists(),
        state_dir=state_dir(environment),
        owner=_owner(environment, document, file),
        run=current_run(environment),
        default=_default(environment, document, profiles, file),
        profiles=profiles,
        protect=_from_file(sweep, "protect", (), f"{file} sweep.protect", tuple),
        min_age=_min_age(sweep, file),
        max_close=_from_file(sweep, "max_close", None, f"{file} sweep.max_close", int),
    )


def _implicit(profiles: Mapping[str, Profile], environment: Mapping[str, str]) -> dict[str, Profile]:
    """Return the profiles that exist because their token is in the environment.

    Not where the file has a profile that the same variable is for: a token meant for a server of one's own must not
    go to the vendor's cloud.
    """
    taken = {name for profile in profiles.values() for name in credentials.VARIABLES.get(profile.provider, ())}
    found = {}
    for provider in credentials.CLOUDS:
        variable = credentials.in_environment(provider, environment)
        if variable is not None and variable not in taken and provider not in profiles:
            url = environment.get(credentials.URLS.get(provider, "")) or None
            found[provider] = Profile(name=provider, provider=provider, source=f"env {variable}", url=url)
    return found


def config_path(environment: Mapping[str, str]) -> Setting[Path]:
    """Return where the config file is, or would be."""
    given = environment.get("BSESS_CONFIG")
    if given:
        return Setting(Path(given).expanduser().absolute(), "env BSESS_CONFIG")
    return Setting(_platform_folder(environment, "XDG_CONFIG_HOME", ".config") / "bsess" / "config.toml", DEFAULT)


def state_dir(environment: Mapping[str, str]) -> Setting[Path]:
    """Return the folder of the ledger and of the local browsers."""
    given = environment.get("BSESS_STATE_DIR")
    if given:
        return Setting(Path(given).expanduser().absolute(), "env BSESS_STATE_DIR")
    return Setting(_platform_folder(environment, "XDG_STATE_HOME", ".local/state") / "bsess", DEFAULT)


def labels(pairs: Iterable[str], *, name: str = "--label") -> dict[str, str]:
    """Read labels as users write them: `k=v`, or `k` alone for an empty value. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        _check_label(key, value, name)
        found[key] = value
    return found


def check_protect(rule: str, *, name: str) -> None:
    """Refuse a protection that would protect nothing. Raises UsageError."""
    kind, colon, rest = rule.partition(":")
    if not colon or kind not in ("id", "label") or not rest:
        raise UsageError(f"{name}: {rule[:60]!r} is no rule", hint="label:KEY, label:KEY=VALUE or id:PREFIX")


def _platform_folder(environment: Mapping[str, str], variable: str, fallback: str) -> Path:
    given = environment.get(variable)
    if given and os.path.isabs(given):  # noqa: PTH117  the XDG specification: a relative one is to be ignored
        return Path(given)
    home = Path(environment.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111  Path.home() reads os.environ
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return home / fallback


def _read(path: Path) -> dict[str, Any]:
    try:
        if not (stat.S_ISREG(path.stat().st_mode) or str(path) == os.devnull):
            raise ConfigError(f"{path}: is no file", hint="BSESS_CONFIG names a TOML file")
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint="check its permissions") from error
    if len(data) > FILE_MAX:
        raise ConfigError(f"{path}: is larger than {FILE_MAX >> 20} MB", hint="BSESS_CONFIG names a TOML file")
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: is no TOML: {error}", hint="`bsess config init` shows what one looks like"
        ) from error


def _check(table: Mapping[str, object], known: Mapping[str, type], path: Path, prefix: str) -> None:
    for key, value in table.items():
        kind = known.get(key)
        if kind is None:
            raise ConfigError(
                f"{path}: unknown key {prefix}{key}",
                code="config_key",
                hint=_nearest(key, known, prefix) or f"the keys here are {', '.join(known)}",
            )
        # A bool is an int to Python, but not to a user.
        right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        if kind is list:
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not right:
            raise ConfigError(
                f"{path}: {prefix}{key} is {_type_name(value)}, not {_TYPE_NAMES[kind]}", code="config_type"
            )


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")


def _profile(name: str, table: object, path: Path) -> Profile:
    prefix = f"profiles.{name}."
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: profiles.{name} is {_type_name(table)}, not a table", code="config_type")
    _check(table, _PROFILE, path, prefix)
    if "/" in name or not name.isprintable() or not name.strip():
        raise ConfigError(f"{path}: {name!r} cannot name a profile", hint="use letters, digits, - and _")
    if "provider" not in table:
        raise ConfigError(f"{path}: profiles.{name} names no provider", hint='add provider = "local"')
    own_labels = table.get("labels", {})
    for key, value in own_labels.items():
        if not isinstance(value, str):
            raise ConfigError(f"{path}: {prefix}labels.{key} is {_type_name(value)}, not a string", code="config_type")
        _check_label(key, value, f"{path}: {prefix}labels")
    ttl = table.get("ttl")
    return Profile(
        name=name,
        provider=table["provider"],
        source=f"config.toml profiles.{name}",
        region=table.get("region"),
        ttl=None if ttl is None else durations.parse(ttl, name=f"{path}: {prefix}ttl"),
        url=table.get("url"),
        insecure=table.get("insecure", False),
        token_command=table.get("token_command"),
        token_file=table.get("token_file"),
        labels=own_labels,
        options={key: table[key] for key in _PROFILE_OPTIONS if key in table},
        keys={key: (_shown(key, value), f"config.toml profiles.{name}.{key}") for key, value in table.items()},
    )


def _with_executable(profile: Profile, path: str) -> Profile:
    keys = {**profile.keys, "executable": (path, "env BSESS_EXECUTABLE")}
    return replace(profile, options={**profile.options, "executable": path}, keys=keys)


def _shown(key: str, value: object) -> str:
    if key == "url":
        # user:password@ and ?token= in a URL are secrets; the rest says where it leads.
        head, slashes, rest = str(value).partition("//")
        rest = "***@" + rest.rpartition("@")[2] if "@" in rest else rest
        where, question, _ = rest.partition("?")
        return head + slashes + where + (question and "?***")
    return str(value)


def _check_label(key: str, value: str, name: str) -> None:
    good = key and len(key) <= LABEL_KEY_MAX and all(char.isalnum() or char in "._-/" for char in key)
    if not good:
        raise UsageError(f"{name}: {key[:70]!r} cannot be a label's key", hint="use letters, digits and . _ - /")
    if len(value) > LABEL_VALUE_MAX or not value.isprintable():
        raise UsageError(
            f"{name}: the value of {key} is too long or holds control characters",
            hint=f"at most {LABEL_VALUE_MAX} printable characters",
        )


def _owner(environment: Mapping[str, str], document: Mapping[str, object], file: str) -> Setting[str]:
    if environment.get("BSESS_OWNER"):
        owner = Setting(environment["BSESS_OWNER"], "env BSESS_OWNER")
    elif "owner" in document:
        owner = Setting(str(document["owner"]), f"{file} owner")
    else:
        owner = Setting(f"{_user()}@{os.uname().nodename}", DEFAULT)
    if not owner.value.strip() or not owner.value.isprintable() or len(owner.value) > OWNER_MAX:
        raise ConfigError(
            f"{owner.source}: {owner.value[:40]!r} cannot be an owner's name",
            hint=f"1 to {OWNER_MAX} printable characters",
        )
    return owner


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def current_run(environment: Mapping[str, str]) -> Setting[str | None]:
    """Return the id of the run that this is, from BSESS_RUN or the CI system."""
    for name in RUN_VARIABLES:
        value = environment.get(name)
        if not value:
            continue
        attempt = environment.get("GITHUB_RUN_ATTEMPT")
        if name == "GITHUB_RUN_ID" and attempt:
            value = f"{value}.{attempt}"
        if not value.isprintable() or len(value) > LABEL_VALUE_MAX:
            raise UsageError(f"env {name} cannot be a run's name", hint="printable characters only")
        return Setting(value, f"env {name}")
    return Setting(None, DEFAULT)


def _default(
    environment: Mapping[str, str], document: Mapping[str, object], profiles: Mapping[str, Profile], file: str
) -> Setting[str | None]:
    if environment.get("BSESS_PROFILE"):
        return Setting(environment["BSESS_PROFILE"], "env BSESS_PROFILE")
    if "default" in document:
        return Setting(str(document["default"]), f"{file} default")
    with_token = [profile.name for profile in profiles.values() if _has_token(profile, environment)]
    if len(with_token) > 1:
        return Setting(None, f"{', '.join(sorted(with_token))} have a token")
    return Setting(with_token[0], "the only profile with a token") if with_token else Setting("local", DEFAULT)


def _has_token(profile: Profile, environment: Mapping[str, str]) -> bool:
    found = credentials.in_environment(profile.provider, environment)
    return found is not None or profile.token_command is not None or profile.token_file is not None


def _min_age(sweep: Mapping[str, object], file: str) -> Setting[float]:
    if "min_age" in sweep:
        return Setting(
            durations.parse(str(sweep["min_age"]), name=f"{file} sweep.min_age", zero=True), f"{file} sweep.min_age"
        )
    return Setting(60.0, DEFAULT)


def _from_file(table: Mapping[str, object], key: str, default: Value, source: str, convert: type) -> Setting[Value]:
    return Setting(convert(table[key]), source) if key in table else Setting(default, DEFAULT)


def _nearest(word: str, known: Iterable[str], prefix: str = "") -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else None
