"""A Chromium of this machine as a session like any other.

Each session is a folder STATE/local/ID: the marker `session.json` (whose it is), `browser.json` (which processes,
written by the holder), the browser's data and its log. The folder is the record; the ledger's row only points at it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bsess import folder as files
from bsess import process
from bsess.errors import BrowserError, FailedError, UsageError
from bsess.holder.launch import launch
from bsess.model import Owner, Status
from bsess.providers.base import (
    Capability,
    CloseAnswer,
    CloseState,
    CloseTarget,
    CreateRequest,
    Listing,
    ProviderSettings,
    RemoteSession,
)
from bsess.providers.options import chosen

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping

# What a graceful end may take before SIGKILL, and how long the holder has to clear up after it. Chromium 156 ends
# within 0.03 s of a SIGTERM.
GRACE_SECONDS = 3.0
# The new-tab page goes on loading and changes its process, and a client that attaches just then can wait for ever.
FIRST_PAGE = "about:blank"
# Pages of Chromium 156 itself, which every client would have to attach to and wait for.
NO_POPUPS = "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup"
HOLDER_SECONDS = 0.5
KILL_SECONDS = 10.0
_ID = re.compile(r"[a-z2-7]{16}", re.ASCII)
_ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "brave-browser")
_MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Brave Browser.app/Contents/MacOS/Brave Browser",
)
_CACHES = (
    ("PLAYWRIGHT_BROWSERS_PATH", "~/.cache/ms-playwright", "chromium-*/chrome-linux*/chrome"),
    ("PLAYWRIGHT_BROWSERS_PATH", "~/Library/Caches/ms-playwright", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*"),
    ("PUPPETEER_CACHE_DIR", "~/.cache/puppeteer", "chrome/linux*/chrome-linux*/chrome"),
    ("PUPPETEER_CACHE_DIR", "~/.cache/puppeteer", "chrome/mac*/chrome-mac*/*.app/Contents/MacOS/*"),
)
# What bsess sets itself, and what would open the DevTools port to web pages or to other machines.
_RESERVED = (
    "--user-data-dir",
    "--remote-debugging-port",
    "--remote-debugging-address",
    "--remote-debugging-pipe",
    "--remote-allow-origins",
)
_SECRET_VARIABLES = ("BSESS_", "BROWSERLESS_", "BROWSERBASE_")
_OPTIONS = {"executable", "args", "headed"}
_FIRST_LOGIN_UID = 1000


class LocalProvider:
    """The Chromium browsers that bsess started on this machine, under one state folder."""

    name: ClassVar[str] = "local"
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    ttl_bounds: ClassVar[tuple[float, float]] = (1.0, 30 * 86_400.0)

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._root = settings.state_dir / "local"
        self.secret: str | None = None
        self.base_url = "local:"
        self.account = str(os.geteuid())

    def validate(self, request: CreateRequest) -> None:
        """Refuse unknown options, arguments that bsess sets itself, and a machine without a browser."""
        if request.region is not None:
            raise UsageError("local sessions have no region", hint="leave --region out, or name a profile with -p")
        chosen(self._settings, request, _OPTIONS)
        for argument in self._arguments(request):
            if not argument.startswith("--") or "\0" in argument:
                raise UsageError(f"--arg {argument[:60]!r} is no browser switch", hint="write it as --arg=--switch")
            if argument.partition("=")[0] in _RESERVED:
                raise UsageError(f"--arg {argument.partition('=')[0]} is set by bsess itself and cannot be given")
        if self._headed(request) and sys.platform.startswith("linux") and not _has_display(self._settings.environment):
            raise BrowserError("--headed needs a display, and there is none", hint="run it under xvfb-run")
        self._executable(request)

    def planned_id(self, request: CreateRequest) -> str:
        """Return the ledger's key: it names the folder, so that a create cut short is found again."""
        return request.key

    def create(self, request: CreateRequest) -> RemoteSession:
        """Start a browser under a holder of its own, and return once DevTools listens."""
        self.validate(request)
        executable = self._executable(request)
        path = self._root / request.key
        created_at = time.time()
        try:
            # One by one: with `parents` the ones above get the umask's mode.
            self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root.mkdir(mode=0o700, exist_ok=True)
            path.mkdir(mode=0o700)
            _write_marker(path, request, created_at)
            (path / files.DATA).mkdir(mode=0o700)
            (path / files.TEMPORARY).mkdir(mode=0o700)
        except OSError as error:
            files.remove(str(path))
            raise BrowserError(
                f"cannot make the browser's folder {path}: {error.strerror}", hint="check the state folder's disk"
            ) from error
        answer = self._start(path, self._command(executable, path, request), request.start_seconds)
        if "error" in answer:
            files.remove(str(path))
            raise _start_error(executable, answer, request)
        return RemoteSession(
            id=request.key,
            status=Status.RUNNING,
            live=True,
            created_at=created_at,
            expires_at=created_at + request.ttl,
            owner=request.owner,
            labels=request.labels,
            connect_url=str(answer["url"]),
            notes=tuple(_warnings(executable)),
        )

    def list(self) -> Listing:
        """Return what lies in the state folder; a folder whose browser has ended is `ended`."""
        try:
            names = sorted(path.name for path in self._root.iterdir())
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise FailedError(f"cannot read {self._root}: {error.strerror}") from error
        found = (self.get(name) for name in names if self.is_id(name))
        return Listing(sessions=tuple(session for session in found if session is not None), settle_seconds=0.0)

    def get(self, session_id: str) -> RemoteSession | None:
        """Return the session of that folder, or None where there is none."""
        path = self._root / session_id
        if not self.is_id(session_id) or path.is_symlink() or not path.is_dir():
            return None
        marker = _read(path / files.MARKER)
        state = _read(path / files.BROWSER)
        status = _status(str(path), marker, state)
        url = state.get("url")
        return RemoteSession(
            id=session_id,
            status=status,
            live=status != Status.ENDED,
            created_at=_number(marker.get("created_at")),
            expires_at=_number(marker.get("expires_at")),
            owner=_owner(marker),
            labels=_labels(marker),
            connect_url=url if isinstance(url, str) and status == Status.RUNNING else None,
        )

    def close(self, target: CloseTarget) -> CloseAnswer:
        """End the browser (SIGTERM, then SIGKILL; with force SIGKILL at once) and delete its folder."""
        self._check_folder()
        session = self.get(target.id)
        path = str(self._root / target.id)
        if session is None:
            return CloseAnswer(CloseState.ABSENT)
        if session.owner is None:
            return _end_unmarked(path, target.id)
        state = _read(Path(path) / files.BROWSER)
        leader = _identity(state, "pid", "start")
        if not target.force and leader is not None:
            self._end_gently(leader, _identity(state, "holder", "holder_start"))
        if not process.kill_members(path, leader, KILL_SECONDS):
            return CloseAnswer(CloseState.STILL_LIVE, reason="a process of the browser survives SIGKILL")
        if not files.remove(path):
            raise FailedError(f"the browser has ended, but its folder {path} cannot be deleted", session=target.id)
        if session.live:
            return CloseAnswer(CloseState.ENDED)
        return CloseAnswer(CloseState.GONE, reason="its browser had ended; what it left behind is removed")

    def is_id(self, text: str) -> bool:
        """Tell whether `text` is 16 characters of a-z and 2-7."""
        return _ID.fullmatch(text) is not None

    def disconnect(self) -> None:
        """Do nothing: there are no connections."""

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  the seam's signature
        """Refuse: only bsess makes local sessions."""
        raise UsageError(
            "local sessions carry no tag: only bsess makes them",
            code="unsupported",
            hint="name a profile whose provider takes one with -p",
        )

    def _check_folder(self) -> None:
        """Refuse to act on what others may have put there. Raises FailedError."""
        folder = self._settings.state_dir
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise FailedError(
                f"the state folder {folder} can be written by others: what lies there proves nothing",
                code="state_folder",
                hint="set BSESS_STATE_DIR to a folder of your own",
            )

    def _end_gently(self, leader: tuple[int, str], holder: tuple[int, str] | None) -> None:
        try:
            process.send(*leader, signal.SIGTERM)
        except PermissionError as error:
            raise FailedError(f"the browser of pid {leader[0]} is another user's") from error
        if process.wait_gone(*leader, GRACE_SECONDS) and holder is not None:
            process.wait_gone(*holder, HOLDER_SECONDS)

    def _start(self, path: Path, command: builtins.list[str], start_seconds: float) -> dict[str, object]:
        environment = {
            key: value
            for key, value in self._settings.environment.items()
            if not key.startswith(_SECRET_VARIABLES) and key != "BREAKPAD_DUMP_LOCATION"
        }
        environment |= {"BSESS_FOLDER": str(path), "BREAKPAD_DUMP_LOCATION": str(path / files.CRASHES)}
        temporary = str(path / files.TEMPORARY)
        if len(os.fsencode(temporary)) <= files.TEMPORARY_MAX:
            environment["TMPDIR"] = temporary
        order = {"command": command, "environment": environment, "start_seconds": start_seconds, "ttl": 0.0}
        order["ttl"] = float(str(_read(path / files.MARKER)["ttl"]))
        answer = launch("browser", str(path), order, environment={"BSESS_FOLDER": str(path)}, seconds=start_seconds)
        if answer is None:
            process.kill_members(str(path), None, KILL_SECONDS)
            return {"error": "lost its holder while it started", "log": ""}
        return answer

    def _command(self, executable: str, path: Path, request: CreateRequest) -> builtins.list[str]:
        return [
            executable,
            *([] if self._headed(request) else ["--headless=new"]),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "--remote-debugging-port=0",
            f"--user-data-dir={path / files.DATA}",
            "--no-first-run",
            "--no-default-browser-check",
            NO_POPUPS,
            *self._arguments(request),
            FIRST_PAGE,
        ]

    def _option(self, request: CreateRequest, name: str) -> object:
        return chosen(self._settings, request, _OPTIONS).get(name)

    def _headed(self, request: CreateRequest) -> bool:
        return bool(self._option(request, "headed"))

    def _arguments(self, request: CreateRequest) -> builtins.list[str]:
        given = self._option(request, "args")
        return [str(item) for item in given] if isinstance(given, list) else []

    def _executable(self, request: CreateRequest) -> str:
        given = self._option(request, "executable")
        if given is None:
            return find_executable(self._settings.environment)
        path = shutil.which(Path(str(given)).expanduser(), path=self._settings.environment.get("PATH"))
        if path is None:
            raise UsageError(
                f"the browser {str(given)[:200]!r} is no program that can be run",
                code="executable",
                hint="correct --executable, BSESS_EXECUTABLE or the profile's executable",
            )
        return str(Path(path).absolute())


