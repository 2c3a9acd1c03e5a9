"""Who a process is, and how to end it without ever hitting another that got its pid.

Imports next to nothing: the detached holder lives on this module alone, and its memory is a promise.
A process is a pid and a start time: on Linux field 22 of /proc/PID/stat (clock ticks since boot, proc(5)), elsewhere
what `ps -o lstart=` prints. A zombie counts as gone: it holds nothing and cannot be signalled.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

LINUX = os.path.isdir("/proc/self/fd")
PAUSE = 0.01


def start_time(pid: int) -> str | None:
    """Return the start time of a living process, or None where there is none (a zombie is none)."""
    if pid <= 0:
        return None
    if LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    return _ps_field(pid, "lstart")


def is_alive(pid: int, start: str) -> bool:
    """Tell whether that very process lives, not merely one with its pid."""
    return start_time(pid) == start


def boot_id() -> str:
    """Return what changes with each boot of this machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return _run(["sysctl", "-n", "kern.boottime"]).split("}")[0]


def namespace() -> str:
    """Return the pid namespace's name; pids of another namespace mean nothing here."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def send(pid: int, start: str, signum: int) -> bool:
    """Signal that very process; False where it is gone. Raises PermissionError where it is not ours.

    With a pidfd nothing can slip between the look and the signal; without one (macOS, old kernels) a window of
    microseconds stays.
    """
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) == errno.ESRCH or not is_alive(pid, start):
            return False
        return _kill(pid, signum)
    try:
        if not is_alive(pid, start):
            return False
        signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_gone(pid: int, start: str, seconds: float) -> bool:
    """Wait until that process is gone, at most `seconds`; tell whether it is."""
    end = time.monotonic() + seconds
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        handle = -1
    try:
        while is_alive(pid, start):
            left = end - time.monotonic()
            if left <= 0:
                return False
            if handle >= 0:
                _wait_readable(handle, left)
            else:
                time.sleep(min(PAUSE, left))
    finally:
        if handle >= 0:
            os.close(handle)
    return True


def members(folder: str, leader: tuple[int, str] | None = None) -> list[tuple[int, str]]:
    """Return (pid, start time) of each living process that belongs to a browser's `folder`.

    Evidence is what only bsess gives: an argument `--user-data-dir=` or `--database=` beneath the folder, or
    BSESS_FOLDER in the environment it was started with. The process group counts only while its `leader` (pid, start
    time) still stands, dead but unreaped included: a group's number is free for others after that.
    """
    if not LINUX:
        return _members_by_ps(folder, leader)
    group = leader[0] if leader is not None and _leads(leader) else None
    user = os.geteuid()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            continue
        if ((group is not None and fields[2] == str(group)) or _bears(pid, folder)) and _user(pid) == user:
            found.append((pid, fields[19]))
    return found


def kill_members(folder: str, leader: tuple[int, str] | None, seconds: float) -> bool:
    """SIGKILL all that belongs to `folder` until none is left, at most `seconds`; tell whether none is."""
    end = time.monotonic() + seconds
    own = os.getpid()
    while True:
        left = [member for member in members(folder, leader) if member[0] != own]
        if not left:
            return True
        for pid, start in left:
            send(pid, start, signal.SIGKILL)
        if time.monotonic() >= end:
            return False
        wait_gone(*left[0], min(0.05, max(0.0, end - time.monotonic())))


def _stat(pid: int) -> list[str] | None:
    # The name in the second field may hold spaces and parentheses: what counts begins after the last one.
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    return line[line.rindex(b")") + 2 :].decode("ascii").split()


def _user(pid: int) -> int:
    # Not the owner of /proc/PID: that is root for a sandboxed renderer, whoever runs it.
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return int(next(line for line in file if line.startswith("Uid:")).split()[2])
    except (OSError, StopIteration):
        return -1


def _leads(leader: tuple[int, str]) -> bool:
    fields = _stat(leader[0])
    return fields is not None and fields[19] == leader[1]


def _bears(pid: int, folder: str) -> bool:
    prefix = os.fsencode(folder)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read()
        # Chromium's children rewrite their arguments into one string, so a blank may stand where a NUL did.
        for flag in (b"--user-data-dir=", b"--database="):
            if (flag + prefix + b"/") in line:
                return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"BSESS_FOLDER=" + prefix in file.read().split(b"\0")
    except OSError:
        return False


def _kill(pid: int, signum: int) -> bool:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def _wait_readable(handle: int, seconds: float) -> None:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.poll(min(seconds, 1.0) * 1000)
    # A zombie makes the handle readable before its parent reaps it, and counts as gone: no spinning here.


def _members_by_ps(folder: str, leader: tuple[int, str] | None) -> list[tuple[int, str]]:
    group = leader[0] if leader is not None and is_alive(*leader) else None
    found = []
    for line in _run(["ps", "-axwwo", "pid=,pgid=,stat=,command="]).splitlines():
        pid, pgid, state, command = line.split(None, 3)
        if state.startswith("Z"):
            continue
        if int(pgid) == group or f"--user-data-dir={folder}/" in command or f"--database={folder}/" in command:
            start = start_time(int(pid))
            if start is not None:
                found.append((int(pid), start))
    return found


def _ps_field(pid: int, field: str) -> str | None:
    state, _, value = _run(["ps", "-p", str(pid), "-o", f"stat=,{field}="]).strip().partition(" ")
    return None if not state or state.startswith("Z") else " ".join(value.split())


def _run(command: list[str]) -> str:
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout  # noqa: S603
    except OSError:
        return ""
