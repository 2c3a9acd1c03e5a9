"""Who a process is, on Linux and where there is only `ps`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bsess import process


@pytest.fixture(params=["proc", "ps"])
def platform(request, monkeypatch):
    """The two ways to look at processes; `ps` is what macOS has."""
    if request.param == "ps":
        monkeypatch.setattr(process, "LINUX", False)
    return request.param


@pytest.fixture
def sleeper():
    started = subprocess.Popen(["sleep", "100"], start_new_session=True)
    yield started
    started.kill()
    started.wait()


def test_a_living_process_has_a_start_time_that_stays(platform, sleeper):
    start = process.start_time(sleeper.pid)
    assert start
    assert process.is_alive(sleeper.pid, start)


def test_a_zombie_is_gone(platform, sleeper):
    start = process.start_time(sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    assert process.wait_gone(sleeper.pid, start, 5)
    assert process.start_time(sleeper.pid) is None


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_no_process_has_no_start_time(platform, pid):
    assert process.start_time(pid) is None


def test_a_process_with_the_pid_but_another_start_time_is_not_signalled(platform, sleeper):
    assert not process.send(sleeper.pid, "another", signal.SIGKILL)
    assert sleeper.poll() is None


def test_the_recorded_process_is_signalled(platform, sleeper):
    assert process.send(sleeper.pid, process.start_time(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait(5) == -signal.SIGTERM


def test_a_process_that_stays_is_waited_for_in_vain(platform, sleeper):
    assert not process.wait_gone(sleeper.pid, process.start_time(sleeper.pid), 0.05)


def test_members_are_known_by_their_folder(platform, tmp_path):
    mine = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(100)", f"--user-data-dir={tmp_path}/x/data"]
    )
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(100)", f"--user-data-dir={tmp_path}/xy/data"]
    )
    try:
        start = process.start_time(mine.pid)
        assert process.members(f"{tmp_path}/x") == [(mine.pid, start)]
        assert process.kill_members(f"{tmp_path}/x", None, 5)
        assert mine.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for started in (mine, other):
            started.kill()
            started.wait()


def test_a_group_counts_only_while_its_leader_stands(platform, sleeper, tmp_path):
    start = process.start_time(sleeper.pid)
    assert process.members(str(tmp_path), (sleeper.pid, start)) == [(sleeper.pid, start)]
    assert process.members(str(tmp_path), (sleeper.pid, "another")) == []