def find_executable(environment: Mapping[str, str]) -> str:
    """Return the path of a Chromium. Raises BrowserError, naming what was looked for and how to install one."""
    for name in _ON_PATH:
        path = shutil.which(name, path=environment.get("PATH", os.defpath))
        if path is not None:
            return str(Path(path).absolute())
    for candidate in _candidates(environment):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    install = (
        "brew install --cask chromium" if sys.platform == "darwin" else "apt-get install chromium chromium-sandbox"
    )
    raise BrowserError(
        f"no browser found: looked for {', '.join(_ON_PATH)} on PATH and in the caches of Playwright and Puppeteer",
        code="browser_missing",
        hint=f"{install}, or name one with --executable",
    )


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    yield from map(Path, _MACOS)
    for variable, default, pattern in _CACHES:
        yield from sorted(Path(environment.get(variable) or default).expanduser().glob(pattern), reverse=True)


def _end_unmarked(path: str, session_id: str) -> CloseAnswer:
    # Processes that bear the folder were started for it by bsess: somebody deleted the marker under them.
    if process.members(path):
        if not process.kill_members(path, None, KILL_SECONDS):
            return CloseAnswer(CloseState.STILL_LIVE, reason="a process of the browser survives SIGKILL")
        files.remove(path)
        return CloseAnswer(CloseState.ENDED, reason="its folder had been deleted under it")
    # A create that died before its marker stood leaves no more than that; anything else is not ours to delete.
    try:
        if os.listdir(path) == [files.NEW_MARKER]:  # noqa: PTH208  compared as a whole
            (Path(path) / files.NEW_MARKER).unlink()
        Path(path).rmdir()
    except OSError as error:
        raise FailedError(f"{path} does not bear the mark of bsess and is left alone", session=session_id) from error
    return CloseAnswer(CloseState.GONE, reason="its create died before the browser was started")


