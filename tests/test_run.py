"""`bsess run`: whatever becomes of the command or of bsess, no browser is left, and the exit code is the command's."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worlds import World, wait_for

PYTHON = sys.executable


def run_python(world, code, *options, **settings):
    """Run a piece of Python under `bsess run`."""
    return world.run("run", *options, "--", PYTHON, "-c", code, **settings)


# ---- its end


def test_the_command_gets_its_session_in_its_environment(world):
    code = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('BSESS_')}))"
    seen = json.loads(run_python(world, code).out)
    assert {key: seen[key] for key in ("BSESS_PROVIDER", "BSESS_PROFILE")} == {
        "BSESS_PROVIDER": "local",
        "BSESS_PROFILE": "local",
    }
    assert len(seen["BSESS_SESSION_ID"]) == 16
    assert seen["BSESS_CONNECT_URL"].startswith("ws://127.0.0.1:")


def test_devtools_answers_at_the_connect_url_that_the_command_gets(any_world):
    code = (
        "import os, urllib.parse, urllib.request as r; u = urllib.parse.urlsplit(os.environ['BSESS_CONNECT_URL']);"
        "print(r.urlopen(f'http://{u.netloc}/json/version').read().decode())"
    )
    ended = any_world.run("run", "--", "/usr/bin/python3", "-c", code)
    assert "webSocketDebuggerUrl" in ended.json


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
    ids=["success", "exit-7", "exception", "SIGKILL", "SIGTERM"],
)
def test_the_code_is_the_commands_and_nothing_is_left(world, code, expected):
    assert run_python(world, code).code == expected
    world.assert_nothing_left()
    assert world.rows() == []


def test_stdout_is_the_commands_alone(world):
    assert run_python(world, "print('mine')").out == "mine\n"


def test_stdin_is_the_commands(world):
    assert run_python(world, "print(input().upper())", stdin="word\n").out == "WORD\n"


def test_arguments_after_the_dashes_are_the_commands(world):
    assert world.run("run", "--", "echo", "-o", "json", "--", "x").out == "-o json -- x\n"


def test_a_run_leaves_a_browser_that_the_command_has_closed_at_that(world):
    ended = world.run("run", "--", "sh", "-c", f'{world.program[0]} close "$BSESS_SESSION_ID"')
    assert ended.code == 0, ended.err
    world.assert_nothing_left()


# ---- what cannot run


def test_a_command_that_is_nowhere_is_127_and_no_session_is_made(world):
    assert world.run("run", "--", "no-such-command").code == 127
    assert world.ok("history").out == ""


def test_a_command_that_may_not_be_executed_is_126(world):
    file = world.folder / "plain"
    file.write_text("x")
    assert world.run("run", "--", str(file)).code == 126


def test_a_command_that_cannot_be_executed_is_126_and_nothing_is_left(world):
    file = world.folder / "broken"
    file.write_text("#!/no/such/interpreter\n")
    file.chmod(0o755)
    assert world.run("run", "--", str(file)).code == 126
    world.assert_nothing_left()


def test_a_create_that_fails_is_125_and_the_command_is_not_run(world):
    witness = world.folder / "witness"
    ended = world.run("run", "--executable", "/bin/false", "--", "touch", str(witness))
    assert (ended.code, witness.exists()) == (125, False)
    world.assert_nothing_left()
    assert world.rows() == []


# ---- signals

# A command that says when it is ready, writes down each signal that comes, and ends at the first with 40 + its number,
# a moment later: time enough for a second one, if there were one.
COUNTING = """
import os, signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: seen.append(number))
open("ready", "w").close()
while not seen:
    time.sleep(0.01)
time.sleep(0.3)
with open("seen.new", "w") as file:
    file.write(" ".join(map(str, seen)))
os.rename("seen.new", "seen")
sys.exit(40 + seen[0])
"""
STUBBORN = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
open("ready", "w").close()
while True:
    time.sleep(60)
"""


