"""kill -9 at every step: one sweep later nothing of it is left, and nobody else has noticed."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

import strangers
from worlds import end_world, leads_a_session, make_world, wait_for

KILLING = Path(__file__).parent / "killing"

# Until its answer is out, a create's session is nobody's: its maker is gone and nobody was told.
CREATE = [
    "call:Maker.make",
    "return:Maker._intent",
    "call:SqliteLedger.intend",
    "c_return:execute@SqliteLedger.intend#2",
    "return:SqliteLedger.intend",
    "call:LocalProvider.create",
    "return:Path.mkdir@LocalProvider.create#1",
    "call:_write_marker",
    "c_return:open@_write_marker",
    "return:dump@_write_marker",
    "return:_write_marker",
    "return:Path.mkdir@LocalProvider.create#2",
    "return:Path.mkdir@LocalProvider.create#3",
    "call:LocalProvider._start",
    "c_return:fork_exec@Popen._execute_child",
    "return:Popen.__init__@launch",
    "c_return:write@launch",
    "call:_read_answer",
    "return:_read_answer",
    "return:LocalProvider.create",
    "call:SqliteLedger.change",
    "c_return:execute@SqliteLedger._change",
    "return:SqliteLedger.change",
    "return:create",
    "call:Renderer.render",
    "return:Renderer.render",
]
# From here on it is in use for all that anybody can know, until its ttl passes.
CREATED = ["return:deliver"]
CLOSE_FORCED = [
    "return:_claim",
    "call:LocalProvider.close",
    "call:kill_members",
    "c_return:pidfd_send_signal",
    "return:kill_members",
    "call:remove",
    "c_return:rmdir@_removed",
    "c_return:unlink@_removed",
    "return:remove",
    "return:LocalProvider.close",
    "call:_settle",
    "c_return:execute@SqliteLedger._change#2",
    "return:_settle",
    "call:Renderer.render",
]
CLOSE_GENTLE = [
    "call:LocalProvider._end_gently",
    "call:send",
    "return:send",
    "call:wait_gone",
    "return:wait_gone",
    "return:LocalProvider._end_gently",
    "call:remove",
    "call:_settle",
]
SWEEP = [
    "call:select",
    "return:select#2",
    "return:lock",
    "call:act",
    "return:_claim",
    "call:kill_members",
    "c_return:pidfd_send_signal",
    "call:_removed",
    "return:LocalProvider.close",
    "return:_settle",
    "return:act",
    "call:Renderer.render",
]


class Neighbourhood:
    """A world with three who are not to notice: a session of mine, another owner's, and a stranger's browser."""

    def __init__(self, world, stranger):
        self.world = world
        self.stranger = stranger
        self.mine = self.world.create()
        self.other = self.world.create(env={"BSESS_OWNER": "somebody-else"})
        self.known = {self.mine["id"], self.other["id"]}

    def leftovers(self):
        """What is there beside the three: processes, folders, open rows."""
        return (
            [process for process in self.world.processes() if not self._is_neighbours(process[0])],
            [name for name in self.world.folders() if name not in self.known],
            [(row["state"], row["id"]) for row in self.world.rows() if row["id"] not in self.known],
        )

    def _is_neighbours(self, pid):
        try:
            borne = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            return True  # gone since it was seen
        return any(name.encode() in borne for name in self.known)

    def killed(self, point, *arguments):
        """Run bsess and see it die at that point."""
        ended = self.world.run(*arguments, env={"PYTHONPATH": str(KILLING), "KILL_AT": point})
        assert ended.code == -signal.SIGKILL, f"never came to {point}: {ended}"
        return ended

    def assert_one_sweep_clears_it(self):
        swept = self.world.run("sweep", "--yes", "-o", "json")
        assert swept.code == 0, swept
        assert wait_for(lambda: not any(self.leftovers()), 2), self.leftovers()
        self.assert_neighbours_live()

    def assert_neighbours_live(self):
        living = {session["id"]: session["status"] for session in self.world.ok("list", "-o", "json").sessions}
        assert {living.get(self.mine["id"]), living.get(self.other["id"])} == {"running"}
        assert self.stranger.poll() is None

    def orphan(self):
        """Make a session whose owner process is gone."""
        with strangers.a_process() as owner:
            return self.world.create("--owner-pid", str(owner.pid))


@pytest.fixture(scope="module")
def shared(executable):
    world = make_world([executable], os.geteuid())
    with strangers.a_browser() as stranger:
        yield Neighbourhood(world, stranger)
    end_world(world)


@pytest.fixture
def neighbourhood(shared):
    """The shared one; what a failed test left in it is ended, so that the next fails for its own reasons only."""
    yield shared
    for pid, _ in shared.leftovers()[0]:
        os.kill(pid, signal.SIGKILL)
    for name in shared.leftovers()[1]:
        shutil.rmtree(shared.world.state / "local" / name)
    if any(shared.leftovers()):
        shared.world.run("sweep", "--yes")


@pytest.mark.parametrize("point", CREATE)
def test_one_sweep_clears_a_create_killed_at(neighbourhood, point):
    neighbourhood.killed(point, "create")
    neighbourhood.assert_one_sweep_clears_it()


@pytest.mark.parametrize("point", CREATED)
def test_a_create_killed_once_its_row_is_open_is_known_and_ends_with_its_ttl(neighbourhood, point):
    neighbourhood.killed(point, "create", "--label", "victim=yes", "--ttl", "2s")
    sessions = neighbourhood.world.ok("list", "--mine", "--label", "victim=yes", "-o", "json").sessions
    assert [session["status"] for session in sessions] == ["running"]
    assert wait_for(lambda: not any(neighbourhood.leftovers()[:2]), 10), neighbourhood.leftovers()
    neighbourhood.assert_one_sweep_clears_it()


def test_one_sweep_clears_three_creates_at_once_killed_in_the_middle(neighbourhood):
    neighbourhood.killed("return:_read_answer", "create", "--count", "3")
    neighbourhood.assert_one_sweep_clears_it()


@pytest.mark.parametrize("point", CLOSE_FORCED)
def test_one_sweep_clears_a_forced_close_killed_at(neighbourhood, point):
    neighbourhood.killed(point, "close", neighbourhood.world.create()["id"], "--force")
    neighbourhood.assert_one_sweep_clears_it()


@pytest.mark.parametrize("point", CLOSE_GENTLE)
def test_one_sweep_clears_a_gentle_close_killed_at(neighbourhood, point):
    neighbourhood.killed(point, "close", neighbourhood.world.create()["id"])
    neighbourhood.assert_one_sweep_clears_it()


@pytest.mark.parametrize("point", SWEEP)
def test_a_second_sweep_clears_what_one_was_ending_when_killed_at(neighbourhood, point):
    neighbourhood.orphan()
    neighbourhood.killed(point, "sweep", "--yes")
    neighbourhood.assert_one_sweep_clears_it()


@pytest.mark.parametrize("point", ["return:_Child.__init__", "call:_attend", "call:_end", "return:close_one"])
def test_one_sweep_clears_a_run_killed_at(neighbourhood, point):
    neighbourhood.killed(point, "run", "--", "true")
    neighbourhood.assert_one_sweep_clears_it()


def test_a_close_killed_before_its_claim_has_changed_nothing(neighbourhood):
    made = neighbourhood.world.create()
    neighbourhood.killed("call:_claim", "close", made["id"], "--force")
    sessions = {session["id"]: session["status"] for session in neighbourhood.world.ok("list", "-o", "json").sessions}
    assert sessions[made["id"]] == "running"
    neighbourhood.world.ok("close", made["id"], "--force")


class Browser:
    """A script in a browser's place that lets a moment of its life last; `reached` appears when it has come."""

    def __init__(self, world):
        self.reached = world.folder / "reached"
        self._path = world.folder / "browser"
        self.reached.unlink(missing_ok=True)

    def that_never_starts(self):
        return self._write(f"touch {self.reached}; exec sleep 300")

    def that_never_tells_its_port(self):
        return self._write(
            "for word; do case $word in --user-data-dir=*) data=${word#*=};; esac; done",
            'mkdir "$data/DevToolsActivePort"',
            f'{strangers.CHROMIUM} "$@" &',
            'until [ -L "$data/SingletonLock" ]; do sleep 0.02; done',
            f"touch {self.reached}",
            "wait",
        )

    def that_does_not_obey(self):
        return self._write(
            f"trap 'touch {self.reached}' TERM", f'{strangers.CHROMIUM} "$@" &', "while :; do wait; sleep 0.1; done"
        )

    def _write(self, *lines):
        self._path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        self._path.chmod(0o755)
        return str(self._path)


