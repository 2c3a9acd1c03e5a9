"""One user's machine as bsess sees it, for tests: state folder, home, config; and proof that nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Chromium must not reach for the network, and these tests run wherever they are put.
CHROMIUM_ARGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
ORDINARY_USER = "nobody"


@dataclass(frozen=True)
class Ended:
    """What a run of the program gave."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def sessions(self):
        return self.json["data"]["sessions"]

    @property
    def outcomes(self):
        return self.json["data"]["outcomes"]


@dataclass
class World:
    """One user's machine as far as bsess sees it. `program` starts bsess, as whoever this world belongs to."""

    folder: Path
    program: list[str]
    uid: int
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "s"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def env(self) -> dict[str, str]:
        """What cron would give, and where this world is."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "BSESS_STATE_DIR": str(self.state),
            "BSESS_CONFIG": str(self.config),
            **self.variables,
        }

    def start(self, *arguments: str, env: dict[str, str] | None = None, **settings) -> subprocess.Popen:
        """Start bsess in a session of its own (no terminal), with pipes unless `settings` say otherwise."""
        settings.setdefault("stdin", subprocess.DEVNULL)
        settings.setdefault("stdout", subprocess.PIPE)
        settings.setdefault("stderr", subprocess.PIPE)
        settings.setdefault("text", True)
        settings.setdefault("start_new_session", True)
        settings.setdefault("cwd", self.folder)
        return subprocess.Popen([*self.program, *arguments], env={**self.env, **(env or {})}, **settings)

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60, **settings) -> Ended:
        """Run bsess to its end."""
        if stdin is not None:
            settings["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **settings)
        with process:
            try:
                out, err = process.communicate(stdin, timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return Ended(process.returncode, out or "", err or "")

    def ok(self, *arguments: str, **settings) -> Ended:
        """Run bsess and insist on exit 0."""
        ended = self.run(*arguments, **settings)
        assert ended.code == 0, f"bsess {' '.join(arguments)} ended with {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def create(self, *arguments: str, **settings) -> dict:
        """Make one session and return its record."""
        return self.ok("create", "-o", "json", *arguments, **settings).sessions[0]

    def processes(self) -> list[tuple[int, str]]:
        """Return (pid, command line) of every living process of this world's browsers, holders included."""
        return processes_of(self.state)

    def folders(self) -> list[str]:
        """Return the folders of local sessions."""
        return sorted(path.name for path in self.state.glob("local/*"))

    def rows(self) -> list[dict]:
        """Return the ledger's open rows."""
        import sqlite3

        connection = sqlite3.connect(self.state / "ledger.sqlite3")
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("SELECT * FROM session WHERE state <> 'closed'")]
        finally:
            connection.close()

    def assert_nothing_left(self, *, within: float = 0.0) -> None:
        """Insist that no process and no folder of a session is left."""
        assert wait_for(lambda: not self.processes() and not self.folders(), within), (
            f"left: {self.processes()} {self.folders()}"
        )


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """Return the living processes that bear a folder in their arguments or environment, but for bsess itself."""
    needle = os.fsencode(str(folder) + "/local/")
    holds_a_connection = b"BSESS_STATE_DIR=" + os.fsencode(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            try:
                environ = (entry / "environ").read_bytes()
            except PermissionError:
                environ = b""
        except OSError:
            continue
        is_ours = needle in line or b"BSESS_FOLDER=" + needle in environ
        is_ours = is_ours or (b"holder/connection.py" in line and holds_a_connection in environ.split(b"\0"))
        if state not in "ZX" and is_ours:
            found.append((int(entry.name), line.replace(b"\0", b" ").decode(errors="replace")[:150]))
    return found


def leads_a_session(pid: int) -> bool:
    """Tell whether a process has detached itself."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def wait_for(condition, seconds: float) -> bool:
    """Wait until a condition holds, looking often; tell whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return bool(condition())
        time.sleep(0.01)
    return True


def write_config(world: World, text: str = "") -> None:
    """Give a world a config whose browsers stay off the network; `text` comes first."""
    args = json.dumps(CHROMIUM_ARGS)
    world.config.write_text(f'{text}\n[profiles.local]\nprovider = "local"\nargs = {args}\n')
    if os.geteuid() == 0:
        os.chown(world.config, world.uid, -1)


def make_world(program: list[str], uid: int) -> World:
    """Make a world in a folder with a short path: a socket's path has 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    world = World(folder, program, uid)
    (folder / "home").mkdir()
    for path in (folder, folder / "home"):
        if os.geteuid() == 0:
            os.chown(path, uid, -1)
    write_config(world)
    return world


def end_world(world: World) -> None:
    """End what a failed test left, by pid, and remove the folder."""
    for pid, _ in processes_of(world.state):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes_of(world.state), 5)
    shutil.rmtree(world.folder, ignore_errors=True)
