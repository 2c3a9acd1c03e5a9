"""Chromium on this machine: what is ours ends wholly and in time, what is not is never touched."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

import strangers
from clients import connect
from worlds import World, end_world, wait_for

SOMEBODY_ELSE = {"BSESS_OWNER": "somebody-else"}
UNKNOWN_ID = "abcdefghijklmnop"


def record_of(world, made):
    """What the holder wrote about a session's processes."""
    return json.loads((folder_of(world, made) / "browser.json").read_text())


def folder_of(world, made):
    return world.state / "local" / made["id"]


def listed(world, *arguments, **settings):
    return [session["id"] for session in world.ok("list", "-o", "json", *arguments, **settings).sessions]


def history(world):
    return [(event["id"], event["event"]) for event in world.ok("history", "-o", "json").json["data"]["events"]]


# ---- a client


@pytest.fixture
def page_url():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<title>here it is</title>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("force", "seconds"), [((), 5.0), (("--force",), 1.0)], ids=["gently", "forced"])
def test_playwright_reads_a_page_and_a_close_leaves_nothing_though_it_is_attached(any_world, page_url, force, seconds):
    made = any_world.create()
    with sync_playwright() as playwright:
        browser = connect(playwright, made["connect_url"])
        page = browser.new_page()
        page.goto(page_url, timeout=120_000)
        assert page.title() == "here it is"
        any_world.ok("close", made["id"], *force)
    any_world.assert_nothing_left(within=seconds)


def test_a_forced_close_returns_when_nothing_is_left(any_world):
    any_world.ok("close", any_world.create()["id"], "--force")
    any_world.assert_nothing_left(within=0)


def test_a_close_returns_when_nothing_is_left(any_world):
    any_world.ok("close", any_world.create()["id"])
    any_world.assert_nothing_left(within=0)


def test_a_forced_close_ends_a_browser_that_hangs(world):
    made = world.create()
    os.kill(record_of(world, made)["pid"], signal.SIGSTOP)
    world.ok("close", made["id"], "--force")
    world.assert_nothing_left(within=1)


# ---- its time


def test_a_ttl_that_passes_ends_the_session_while_no_bsess_runs(any_world):
    any_world.create("--ttl", "5s")
    any_world.assert_nothing_left(within=10)


@pytest.fixture
def expired(world):
    made = world.create("--ttl", "1s")
    world.assert_nothing_left(within=10)
    return made


def test_list_says_that_a_ttl_has_passed(world, expired):
    ended = world.ok("list")
    assert (ended.out, f"{expired['id']} has ended: ttl passed" in ended.err) == ("", True)


def test_history_knows_the_end_of_a_session_whose_ttl_passed(world, expired):
    world.ok("list")
    assert history(world) == [(expired["id"], "created"), (expired["id"], "ended")]


# ---- what is not ours


def test_a_browser_that_bsess_did_not_start_is_never_seen_or_ended(world):
    with strangers.a_browser() as browser:
        mine = world.create()
        assert listed(world) == [mine["id"]]
        world.ok("close", "--all", "--yes", "--force")
        world.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "0s")
        assert browser.poll() is None


CLEARING = pytest.mark.parametrize(
    "clear",
    [("close", "ID"), ("close", "ID", "--force"), ("sweep", "--yes")],
    ids=["close", "close-force", "sweep"],
)


def forge(world, made, **fields):
    """Make the record of a session name other processes than its own."""
    path = folder_of(world, made) / "browser.json"
    path.write_text(json.dumps({**record_of(world, made), **fields}))


@CLEARING
@pytest.mark.parametrize("other", [{"start": "1"}, {"boot": "another-boot"}], ids=["later", "after-a-reboot"])
def test_a_process_that_got_the_pid_of_a_browser_is_never_signalled(world, clear, other):
    made = world.create()
    with strangers.a_process() as process:
        forge(world, made, **{"pid": process.pid, "start": strangers.start_time(process.pid), **other})
        world.ok(*(made["id"] if word == "ID" else word for word in clear))
        world.assert_nothing_left()
        assert process.poll() is None


@CLEARING
def test_a_process_in_a_group_of_a_number_that_was_a_browsers_is_never_signalled(world, clear):
    made = world.create()
    with strangers.a_group_without_leader() as (number, start, member):
        forge(world, made, pid=number, start=start)
        world.ok(*(made["id"] if word == "ID" else word for word in clear))
        world.assert_nothing_left()
        assert strangers.is_running(member)