def _status(path: str, marker: dict[str, object], state: dict[str, object]) -> Status:
    leader = _identity(state, "pid", "start")
    if leader is not None and process.is_alive(*leader):
        return Status.RUNNING if state.get("url") else Status.STARTING
    if state:
        return Status.ENDED
    creator = _identity(marker, "creator", "creator_start")
    if (creator is not None and process.is_alive(*creator)) or process.members(path):
        return Status.STARTING
    return Status.ENDED


def _identity(state: dict[str, object], pid: str, start: str) -> tuple[int, str] | None:
    if state.get("boot") != process.boot_id():
        return None
    number, began = state.get(pid), state.get(start)
    return (number, began) if isinstance(number, int) and isinstance(began, str) else None


def _write_marker(path: Path, request: CreateRequest, created_at: float) -> None:
    marker = {
        "bsess": 1,
        "owner": request.owner.name,
        "run": request.owner.run,
        "key": request.owner.key,
        "labels": dict(request.labels),
        "created_at": created_at,
        "expires_at": created_at + request.ttl,
        "ttl": request.ttl,
        "creator": os.getpid(),
        "creator_start": process.start_time(os.getpid()),
        "boot": process.boot_id(),
    }
    new = path / files.NEW_MARKER
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(marker, file)
    new.rename(path / files.MARKER)


