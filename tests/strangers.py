"""What is not bsess's and must never notice it: a browser, and processes that bear a number which bsess recorded."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from worlds import CHROMIUM_ARGS, wait_for

CHROMIUM = shutil.which("chromium") or "chromium"


@contextlib.contextmanager
def a_browser():
    """Run a Chromium of one's own, outside of every state folder."""
    data = Path(tempfile.mkdtemp(prefix="bs-stranger-", dir="/tmp"))
    flags = ["--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={data}", *CHROMIUM_ARGS]
    browser = subprocess.Popen([CHROMIUM, *flags], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert wait_for((data / "DevToolsActivePort").exists, 30)
        yield browser
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def a_process():
    """Run a process that leads a group of its own."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def a_group_without_leader():
    """Run a process in a group whose leader is gone; yield (leader's pid, its start time, the member's pid)."""
    shell = ["sh", "-c", "sleep 300 >/dev/null & echo $!; read line"]
    with subprocess.Popen(
        shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leader:
        member = int(leader.stdout.readline())
        start = start_time(leader.pid)
        leader.communicate("\n")
    try:
        yield leader.pid, start, member
    finally:
        os.kill(member, signal.SIGKILL)


def start_time(pid: int) -> str:
    """Return field 22 of /proc/PID/stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def is_running(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