@CLEARING
def test_a_process_that_got_the_pid_of_a_holder_is_never_signalled(world, clear):
    made = create_orphan(world)
    with strangers.a_process() as process:
        forge(world, made, holder=process.pid, holder_start="1")
        world.ok(*(made["id"] if word == "ID" else word for word in clear))
        world.assert_nothing_left()
        assert process.poll() is None


@pytest.mark.parametrize("clear", [("close", UNKNOWN_ID), ("close", "--all", "--yes"), ("sweep", "--yes")])
def test_a_folder_that_bsess_did_not_mark_is_never_deleted(world, clear):
    world.ok("list")
    strange = world.state / "local" / UNKNOWN_ID / "thesis.tex"
    strange.parent.mkdir(parents=True)
    strange.touch()
    world.run(*clear)
    assert strange.exists()


@pytest.mark.parametrize("clear", [("close", UNKNOWN_ID), ("close", "--all", "--yes"), ("sweep", "--yes")])
def test_what_a_symlink_in_the_state_folder_leads_to_is_never_deleted(world, clear):
    made = world.create()
    elsewhere = world.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "session.json").write_bytes((folder_of(world, made) / "session.json").read_bytes())
    (world.state / "local" / UNKNOWN_ID).symlink_to(elsewhere)
    world.run(*clear)
    assert (elsewhere / "session.json").exists()


def test_what_a_symlink_among_a_browsers_files_leads_to_is_never_deleted(world):
    made = world.create()
    kept = world.folder / "elsewhere" / "kept"
    kept.parent.mkdir()
    kept.touch()
    (folder_of(world, made) / "data" / "link").symlink_to(kept.parent)
    world.ok("close", made["id"], "--force")
    assert kept.exists()


# ---- kill -9


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_browser_killed_by_somebody_is_cleared_up_by_its_holder(any_world):
    kill(record_of(any_world, any_world.create())["pid"])
    any_world.assert_nothing_left(within=5)


def test_list_says_that_a_browser_killed_by_somebody_has_ended(world):
    made = world.create()
    kill(record_of(world, made)["pid"])
    world.assert_nothing_left(within=5)
    assert f"{made['id']} has ended: ended by itself or by somebody else" in world.ok("list").err


HOLDER_DEAD = pytest.mark.parametrize("killed", [["holder"], ["holder", "pid"]], ids=["holder", "holder-and-browser"])


def without_holder(world, killed):
    made = world.create()
    record = record_of(world, made)
    kill(*(record[name] for name in killed))
    return made


@HOLDER_DEAD
def test_no_process_outlives_its_holder(any_world, killed):
    without_holder(any_world, killed)
    assert wait_for(lambda: not any_world.processes(), 5), any_world.processes()


@HOLDER_DEAD
def test_list_shows_no_session_whose_holder_was_killed_and_says_what_removes_its_files(world, killed):
    without_holder(world, killed)
    assert wait_for(lambda: not world.processes(), 5)
    ended = world.ok("list")
    assert (ended.out, "`bsess sweep` removes them" in ended.err) == ("", True)


@HOLDER_DEAD
def test_a_sweep_removes_what_a_killed_holder_left(any_world, killed):
    without_holder(any_world, killed)
    any_world.ok("sweep", "--yes")
    any_world.assert_nothing_left()
    assert any_world.rows() == []


# ---- many at once