def _read(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _owner(marker: dict[str, object]) -> Owner | None:
    name, run, key = marker.get("owner"), marker.get("run"), marker.get("key")
    if not isinstance(name, str):
        return None
    return Owner(name, run if isinstance(run, str) else None, key if isinstance(key, str) else None)


def _labels(marker: dict[str, object]) -> dict[str, str]:
    labels = marker.get("labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _start_error(executable: str, answer: dict[str, object], request: CreateRequest) -> BrowserError:
    log = str(answer.get("log") or "")
    said = f"; it said: {log}" if log else ""
    hint = f"run it by hand to see why: {executable} --headless=new"
    if "in time" in str(answer["error"]):
        hint = f"it had {request.start_seconds:g} s; --timeout gives it more"
    elif "sandbox" in log.lower():
        hint = "install the package chromium-sandbox; where a machine is to forbid it, give --arg=--no-sandbox"
    elif "/snap/" in os.path.realpath(executable):
        hint = "a snap cannot read hidden folders: set BSESS_STATE_DIR to a folder beneath ~/snap"
    return BrowserError(f"{executable} {answer['error']}{said}", code="browser_start", hint=hint)


def _warnings(executable: str) -> Iterator[str]:
    if os.geteuid() == 0:
        yield f"as root {Path(executable).name} runs without its sandbox (--no-sandbox)"
    if os.geteuid() == 0 or _other_login_users():
        yield "every user of this machine can reach the browser's DevTools port"


def _other_login_users() -> bool:
    # The file alone: a look-up in a directory service can take seconds.
    try:
        lines = Path("/etc/passwd").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    users = [line.split(":") for line in lines if line.count(":") == 6]  # noqa: PLR2004  passwd(5)
    own = str(os.geteuid())
    return any(
        uid.isdigit() and int(uid) >= _FIRST_LOGIN_UID and uid != own and not shell.endswith(("nologin", "false"))
        for _, _, uid, _, _, _, shell in users
    )


def _has_display(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
