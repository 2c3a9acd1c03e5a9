"""The ledger's promises: on disk before the provider is asked, closed without secrets, never replaced, never lost."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

import strangers
from bsess.closing.one import CLAIM_SECONDS, claimed_by_other
from bsess.context import identify, this_process
from bsess.errors import LedgerError
from bsess.ledger import Row, RowState, sqlite
from bsess.ledger.sqlite import FILE, SqliteLedger
from bsess.model import Event

CANARY = "ws://127.0.0.1:1/devtools/browser/canary-5f2b9c"


def row(key, **fields):
    now = time.time()
    required = {
        "provider": "local",
        "base_url": "local:",
        "account": "0",
        "profile": "local",
        "state": RowState.INTENT,
        "owner": "me",
        "created_at": now,
        "changed_at": now,
    }
    return Row(key, **{**required, **fields})


def event(name="closed", *, at=None, session_id="x"):
    return Event(time.time() if at is None else at, name, "close", session_id, "local", "local", "me")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def ledger(folder):
    opened = SqliteLedger(folder)
    yield opened
    opened.close()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and "lock" not in path.name}


# Files and folders


def test_its_folder_is_closed_to_others_and_so_is_each_file_whatever_the_umask(world):
    before = os.umask(0)
    try:
        world.create()
        inside = [world.state, *world.state.rglob("*")]
    finally:
        os.umask(before)
    ours = [path for path in inside if "/data/" not in f"{path}/" and "/t/" not in f"{path}/" and not path.is_symlink()]
    assert world.state / FILE in ours
    assert [str(path) for path in ours if mode(path) != (0o700 if path.is_dir() else 0o600)] == []
    world.ok("close", "--all", "--yes", "--force")


def test_a_ledger_that_was_opened_to_others_is_closed_again(folder, ledger):
    (folder / FILE).chmod(0o644)
    SqliteLedger(folder).close()
    assert mode(folder / FILE) == 0o600


@pytest.mark.parametrize("name", [FILE, "ledger.lock"])
def test_a_symlink_in_place_of_a_file_of_ours_is_not_followed(world, name):
    world.state.mkdir(mode=0o700)
    target = world.folder / "target"
    (world.state / name).symlink_to(target)
    ended = world.run("list")
    assert not target.exists()
    assert (world.state / name).is_symlink()
    assert ended.code == 1, ended.err


# What is no ledger


def foreign_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photo (name TEXT)")
    connection.commit()
    connection.close()


def other_application(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 42")
    connection.commit()
    connection.close()


def newer_schema(path):
    SqliteLedger(path.parent).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()


def cut_in_the_middle(path):
    filled = SqliteLedger(path.parent)
    filled.record(event() for _ in range(500))
    filled.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwritten_in_the_middle(path):
    filled = SqliteLedger(path.parent)
    for number in range(500):
        filled.intend(row(f"key{number}"))
    filled.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (path.stat().st_size - 4096))


BROKEN = {
    "garbage": lambda path: path.write_bytes(b"\x07" * 5000),
    "empty": lambda path: path.write_bytes(b""),
    "header only": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "cut in the middle": cut_in_the_middle,
    "overwritten in the middle": overwritten_in_the_middle,
    "foreign database": foreign_database,
    "other application": other_application,
    "newer schema": newer_schema,
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("command", [["create"], ["list"], ["sweep", "--yes"]])
def test_what_is_no_ledger_is_refused_naming_the_file_and_is_left_as_it_is(world, kind, command):
    world.state.mkdir(mode=0o700)
    BROKEN[kind](world.state / FILE)
    (world.state / FILE).chmod(0o600)
    before = everything_in(world.state)
    ended = world.run(*command)
    assert ended.code == 1, ended.err
    error, hint = ended.err.splitlines()
    assert str(world.state / FILE) in error
    assert "move it away" in hint or "upgrade bsess" in hint
    assert everything_in(world.state) == before
    assert not world.folders()


@pytest.mark.parametrize("kind", ["garbage", "empty", "newer schema"])
def test_a_close_by_id_warns_of_a_broken_ledger_and_goes_on(world, kind):
    made = world.create()
    for path in world.state.glob(f"{FILE}*"):
        path.unlink()
    BROKEN[kind](world.state / FILE)
    ended = world.run("close", made["id"], "-o", "json")
    assert [item["outcome"] for item in ended.outcomes] == ["closed"]
    assert ended.code == 0
    assert "warning: " in ended.err
    assert str(world.state / FILE) in ended.err
    world.assert_nothing_left()


def test_a_folder_in_place_of_the_ledger_is_refused(world):
    world.state.mkdir(mode=0o700)
    (world.state / FILE).mkdir()
    ended = world.run("list")
    assert ended.code == 1
    assert str(world.state / FILE) in ended.err


def test_a_ledger_that_another_holds_for_too_long_is_busy_and_not_damaged(folder, ledger, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(folder / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = SqliteLedger(folder)
    with pytest.raises(LedgerError) as caught:
        waiting.intend(row("key"))
    assert caught.value.code == "ledger_busy"
    other.close()
    waiting.close()


# Migrations


def test_each_version_of_the_schema_opens_as_the_newest_with_its_rows(folder, monkeypatch):
    monkeypatch.setattr(sqlite, "MIGRATIONS", sqlite.MIGRATIONS[:1])
    monkeypatch.setattr(sqlite, "SCHEMA", 1)
    old = SqliteLedger(folder)
    old.intend(row("key"))
    old.close()
    monkeypatch.undo()
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, "CREATE TABLE added (x INTEGER) STRICT;"))
    monkeypatch.setattr(sqlite, "SCHEMA", len(sqlite.MIGRATIONS))
    new = SqliteLedger(folder)
    assert [found.key for found in new.open_rows()] == ["key"]
    new.close()
    connection = sqlite3.connect(folder / FILE)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(sqlite.MIGRATIONS)
    assert connection.execute("SELECT count(*) FROM added").fetchone()[0] == 0
    connection.close()


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(folder, ledger, monkeypatch):
    ledger.intend(row("key"))
    ledger.close()
    monkeypatch.setattr(
        sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, "CREATE TABLE added (x); INSERT INTO nothing VALUES (1);")
    )
    monkeypatch.setattr(sqlite, "SCHEMA", len(sqlite.MIGRATIONS))
    with pytest.raises(LedgerError):
        SqliteLedger(folder)
    monkeypatch.undo()
    again = SqliteLedger(folder)
    assert [found.key for found in again.open_rows()] == ["key"]
    again.close()


def test_of_two_that_migrate_at_once_one_does(folder, ledger, monkeypatch):
    ledger.close()
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*sqlite.MIGRATIONS, "CREATE TABLE added (x INTEGER) STRICT;"))
    monkeypatch.setattr(sqlite, "SCHEMA", len(sqlite.MIGRATIONS))
    start, failures = threading.Barrier(8), []

    def open_it():
        start.wait()
        try:
            SqliteLedger(folder).close()
        except LedgerError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_ledger_cut_short_while_it_was_made_is_made_anew(folder):
    folder.mkdir(mode=0o700)
    (folder / f"{FILE}.new").write_bytes(b"half")
    made = SqliteLedger(folder)
    made.intend(row("key"))
    made.close()
    assert not (folder / f"{FILE}.new").exists()


# Rows


def test_a_row_comes_back_as_it_was_written(ledger):
    written = row(
        "key",
        id="an id with 'quotes' and \u202e",
        run="r",
        region="eu",
        labels={"a": "ä", "b": ""},
        expires_at=2.5,
        settled_by=3.5,
        creator=this_process(),
        owner_process=this_process(),
        lease_until=4.5,
        connect_url=CANARY,
    )
    ledger.intend(written)
    assert ledger.get("key") == written


def test_of_two_changes_to_one_version_the_first_wins(folder, ledger):
    ledger.intend(row("key"))
    other = SqliteLedger(folder)
    mine, theirs = ledger.get("key"), other.get("key")
    assert ledger.change(replace(mine, claim=this_process(), claimed_at=1.0)).version == 2
    assert other.change(replace(theirs, claim=this_process(), claimed_at=2.0), event=event()) is None
    assert ledger.get("key").claimed_at == 1.0
    assert ledger.events() == []
    other.close()


def test_of_many_claims_at_once_one_wins(folder, ledger):
    ledger.intend(row("key"))
    start, won = threading.Barrier(8), []

    def claim():
        own = SqliteLedger(folder)
        seen = own.get("key")
        start.wait()
        if own.change(replace(seen, claim=this_process())) is not None:
            won.append(1)
        own.close()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_claim_is_taken_over_only_from_the_dead_or_the_late():
    with strangers.a_process() as other:
        held = row("key", claim=identify(other.pid), claimed_at=100.0)
        assert claimed_by_other(held, 110.0)
        assert not claimed_by_other(held, 100.0 + CLAIM_SECONDS + 1)
        assert not claimed_by_other(row("key"), 110.0)
    assert not claimed_by_other(held, 110.0)


def test_a_renewed_lease_takes_nothing_from_a_change_under_way(ledger):
    ledger.intend(row("key", lease_until=1.0))
    seen = ledger.get("key")
    assert ledger.renew("key", 2.0)
    assert ledger.change(replace(seen, state=RowState.OPEN)) is not None


def test_a_closed_rows_lease_cannot_be_renewed(ledger):
    ledger.intend(row("key"))
    ledger.change(replace(ledger.get("key"), state=RowState.CLOSED))
    assert not ledger.renew("key", 2.0)


def test_a_prefix_is_text_and_its_case_counts(ledger):
    for key in ("abc%def", "ABC%DEF", "abcxdef"):
        ledger.intend(row(key, id=key))
    assert [found.key for found in ledger.find_prefix("abc%")] == ["abc%def"]


def test_a_closed_row_has_no_secret_and_neither_has_the_file(folder, ledger):
    for number in range(50):
        ledger.intend(row(f"key{number}"))
        opened = ledger.change(replace(ledger.get(f"key{number}"), state=RowState.OPEN, connect_url=CANARY))
        ledger.change(replace(opened, state=RowState.CLOSED), event=event())
    assert ledger.get("key0").connect_url is None
    ledger.close()
    connection = sqlite3.connect(folder / FILE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert {name for name, content in everything_in(folder).items() if b"canary" in content} == set()


def test_the_connect_url_of_a_closed_session_is_nowhere_in_the_state_folder(world):
    url = world.create()["connect_url"]
    assert any(url.encode() in content for content in everything_in(world.state).values())
    world.ok("close", "--all", "--yes", "--force")
    connection = sqlite3.connect(world.state / FILE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    secret = url.rpartition("/")[2].encode()
    assert [path for path in world.state.rglob("*") if path.is_file() and secret in path.read_bytes()] == []


# On disk, and with many at once


def test_the_intent_is_synced_before_the_browsers_holder_is_started(world):
    world.ok("list")  # the ledger is there: what is synced below is the intent
    trace = world.folder / "trace"
    command = ["strace", "-f", "-s", "200", "-y", "-e", "trace=execve,fsync,fdatasync,write,pwrite64", "-o", str(trace)]
    world.program = [*command, *world.program]
    world.run("create", "--executable", "/bin/false")
    lines = trace.read_text(errors="replace").splitlines()
    spawned = next(index for index, line in enumerate(lines) if "execve(" in line and "holder/browser.py" in line)
    written = [index for index, line in enumerate(lines[:spawned]) if f"{FILE}-wal>" in line and "pwrite64(" in line]
    synced = [index for index, line in enumerate(lines[:spawned]) if f"{FILE}-wal>" in line and "sync(" in line]
    assert written
    assert synced
    assert max(synced) > max(written)


WRITER = """
import sys, time
from pathlib import Path
from dataclasses import replace
from bsess.ledger import Row, RowState
from bsess.ledger.sqlite import SqliteLedger
from bsess.model import Event
sys.stdin.readline()
ledger = SqliteLedger(Path(sys.argv[1]))
now = time.time()
for number in range(50):
    key = f"{sys.argv[2]}-{number}"
    ledger.intend(Row(key, "local", "local:", "0", "local", RowState.INTENT, "me", now, now))
    row = ledger.get(key)
    event = Event(now, "created", "create", key, "local", "local", "me")
    assert ledger.change(replace(row, state=RowState.OPEN, id=key), event=event) is not None