@pytest.fixture
def browser(neighbourhood):
    return Browser(neighbourhood.world)


def the_holder(neighbourhood):
    """The pid of the one holder that is none of the neighbours', once it has detached itself."""
    found = []

    def is_there():
        holders = [pid for pid, line in neighbourhood.leftovers()[0] if "holder/browser.py" in line]
        found[:] = [pid for pid in holders if leads_a_session(pid)]
        return found

    assert wait_for(is_there, 10)
    return found[0]


def is_stopped(process):
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


# The holder is killed alone, so that bsess has to see it, or together with the bsess that waits for it.
WHO = pytest.mark.parametrize("asker_too", [False, True], ids=["alone", "with-bsess"])


def kill_holder(neighbourhood, creating, *, asker_too):
    holder = the_holder(neighbourhood)
    if asker_too:
        creating.kill()
    os.kill(holder, signal.SIGKILL)
    if not asker_too:
        creating.send_signal(signal.SIGCONT)
    _, told = creating.communicate(timeout=30)
    assert creating.returncode == (-signal.SIGKILL if asker_too else 1)
    assert asker_too or "holder" in told


@WHO
def test_one_sweep_clears_a_create_whose_holder_was_killed_before_it_had_its_order(neighbourhood, asker_too):
    point = "return:Popen.__init__@launch"
    stopping = {"PYTHONPATH": str(KILLING), "KILL_AT": point, "KILL_WITH": "SIGSTOP"}
    creating = neighbourhood.world.start("create", env=stopping)
    assert wait_for(lambda: is_stopped(creating), 10)
    kill_holder(neighbourhood, creating, asker_too=asker_too)
    neighbourhood.assert_one_sweep_clears_it()


