"""Whose a session is, and what may become of it: through the real executable, on somebody else's provider."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from worlds import write_config

PLUGIN = Path(__file__).parent / "plugin"


class Account:
    """The account behind the `filed` profiles of a world."""

    def __init__(self, world, name="account"):
        self.path = world.folder / f"{name}.json"
        self._world = world
        self._write({"sessions": {}, "faults": {}, "calls": []})

    @property
    def sessions(self):
        return self._read()["sessions"]

    @property
    def calls(self):
        return self._read()["calls"]

    def fail(self, **faults):
        self._write({**self._read(), "faults": faults})

    def put(self, session_id, **record):
        """Put a session there that bsess did not make."""
        content = self._read()
        content["sessions"][session_id] = {"created_at": time.time() - 3600, "expires_at": time.time() + 3600, **record}
        self._write(content)

    def change(self, session_id, **record):
        content = self._read()
        content["sessions"][session_id].update(record)
        self._write(content)

    def forget_calls(self):
        self._write({**self._read(), "calls": []})

    def _read(self):
        return json.loads(self.path.read_text())

    def _write(self, content):
        self.path.write_text(json.dumps(content))


@pytest.fixture
def account(world):
    made = Account(world)
    world.variables |= {"PYTHONPATH": str(PLUGIN), "BSESS_OWNER": "me"}
    write_config(world, f'default = "work"\n[profiles.work]\nprovider = "filed"\nurl = "{made.path}"\n')
    return made


def outcome_of(ended):
    assert len(ended.outcomes) == 1
    return ended.outcomes[0]["outcome"]


def test_a_provider_of_another_package_is_found_by_its_entry_point(world, account):
    assert world.create()["provider"] == "filed"


def test_an_unknown_provider_is_named_with_its_nearest(world, account):
    write_config(world, '[profiles.x]\nprovider = "filled"\n')
    ended = world.run("create", "-p", "x")
    assert ended.code == 2
    assert "did you mean filed?" in ended.err


def test_a_session_without_my_tag_is_foreign(world, account):
    account.put("filed-aaaaaaaa", owner=None)
    account.put("filed-bbbbbbbb", owner="she")
    account.put("filed-cccccccc", owner="me")
    shown = {item["id"]: item["mine"] for item in world.ok("list", "-p", "work", "-o", "json").sessions}
    assert shown == {"filed-aaaaaaaa": False, "filed-bbbbbbbb": False, "filed-cccccccc": True}


def test_no_sweep_and_no_close_all_ends_a_foreign_session(world, account):
    account.put("filed-aaaaaaaa", owner=None, expires_at=time.time() - 3600)
    account.put("filed-bbbbbbbb", owner="she", expires_at=time.time() - 3600)
    world.ok("sweep", "--yes", "--older-than", "1s", "--min-age", "1s")
    world.ok("close", "--all", "--yes", "--force")
    assert sorted(account.sessions) == ["filed-aaaaaaaa", "filed-bbbbbbbb"]
    assert not [call for call in account.calls if call.startswith("close")]


def test_a_typed_foreign_id_is_ended_and_said_to_be_foreign(world, account):
    account.put("filed-bbbbbbbb", owner="she")
    ended = world.ok("close", "filed-bbbbbbbb", "-o", "json")
    assert outcome_of(ended) == "closed"
    assert ended.outcomes[0]["reason"] == "foreign: she's, ended because its id was given"
    assert account.sessions == {}


@pytest.mark.parametrize("owner", ["she", None])
def test_a_foreign_id_from_stdin_is_skipped(world, account, owner):
    account.put("filed-bbbbbbbb", owner=owner)
    assert outcome_of(world.ok("close", "-", "-o", "json", stdin="filed-bbbbbbbb\n")) == "skipped"
    assert "filed-bbbbbbbb" in account.sessions


def test_an_unknown_id_from_stdin_is_skipped_and_never_sent(world, account):
    assert outcome_of(world.ok("close", "-", "-o", "json", stdin="filed-dddddddd\n")) == "skipped"
    assert not [call for call in account.calls if call.startswith("close")]


def test_a_foreign_id_from_stdin_is_ended_with_foreign(world, account):
    account.put("filed-bbbbbbbb", owner="she")
    assert outcome_of(world.ok("close", "-", "--foreign", "-o", "json", stdin="filed-bbbbbbbb\n")) == "closed"


def test_an_id_from_stdin_that_is_mine_by_its_tag_alone_is_ended(world, account):
    account.put("filed-cccccccc", owner="me")
    assert outcome_of(world.ok("close", "-", "-o", "json", stdin="filed-cccccccc\n")) == "closed"


def test_an_orphan_known_by_its_tag_alone_is_swept(world, account):
    account.put("filed-cccccccc", owner="me", expires_at=time.time() - 10)
    account.put("filed-eeeeeeee", owner="me")
    ended = world.ok("sweep", "--yes", "-o", "json")
    assert [item["id"] for item in ended.outcomes] == ["filed-cccccccc"]
    assert list(account.sessions) == ["filed-eeeeeeee"]


def test_an_unknown_typed_id_is_not_found(world, account):
    ended = world.run("close", "filed-dddddddd", "-o", "json")
    assert (ended.code, outcome_of(ended)) == (1, "not_found")


def test_ignore_not_found_makes_that_a_success(world, account):
    assert outcome_of(world.ok("close", "filed-dddddddd", "--ignore-not-found", "-o", "json")) == "not_found"


def test_a_404_for_an_id_of_my_ledger_is_already_closed(world, account):
    made = world.create()
    account._write({"sessions": {}, "faults": {}, "calls": []})
    assert outcome_of(world.ok("close", made["id"], "-o", "json")) == "already_closed"
    assert world.rows() == []


def test_a_close_without_wait_is_one_request(world, account):
    made = world.create()
    account.forget_calls()
    world.ok("close", made["id"], "--force")
    assert account.calls == [f"close {made['id']} force"]


def test_an_accepted_close_is_closing_and_keeps_the_row(world, account):
    made = world.create()
    account.fail(close="accepted")
    ended = world.ok("close", made["id"], "-o", "json")
    assert outcome_of(ended) == "closing"
    assert ended.outcomes[0]["provider_status"] == "REQUEST_RELEASE"
    assert len(world.rows()) == 1


def test_an_accepted_close_that_stays_listed_is_stuck_after_the_wait(world, account):
    made = world.create()
    account.fail(close="accepted")
    ended = world.run("close", made["id"], "--wait-timeout", "1s", "-o", "json")
    assert (ended.code, outcome_of(ended)) == (1, "stuck")
    assert world.rows()[0]["failure"]


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        ("silent", "unknown", 5),
        ("lost", "unknown", 5),
        ("refused", "failed", 1),
        ("forbidden", "failed", 4),
        ("full", "failed", 6),
    ],
)
def test_a_close_that_cannot_be_proven_is_never_called_closed(world, account, fault, outcome, code):
    made = world.create()
    account.fail(close=fault)
    ended = world.run("close", made["id"], "-o", "json")
    assert (ended.code, outcome_of(ended)) == (code, outcome)
    assert ended.json["errors"][0]["session"] == made["id"]
    assert [row["id"] for row in world.rows()] == [made["id"]]


def test_what_failed_before_is_ended_by_the_next_sweep(world, account):
    made = world.create()
    account.fail(close="silent")
    world.run("close", made["id"])
    account.fail()
    ended = world.ok("sweep", "--yes", "-o", "json")
    assert outcome_of(ended) == "closed"
    assert account.sessions == {}
    assert world.rows() == []


def test_some_closed_and_some_not_is_partial(world, account):
    made = world.create()
    ended = world.run("close", made["id"], "filed-dddddddd", "-o", "json")
    assert ended.code == 3
    assert ended.json["status"] == "partial"


def test_a_create_whose_answer_was_lost_is_not_repeated_and_is_swept_by_its_tag(world, account):
    account.fail(create="lost")
    ended = world.run("create")
    assert ended.code == 5
    assert len(account.sessions) == 1
    assert [row["state"] for row in world.rows()] == ["intent"]
    account.fail()
    world.ok("sweep", "--yes")
    assert account.sessions == {}
    assert world.rows() == []


def test_a_create_that_never_arrived_is_cleared_by_the_next_sweep(world, account):
    account.fail(create="silent")
    assert world.run("create").code == 5
    world.ok("sweep", "--yes")
    assert world.rows() == []


@pytest.mark.parametrize(("fault", "code"), [("refused", 1), ("forbidden", 4), ("full", 6)])
def test_a_refused_create_leaves_no_row(world, account, fault, code):
    account.fail(create=fault)
    ended = world.run("create", "-o", "json")
    assert ended.code == code
    assert ended.json["errors"]
    assert world.rows() == []


def test_a_profile_that_cannot_be_listed_makes_it_partial_and_the_others_are_shown(world, account):
    other = Account(world, "other")
    write_config(
        world,
        f'default = "work"\n[profiles.work]\nprovider = "filed"\nurl = "{account.path}"\n'
        f'[profiles.down]\nprovider = "filed"\nurl = "{other.path}"\n',
    )
    made = world.create()
    other.fail(list="silent")
    ended = world.run("list", "-o", "json")
    assert ended.code == 3
    assert [item["id"] for item in ended.sessions] == [made["id"]]
    assert "profile down" in ended.json["errors"][0]["message"]


def test_a_profile_that_cannot_be_listed_does_not_stop_the_sweep_of_the_others(world, account):
    other = Account(world, "other")
    write_config(
        world,
        f'default = "work"\n[profiles.work]\nprovider = "filed"\nurl = "{account.path}"\n'
        f'[profiles.down]\nprovider = "filed"\nurl = "{other.path}"\n',
    )
    account.put("filed-cccccccc", owner="me", expires_at=time.time() - 10)
    other.fail(list="silent")
    ended = world.run("sweep", "--yes", "-o", "json")
    assert ended.code == 3
    assert account.sessions == {}
    assert "profile down" in ended.json["data"]["errors"][0]["message"]


def test_a_profile_that_is_gone_from_the_config_but_has_open_rows_is_reported(world, account):
    world.create()
    write_config(world)
    ended = world.run("sweep", "--yes")
    assert ended.code == 3
    assert "profile work" in ended.err


def test_the_only_profile_asked_for_that_cannot_be_listed_gives_its_own_code(world, account):
    account.fail(list="forbidden")
    assert world.run("list", "-p", "work").code == 4


def test_two_profiles_of_one_account_show_each_session_once(world, account):
    write_config(
        world,
        f'default = "work"\n[profiles.work]\nprovider = "filed"\nurl = "{account.path}"\n'
        f'[profiles.same]\nprovider = "filed"\nurl = "{account.path}"\nttl = "5m"\n',
    )
    made = world.create("-p", "same")
    assert [(item["id"], item["profile"]) for item in world.ok("list", "-o", "json").sessions] == [(made["id"], "same")]


def test_tag_prints_what_makes_a_session_mine(world, account):
    tag = world.ok("tag", "--label", "job=1", "-o", "json").json["data"]["tag"]
    assert tag == {"owner": "me", "job": "1"}


def test_tag_is_refused_where_a_provider_takes_none(world, account):
    ended = world.run("tag", "-p", "local")
    assert ended.code == 2
    assert "carry no tag" in ended.err


def test_an_adopted_session_is_mine_and_is_ended_by_close_all(world, account):
    account.put("filed-bbbbbbbb", owner=None)
    adopted = world.ok("adopt", "filed-bbbbbbbb", "--label", "job=1", "-o", "json").sessions[0]
    assert (adopted["mine"], adopted["owner"], adopted["labels"]) == (True, "me", {"job": "1"})
    world.ok("close", "--all", "--yes")
    assert account.sessions == {}


def test_an_adopted_session_is_swept_when_its_ttl_passes(world, account):
    account.put("filed-bbbbbbbb", owner=None)
    world.ok("adopt", "filed-bbbbbbbb", "--ttl", "1s")
    time.sleep(1.0)  # its ttl is what is waited for
    world.ok("sweep", "--yes")
    assert account.sessions == {}


def test_what_is_not_there_cannot_be_adopted(world, account):
    ended = world.run("adopt", "filed-dddddddd")
    assert ended.code == 1
    assert "filed-dddddddd" in ended.err


@pytest.mark.parametrize("label", ["keep", "keep-until=2100-01-01T00:00:00Z"])
def test_a_protected_session_is_spared_but_by_its_typed_id(world, account, label):
    made = world.create("--label", label, "--ttl", "1s")
    account.change(made["id"], expires_at=time.time() - 10)
    world.ok("sweep", "--yes")
    assert outcome_of(world.ok("close", "--all", "--yes", "-o", "json")) == "protected"
    assert outcome_of(world.ok("close", "-", "-o", "json", stdin=made["id"])) == "protected"
    assert made["id"] in account.sessions
    assert outcome_of(world.ok("close", made["id"], "-o", "json")) == "closed"


def test_protect_in_the_config_spares(world, account):
    config = world.config.read_text()
    world.config.write_text(config + '[sweep]\nprotect = ["label:demo"]\n')
    account.put("filed-cccccccc", owner="me", expires_at=time.time() - 10, labels={"demo": ""})
    world.ok("sweep", "--yes")
    assert "filed-cccccccc" in account.sessions


def test_a_prefix_of_six_characters_is_enough_and_an_ambiguous_one_names_the_candidates(world, account):
    first, second = world.create(), world.create()
    ended = world.run("close", "filed-")
    assert ended.code == 2
    assert first["id"] in ended.err
    assert second["id"] in ended.err
    assert outcome_of(world.ok("close", first["id"], "-o", "json")) == "closed"
    assert outcome_of(world.ok("close", "filed-0", "-o", "json")) == "closed"


def test_a_prefix_of_five_characters_is_no_prefix(world, account):
    world.create()
    assert world.run("close", "filed").code == 1
    assert len(account.sessions) == 1


def test_an_exact_id_comes_before_a_prefix(world, account):
    account.put("filed-00000000", owner="me")
    account.put("filed-000000001", owner="me")
    world.ok("adopt", "filed-00000000")
    assert outcome_of(world.ok("close", "filed-00000000", "-o", "json")) == "closed"
    assert list(account.sessions) == ["filed-000000001"]


def test_close_by_label_ends_mine_with_that_label_and_nothing_else(world, account):
    wanted, other = world.create("--label", "job=42"), world.create("--label", "job=43")
    account.put("filed-bbbbbbbb", owner="she", labels={"job": "42"})
    world.ok("close", "--label", "job=42", "--yes")
    assert sorted(account.sessions) == sorted([other["id"], "filed-bbbbbbbb"])
    assert wanted["id"] not in account.sessions


def test_close_by_run_ends_the_sessions_of_this_run(world, account):
    world.create(env={"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1"})
    other = world.create(env={"GITHUB_RUN_ID": "8"})
    world.ok("close", "--run", "--yes", env={"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1"})
    assert list(account.sessions) == [other["id"]]


def test_close_by_run_without_a_run_is_refused(world, account):
    assert world.run("close", "--run", "--yes").code == 2


def test_a_dry_run_sends_reads_only(world, account):
    world.create("--ttl", "1s")
    account.change("filed-00000000", expires_at=time.time() - 10)
    account.forget_calls()
    ended = world.ok("sweep", "--dry-run", "-o", "json")
    assert [item["decision"] for item in ended.json["data"]["decisions"]] == ["end"]
    assert ended.outcomes == []
    assert set(account.calls) == {"list"}


def test_the_dry_run_and_the_run_choose_the_same(world, account):
    for index in range(6):
        account.put(f"filed-0000000{index}", owner="me" if index % 2 else "she", expires_at=time.time() - 10)
    dry = world.ok("sweep", "--dry-run", "-o", "json").json["data"]["decisions"]
    acted = world.ok("sweep", "--yes", "-o", "json").outcomes
    assert sorted(item["id"] for item in dry if item["decision"] == "end") == sorted(item["id"] for item in acted)


def test_a_sweep_says_why_in_the_history(world, account):
    world.create("--ttl", "1s")
    account.change("filed-00000000", expires_at=time.time() - 10)
    world.ok("sweep", "--yes")
    last = world.ok("history", "-o", "json").json["data"]["events"][-1]
    assert (last["event"], last["outcome"]) == ("swept", "closed")
    assert last["reason"].startswith("ttl passed")


def test_a_second_sweep_finds_the_lock_and_leaves(world, account):
    import fcntl

    account.put("filed-cccccccc", owner="me", expires_at=time.time() - 10)
    world.ok("list")
    with (world.state / "sweep.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert world.run("sweep", "--yes").code == 75
        assert world.run("sweep", "--dry-run").code == 0
    assert "filed-cccccccc" in account.sessions


def test_the_connect_urls_secret_is_nowhere_but_where_it_was_asked_for(world, account):
    made = world.create()
    assert "canary-secret" in made["connect_url"]
    told = [
        world.ok("list", "-o", form).out + world.ok("history", "-o", "json").out
        for form in ("json", "jsonl", "tsv", "table", "url")
    ]
    told.append(world.ok("close", made["id"], "-o", "json", "-v", "--debug").out)
    assert not [text for text in told if "canary" in text]
    for path in world.state.iterdir():
        assert b"canary-secret" not in path.read_bytes(), path


def test_of_a_close_and_a_sweep_at_once_one_acts(world, account):
    made = world.create()
    account.change(made["id"], expires_at=time.time() - 10)
    account.forget_calls()
    running = [world.start("close", made["id"], "-o", "json"), world.start("sweep", "--yes", "-o", "json")]
    codes = [process.wait(30) for process in running]
    for process in running:
        process.communicate()
    assert codes == [0, 0]
    assert len([call for call in account.calls if call.startswith("close")]) == 1


@pytest.mark.parametrize("limited_by", ["flag", "config"])
def test_over_the_limit_nothing_is_ended(world, account, limited_by):
    for index in range(3):
        account.put(f"filed-0000000{index}", owner="me", expires_at=time.time() - 10)
    if limited_by == "config":
        world.config.write_text(world.config.read_text() + "[sweep]\nmax_close = 2\n")
    arguments = ["--max-close", "2"] if limited_by == "flag" else []
    assert world.run("sweep", "--yes", *arguments).code == 7
    assert len(account.sessions) == 3
    assert world.run("sweep", "--yes", "--max-close", "3").code == 0
    assert account.sessions == {}


def test_the_start_of_anothers_id_is_no_consent_to_end_it(world):
    made = world.create(env={"BSESS_OWNER": "bob"})
    ended = world.run("close", made["id"][:8])
    assert ended.code == 2
    assert "bob" in ended.err
    assert len(world.rows()) == 1
    world.ok("close", made["id"])


@pytest.mark.parametrize("status", ["runing", "bogus", ""])
def test_a_status_that_there_is_not_is_refused(world, status):
    assert world.run("list", "--status", status).code == 2