@contextlib.contextmanager
def running(world, code, *options):
    """Start a command under `bsess run`; come back once it is ready, and see that bsess ends."""
    process = world.start("run", *options, "--", PYTHON, "-c", code)
    with process:
        try:
            assert wait_for((world.folder / "ready").exists, 20), process.poll()
            yield process
            process.communicate(timeout=20)
        finally:
            process.kill()


EACH_SIGNAL = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
EACH_WAY = pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to-bsess", "to-its-group"])


@EACH_SIGNAL
@EACH_WAY
def test_a_signal_reaches_the_command_once_and_its_code_comes_back_and_nothing_is_left(world, signum, send):
    with running(world, COUNTING) as process:
        send(process.pid, signum)
    assert (world.folder / "seen").read_text() == str(int(signum))
    assert process.returncode == 40 + signum
    world.assert_nothing_left(within=1)


def test_a_command_that_does_not_obey_is_killed_after_the_grace_and_nothing_is_left(world):
    with running(world, STUBBORN, "--grace", "1s") as process:
        process.terminate()
    assert process.returncode == 137
    world.assert_nothing_left(within=1)


def test_a_second_signal_kills_a_command_that_does_not_obey(world):
    with running(world, STUBBORN, "--grace", "60s") as process:
        process.terminate()
        assert wait_for(lambda: not pending(process.pid, signal.SIGTERM), 5)
        process.terminate()
    assert process.returncode == 137
    world.assert_nothing_left(within=1)


def pending(pid, signum):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    waiting = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))
    return bool(waiting >> (signum - 1) & 1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_while_its_browser_starts_leaves_nothing(world, signum):
    slow = world.folder / "slow"
    slow.write_text(f"#!/bin/sh\ntouch {world.folder}/begun\nexec sleep 300\n")
    slow.chmod(0o755)
    with world.start("run", "--executable", str(slow), "--", "true") as process:
        assert wait_for((world.folder / "begun").exists, 20)
        process.send_signal(signum)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signum
    world.assert_nothing_left(within=1)
    assert world.rows() == []


def test_a_sweep_ends_the_browser_of_a_run_that_was_killed(any_world):
    line = f"echo $$ > {any_world.folder}/ready; exec sleep 300 >/dev/null 2>&1"
    process = any_world.start("run", "--", "sh", "-c", line)
    ready = any_world.folder / "ready"
    assert wait_for(lambda: ready.exists() and ready.read_text().endswith("\n"), 20)
    command = int(ready.read_text())
    run = parent_of(command)
    try:
        os.kill(run, signal.SIGKILL)
        process.communicate(timeout=20)
        any_world.ok("sweep", "--yes")
        any_world.assert_nothing_left()
        assert any_world.rows() == []
    finally:
        os.kill(command, signal.SIGKILL)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# ---- what the ledger knows meanwhile


def test_a_run_holds_a_lease_while_its_command_lives(world):
    with running(world, COUNTING) as process:
        leases = [row["lease_until"] - time.time() for row in world.rows()]
        process.terminate()
    assert [0 < lease <= 120 for lease in leases] == [True]


def test_a_sweep_spares_the_session_of_a_run(world):
    with running(world, COUNTING) as process:
        decisions = world.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "0s", "-o", "json").json["data"]
        process.terminate()
    assert [(d["decision"], d["reason"]) for d in decisions["decisions"]] == [("spare", "its owner process lives")]
    assert process.returncode == 40 + signal.SIGTERM


def test_a_run_warns_when_a_tenth_of_its_ttl_is_left(world):
    ended = run_python(world, "import time; time.sleep(2)", "--ttl", "2s")
    assert "when its ttl passes" in ended.err
    assert ended.code == 0


# ---- a real terminal


class Terminal:
    """A shell's place: bsess in the foreground of a terminal, whose keys this test presses."""

    def __init__(self, world, *arguments):
        self._handle, there = pty.openpty()
        command = ["setsid", "--ctty", *world.program, *arguments]  # becomes bsess, its pid stays
        self.process = subprocess.Popen(
            command, env=world.env, cwd=world.folder, stdin=there, stdout=there, stderr=there
        )
        os.close(there)
        self.shown = b""

    @property
    def code(self):
        return self.process.returncode

    def press(self, keys):
        os.write(self._handle, keys)

    def hang_up(self):
        os.close(self._handle)
        self._handle = None

    def ended(self):
        with contextlib.suppress(OSError):  # nobody is on the other side any more
            while self._handle is not None and select.select([self._handle], [], [], 0)[0]:
                self.shown += os.read(self._handle, 65536)
        return self.process.poll() is not None

    def leave(self):
        self.process.kill()
        self.process.wait()
        if self._handle is not None:
            self.hang_up()


