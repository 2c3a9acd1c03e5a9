"""The detached keeper of one local browser: it starts it, ends it when its ttl passes, and leaves nothing behind.

Run with the session's folder; its answer comes once DevTools listens, or says what went wrong.

The ttl runs on CLOCK_BOOTTIME, so that neither a jump of the clock nor a suspended machine stretches it. While the
browser starts, the death of the asking process ends it again: nobody would know of it. On Linux the browser gets
SIGKILL from the kernel if this holder dies (PR_SET_PDEATHSIG), so that none outlives its ttl unwatched.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

# Run as a file by an isolated interpreter that knows no site-packages: the package is found from where this file is.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from bsess import folder as files
from bsess import holder, process
from bsess.holder import now

GRACE = 3.0
LOG_LIMIT = 1 << 20
PR_SET_PDEATHSIG = 1
# How often to look whether the browser is ready: somebody waits for it.
START_PAUSE = 0.002
CANNOT_EXECUTE = 126


def main() -> None:
    """Hold one browser from its start to its end."""
    folder = sys.argv[1]
    signals = holder.detach()
    order = holder.order()
    began = now()
    browser = _start(order["command"], order["environment"], folder)
    leader = (browser, process.start_time(browser) or "")
    try:
        _write(folder, leader, url=None)
        url = _await_devtools(folder, browser, signals, began + order["start_seconds"])
        _write(folder, leader, url=url)
        holder.answer({"pid": browser, "url": url})
    except _StartFailedError as failure:
        _end(folder, leader, gently=False)
        holder.try_answer({"error": str(failure), "log": failure.log})
        return
    except OSError as failure:
        _end(folder, leader, gently=False)
        holder.try_answer({"error": f"could not be kept: {failure.strerror or failure}", "log": ""})
        return
    holder.let_go()
    gently = _hold(folder, browser, signals, began + order["ttl"])
    _end(folder, leader, gently=gently)


class _StartFailedError(Exception):
    def __init__(self, message: str, folder: str) -> None:
        super().__init__(message)
        self.log = _last_line(folder)


def _start(command: list[str], environment: dict[str, str], folder: str) -> int:
    log = os.open(folder + "/" + files.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        os.close(log)
        return pid
    try:
        os.setsid()
        _die_with_parent(keeper)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for signum in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_DFL)
        os.execve(command[0], command, environment)  # noqa: S606
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_EXECUTE)


def _die_with_parent(keeper: int) -> None:
    if not process.LINUX:
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(CANNOT_EXECUTE)


def _await_devtools(folder: str, browser: int, signals: int, until: float) -> str:
    while True:
        url = _devtools_url(folder)
        if url is not None:
            return url
        if _has_ended(browser):
            raise _StartFailedError("ended while it started", folder)
        if holder.is_asked_to_end():
            raise _StartFailedError("was ended while it started", folder)
        if now() >= until:
            raise _StartFailedError("did not open its DevTools port in time", folder)
        ready, _, _ = select.select([0, signals], [], [], START_PAUSE)
        if signals in ready:
            os.read(signals, 64)
        if 0 in ready and not os.read(0, 1):
            raise OSError("the asking process is gone")


def _devtools_url(folder: str) -> str | None:
    try:
        with open(folder + "/" + files.PORT, encoding="ascii") as file:
            port, _, path = file.read().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    # The file is not written in one step: half of it is no answer yet.
    path = path.strip()
    if not port.isdigit() or not path.startswith("/devtools/browser/") or len(path) < len("/devtools/browser/") + 36:
        return None
    return f"ws://127.0.0.1:{port}{path}"


def _has_ended(browser: int) -> bool:
    # WNOWAIT leaves the zombie, and with it the number of its process group, until the group is gone.
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, browser, flags) is not None


def _hold(folder: str, browser: int, signals: int, until: float) -> bool:
    """Wait for the end: the browser's own, a signal, the ttl, or that its folder is deleted.

    Tell whether the browser is still to be ended.
    """
    while not _has_ended(browser):
        left = until - now()
        if left <= 0 or holder.is_asked_to_end():
            return True
        if not os.path.exists(folder + "/" + files.MARKER):
            return True  # deleted by hand: nobody could find this browser any more
        ready, _, _ = select.select([signals], [], [], min(left, holder.LOOK_AGAIN))
        if ready:
            os.read(signals, 64)
        _bound_log(folder)
    return False


def _end(folder: str, leader: tuple[int, str], *, gently: bool) -> None:
    pid = leader[0]
    if gently and not _has_ended(pid):
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + GRACE
        while not _has_ended(pid) and time.monotonic() < until:
            time.sleep(process.PAUSE)
    for end in (os.killpg, os.kill):  # our own unreaped child: the number cannot be another's
        try:
            end(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    process.kill_members(folder, leader, GRACE)
    os.waitpid(pid, 0)
    files.remove(folder)


def _write(folder: str, leader: tuple[int, str], *, url: str | None) -> None:
    state = {
        "pid": leader[0],
        "start": leader[1],
        "holder": os.getpid(),
        "holder_start": process.start_time(os.getpid()),
        "boot": process.boot_id(),
        "url": url,
    }
    path = folder + "/" + files.BROWSER
    handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, json.dumps(state).encode())
    finally:
        os.close(handle)
    os.rename(path + ".new", path)


def _bound_log(folder: str) -> None:
    path = folder + "/" + files.LOG
    try:
        if os.stat(path).st_size > LOG_LIMIT:
            os.truncate(path, 0)
    except OSError:
        pass


def _last_line(folder: str) -> str:
    try:
        with open(folder + "/" + files.LOG, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    main()
