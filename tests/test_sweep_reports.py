"""What a sweep leaves for machines: plans, reports, metrics, and exit codes that page somebody."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fake_browserbase import API_KEY, FakeBrowserbase
from loopback import send
from worlds import write_config


@pytest.fixture
def bb(world, base):
    """A world whose owner has one orphan, one in use, one protected, and a foreign neighbour."""
    world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BSESS_OWNER": "me"}
    write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n')
    world.orphan = orphan(base)
    world.kept = base.put(metadata={"bsess_owner": "me", "keep": ""}, age=7200, ttl=21_600)
    base.put(metadata={"bsess_owner": "she"}, age=7200, ttl=21_600)
    return world


def orphan(base, **more):
    return base.put(metadata={"bsess_owner": "me"}, **({"age": 7200, "ttl": 21_600} | more))


OLD = ["--older-than", "1h"]


def test_a_plan_is_written_and_nothing_ends(bb, base):
    file = bb.folder / "plan.json"
    bb.ok("sweep", *OLD, "--plan-out", str(file))
    plan = json.loads(file.read_text())
    assert [item["id"] for item in plan["sessions"]] == [bb.orphan]
    assert plan["schema"] == "bsess-plan/1"
    assert API_KEY not in file.read_text()
    assert len(base.running()) == 3


def test_a_plan_only_subtracts(bb, base):
    file = bb.folder / "plan.json"
    bb.ok("sweep", *OLD, "--plan-out", str(file))
    later = orphan(base)
    swept = bb.ok("sweep", *OLD, "--plan", str(file), "--yes", "-o", "json")
    assert [item["id"] for item in swept.outcomes] == [bb.orphan]
    assert later in base.running()


def test_a_planned_session_that_does_not_qualify_any_more_is_spared(bb, base):
    file = bb.folder / "plan.json"
    bb.ok("sweep", *OLD, "--plan-out", str(file))
    assert bb.ok("sweep", "--plan", str(file), "--yes", "-o", "json").outcomes == [], "the rules are those of now"
    assert len(base.running()) == 3


def test_another_session_of_a_planned_id_is_spared(bb, base):
    file = bb.folder / "plan.json"
    bb.ok("sweep", *OLD, "--plan-out", str(file))
    plan = json.loads(file.read_text())
    plan["sessions"][0]["created_at"] -= 60
    file.write_text(json.dumps(plan))
    assert bb.ok("sweep", *OLD, "--plan", str(file), "--yes", "-o", "json").outcomes == []


def test_no_plan_makes_a_sweep_end_what_is_foreign(bb, base):
    file = bb.folder / "plan.json"
    foreign = orphan(base)
    base.sessions[foreign]["userMetadata"] = {"bsess_owner": "she"}
    sessions = [{"id": name, "profile": "bb", "created_at": time.time() - 7200} for name in base.running()]
    file.write_text(json.dumps({"schema": "bsess-plan/1", "sessions": sessions}))
    bb.ok("sweep", *OLD, "--plan", str(file), "--yes")
    assert foreign in base.running()
    assert bb.kept in base.running()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": "other/1", "sessions": []}', '{"schema": "bsess-plan/1"}']
)
def test_what_is_no_plan_is_refused(bb, base, text):
    file = bb.folder / "plan.json"
    file.write_text(text)
    assert bb.run("sweep", "--plan", str(file), "--yes").code == 2
    assert base.requests == []


def test_fail_if_found_ends_nothing_and_exits_with_7(bb, base):
    ended = bb.run("sweep", *OLD, "--fail-if-found", "-o", "json")
    assert ended.code == 7
    assert ended.json["errors"][0]["code"] == "found"
    assert len(base.running()) == 3
    assert bb.ok("sweep", "--fail-if-found").code == 0


def test_a_report_is_the_json_document_whatever_is_shown(bb):
    file = bb.folder / "report.json"
    bb.ok("sweep", *OLD, "--yes", "--report", str(file))
    document = json.loads(file.read_text())
    assert document["schema"] == "bsess/1"
    assert [item["outcome"] for item in document["data"]["outcomes"]] == ["closed"]
    assert [item.name for item in bb.folder.glob("report*")] == ["report.json"]


def metrics(path):
    return {
        name: float(value)
        for name, value in re.findall(r"^bsess_sweep_(\w+) ([0-9.]+)$", path.read_text(), re.MULTILINE)
    }


def test_metrics_are_there_for_a_collector(bb):
    file = bb.folder / "bsess.prom"
    bb.ok("sweep", *OLD, "--yes", "--metrics", str(file))
    found = metrics(file)
    told = {name: found[name] for name in ("found", "closed", "stuck", "failed", "protected", "foreign", "exit_code")}
    assert told == {"found": 1, "closed": 1, "stuck": 0, "failed": 0, "protected": 1, "foreign": 1, "exit_code": 0}
    assert 7190 < found["oldest_age_seconds"] < 7400
    assert abs(found["last_success_timestamp_seconds"] - time.time()) < 60
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_time_of_the_last_success_outlives_a_failure(bb, base):
    file = bb.folder / "bsess.prom"
    bb.ok("sweep", "--metrics", str(file), "--yes")
    before = metrics(file)["last_success_timestamp_seconds"]
    base.misbehave["Sessions_update"] = 400
    assert bb.run("sweep", *OLD, "--yes", "--metrics", str(file)).code == 1
    assert metrics(file)["last_success_timestamp_seconds"] == before
    assert metrics(file)["failed"] == 1


@pytest.mark.parametrize("flag", ["--report", "--metrics", "--plan-out"])
def test_a_file_that_cannot_be_written_is_said(bb, flag):
    ended = bb.run("sweep", flag, "/no/such/folder/file", "--yes")
    assert ended.code == 1
    assert "/no/such/folder/file" in ended.err


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def test_a_second_sweep_ends_at_once_or_waits_as_it_was_told(bb):
    bb.ok("list")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(bb.state / "sweep.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert bb.run("sweep", *OLD, "--yes").code == 75
        assert bb.run("sweep", *OLD, "--yes", "--lock-wait", "1s").code == 75
        assert bb.run("sweep", *OLD, "--dry-run").code == 0, "a dry run needs no lock"
        waiting = bb.start("sweep", *OLD, "--yes", "--lock-wait", "60s")
        holder.communicate("\n")
        assert waiting.wait(30) == 0
        waiting.communicate()


def test_a_sweep_of_nothing_with_nothing_configured_is_one_line_and_0(world):
    ended = world.ok("sweep", "--yes")
    assert len((ended.out + ended.err).splitlines()) == 1


@pytest.mark.parametrize("ahead", [-300, 300])
def test_a_machine_whose_clock_is_off_ends_nothing_early_and_nothing_late(bb, base, ahead):
    # The service's clock differs from this machine's, as another machine's would.
    base.clock = lambda: time.time() + ahead
    base.sessions.clear()
    over, ends_soon = orphan(base, age=400, ttl=395), orphan(base, age=400, ttl=430)
    young = orphan(base, age=100, ttl=21_600)
    swept = bb.ok("sweep", "--older-than", "6m", "--yes", "-o", "json")
    decided = {item["id"]: (item["decision"], item["reason"].split()[0]) for item in swept.json["data"]["decisions"]}
    assert decided == {over: ("end", "ttl"), ends_soon: ("end", "older"), young: ("spare", "not")}
    assert base.running() == [young]
    (shown,) = bb.ok("list", "-p", "bb", "-o", "json").sessions
    assert 99 <= shown["age_seconds"] <= 120


def test_without_a_date_five_minutes_are_given(bb, base, monkeypatch):
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.send_response", send_response_without_a_date)
    base.sessions.clear()
    over, maybe = orphan(base, age=400, ttl=95), orphan(base, age=400, ttl=110)
    bb.ok("sweep", "--yes")
    assert base.running() == [maybe]
    assert base.sessions[over]["status"] == "COMPLETED"


def send_response_without_a_date(handler, status, message=None):
    handler.send_response_only(status, message)


def test_a_session_that_was_made_and_listed_by_one_machine_keeps_its_ttl_on_a_clock_that_is_off(bb, base):
    base.clock = lambda: time.time() - 300
    made = bb.create("--ttl", "2m")
    bb.ok("sweep", "--yes")
    assert made["id"] in base.running(), "by this machine's clock its ttl passed long ago"


def test_over_the_limit_it_is_told_what_would_end_and_what_is_the_limit(bb, base):
    file = bb.folder / "bsess.prom"
    ended = bb.run("sweep", *OLD, "--yes", "--max-close", "0", "--metrics", str(file), "-o", "json")
    assert ended.code == 7
    assert ended.json["errors"][0]["code"] == "max_close"
    assert [item["id"] for item in ended.json["data"]["decisions"] if item["decision"] == "end"] == [bb.orphan]
    assert ended.outcomes == []
    assert len(base.running()) == 3
    found = metrics(file)
    assert (found["found"], found["closed"], found["exit_code"]) == (1, 0, 7)


def test_where_it_looked_is_told(bb, base):
    swept = bb.ok("sweep", "--yes", "-o", "json")
    ledger = str(bb.state / "ledger.sqlite3")
    assert swept.json["data"]["scope"] == {"ledger": ledger, "profiles": ["bb", "local"], "missed": []}
    assert bb.ok("sweep", "--yes").err.startswith(f"looked at 3 sessions of bb, local (ledger {ledger}): ")


def test_a_bare_environment_that_looks_at_nothing_is_seen(bb, base):
    """What cron gives where nobody told it of the config and the token."""
    ended = bb.run("sweep", "--yes", env={"BSESS_CONFIG": "", "BROWSERBASE_API_KEY": "", "BSESS_OWNER": ""})
    assert ended.code == 0
    assert ended.err.startswith("looked at 0 sessions of local (ledger ")


def with_another(bb, url):
    text = bb.config.read_text()
    bb.config.write_text(f'{text}\n[profiles.other]\nprovider = "browserbase"\nurl = "{url}"\n')


def test_a_profile_that_is_down_stops_no_other(bb, base):
    with_another(bb, "http://127.0.0.1:9")
    swept = bb.run("sweep", *OLD, "--yes", "-o", "json", "--deadline", "60s")
    assert swept.code == 3
    assert [item["outcome"] for item in swept.outcomes] == ["closed"]
    assert [item["code"] for item in swept.json["data"]["errors"]] == ["unreachable"]
    assert swept.json["data"]["scope"]["profiles"] == ["bb", "local"]


def test_a_profile_that_cannot_be_resolved_stops_no_other(bb, base):
    text = bb.config.read_text()
    bb.config.write_text(
        f'{text}\n[profiles.other]\nprovider = "browserless"\nurl = "{base.url}"\ntoken_command = "false"\n'
    )
    swept = bb.run("sweep", *OLD, "--yes", "-o", "json")
    assert swept.code == 3
    assert [item["outcome"] for item in swept.outcomes] == ["closed"]
    assert len(swept.json["data"]["errors"]) == 1


def test_sessions_that_hang_at_one_provider_keep_no_other_waiting(bb, base):
    """Twenty closes that never answer, which are older and so come first, and one elsewhere."""
    answered = threading.Event()
    with contextlib.closing(FakeBrowserbase()) as other:
        with_another(bb, other.url)
        for _ in range(20):
            orphan(other, age=9000)
        other.misbehave["Sessions_update"] = lambda handler: answered.wait(30)
        swept = bb.run("sweep", *OLD, "--yes", "-o", "json", "--workers", "2", "--deadline", "5s")
        answered.set()
    outcomes = {item["id"]: item["outcome"] for item in swept.outcomes}
    assert outcomes.pop(bb.orphan) == "closed"
    assert set(outcomes.values()) <= {"unknown", "skipped"}
    assert "skipped" in outcomes.values(), "what the deadline did not let it reach"
    assert swept.code == 3


def test_a_listing_that_hangs_keeps_no_other_account_waiting_for_long(bb, base):
    """One that never answers takes half of the time, once; the rest is for the others."""
    answered = threading.Event()
    asked = []

    def hang(handler):
        asked.append(handler.path)
        answered.wait(30)

    with contextlib.closing(FakeBrowserbase()) as other:
        with_another(bb, other.url)
        other.misbehave["Sessions_list"] = hang
        swept = bb.run("sweep", *OLD, "--yes", "-o", "json", "--deadline", "6s")
        answered.set()
    assert swept.code == 3
    assert [item["outcome"] for item in swept.outcomes] == ["closed"]
    assert swept.json["data"]["scope"]["missed"] == ["other"]
    assert len(asked) == 1
    assert swept.json["data"]["errors"][0]["code"] in ("no_answer", "deadline")


def test_a_deadline_that_has_passed_is_called_one(bb, base):
    base.latency = 3
    ended = bb.run("sweep", *OLD, "--yes", "--deadline", "2s")
    assert "--deadline" in ended.err
    assert "asks to wait" not in ended.err


def test_what_is_adopted_while_a_sweep_asks_is_left_alone(bb, base):
    """The longest race: a sweep chose a session, and somebody prolongs it before it is reached."""
    made = bb.create("--ttl", "60s")
    later = time.time() + 600
    base.clock = lambda: later
    started = threading.Event()

    def hold(handler):
        started.set()
        time.sleep(1.0)
        send(handler, 500, b"{}")

    base.misbehave["Sessions_update"] = hold
    sweeping = bb.start("sweep", "--yes", "--older-than", "1m", "--workers", "1", "-o", "json")
    assert started.wait(30)
    base.misbehave.clear()
    with sqlite3.connect(bb.state / "ledger.sqlite3") as ledger:
        ledger.execute(
            "UPDATE session SET expires_at = ?, version = version + 1 WHERE id = ?", (later + 900, made["id"])
        )
    out, _ = sweeping.communicate(timeout=60)
    outcomes = {item["id"]: (item["outcome"], item["reason"]) for item in json.loads(out)["data"]["outcomes"]}
    assert outcomes[made["id"]] == ("skipped", "it was changed after it was chosen")
    assert made["id"] in base.running()


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        (["--region", "eu-central-1"], "regional"),
        (["--region", "mars"], None),
        (["--label", "job=7"], "labelled"),
        (["--label", "job=8"], None),
        (["--run-id", "r7"], "of_run"),
        (["--run-id", "r8"], None),
        (["-p", "local"], None),
    ],
)
def test_a_sweep_is_narrowed_to_what_was_asked_for(bb, base, flags, chosen):
    made = {
        "regional": orphan(base, region="eu-central-1"),
        "labelled": base.put(metadata={"bsess_owner": "me", "job": "7"}, age=7200, ttl=60),
        "of_run": base.put(metadata={"bsess_owner": "me", "bsess_run": "r7"}, age=7200, ttl=60),
    }
    before = set(base.running())
    bb.ok("sweep", *OLD, *flags, "--yes")
    assert before - set(base.running()) == {made[name] for name in [chosen] if name}


def test_the_oldest_end_first(bb, base):
    made = [orphan(base, age=age) for age in (7300, 9000, 8000)]
    bb.ok("sweep", *OLD, "--yes", "--workers", "1")
    assert [path.rpartition("/")[2] for _, path, _, _ in base.asked("POST")] == [made[1], made[2], made[0], bb.orphan]


def test_history_tells_what_was_swept_and_why(bb, base):
    bb.ok("sweep", *OLD, "--yes")
    events = bb.ok("history", "--since", "1d", "-o", "json").json["data"]["events"]
    told = [(item["id"], item["event"], item["outcome"], item["reason"]) for item in events]
    assert told == [
        (bb.orphan, "found", None, "by its tag"),
        (bb.orphan, "swept", "closed", "older than 1h00m"),
    ]


def test_what_failed_is_tried_again_by_the_next_sweep(bb, base):
    base.misbehave["Sessions_update"] = 400
    failed = bb.run("sweep", *OLD, "--yes", "-o", "json")
    assert (failed.code, [item["outcome"] for item in failed.outcomes]) == (1, ["failed"])
    base.misbehave.clear()
    # Without any rule about ages: the ledger knows that it was to end.
    swept = bb.ok("sweep", "--yes", "-o", "json")
    (ended,) = swept.outcomes
    assert (ended["id"], ended["outcome"]) == (bb.orphan, "closed")
    assert ended["reason"].startswith("an earlier close failed: ")


def test_many_that_take_their_time_are_seen_gone_by_few_listings(bb, base):
    base.release_seconds = 1.0
    made = [orphan(base) for _ in range(60)]
    swept = bb.ok("sweep", *OLD, "--yes", "-o", "json")
    assert {item["outcome"] for item in swept.outcomes} == {"closed"}
    assert not set(made) & set(base.running())
    # One look at each when it has left the list, and no other.
    assert len([path for _, path, _, _ in base.asked("GET") if path != "/v1/sessions"]) == 61
    assert len(base.asked("GET", "/v1/sessions")) < 40


@pytest.mark.parametrize(("one", "other"), [("--report", "--metrics"), ("--plan-out", "--report")])
def test_one_file_for_two_is_refused(bb, base, one, other):
    ended = bb.run("sweep", one, "file", other, "./file", "--yes")
    assert ended.code == 2
    assert "name the same file" in ended.err
    assert base.requests == []


def test_a_plan_that_cannot_be_read_is_said_with_where_plans_come_from(bb, base):
    ended = bb.run("sweep", "--plan", str(bb.folder), "--yes")
    assert ended.code == 2
    assert "--plan-out" in ended.err
    assert base.requests == []


# What is looked at, and what that is worth.


def without_local(bb, url, *, name="bb"):
    bb.config.write_text(f'default = "{name}"\n[profiles.{name}]\nprovider = "browserbase"\nurl = "{url}"\n')


@pytest.mark.parametrize(
    ("fault", "code"), [(401, 4), (403, 4), (402, 6), (500, 5), ("lost", 5), (b"[{", 5), (b"{}", 5), (400, 1)]
)
@pytest.mark.parametrize("narrowed", [[], ["-p", "bb"]])
def test_this_machine_without_sessions_is_no_success_beside_an_account_that_fails(bb, base, fault, code, narrowed):
    without_local(bb, base.url)
    base.misbehave["Sessions_list"] = fault
    ended = bb.run("sweep", "--yes", *narrowed, "--deadline", "4s")
    assert ended.code == code
    assert "could not look at bb" in ended.err.splitlines()[-1]
    assert bb.run("list", "--deadline", "4s").code == code


def test_with_a_session_of_this_machine_it_is_partial(bb, base):
    without_local(bb, base.url)
    bb.create("-p", "local", "--executable", "chromium")
    base.misbehave["Sessions_list"] = 401
    assert bb.run("sweep", "--yes").code == 3
    base.misbehave.clear()
    bb.ok("close", "--all", "--yes", "-p", "local")


def test_a_profile_that_was_not_named_is_not_asked(bb, base):
    with_another(bb, "http://127.0.0.1:9")
    swept = bb.ok("sweep", *OLD, "-p", "bb", "--yes", "-o", "json")
    assert [item["id"] for item in swept.outcomes] == [bb.orphan]
    assert swept.json["data"]["scope"]["profiles"] == ["bb"]


@pytest.mark.parametrize("command", [["sweep", "--older-than", "0s", "--min-age", "0s"], ["close", "--all"]])
def test_what_another_profile_of_the_same_account_made_is_not_asked_for(bb, base, command):
    with_another(bb, base.url)
    made, others = bb.create()["id"], bb.create("-p", "other")["id"]
    ended = bb.ok(*command, "-p", "bb", "--yes", "-o", "json")
    assert made in {item["id"] for item in ended.outcomes}
    assert others not in {item["id"] for item in ended.outcomes}
    assert others in base.running()
    bb.ok(*command, "-p", "other", "--yes")
    assert others not in base.running()


def test_what_a_close_calls_unknown_and_a_listing_shows_is_stuck(bb, base):
    made = bb.create("--ttl", "60s")["id"]
    base.misbehave |= {"Sessions_update": 404, "Sessions_get": 404}
    swept = bb.run("sweep", "--older-than", "0s", "--min-age", "0s", "--yes", "-o", "json", "--deadline", "3s")
    assert swept.code == 1
    assert {item["id"]: item["outcome"] for item in swept.outcomes} == {bb.orphan: "stuck", made: "stuck"}
    base.misbehave.clear()
    swept = bb.ok("sweep", "--yes", "-o", "json")
    assert {item["id"]: item["outcome"] for item in swept.outcomes} == {bb.orphan: "closed", made: "closed"}


def test_what_ended_between_two_looks_was_already_closed(bb, base):
    def end_first(handler):
        base.sessions.clear()
        send(handler, 404, b'{"message": "none"}')

    base.misbehave["Sessions_update"] = end_first
    swept = bb.ok("sweep", *OLD, "--yes", "-o", "json")
    assert [item["outcome"] for item in swept.outcomes] == ["already_closed"]


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_was_set_after_a_create_ends_nothing_early(bb, base, hours):
    """The row's times are of the clock as it was, the service's are right."""
    made = bb.create("--ttl", "20m")["id"]
    with contextlib.closing(sqlite3.connect(bb.state / "ledger.sqlite3")) as ledger, ledger:
        for column in ("created_at", "expires_at", "changed_at"):
            ledger.execute(f"UPDATE session SET {column} = {column} + ?", (hours * 3600,))
    swept = bb.ok("sweep", "--yes", "-o", "json")
    (decision,) = [item for item in swept.json["data"]["decisions"] if item["id"] == made]
    assert decision["reason"] == "in use: its ttl has not passed"


def test_accepted_and_alive_is_no_close_that_was_cut_short(bb, base):
    made = bb.create()["id"]
    base.release_seconds = 60
    assert [item["outcome"] for item in bb.ok("close", made, "-o", "json").outcomes] == ["closing"]
    shown = bb.ok("sweep", "--dry-run", "-o", "json").json["data"]["decisions"]
    assert "an earlier close failed: accepted, and it still lives" in {item["reason"] for item in shown}


def test_a_row_that_somebody_spoiled_is_damage_and_no_bug(bb, base):
    bb.create()
    for spoiled in ("labels = '[1]'", "expires_at = 'soon'"):
        with contextlib.closing(sqlite3.connect(bb.state / "ledger.sqlite3")) as ledger, ledger:
            ledger.execute(f"UPDATE session SET {spoiled}")
        ended = bb.run("sweep", "--yes")
        assert (ended.code, len(ended.err.splitlines())) == (1, 2)
        assert "is damaged" in ended.err


# Files.


@pytest.mark.parametrize("flag", ["--report", "--metrics", "--plan-out"])
def test_a_link_is_followed(bb, base, flag):
    (bb.folder / "link").symlink_to(bb.folder / "real")
    bb.ok("sweep", "--dry-run", flag, str(bb.folder / "link"))
    assert (bb.folder / "link").is_symlink()
    assert (bb.folder / "real").stat().st_size > 50


@pytest.mark.parametrize("flag", ["--report", "--metrics", "--plan-out"])
def test_what_is_no_file_is_written_to_and_never_replaced(bb, base, flag):
    pipe = bb.folder / "pipe"
    os.mkfifo(pipe)
    assert bb.run("sweep", "--dry-run", flag, str(pipe)).code == 1, "nobody reads it"
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    bb.ok("sweep", "--dry-run", flag, str(pipe))
    assert len(os.read(reader, 65536)) > 50
    os.close(reader)
    assert pipe.is_fifo()
    bb.ok("sweep", "--dry-run", flag, "/dev/null")
    assert Path("/dev/null").is_char_device()
    shown = bb.ok("sweep", "--dry-run", "-q", "-o", "name", flag, "/dev/stdout")
    assert len(shown.out) > 50
    with (bb.folder / "both").open("w") as both:
        bb.ok("sweep", "--dry-run", *OLD, "-o", "name", flag, "/dev/stdout", stdout=both)
    assert bb.orphan + "\n" in (bb.folder / "both").read_text()


@pytest.mark.parametrize("flag", ["--report", "--metrics", "--plan-out"])
@pytest.mark.parametrize("name", ["", "-", "/"])
def test_what_is_no_name_of_a_file_is_refused(bb, base, flag, name):
    ended = bb.run("sweep", "--yes", *OLD, flag, name)
    assert (ended.code, len(ended.err.splitlines())) == (2, 2)
    assert bb.orphan in base.running()


@pytest.mark.parametrize("flag", ["--report", "--metrics"])
def test_a_file_that_takes_nothing_is_known_before_anything_ends(bb, base, flag):
    assert bb.run("sweep", "--yes", *OLD, flag, "/no/such/folder/file").code == 1
    assert bb.orphan in base.running()


@pytest.mark.parametrize("flag", ["--report", "--metrics"])
def test_a_file_that_takes_nothing_any_more_hides_nothing_of_what_was_done(bb, base, flag):
    ended = bb.run("sweep", "--yes", *OLD, flag, "/dev/full")
    assert ended.code == 1
    assert bb.orphan in ended.out
    assert "/dev/full cannot be written" in ended.err
    assert ended.err.splitlines()[-1].endswith("): 1 closed")


def test_a_failure_is_in_the_files_too(bb, base):
    report, file = bb.folder / "report", bb.folder / "bsess.prom"
    both = ["--report", str(report), "--metrics", str(file)]
    bb.ok("sweep", "--yes", *both)
    before = metrics(file)["last_success_timestamp_seconds"]
    assert bb.run("sweep", "--yes", "-p", "nope", *both).code == 2
    assert (metrics(file)["exit_code"], metrics(file)["last_success_timestamp_seconds"]) == (2, before)
    assert json.loads(report.read_text())["errors"][0]["code"] == "profile_unknown"
    (bb.state / "ledger.sqlite3").write_text("xx")
    assert bb.run("sweep", "--yes", *both).code == 1
    assert metrics(file)["exit_code"] == 1


@pytest.mark.parametrize("flag", ["--report", "--metrics"])
def test_a_file_that_takes_nothing_hides_no_failure(bb, base, flag):
    ended = bb.run("sweep", "--yes", "-p", "nope", flag, "/dev/full")
    assert ended.code == 2
    assert "there is no profile 'nope'" in ended.err


def test_a_look_is_no_successful_sweep(bb, base):
    file = bb.folder / "bsess.prom"
    bb.ok("sweep", "--dry-run", "--metrics", str(file))
    assert "last_success_timestamp_seconds" not in metrics(file)
    assert metrics(file)["profiles_missed"] == 0
    base.misbehave["Sessions_list"] = 401
    assert bb.run("sweep", "--yes", "--metrics", str(file)).code == 3
    assert metrics(file)["profiles_missed"] == 1


def test_a_plan_comes_from_a_pipe_too_and_may_have_a_mark_in_front(bb, base):
    file = bb.folder / "plan"
    bb.ok("sweep", *OLD, "--plan-out", str(file))
    file.write_text("\ufeff" + file.read_text())
    swept = bb.ok("sweep", *OLD, "--plan", "-", "--yes", "-o", "name", stdin=file.read_text().lstrip("\ufeff"))
    assert swept.lines == [bb.orphan]
    assert bb.ok("sweep", *OLD, "--plan", str(file), "--yes").out == ""


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": "bsess-plan/1", "sessions": {}}',
        '{"schema": "bsess-plan/1", "sessions": [{"id": 1, "profile": "bb", "created_at": null}]}',
        '{"schema": "bsess-plan/9", "sessions": []}',
        "[]",
    ],
)
def test_a_plan_of_another_form_is_refused_by_its_name(bb, base, text):
    file = bb.folder / "plan"
    file.write_text(text)
    ended = bb.run("sweep", *OLD, "--plan", str(file), "--yes")
    assert ended.code == 2
    assert str(file) in ended.err.splitlines()[0]
    assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize("form", ["env", "url"])
def test_a_format_that_cannot_tell_of_it_is_refused_before_anything_ends(bb, base, form):
    for command in (["sweep", *OLD], ["close", "--all"]):
        ended = bb.run(*command, "--yes", "-o", form)
        assert (ended.code, len(ended.err.splitlines())) == (2, 2)
    assert bb.orphan in base.running()
    # What an environment asks for is for the commands that have it.
    assert bb.ok("sweep", *OLD, "--yes", env={"BSESS_OUTPUT": form}).out.startswith(bb.orphan)


def test_the_last_line_is_what_came_of_it(bb, base):
    base.misbehave["Sessions_update"] = 403
    ended = bb.run("sweep", *OLD, "--yes")
    assert ended.err.splitlines()[-1].endswith("): 1 failed")