@pytest.fixture
def terminal(world):
    opened = []

    def run(code, *options):
        opened.append(Terminal(world, "run", *options, "--", PYTHON, "-c", code))
        return opened[0]

    yield run
    for each in opened:
        each.leave()


@pytest.fixture
def counting(world, terminal):
    begun = terminal(COUNTING)
    assert wait_for(lambda: (world.folder / "ready").exists() or begun.ended(), 20)
    return begun


def test_ctrl_c_reaches_the_command_once_and_its_code_comes_back_and_nothing_is_left(world, counting):
    counting.press(b"\x03")
    assert wait_for(counting.ended, 20)
    assert (world.folder / "seen").read_text() == str(int(signal.SIGINT))
    assert counting.code == 40 + signal.SIGINT
    world.assert_nothing_left(within=1)


def test_a_command_that_lives_through_ctrl_c_is_not_killed(world, terminal):
    code = "import signal; signal.signal(2, lambda *_: print('still here')); open('ready', 'w').close(); input()"
    begun = terminal(code)
    assert wait_for(lambda: (world.folder / "ready").exists() or begun.ended(), 20)
    begun.press(b"\x03")
    assert wait_for(lambda: begun.ended() or b"still here" in begun.shown, 10)
    begun.press(b"\n")
    assert wait_for(begun.ended, 20)
    assert begun.code == 0, begun.shown


def test_a_terminal_that_is_closed_leaves_nothing(world, counting):
    counting.hang_up()
    assert wait_for((world.folder / "seen").exists, 20)
    world.assert_nothing_left(within=5)


def test_a_hangup_of_the_terminal_reaches_the_command_once(world, counting):
    counting.hang_up()
    assert wait_for((world.folder / "seen").exists, 20)
    assert (world.folder / "seen").read_text() == str(int(signal.SIGHUP))


def test_sigterm_to_bsess_on_a_terminal_reaches_the_command_once(world, counting):
    counting.process.terminate()
    assert wait_for(counting.ended, 20)
    assert (world.folder / "seen").read_text() == str(int(signal.SIGTERM))
    world.assert_nothing_left(within=1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_job_on_a_terminal_ends_it_and_its_session(world, counting, signum):
    os.killpg(counting.process.pid, signum)  # as a shell does whose window is closed
    assert wait_for(counting.ended, 20)
    assert (world.folder / "seen").read_text().split()[0] == str(int(signum))
    world.assert_nothing_left(within=1)


def test_what_follows_in_a_pipeline_keeps_the_terminal(world):
    # A pager reads its keys from the terminal while it shares our process group.
    line = f"{world.program[0]} run -- echo from-the-command | {{ read key </dev/tty; cat; echo key=$key; }}"
    opened = Terminal(World(world.folder, ["sh"], world.uid, world.variables), "-c", line)
    try:
        opened.press(b"q\n")
        assert wait_for(opened.ended, 20), opened.shown
        assert b"from-the-command" in opened.shown
        assert b"key=q" in opened.shown
    finally:
        opened.leave()


def test_the_command_reads_the_terminal(world, terminal):
    begun = terminal("open('ready', 'w').close(); print('got', input())")
    assert wait_for(lambda: (world.folder / "ready").exists() or begun.ended(), 20)
    begun.press(b"a line\n")
    assert wait_for(begun.ended, 20)
    assert b"got a line" in begun.shown


def test_a_state_folder_that_is_deleted_meanwhile_leaves_no_browser(world):
    world.run("run", "--", "rm", "-rf", str(world.state))
    assert wait_for(lambda: not world.processes(), 15), world.processes()