@WHO
def test_one_sweep_clears_a_create_whose_holder_was_killed_before_the_browser_began(neighbourhood, browser, asker_too):
    creating = neighbourhood.world.start("create", "--executable", browser.that_never_starts())
    assert wait_for(browser.reached.exists, 10)
    kill_holder(neighbourhood, creating, asker_too=asker_too)
    neighbourhood.assert_one_sweep_clears_it()


@WHO
def test_one_sweep_clears_a_create_whose_holder_was_killed_before_devtools_answered(neighbourhood, browser, asker_too):
    creating = neighbourhood.world.start("create", "--executable", browser.that_never_tells_its_port())
    assert wait_for(browser.reached.exists, 10)
    kill_holder(neighbourhood, creating, asker_too=asker_too)
    neighbourhood.assert_one_sweep_clears_it()


@WHO
def test_one_sweep_clears_a_create_whose_holder_was_killed_when_it_had_answered(neighbourhood, asker_too):
    stopping = {"PYTHONPATH": str(KILLING), "KILL_AT": "return:_read_answer", "KILL_WITH": "SIGSTOP"}
    creating = neighbourhood.world.start("create", env=stopping)
    assert wait_for(lambda: is_stopped(creating), 10)
    holder = the_holder(neighbourhood)
    os.kill(holder, signal.SIGKILL)
    creating.send_signal(signal.SIGKILL if asker_too else signal.SIGCONT)
    creating.communicate(timeout=30)
    neighbourhood.assert_one_sweep_clears_it()


def test_one_sweep_clears_a_session_whose_holder_was_killed_while_it_waited_for_the_end(neighbourhood, browser):
    neighbourhood.world.create("--executable", browser.that_does_not_obey())
    holder = the_holder(neighbourhood)
    os.kill(holder, signal.SIGTERM)
    assert wait_for(browser.reached.exists, 10)
    os.kill(holder, signal.SIGKILL)
    neighbourhood.assert_one_sweep_clears_it()


def test_one_sweep_clears_a_session_whose_holder_was_killed_while_it_deleted_the_folder(neighbourhood):
    made = neighbourhood.world.create()
    folder = neighbourhood.world.state / "local" / made["id"]
    many = folder / "data" / "many"
    many.mkdir()
    for number in range(20_000):
        (many / str(number)).touch()
    holder = the_holder(neighbourhood)
    os.kill(holder, signal.SIGTERM)
    assert wait_for(lambda: sum(1 for _ in many.iterdir()) < 20_000, 10)
    os.kill(holder, signal.SIGKILL)
    assert (folder / "session.json").exists(), "the mark goes last"
    neighbourhood.assert_one_sweep_clears_it()
