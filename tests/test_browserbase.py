"""Browserbase, through the real executable and a fake that refuses what its contract does not allow."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import browserbase
import httpx
import pytest
from jsonschema import Draft202012Validator

import strangers
from fake_browserbase import API_KEY, CONTRACT, PROJECT, SIGNING, Window
from loopback import send
from worlds import wait_for, write_config

KILLING = Path(__file__).parent / "killing"


@pytest.fixture
def bb(world, base):
    """A world whose default profile is that project, and whose owner is `me`."""
    world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BSESS_OWNER": "me"}
    write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n')
    return world


def outcome(ended):
    assert len(ended.outcomes) == 1
    return ended.outcomes[0]["outcome"], ended.code


def listed(bb, *arguments, **settings):
    return {item["id"] for item in bb.ok("list", "-p", "bb", "-o", "json", *arguments, **settings).sessions}


def error(ended):
    return ended.json["errors"][0]


def test_a_session_is_made_listed_and_released(bb, base):
    made = bb.create("--ttl", "15m", "--label", "job=42")
    assert base.requests[0][3]["timeout"] == 900
    assert base.requests[0][3]["userMetadata"] == {
        "job": "42", "bsess_owner": "me", "bsess_key": bb.rows()[0]["key"],
    }  # fmt: skip
    (session,) = bb.ok("list", "-p", "bb", "-o", "json").sessions
    assert (session["id"], session["mine"], session["status"]) == (made["id"], True, "running")
    assert session["labels"] == {"job": "42"}
    assert made["connect_url"].endswith(made["id"])
    base.requests.clear()
    assert outcome(bb.ok("close", made["id"], "-o", "json")) == ("closed", 0)
    assert base.requests == [("POST", f"/v1/sessions/{made['id']}", {}, {"status": "REQUEST_RELEASE"})]
    assert bb.rows() == []


FLAGS = [
    (["--keep-alive", "on"], {"keepAlive": True}),
    (["--region", "eu-central-1"], {"region": "eu-central-1"}),
    (["--proxy", "on"], {"proxies": True}),
    (["--proxy", "us"], {"proxies": [{"type": "browserbase", "geolocation": {"country": "US"}}]}),
    (
        ["--proxy", "us:ny:nyc"],
        {"proxies": [{"type": "browserbase", "geolocation": {"country": "US", "state": "NY", "city": "nyc"}}]},
    ),
    (
        ["--proxy", "http://ann@proxy.example:8080"],
        {"proxies": [{"type": "external", "server": "http://proxy.example:8080", "username": "ann", "password": "pw"}]},
    ),
    (["--context", "c1"], {"browserSettings": {"context": {"id": "c1"}}}),
    (["--context", "c1:persist"], {"browserSettings": {"context": {"id": "c1", "persist": True}}}),
    (["--viewport", "1280x720"], {"browserSettings": {"viewport": {"width": 1280, "height": 720}}}),
    (["--block-ads"], {"browserSettings": {"blockAds": True}}),
    (["--no-record", "--no-log"], {"browserSettings": {"recordSession": False, "logSession": False}}),
    (["--verified", "--os", "mac"], {"browserSettings": {"verified": True, "os": "mac"}}),
    (["--stealth"], {"browserSettings": {"verified": True}}),
    (["--extension", "e1"], {"extensionId": "e1"}),
    (
        [
            "--block-ads",
            "--set",
            "browserSettings.solveCaptchas=false",
            "--set",
            'browserSettings.allowedDomains=["a"]',
        ],
        {"browserSettings": {"blockAds": True, "solveCaptchas": False, "allowedDomains": ["a"]}},
    ),
]


@pytest.mark.parametrize(
    ("flags", "fields"), FLAGS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_field_of_a_create_has_its_flag_and_is_of_the_contract(bb, base, flags, fields):
    bb.create(*flags, env={"BSESS_PROXY_PASSWORD": "pw"})
    body = dict(base.requests[0][3])
    del body["timeout"], body["userMetadata"]
    assert body == fields


@pytest.mark.parametrize(
    "flags",
    [
        ["--ttl", "59s"],
        ["--ttl", "7h"],
        ["--keep-alive", "2m"],
        ["--region", "mars"],
        ["--proxy", "datacenter:us"],
        ["--proxy", "http://ann:pw@proxy.example"],
        ["--proxy", "socks5://proxy.example"],
        ["--viewport", "1280"],
        ["--context", "c1:forever"],
        ["--os", "beos"],
        ["--label", "job=it's"],
        ["--label", 'job="x"'],
        ["--label", "job=a\\b"],
        ["--label", "bsess_owner=she"],
        ["--label", f"job={'x' * 199}", "--label", f"other={'y' * 199}", "--label", f"more={'z' * 60}"],
        ["--set", "timeout=90"],
        ["--set", 'userMetadata={"a": "b"}'],
        ["--set", "a=NaN"],
        ["--browser", "chrome"],
    ],
)
def test_what_can_never_work_is_refused_before_anything_is_sent(bb, base, flags):
    ended = bb.run("create", *flags)
    assert ended.code == 2, ended
    assert base.requests == []
    assert "pw" not in ended.out + ended.err


def test_a_release_takes_its_time_and_is_closing_until_a_look_proves_it(bb, base):
    base.release_seconds = 0.6
    made = bb.create()
    ended = bb.ok("close", made["id"], "-o", "json")
    assert outcome(ended) == ("closing", 0)
    assert ended.outcomes[0]["provider_status"] == "RUNNING"
    assert [row["state"] for row in bb.rows()] == ["closing"]
    assert wait_for(lambda: base.running() == [], 5)
    assert made["id"] in bb.ok("list", "-p", "bb").err
    assert bb.rows() == []


def test_with_wait_it_is_closed_once_its_status_is_terminal(bb, base):
    base.release_seconds = 0.6
    made = bb.create()
    assert outcome(bb.ok("close", made["id"], "--wait", "-o", "json")) == ("closed", 0)


def test_one_that_never_ends_is_stuck(bb, base):
    base.release_seconds = 3600
    made = bb.create()
    assert outcome(bb.run("close", made["id"], "--wait-timeout", "1s", "-o", "json")) == ("stuck", 1)
    assert len(bb.rows()) == 1


@pytest.mark.parametrize("fault", [400, 404, 409, 500, 503, "lost", b"<html>"])
def test_every_ambiguous_answer_to_a_release_is_settled_by_a_look(bb, base, fault):
    made = bb.create()
    base.sessions[made["id"]]["status"] = "TIMED_OUT"
    base.misbehave["Sessions_update"] = fault
    ended = bb.run("close", made["id"], "-o", "json", "--deadline", "20s")
    assert ended.code == 0
    if fault == b"<html>":
        assert outcome(ended) == ("closing", 0), "a release that was accepted and nothing else is known of it"
    else:
        assert outcome(ended) == ("already_closed", 0)
        assert ended.outcomes[0]["provider_status"] == "TIMED_OUT"


@pytest.mark.parametrize(("fault", "expected"), [(400, ("failed", 1)), (500, ("unknown", 5)), (401, ("failed", 4))])
def test_nothing_is_called_closed_while_it_runs(bb, base, fault, expected):
    made = bb.create()
    base.misbehave["Sessions_update"] = fault
    assert outcome(bb.run("close", made["id"], "-o", "json", "--deadline", "4s")) == expected
    assert [row["id"] for row in bb.rows()] == [made["id"]]


def test_an_unknown_id_is_not_found_and_a_malformed_one_is_never_sent(bb, base):
    unknown = "00000000-0000-4000-8000-000000000000"
    assert outcome(bb.run("close", unknown, "-o", "json")) == ("not_found", 1)
    base.requests.clear()
    assert bb.run("close", "not-a-uuid", "-o", "json").code == 1
    assert base.requests == []


# Whose it is.


def sdk(base):
    return browserbase.Browserbase(api_key=API_KEY, base_url=base.url, max_retries=0)


def test_the_official_sdk_agrees_with_the_fake(base):
    client = sdk(base)
    made = client.sessions.create(api_timeout=120, user_metadata={"team": "x"}, browser_settings={"blockAds": True})
    assert made.connect_url
    assert [item.id for item in client.sessions.list(status="RUNNING")] == [made.id]
    assert [item.id for item in client.sessions.list(q="user_metadata['team']:'x'")] == [made.id]
    assert client.sessions.list(q="user_metadata['team']:'y'") == []
    assert client.sessions.retrieve(made.id).status == "RUNNING"
    assert client.sessions.debug(made.id).pages
    assert client.sessions.logs.list(made.id)[0].method == "Page.x"
    released = client.sessions.update(made.id, status="REQUEST_RELEASE")
    assert released.status == "COMPLETED"
    assert client.projects.list()[0].concurrency == 25
    assert client.projects.usage(client.projects.list()[0].id).browser_minutes == 123
    with pytest.raises(browserbase.BadRequestError):
        client.sessions.create(api_timeout=59)
    base.wrong.clear()


def test_what_the_sdk_made_without_a_tag_is_foreign_and_survives_everything(bb, base):
    plain = sdk(base).sessions.create().id
    bb.ok("close", "--all", "--yes")
    bb.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "1s")
    assert outcome(bb.run("close", "-", "-o", "json", stdin=plain)) == ("skipped", 0)
    assert base.running() == [plain]
    ended = bb.ok("close", plain, "-o", "json")
    assert outcome(ended) == ("closed", 0)
    assert "foreign" in ended.outcomes[0]["reason"]


def test_what_the_sdk_made_with_the_tag_is_mine(bb, base):
    tag = bb.ok("tag", "--label", "job=1", "-o", "jsonl").json
    assert tag == bb.ok("tag", "--label", "job=1", "-o", "json").json["data"]["tag"]
    made = sdk(base).sessions.create(user_metadata=tag).id
    assert listed(bb, "--mine", "--label", "job=1") == {made}
    assert outcome(bb.ok("close", "--all", "--yes", "-o", "json")) == ("closed", 0)


def test_an_adopted_session_is_mine(bb, base):
    made = sdk(base).sessions.create().id
    bb.ok("adopt", made)
    assert outcome(bb.ok("close", "--all", "--yes", "-o", "json")) == ("closed", 0)


def test_two_owners_with_one_key_never_end_each_others_sessions(bb, base):
    her = {"BSESS_OWNER": "she", "BSESS_STATE_DIR": str(bb.folder / "hers")}
    with strangers.a_process() as owner:
        mine = bb.create("--owner-pid", str(owner.pid))["id"]
        hers = bb.create("--owner-pid", str(owner.pid), env=her)["id"]
    bb.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "1s")
    assert base.running() == [hers]
    mine = bb.create()["id"]
    bb.ok("sweep", "--yes", env=her)
    bb.ok("close", "--all", "--yes", env=her)
    assert base.running() == [mine]


def test_an_orphan_is_found_by_its_tag_on_a_machine_without_the_ledger(bb, base):
    made = base.put(metadata={"bsess_owner": "me", "bsess_key": "x"}, age=7200, ttl=21_600)
    swept = bb.ok("sweep", "--yes", "--older-than", "1h", "-o", "json")
    assert outcome(swept) == ("closed", 0)
    assert swept.outcomes[0]["id"] == made


# A create whose answer was lost.


def test_a_create_whose_answer_was_lost_is_found_again_and_never_sent_twice(bb, base):
    base.misbehave["Sessions_create"] = "lost"
    made = bb.create()
    assert base.running() == [made["id"]]
    assert made["connect_url"]
    assert len(base.asked("POST", "/v1/sessions")) == 1
    assert outcome(bb.ok("close", made["id"], "-o", "json")) == ("closed", 0)


def test_a_lost_create_that_nobody_found_is_looked_for_until_a_minute_has_passed(bb, base):
    base.misbehave["Sessions_create"] = 500
    assert bb.run("create").code == 5
    spared = bb.ok("sweep", "--yes", "-o", "json").json["data"]["decisions"]
    assert [item["decision"] for item in spared] == ["spare"]
    assert len(bb.rows()) == 1
    with sqlite3.connect(bb.state / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE session SET missed_at = missed_at - 61")
    ledger.close()
    bb.ok("sweep", "--yes")
    assert bb.rows() == []
    assert len(base.asked("POST", "/v1/sessions")) == 1


def test_of_several_that_carry_one_tag_one_is_kept_and_the_rest_released(bb, base):
    made = bb.create()
    metadata = base.sessions[made["id"]]["userMetadata"]
    extra = [base.put(metadata=metadata) for _ in range(2)]
    ended = bb.ok("sweep", "--yes", "-o", "json")
    assert {item["id"] for item in ended.outcomes} == set(extra)
    assert base.running() == [made["id"]]


@pytest.mark.parametrize(
    "point", ["return:SqliteLedger.intend", "return:BrowserbaseProvider.create", "return:SqliteLedger.change#1"]
)
def test_a_create_killed_at_any_step_leaves_nothing_after_one_sweep(bb, base, point):
    ended = bb.run("create", env={"PYTHONPATH": str(KILLING), "KILL_AT": point})
    assert ended.code == -signal.SIGKILL
    bb.ok("sweep", "--yes")
    assert base.running() == []


# Limits.


def test_taken_slots_name_my_sessions_and_close_needs_no_slot(bb, base):
    base.concurrency = 2
    made = [bb.create()["id"] for _ in range(2)]
    full = bb.run("create", "-o", "json")
    assert (full.code, error(full)["code"]) == (6, "slots")
    assert f"bsess close {made[0]} --force" in full.err
    assert len(full.err.splitlines()) == 2
    assert len(base.asked("POST", "/v1/sessions")) == 3, "no blind retry"
    assert outcome(bb.ok("close", made[0], "-o", "json")) == ("closed", 0)


def test_minutes_plan_and_rate_each_have_their_own_code(bb, base):
    base.minutes_left = False
    ended = bb.run("create", "-o", "json")
    assert (ended.code, error(ended)["code"]) == (6, "minutes")
    base.minutes_left, base.plan = True, "free"
    ended = bb.run("create", "--keep-alive", "on", "-o", "json")
    assert (ended.code, error(ended)["code"]) == (4, "plan")
    base.create_rate = Window(0, 60)
    base.create_rate._times = [time.monotonic()]
    ended = bb.run("create", "-o", "json", "--deadline", "3s")
    assert (ended.code, error(ended)["code"]) == (6, "rate")


def test_a_create_refused_by_rate_waits_as_it_was_told_and_is_made_once(bb, base):
    base.create_rate = Window(2, 1.5)
    made = bb.ok("create", "--count", "4", "-o", "name").lines
    assert sorted(made) == sorted(base.running())
    assert len(made) == 4


def test_many_closes_keep_to_the_rate_and_waste_little(bb, base):
    ids = [base.put(metadata={"bsess_owner": "me"}) for _ in range(2000)]
    base.rate = Window(300, 1.0)
    ended = bb.ok("close", "-", "--foreign", "-o", "json", "--workers", "16", stdin="\n".join(ids), timeout=120)
    assert {item["outcome"] for item in ended.outcomes} == {"closed"}
    assert base.running() == []
    assert base.refused <= 0.03 * len(base.requests), (base.refused, len(base.requests))


# What it tells.


def test_what_nobody_has_seen_before_is_shown_and_counts_as_a_life(bb, base):
    known = bb.create()["id"]
    base.sessions[known] |= {"status": "HIBERNATING", "colour": "blue", "expiresAt": "2020-01-01T00:00:00.12+00:00"}
    base.put(createdAt="soon", expiresAt=None)
    (session,) = [item for item in bb.ok("list", "-p", "bb", "-o", "json").sessions if item["id"] == known]
    assert session["status"] == "hibernating"
    assert len(bb.rows()) == 1
    assert bb.ok("show", known, "-o", "json").json["data"]["details"]["colour"] == "blue"


@pytest.mark.parametrize("digits", [2, 3, 6])
def test_times_are_read_with_any_fraction(bb, base, digits):
    base.put(createdAt=f"2026-11-20T10:00:00.{'1' * digits}+00:00")
    (session,) = bb.ok("list", "-p", "bb", "-o", "json").sessions
    assert session["created_at"] == "2026-11-20T10:00:00Z"


def test_ended_ones_are_listed_by_status(bb, base):
    ended = {status: base.put(status=status.upper()) for status in ("error", "timed_out", "completed")}
    runs = base.put(metadata={"job": "1"})
    assert listed(bb) == {runs}
    for status, name in ended.items():
        assert listed(bb, "--status", status) == {name}
    assert listed(bb, "--status", "all") == {runs, *ended.values()}
    assert listed(bb, "--status", "all", "--label", "job=1") == {runs}
    assert base.requests[-1][2]["q"] == "user_metadata['job']:'1'"


def test_usage_tells_slots_minutes_and_bytes(bb, base):
    bb.create()
    base.put()
    (usage,) = bb.ok("usage", "-o", "json").json["data"]["usage"]
    told = {key: usage[key] for key in ("mine", "running", "slots", "minutes_used", "proxy_bytes")}
    assert told == {"mine": 1, "running": 2, "slots": 25, "minutes_used": 123, "proxy_bytes": 4567}


def test_show_masks_what_opens_the_session(bb, base):
    made = bb.create()
    for form in ("json", "table", "tsv"):
        shown = bb.ok("show", made["id"], "-o", form)
        assert made["id"] in shown.out
        assert SIGNING not in shown.out + shown.err


def test_live_prints_the_view_and_opens_it(bb, base):
    made = bb.create()
    assert bb.ok("live", made["id"]).out.endswith("-full\n")
    assert bb.ok("live", made["id"][:8], "--pages").out.endswith("-page\n")
    opened = bb.folder / "opened"
    browser = bb.folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    bb.ok("live", made["id"], "--open", env={"BROWSER": f"{browser} %s"})
    assert wait_for(opened.exists, 5)


def test_logs_and_recording_come_as_json(bb, base):
    made = bb.create()
    assert [json.loads(line)["method"] for line in bb.ok("logs", made["id"]).lines] == ["Page.x"]
    assert len(json.loads(bb.ok("recording", made["id"]).out)) == 3
    file = bb.folder / "rec.json"
    bb.ok("recording", made["id"], "--file", str(file))
    assert len(json.loads(file.read_text())) == 3
    assert bb.run("recording", made["id"], "--file", "/no/such/folder/x").code == 1


def test_a_provider_without_them_says_so_before_any_request(bb, base):
    made = bb.create("-p", "local")
    base.requests.clear()
    for command in ("live", "logs", "recording"):
        ended = bb.run(command, made["id"])
        assert ended.code == 2
        assert "local has no" in ended.err
    assert base.requests == []


@pytest.mark.parametrize("fault", [None, 400, 401, 429, 500, "lost", b"<html>"])
def test_neither_key_nor_signing_key_is_in_any_output(bb, base, fault):
    made = bb.create()
    for operation in ("Sessions_create", "Sessions_list", "Sessions_get", "Sessions_update"):
        base.misbehave[operation] = fault
    told = [
        bb.run(*words, "-v", "--debug", "--deadline", "1s")
        for words in (["list", "-o", "json"], ["create"], ["show", made["id"]], ["close", made["id"]], ["usage"])
    ]
    told.append(bb.run("history", "-o", "json"))
    assert not [ended for ended in told if API_KEY in ended.out + ended.err or SIGNING in ended.out + ended.err]
    with sqlite3.connect(bb.state / "ledger.sqlite3") as ledger:
        assert API_KEY not in "\n".join(ledger.iterdump())
    ledger.close()


def test_videos_are_asked_for_waited_for_and_written(bb, base):
    made = bb.create()["id"]
    file = bb.folder / "rec.mp4"
    early = bb.run("recording", made, "--mp4", "--file", str(file))
    assert (early.code, "bsess close" in early.err) == (1, True)
    bb.ok("close", made)
    told = bb.ok("recording", made, "--mp4", "--file", str(file))
    assert told.lines == [str(file)]
    assert "0 of 1 videos are ready" in told.err
    assert file.read_bytes() == b"video of 0"
    base.pages = ["0", "1"]
    assert bb.ok("recording", made, "--mp4", "--file", str(file)).lines == [
        str(bb.folder / "rec-0.mp4"), str(bb.folder / "rec-1.mp4"),
    ]  # fmt: skip
    base.pages = []
    assert bb.run("recording", made, "--mp4", "--file", str(file)).code == 1
    assert bb.run("recording", made, "--mp4").code == 2


def test_a_context_is_made_shown_and_deleted(bb, base):
    (name,) = bb.ok("context", "create").lines
    assert json.loads(bb.ok("context", "show", name).out)["id"] == name
    bb.ok("context", "delete", name)
    assert base.contexts == {}
    for command in ("show", "delete"):
        assert bb.run("context", command, name).code == 1
    assert bb.run("context", "create", "-p", "local").code == 2


def test_ids_come_from_a_file_as_from_a_pipe(bb, base):
    mine = [bb.create()["id"] for _ in range(3)]
    foreign = base.put()
    file = bb.folder / "ids"
    file.write_text("\n".join([*mine, foreign]) + "\n")
    ended = bb.ok("close", "--file", str(file), "-o", "json")
    assert [item["outcome"] for item in ended.outcomes].count("closed") == 3
    assert base.running() == [foreign]
    assert bb.run("close", "--file", "/no/such/file").code == 2


def test_what_failed_is_tried_again_by_the_next_sweep(bb, base):
    made = bb.create()["id"]
    base.misbehave["Sessions_update"] = 400
    assert bb.run("close", made).code == 1
    base.misbehave.clear()
    swept = bb.ok("sweep", "--yes", "-o", "json")
    assert outcome(swept) == ("closed", 0)
    assert "an earlier close failed" in swept.outcomes[0]["reason"]
    events = bb.ok("history", "-o", "json").json["data"]["events"]
    assert [event["event"] for event in events] == ["created", "failed", "swept"]


def peak_of(bb, *arguments):
    """How many MB a command needed at most, and the lines that it wrote."""
    with bb.start(*arguments) as process:
        lines = sum(1 for _ in process.stdout)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss / 1024, lines


def test_a_status_is_taken_as_its_provider_writes_it(bb, base):
    ended = base.put(status="TIMED_OUT")
    assert listed(bb, "--status", "TIMED_OUT") == {ended}


@pytest.mark.parametrize("chosen", ["jsonl", "tsv", "name"])
def test_a_long_past_is_listed_in_flat_memory(bb, base, chosen):
    arguments = ("list", "--status", "all", "-o", chosen)
    for _ in range(2_000):
        base.put(status="COMPLETED", metadata={"bsess_owner": "me", "job": "x" * 100})
    few, lines = peak_of(bb, *arguments)
    assert lines == 2_000
    # The same rows twenty times over: what matters is how many come.
    base.listed_times = 20
    many, lines = peak_of(bb, *arguments)
    assert lines == 40_000
    assert many < few + 6, f"{few:.0f} MB for 2,000 rows, {many:.0f} MB for 40,000"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "instead of a JSON list"),
        (b"[", "instead of a JSON list"),
        (b'[{"id": "a"}', "instead of a JSON list"),
        (b'[{"id": "a"}]x', "instead of a JSON list"),
        (b'[{"id": "a"},]', "instead of a JSON list"),
        (b'[{"id": "a"} {"id": "b"}]', "instead of a JSON list"),
        (b"[\xff\xfe]", "not UTF-8"),
        (b"<html>", "HTML"),
        (b"", "nothing"),
    ],
)
def test_a_list_that_cannot_be_read_is_said(bb, base, body, said):
    base.misbehave["Sessions_list"] = body
    ended = bb.run("list", "-p", "bb", "--status", "all", "-o", "jsonl")
    assert ended.code == 5
    assert said in ended.err
    assert "Traceback" not in ended.err


ASKED = [
    ("POST", "/v1/sessions", {"timeout": 60}, "Sessions_create"),
    ("GET", "/v1/sessions", None, "Sessions_list"),
    ("GET", "/v1/sessions/RUNNING", None, "Sessions_get"),
    ("GET", "/v1/sessions/COMPLETED", None, "Sessions_get"),
    ("POST", "/v1/sessions/RUNNING", {"status": "REQUEST_RELEASE"}, "Sessions_update"),
    ("GET", "/v1/sessions/RUNNING/debug", None, "Sessions_getDebug"),
    ("GET", "/v1/sessions/RUNNING/logs", None, "Sessions_getLogs"),
    ("GET", "/v1/sessions/RUNNING/recording", None, "Sessions_getRecording"),
    ("POST", "/v1/sessions/COMPLETED/recording/downloads", None, "Sessions_createRecordingDownloads"),
    ("GET", "/v1/sessions/COMPLETED/recording/downloads", None, "Sessions_listRecordingDownloads"),
    ("POST", "/v1/contexts", {}, "Contexts_create"),
    ("GET", "/v1/projects", None, "Projects_list"),
    ("GET", f"/v1/projects/{PROJECT}", None, "Projects_get"),
    ("GET", f"/v1/projects/{PROJECT}/usage", None, "Projects_usage"),
]


@pytest.mark.parametrize(("method", "path", "body", "operation"), ASKED)
def test_what_the_fake_answers_is_what_the_contract_promises(base, method, path, body, operation):
    for status in ("RUNNING", "COMPLETED"):
        path = path.replace(status, base.put(status=status, metadata={"a": "b"}))
    with httpx.Client(headers={"x-bb-api-key": API_KEY}, trust_env=False) as client:
        answer = client.request(method, base.url + path, json=body)
    promised = CONTRACT["paths"]
    (responses,) = [
        found["responses"] for ways in promised.values() for found in ways.values() if found["operationId"] == operation
    ]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    document = {**schema, "components": CONTRACT["components"]}
    assert [error.message for error in Draft202012Validator(document).iter_errors(answer.json())] == []


# What is whose, where somebody tries.


def test_what_carries_another_owners_tag_is_not_adopted_by_the_way(bb, base):
    hers = base.put(metadata={"bsess_owner": "she\u200b"})
    ended = bb.run("adopt", hers, "-o", "json")
    assert (ended.code, error(ended)["code"]) == (1, "foreign")
    assert "she\\u200b's by its own record" in ended.err
    bb.ok("close", "--all", "--yes")
    assert base.running() == [hers]
    bb.ok("adopt", hers, "--foreign")
    bb.ok("close", "--all", "--yes")
    assert base.running() == []


def test_adopting_what_is_mine_takes_nothing_from_it(bb, base):
    with strangers.a_process() as owner:
        made = bb.create("--ttl", "2h", "--owner-pid", str(owner.pid))["id"]
        bb.ok("adopt", made, "--label", "job=1")
        swept = bb.ok("sweep", "--older-than", "0s", "--min-age", "0s", "--yes", "-o", "json")
    (decision,) = swept.json["data"]["decisions"]
    assert (decision["decision"], decision["reason"]) == ("spare", "its owner process lives")
    (row,) = bb.rows()
    assert row["expires_at"] - row["created_at"] > 7000
    assert json.loads(row["labels"]) == {"job": "1"}


def test_what_is_adopted_keeps_the_end_that_it_has(bb, base):
    made = base.put(ttl=7200)
    bb.ok("adopt", made)
    assert bb.rows()[0]["expires_at"] > time.time() + 7000
    bb.ok("adopt", made, "--ttl", "10m")
    assert bb.rows()[0]["expires_at"] < time.time() + 700


def test_what_the_ledger_says_is_anothers_is_not_adopted_by_the_way(bb, base):
    made = base.put()
    bb.ok("adopt", made, env={"BSESS_OWNER": "she"})
    assert bb.run("adopt", made).code == 1
    bb.ok("adopt", made, "--foreign")
    assert bb.rows()[0]["owner"] == "me"


def test_a_profile_that_was_renamed_still_leads_to_its_sessions(bb, base):
    made = bb.create()["id"]
    other = base.put()
    bb.ok("adopt", other)
    write_config(bb, f'default = "new"\n[profiles.new]\nprovider = "browserbase"\nurl = "{base.url}"\n')
    assert made in bb.ok("show", made[:12]).out
    bb.ok("close", made[:12])
    assert base.running() == [other]
    write_config(bb)
    shown = bb.run("close", other, "--dry-run", env={"BROWSERBASE_API_KEY": ""})
    assert (shown.code, shown.out) == (2, "")
    assert "not configured any more" in shown.err


def test_a_key_of_mine_in_a_record_of_hers_makes_nothing_mine(bb, base):
    """Whoever shares the account can read the key of a create that is under way."""
    base.misbehave |= {"Sessions_create": "lost", "Sessions_list": 500}
    assert bb.run("create", "--deadline", "5s").code == 5
    base.misbehave.clear()
    (row,) = bb.rows()
    base.sessions.clear()
    hers = base.put(metadata={"bsess_owner": "she", "bsess_key": row["key"]}, age=7200, ttl=60)
    bb.ok("sweep", "--yes")
    assert bb.run("close", "--all", "--yes").code == 5, "what was lost may exist"
    assert base.running() == [hers]
    assert {item["id"]: item["mine"] for item in bb.ok("list", "-p", "bb", "-o", "json").sessions}[hers] is False


@pytest.mark.parametrize("name", ["me\n", "me\u200b", "\x1b[31mme"])
def test_an_owner_that_only_looks_like_me_is_shown_as_it_is(bb, base, name):
    base.put(metadata={"bsess_owner": name})
    shown = bb.ok("list", "-p", "bb", "-o", "table").out
    assert name.encode("unicode_escape").decode() in shown


@pytest.mark.parametrize("listing", [401, 500])
def test_what_nobody_sees_is_not_called_closed(bb, base, listing):
    """A create that was lost, closed while the account lists nothing."""
    base.misbehave |= {"Sessions_create": "lost", "Sessions_list": 500}
    assert bb.run("create", "--deadline", "4s").code == 5
    base.misbehave = {"Sessions_list": listing}
    ended = bb.run("close", "--all", "--yes", "-p", "bb", "-o", "json", "--deadline", "4s")
    assert ended.code in (4, 5)
    assert [item["outcome"] for item in ended.outcomes] == ["failed" if listing == 401 else "unknown"]
    assert len(bb.rows()) == 1
    base.misbehave = {}
    bb.ok("sweep", "--yes")
    assert base.running() == []


def test_a_row_that_cannot_be_read_is_said(bb, base):
    answering(base, "Sessions_list", [5, None])
    ended = bb.run("sweep", "--yes")
    assert ended.code == 3
    assert "rows of its listing cannot be read" in ended.err


def test_a_dry_run_shows_no_end_of_what_is_not_there(bb, base):
    ended = bb.run("close", "zzzzzz99", "--dry-run")
    assert (ended.code, ended.out) == (1, "")
    assert bb.run("close", "zzzzzz99", "--dry-run", "--ignore-not-found").code == 0


def test_a_lost_create_says_that_it_may_have_been_made(bb, base):
    base.misbehave |= {"Sessions_create": "lost", "Sessions_list": 500}
    ended = bb.run("create", "--deadline", "5s")
    assert "`bsess sweep` settles it" in ended.err
    base.misbehave = {"Contexts_create": "lost"}
    assert "may have been made" in bb.run("context", "create").err


def test_slots_that_are_taken_are_named_as_the_account_lists_them(bb, base):
    base.concurrency = 2
    gone, made = (bb.create()["id"] for _ in range(2))
    base.sessions.pop(gone)
    tagged = base.put(metadata={"bsess_owner": "me"}, age=60)
    full = bb.run("create")
    assert gone not in full.err
    assert f"of mine {tagged}, {made} hold slots" in full.err
    bb.ok("close", "--all", "--yes")
    for _ in range(2):
        base.put(metadata={"bsess_owner": "she"})
    assert "none of those that hold them is mine" in bb.run("create").err


# What providers write is text.


def answering(base, operation, document):
    base.misbehave[operation] = json.dumps(document).encode()


EVIL = "\x1b[2Jx\n::add-mask::y\u202e"


def test_what_ended_is_told_without_steering_anything(bb, base):
    made = base.put(metadata={"bsess_owner": "me"}, age=7200, ttl=60)
    base.sessions[made]["id"] = EVIL
    assert bb.run("sweep", "--yes", "--deadline", "5s").code == 1, "no provider could have made that id"
    base.sessions.clear()
    told = bb.ok("list").err
    assert "has ended" in told
    assert not set("\x1b\u202e") & set(told)
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["--pages"], ["-o", "url"]])
def test_a_live_view_is_text_too(bb, base, arguments):
    made = bb.create()
    page = {"debuggerFullscreenUrl": f"https://x/{EVIL}"}
    answering(base, "Sessions_getDebug", {**page, "pages": [page]})
    shown = bb.ok("live", made["id"], *arguments).out
    assert shown == "https://x/[2Jx::add-mask::y\n"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "--help"])
def test_only_a_web_page_is_opened(bb, base, url):
    made = bb.create()
    answering(base, "Sessions_getDebug", {"debuggerFullscreenUrl": url, "pages": []})
    opened = bb.folder / "opened"
    ended = bb.run("live", made["id"], "--open", env={"BROWSER": f"touch {opened} %s"})
    assert (ended.code, opened.exists()) == (1, False)


def test_a_contexts_id_is_told_in_every_format_that_names_things(bb, base):
    for form in ("name", "table", "tsv"):
        assert bb.ok("context", "create", "-o", form).out.strip() in base.contexts
    assert bb.ok("context", "create", "-o", "jsonl").json["text"] in base.contexts
    assert bb.ok("context", "create", "-o", "json").json["data"]["text"] in base.contexts
    for form in ("url", "env"):
        assert bb.run("context", "create", "-o", form).code == 2
    assert len(base.contexts) == 5
    answering(base, "Contexts_create", {"id": EVIL})
    ended = bb.run("context", "create")
    assert (ended.code, ended.out) == (5, "")


@pytest.mark.parametrize(
    ("command", "operation", "document"),
    [
        ("logs", "Sessions_getLogs", {}),
        ("recording", "Sessions_getRecording", None),
        ("live", "Sessions_getDebug", []),
    ],
)
def test_an_answer_of_another_form_is_not_an_empty_one(bb, base, command, operation, document):
    made = bb.create()
    answering(base, operation, document)
    ended = bb.run(command, made["id"])
    assert (ended.code, ended.out) == (5, "")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"connectUrl": None}, "came without a connect URL"),
        ({"connectUrl": "file:///etc/passwd"}, "came without a connect URL"),
        ({"status": "COMPLETED"}, "has ended already: completed"),
    ],
)
def test_a_session_that_came_spoiled_is_known_and_said(bb, base, more, said):
    whole = base.put(
        metadata={"bsess_owner": "me"}, connectUrl="wss://x/", signingKey="s", seleniumRemoteUrl="https://x"
    )
    answering(base, "Sessions_create", {**base.sessions[whole], **more})
    ended = bb.ok("create", "-o", "json")
    assert said in ended.err
    assert ended.sessions[0]["id"] == whole


# Secrets.


def test_no_form_but_creates_shows_what_opens_a_session(bb, base):
    made = bb.create("--label", "job=42")
    base.sessions[made["id"]] |= {"nested": {"token": "canary-1", "list": [{"apiKey": "canary-2"}]}}
    base.sessions[made["id"]] |= {"proxy": "https://u:canary-3@h/", "signingKey": SIGNING}
    for form in ("env", "json", "url", "table", "tsv", "jsonl"):
        for command in (["list", "--label", "job=42"], ["show", made["id"]], ["adopt", made["id"]]):
            shown = bb.ok(*command, "-o", form)
            assert SIGNING not in shown.out + shown.err
            assert "canary" not in shown.out + shown.err
    assert SIGNING in bb.ok("list", "--label", "job=42", "-o", "env", "--show-secrets").out


def test_a_proxys_password_is_in_no_output(bb, base):
    base.misbehave["Sessions_create"] = lambda handler: send(handler, 400, b'{"message": "password PWCANARY9 is weak"}')
    ended = bb.run(
        *("create", "--proxy", "http://u@h:1", "-o", "json", "-v", "--debug"), env={"BSESS_PROXY_PASSWORD": "PWCANARY9"}
    )
    assert ended.code == 1
    told = ended.out + ended.err + bb.ok("history", "-o", "json").out
    assert "is weak" in told
    assert "PWCANARY9" not in told


def test_a_password_without_its_user_is_not_left_out_silently(bb, base):
    ended = bb.run("create", "--proxy", "http://h:80", env={"BSESS_PROXY_PASSWORD": "PWCANARY9"})
    assert ended.code == 2
    assert base.requests == []


def test_a_profiles_url_holds_no_password(bb, base):
    write_config(bb, '[profiles.bb]\nprovider = "browserbase"\nurl = "http://u:PWCANARY9@127.0.0.1:9"\n')
    ended = bb.run("list", "-p", "bb", "-v")
    assert ended.code == 2
    assert "PWCANARY9" not in ended.err


# Words.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "abc12"], "the start of an id needs 6 characters"),
        (["close", "abc12"], "the start of an id needs 6 characters"),
        (["create", "--viewport", "1x1"], "10 to 99999 pixels"),
        (["create", "--ttl", "1s"], "from 1m to 6h"),
        (["create", "--proxy", "us:"], "is not understood"),
        (["create", "--proxy", "socks5://h:1"], "only http:// and https://"),
        (["create", "--label", "bsess_x=1"], "give it another name"),
        (["context", "show", ""], "a context's id"),
        (["list", "--status", "closed"], "did you mean completed?"),
        (["live", "x", "-o", "env"], "has no -o env"),
        (["tag", "-o", "name"], "has no -o name"),
    ],
)
def test_an_error_tells_what_to_do(bb, arguments, said):
    ended = bb.run(*arguments)
    assert ended.code in (1, 2)
    assert said in ended.err
    assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize("operation", ["Sessions_getDebug", "Sessions_getLogs", "Sessions_getRecording"])
@pytest.mark.parametrize("status", [400, 404, 409])
def test_each_refusal_has_a_hint(bb, base, operation, status):
    made = bb.create()
    base.misbehave[operation] = status
    command = {"Sessions_getDebug": "live", "Sessions_getLogs": "logs", "Sessions_getRecording": "recording"}[operation]
    ended = bb.run(command, made["id"])
    assert ended.code == 1
    assert ended.err.splitlines()[1].startswith("hint: ")


def test_a_recording_to_a_dash_is_one_to_standard_output(bb, base):
    made = bb.create()
    assert len(json.loads(bb.ok("recording", made["id"], "--file", "-").out)) == 3
    assert not (bb.folder / "-").exists()


def test_how_long_an_ended_one_would_have_had_is_not_told(bb, base):
    base.put(metadata={"bsess_owner": "me"}, status="COMPLETED")
    shown = bb.ok("list", "-p", "bb", "--status", "completed", "-o", "table").out
    assert "ENDS IN" not in shown


# Rates that few requests meet.


def test_a_handful_keeps_to_a_rate_as_well(bb, base):
    """Too few to learn a rate from: who was refused goes first, one at a time."""
    base.rate = Window(3, 0.4)
    made = bb.ok("create", "--count", "8", "-o", "name").lines
    assert len(set(made)) == 8
    for _ in range(3):
        bb.ok("close", "--all", "--yes")
        assert base.running() == []
        for _ in range(8):
            base.put(metadata={"bsess_owner": "me"})