ledger.close()
"""


def test_twenty_processes_at_once_lose_no_row(folder):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    for writer in writers:  # the ledger is made by whoever comes first
        writer.stdin.write("\n")
        writer.stdin.flush()
    failures = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [text for text in failures if text] == []
    found = SqliteLedger(folder)
    assert len(found.open_rows()) == len(found.events()) == 1000
    found.close()


def test_threads_share_one_ledger(ledger):
    failures = []

    def write(name):
        try:
            for number in range(20):
                ledger.intend(row(f"{name}-{number}"))
                ledger.change(replace(ledger.get(f"{name}-{number}"), state=RowState.OPEN))
        except Exception as error:  # noqa: BLE001  a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {found.state for found in ledger.open_rows()} == {RowState.OPEN}


def test_a_writer_killed_at_any_time_leaves_a_sound_ledger(folder):
    SqliteLedger(folder).close()
    for number in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(number)], stdin=subprocess.PIPE, text=True
        )
        writer.stdin.write("\n")
        writer.stdin.flush()
        deadline = time.monotonic() + 20
        reader = SqliteLedger(folder)
        while not any(found.key.startswith(f"{number}-") for found in reader.open_rows()):
            assert time.monotonic() < deadline
        writer.kill()
        writer.communicate()
        reader.close()
    connection = sqlite3.connect(folder / FILE)
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


# History


def test_history_is_oldest_first_and_a_limit_keeps_the_newest(ledger):
    ledger.record(event(at=float(number), session_id=str(number)) for number in range(1, 6))
    assert [found.id for found in ledger.events()] == ["1", "2", "3", "4", "5"]
    assert [found.id for found in ledger.events(limit=2)] == ["4", "5"]
    assert [found.id for found in ledger.events(since=3.0)] == ["3", "4", "5"]


def test_history_tells_what_was_created_closed_and_failed(world):
    made = world.create("--label", "a=b")
    world.ok("close", made["id"])
    world.run("create", "--executable", "/bin/false")
    events = world.ok("history", "-o", "json").json["data"]["events"]
    assert [found["event"] for found in events] == ["created", "closed", "failed"]
    assert [found["id"] for found in events[:2]] == [made["id"]] * 2
    assert "ended while it started" in events[2]["reason"]
    assert {found["command"] for found in events} == {"create", "close"}


def test_history_of_a_new_ledger_is_empty_and_no_failure(world):
    assert world.ok("history").out == ""


def test_a_new_ledger_is_made_only_by_who_needs_one(world):
    for command in (["config", "show"], ["config", "path"], ["--help"], ["list", "-h"], ["completion", "bash"]):
        world.ok(*command)
    assert not world.state.exists()