def all_at_once(world, *commands, **settings):
    running = [world.start(*command, **settings) for command in commands]
    try:
        return [(*process.communicate(timeout=150), process.returncode) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_twenty_creates_at_once_and_then_twenty_closes_at_once_all_do_their_work(world):
    created = all_at_once(world, *[("create", "-o", "name", "--timeout", "120s")] * 20)
    closed = all_at_once(world, *(("close", out.strip()) for out, _, _ in created))
    assert [(code, err) for _, err, code in created + closed if code or "locked" in err] == []
    assert len({out for out, _, _ in created}) == 20
    assert world.rows() == []
    world.assert_nothing_left(within=1)


def test_one_of_two_closes_at_once_acts_and_the_other_says_already_closed(world):
    made = world.create()
    both = all_at_once(world, *[("close", made["id"], "-o", "json")] * 2)
    assert sorted(json.loads(out)["data"]["outcomes"][0]["outcome"] for out, _, _ in both) == [
        "already_closed",
        "closed",
    ]


# ---- pipes and owners


def shell(world, line, **settings):
    """Run a line of shell in which `bsess` is ours."""
    line = line.replace("bsess", shlex.join(world.program))
    return subprocess.run(
        ["sh", "-c", line], env=world.env, capture_output=True, text=True, timeout=60, check=False, **settings
    )


@pytest.mark.parametrize("count", [0, 1, 12])
def test_what_list_names_a_pipe_closes(world, count):
    if count:
        world.ok("create", "--count", str(count), "--timeout", "120s", timeout=150)
    piped = shell(world, "bsess list --mine -o name | bsess close -")
    assert (piped.returncode, len(piped.stdout.splitlines())) == (0, count), piped.stderr
    world.assert_nothing_left()


def test_an_id_from_a_pipe_that_is_somebody_elses_is_skipped_and_lives(world):
    made = world.create(env=SOMEBODY_ELSE)
    outcome = world.run("close", "-", "-o", "json", stdin=made["id"] + "\n").outcomes[0]
    assert (outcome["id"], outcome["outcome"]) == (made["id"], "skipped")
    assert listed(world, "--foreign") == [made["id"]]


@pytest.mark.parametrize(
    "clear",
    [
        ("close", "--all", "--yes", "--force"),
        ("sweep", "--yes"),
        ("sweep", "--yes", "--older-than", "1s", "--min-age", "0s"),
    ],
    ids=["close", "sweep", "sweep-by-age"],
)
def test_of_two_owners_in_one_state_folder_neither_ends_the_others(world, clear):
    theirs = world.create(env=SOMEBODY_ELSE)
    orphan = create_orphan(world, env=SOMEBODY_ELSE)
    world.create()
    wait_for(lambda: False, 1.1)  # until it is old enough for the sweep by age
    world.ok(*clear)
    assert {theirs["id"], orphan["id"]} <= set(listed(world, "--foreign"))


# ---- what a session costs and leaves


def test_a_holder_needs_at_most_15_megabytes(any_world):
    holder = record_of(any_world, any_world.create())["holder"]
    status = Path(f"/proc/{holder}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert kilobytes <= 15 * 1024


@dataclass
class DeepWorld(World):
    """A world whose state folder has a path too long for Chromium's socket to fit in."""

    @property
    def state(self):
        return self.folder / ("deep-" * 18)


@pytest.fixture(params=[World, DeepWorld], ids=["short-path", "long-path"])
def tidy_world(request, world):
    """A world with a TMPDIR of its own, so that what is left there is seen."""
    made = request.param(world.folder, world.program, world.uid, {"TMPDIR": str(world.folder / "tmp")})
    (made.folder / "tmp").mkdir()
    yield made
    end_world(made)


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["gently", "forced"])
def test_a_close_leaves_nothing_in_the_temporary_folder(tidy_world, force):
    tidy_world.ok("close", tidy_world.create()["id"], *force)
    assert list((tidy_world.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("killed", [["pid"], ["holder"]], ids=["browser", "holder"])
def test_a_sweep_after_kill_9_leaves_nothing_in_the_temporary_folder(tidy_world, killed):
    without_holder(tidy_world, killed)
    assert wait_for(lambda: not tidy_world.processes(), 5)
    tidy_world.ok("sweep", "--yes")
    assert list((tidy_world.folder / "tmp").iterdir()) == []


def test_a_forced_close_leaves_no_crash_folder_in_the_home(tidy_world):
    tidy_world.ok("close", tidy_world.create()["id"], "--force")
    assert not list((tidy_world.folder / "home").glob(".config/*"))


# ---- a create that is stopped


class Slow:
    """A browser that takes its time to start, and tells that it has begun by a file."""

    def __init__(self, world):
        self._folder = world.folder
        self.path = world.folder / "slow-browser"

    def make(self, rest):
        self.path.write_text(f"#!/bin/sh\ntouch {self._folder}/begun.$$\n{rest}\n")
        self.path.chmod(0o755)
        return str(self.path)

    def begun(self, count):
        return wait_for(lambda: len(list(self._folder.glob("begun.*"))) >= count, 20)


NEVER = "exec sleep 300"
LATE = f'sleep 1; exec {strangers.CHROMIUM} "$@"'
STOPPED_BY = pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)


@STOPPED_BY
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("rest", [NEVER, LATE], ids=["never-starts", "starts-late"])
def test_a_create_stopped_while_the_browser_starts_leaves_nothing(world, signum, code, count, rest):
    slow = Slow(world)
    creating = world.start("create", "--count", str(count), "--executable", slow.make(rest))
    assert slow.begun(count)
    creating.send_signal(signum)
    out, err = creating.communicate(timeout=30)
    assert (creating.returncode, out) == (code, ""), err
    world.assert_nothing_left(within=1)
    assert world.rows() == []


@STOPPED_BY
def test_a_create_stopped_while_some_of_its_browsers_are_not_begun_leaves_nothing(world, signum, code):
    world.ok("list")
    ledger = sqlite3.connect(world.state / "ledger.sqlite3", isolation_level=None)
    ledger.execute("BEGIN IMMEDIATE")  # the intents have to wait, and with them the browsers
    creating = world.start("create", "--count", "6")
    try:
        assert wait_for(lambda: threads(creating.pid) > 6, 20)
        creating.send_signal(signum)
    finally:
        ledger.execute("ROLLBACK")
        ledger.close()
    _, err = creating.communicate(timeout=60)
    assert creating.returncode == code, err
    world.assert_nothing_left(within=1)
    assert world.rows() == []


def threads(pid):
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def test_a_create_whose_browser_does_not_start_in_time_fails_and_leaves_nothing(world):
    ended = world.run("create", "--timeout", "1s", "--executable", Slow(world).make(NEVER))
    assert ended.code == 1
    world.assert_nothing_left(within=1)
    assert world.rows() == []


# ---- how many, and whose


def test_count_gives_so_many_different_sessions(world):
    made = world.ok("create", "--count", "3", "-o", "json").sessions
    assert sorted(session["id"] for session in made) == sorted(listed(world))
    assert len(made) == 3


def create_orphan(world, **settings):
    """Make a session whose owner process is gone."""
    with strangers.a_process() as owner:
        return world.create("--owner-pid", str(owner.pid), **settings)


def test_a_sweep_ends_a_session_whose_owner_process_is_gone(any_world):
    made = create_orphan(any_world)
    decisions = any_world.ok("sweep", "--yes", "-o", "json").json["data"]["decisions"]
    assert [(d["id"], d["decision"], d["reason"]) for d in decisions] == [
        (made["id"], "end", "its owner process is gone")
    ]
    any_world.assert_nothing_left()


def test_a_sweep_spares_a_session_whose_owner_process_lives(world):
    made = world.create("--owner-pid", str(os.getpid()))
    world.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "0s")
    assert listed(world) == [made["id"]]


# ---- adoption


def test_close_all_ends_what_was_adopted_from_another_owner(world):
    made = world.create(env=SOMEBODY_ELSE)
    world.ok("adopt", made["id"], "--foreign")
    closed = world.ok("close", "--all", "--yes", "-o", "json").outcomes
    assert [(outcome["id"], outcome["outcome"]) for outcome in closed] == [(made["id"], "closed")]
    world.assert_nothing_left()


def test_what_was_adopted_is_mine(world):
    made = world.create(env=SOMEBODY_ELSE)
    world.ok("adopt", made["id"], "--foreign")
    assert listed(world, "--mine") == [made["id"]]


def test_an_unknown_id_cannot_be_adopted(world):
    assert world.run("adopt", UNKNOWN_ID).code == 1


def test_a_session_that_has_ended_cannot_be_adopted(world):
    made = world.create(env=SOMEBODY_ELSE)
    world.ok("close", made["id"])
    assert world.run("adopt", made["id"]).code == 1


def test_a_browser_whose_marker_is_deleted_is_ended_by_its_close(world):
    made = world.create()
    (world.state / "local" / made["id"] / "session.json").unlink()
    assert world.ok("close", made["id"], "-o", "json").outcomes[0]["outcome"] == "closed"
    world.assert_nothing_left()


def test_a_browser_whose_marker_is_deleted_is_ended_by_its_holder(world):
    made = world.create()
    (world.state / "local" / made["id"] / "session.json").unlink()
    world.assert_nothing_left(within=15)


def test_a_terminal_that_goes_away_during_a_create_leaves_nothing(world):
    creating = world.start("create", "--count", "4", "--workers", "1")
    assert wait_for(world.folders, 20)
    creating.send_signal(signal.SIGHUP)
    creating.communicate(timeout=30)
    assert creating.returncode == 129
    world.assert_nothing_left(within=10)


def test_nothing_is_ended_by_what_lies_in_a_folder_that_others_can_write(world):
    made = world.create()
    world.state.chmod(0o777)
    ended = world.run("close", made["id"], "--force")
    assert ended.code == 1
    assert world.processes()
    world.state.chmod(0o700)
    world.ok("close", made["id"], "--force")
