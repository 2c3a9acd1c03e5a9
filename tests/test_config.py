"""Settings: which wins, where each came from, and a config file that bsess writes once and never again."""

from __future__ import annotations

import os
import sqlite3
import stat
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from worlds import write_config


def settings(world, **variables):
    """Return key -> (value, source) as `config show` tells them."""
    lines = world.ok("config", "show", "-o", "json", env=variables).json["data"]["settings"]
    return {line["key"]: (line["value"], line["source"]) for line in lines}


# Where a setting comes from


def test_without_a_file_and_variables_everything_is_a_default(world):
    world.config.unlink()
    found = settings(world)
    assert found["config"] == (f"{world.config} (no such file)", "env BSESS_CONFIG")
    for key in (
        "owner",
        "run",
        "default",
        "sweep.protect",
        "sweep.min_age",
        "sweep.max_close",
        "profiles.local.provider",
    ):
        assert found[key][1] == "default", key
    assert found["default"][0] == found["profiles.local.provider"][0] == "local"
    assert found["sweep.min_age"][0] == "60s"


def test_the_default_owner_is_user_at_host(any_world):
    name = "root" if any_world.uid == 0 else "nobody"
    if os.geteuid() != 0:
        name = os.environ["USER"]
    assert settings(any_world)["owner"] == (f"{name}@{os.uname().nodename}", "default")


def test_the_file_wins_over_the_defaults(world):
    write_config(
        world,
        'default = "work"\nowner = "crawl-team"\n[profiles.work]\nprovider = "local"\nttl = "10m"\n'
        '[sweep]\nmin_age = "2m"\nmax_close = 50\nprotect = ["label:demo", "id:abc"]\n',
    )
    found = settings(world)
    assert found["owner"] == ("crawl-team", "config.toml owner")
    assert found["default"] == ("work", "config.toml default")
    assert found["profiles.work.ttl"] == ("10m", "config.toml profiles.work.ttl")
    assert found["sweep.min_age"] == ("120s", "config.toml sweep.min_age")
    assert found["sweep.max_close"] == ("50", "config.toml sweep.max_close")
    assert found["sweep.protect"] == ("label:demo, id:abc", "config.toml sweep.protect")


def test_the_environment_wins_over_the_file(world):
    write_config(world, 'default = "local"\nowner = "file"\n[profiles.work]\nprovider = "local"\nexecutable = "/a"\n')
    found = settings(world, BSESS_OWNER="env", BSESS_PROFILE="work", BSESS_EXECUTABLE="/b")
    assert found["owner"] == ("env", "env BSESS_OWNER")
    assert found["default"] == ("work", "env BSESS_PROFILE")
    assert found["profiles.work.executable"] == ("/b", "env BSESS_EXECUTABLE")


def test_a_flag_wins_over_the_environment(world):
    ended = world.run("create", "--executable", "/bin/false", env={"BSESS_EXECUTABLE": "/bin/true"})
    assert "/bin/false ended" in ended.err


def test_an_empty_variable_counts_as_none(world):
    write_config(world, 'owner = "file"\n')
    assert settings(world, BSESS_OWNER="", BSESS_PROFILE="", BSESS_EXECUTABLE="")["owner"] == (
        "file",
        "config.toml owner",
    )


def test_the_executable_of_the_environment_is_started(world):
    assert "/bin/false ended" in world.run("create", env={"BSESS_EXECUTABLE": "/bin/false"}).err


def test_the_profile_of_the_environment_is_used(world):
    write_config(world, '[profiles.broken]\nprovider = "local"\nexecutable = "/bin/false"\n')
    assert "/bin/false ended" in world.run("create", env={"BSESS_PROFILE": "broken"}).err


def test_a_secret_in_a_url_is_masked(world):
    write_config(world, '[profiles.grid]\nprovider = "local"\nurl = "http://user:hunter2@grid:4444/x"\n')
    ended = world.ok("config", "show")
    assert "hunter2" not in ended.out
    assert "http://***@grid:4444/x" in ended.out


@pytest.mark.parametrize("query", ["?token=hunter2", "?apiKey=hunter2&x=1"])
def test_a_token_in_a_urls_query_is_masked(world, query):
    write_config(world, f'[profiles.grid]\nprovider = "local"\nurl = "wss://grid:4444/{query}"\n')
    assert "hunter2" not in world.ok("config", "show").out


# Folders


def test_config_path_is_where_the_file_is_or_would_be(world):
    assert world.ok("config", "path").out == f"{world.config}\n"
    world.config.unlink()
    assert world.ok("config", "path").out == f"{world.config}\n"


def test_without_variables_the_folders_are_those_of_the_home(world):
    home = world.folder / "home"
    found = settings(world, BSESS_CONFIG="", BSESS_STATE_DIR="")
    assert found["config"] == (f"{home}/.config/bsess/config.toml (no such file)", "default")
    assert found["state_dir"] == (f"{home}/.local/state/bsess", "default")


def test_the_folders_of_the_xdg_specification_are_obeyed(world):
    found = settings(world, BSESS_CONFIG="", BSESS_STATE_DIR="", XDG_CONFIG_HOME="/x/c", XDG_STATE_HOME="/x/s")
    assert found["config"][0].startswith("/x/c/bsess/config.toml")
    assert found["state_dir"][0] == "/x/s/bsess"


def test_a_relative_xdg_folder_is_ignored(world):
    found = settings(world, BSESS_CONFIG="", BSESS_STATE_DIR="", XDG_CONFIG_HOME="x", XDG_STATE_HOME="y")
    assert found["state_dir"][0] == f"{world.folder}/home/.local/state/bsess"


def test_a_tilde_in_a_variable_is_the_home(world):
    found = settings(world, BSESS_CONFIG="~/c.toml", BSESS_STATE_DIR="~/s")
    assert found["state_dir"] == (f"{world.folder}/home/s", "env BSESS_STATE_DIR")
    assert found["config"][0].startswith(f"{world.folder}/home/c.toml")


def test_the_default_state_folder_is_made_closed_to_others_with_its_parents(world):
    world.ok("list", env={"BSESS_STATE_DIR": ""})
    made = world.folder / "home" / ".local" / "state" / "bsess"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


# The run


@pytest.mark.parametrize(
    ("variables", "run", "source"),
    [
        ({}, "", "default"),
        ({"BSESS_RUN": "r-1"}, "r-1", "env BSESS_RUN"),
        ({"GITHUB_RUN_ID": "77"}, "77", "env GITHUB_RUN_ID"),
        ({"GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "2"}, "77.2", "env GITHUB_RUN_ID"),
        ({"GITHUB_RUN_ATTEMPT": "2"}, "", "default"),
        ({"CI_PIPELINE_ID": "88"}, "88", "env CI_PIPELINE_ID"),
        ({"BUILD_TAG": "jenkins-a-1"}, "jenkins-a-1", "env BUILD_TAG"),
        (
            {"BSESS_RUN": "mine", "GITHUB_RUN_ID": "77", "CI_PIPELINE_ID": "88", "BUILD_TAG": "b"},
            "mine",
            "env BSESS_RUN",
        ),
        ({"BSESS_RUN": "", "CI_PIPELINE_ID": "88", "BUILD_TAG": "b"}, "88", "env CI_PIPELINE_ID"),
    ],
)
def test_the_run_is_the_ci_systems_own(world, variables, run, source):
    assert settings(world, **variables)["run"] == (run, source)


@pytest.mark.parametrize("run", ["a\x1bb", "a\nb", "x" * 300])
def test_a_run_that_cannot_be_one_is_a_usage_error_naming_the_variable(world, run):
    ended = world.run("list", env={"CI_PIPELINE_ID": run})
    assert ended.code == 2
    assert "CI_PIPELINE_ID" in ended.err
    assert "\x1b" not in ended.err


def test_the_run_of_the_environment_is_the_sessions_and_selects_it(world):
    made = world.create(env={"GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "2"})
    assert made["run"] == "77.2"
    assert world.ok("list", "--run", "-o", "json", env={"BSESS_RUN": "77.2"}).sessions[0]["id"] == made["id"]
    assert world.ok("list", "--run-id", "78.1").out == ""
    world.ok("close", "--run", "--yes", "--force", env={"BSESS_RUN": "other"})
    assert world.folders() == [made["id"]]
    world.ok("close", "--run-id", "77.2", "--yes", "--force")
    world.assert_nothing_left()


def test_this_run_where_none_is_known_is_a_usage_error(world):
    ended = world.run("close", "--run", "--yes")
    assert ended.code == 2
    assert "BSESS_RUN" in ended.err


# A new file


def test_init_writes_a_file_that_only_its_owner_reads_and_bsess_accepts(any_world):
    any_world.config.unlink()
    assert any_world.ok("config", "init").out == f"{any_world.config}\n"
    assert stat.S_IMODE(any_world.config.stat().st_mode) == 0o600
    found = settings(any_world)
    assert found["config"] == (str(any_world.config), "env BSESS_CONFIG")
    assert found["owner"][1] == "config.toml owner"
    assert found["default"] == ("local", "config.toml default")


def test_init_makes_the_folders_it_needs(world):
    path = world.folder / "a" / "b" / "c.toml"
    world.ok("config", "init", env={"BSESS_CONFIG": str(path)})
    assert tomllib.loads(path.read_text())["default"] == "local"


@pytest.mark.parametrize("owner", ['a"b', "a'b", "a\\b", "zoë", "[x]", "a = b"])
def test_init_writes_the_owners_name_so_that_it_is_read_back(world, owner):
    world.config.unlink()
    world.ok("config", "init", env={"BSESS_OWNER": owner})
    assert settings(world)["owner"] == (owner, "config.toml owner")


@pytest.mark.parametrize("kind", ["file", "empty file", "dangling symlink", "folder"])
def test_init_never_overwrites(world, kind):
    world.config.unlink()
    if kind.endswith("file"):
        world.config.write_text("" if kind == "empty file" else 'owner = "me"\n')
    elif kind == "folder":
        world.config.mkdir()
    else:
        world.config.symlink_to(world.folder / "elsewhere")
    before = None if kind == "folder" or not world.config.exists() else world.config.read_bytes()
    ended = world.run("config", "init")
    assert ended.code == 2, ended.err
    assert str(world.config) in ended.err
    assert not (world.folder / "elsewhere").exists()
    assert before is None or world.config.read_bytes() == before


def test_init_where_it_may_not_write_fails_in_a_line(world):
    ended = world.run("config", "init", env={"BSESS_CONFIG": "/proc/bsess/config.toml"})
    assert ended.code == 1
    assert "/proc/bsess" in ended.err
    assert len(ended.err.splitlines()) <= 2


def test_the_examples_in_a_new_file_are_valid(world):
    world.config.unlink()
    world.ok("config", "init")
    text = world.config.read_text()
    head, _, example = text.partition("# Any number of profiles")
    lines = [line.removeprefix("# ").removeprefix("#") for line in example.splitlines()[1:]]
    world.config.write_text(head + "\n".join(lines) + "\n")
    found = settings(world)
    assert found["profiles.headed.ttl"][0] == "30m"
    assert found["sweep.protect"][0] == "label:demo, id:abc234"


# What a profile brings


def seconds_left(session):
    created, expires = (datetime.fromisoformat(session[key]) for key in ("created_at", "expires_at"))
    return (expires - created).total_seconds()


def test_the_ttl_is_the_flags_else_the_profiles_else_a_quarter_of_an_hour(world):
    assert abs(seconds_left(world.create()) - 900) <= 1
    write_config(
        world, '[profiles.short]\nprovider = "local"\nttl = "7m"\nargs = ["--disable-background-networking"]\n'
    )
    assert abs(seconds_left(world.create("-p", "short")) - 420) <= 1
    assert abs(seconds_left(world.create("-p", "short", "--ttl", "90s")) - 90) <= 1
    world.ok("close", "--all", "--yes", "--force")


def test_a_profiles_labels_are_its_sessions_and_a_flag_wins(world):
    write_config(world, '[profiles.team]\nprovider = "local"\nlabels = { team = "crawl", a = "1" }\n')
    made = world.create("-p", "team", "--label", "a=2", "--label", "b")
    assert made["labels"] == {"team": "crawl", "a": "2", "b": ""}
    world.ok("close", made["id"], "--force")


def test_a_profiles_arguments_come_before_those_of_the_flags(world):
    write_config(world, '[profiles.args]\nprovider = "local"\nargs = ["--lang=de", "--disable-sync"]\n')
    world.create("-p", "args", "--arg=--lang=fr")
    started = (Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid, _ in world.processes())
    line = next(text for text in started if "--remote-debugging-port=0" in text and " --type=" not in text)
    assert line.index("--lang=de") < line.index("--lang=fr")
    assert "--disable-sync" in line
    world.ok("close", "--all", "--yes", "--force")


# Protection


@pytest.mark.parametrize("rule", ["label:demo", "label:demo=1", "id:{id}"])
def test_what_the_config_protects_is_spared_by_close_all_and_sweep_but_not_by_its_id(world, rule):
    made = world.create("--label", "demo=1")
    write_config(world, f'[sweep]\nprotect = ["{rule.format(id=made["id"][:8])}"]\n')
    ended = world.run("close", "--all", "--yes", "-o", "json")
    assert [row["outcome"] for row in ended.outcomes] == ["protected"]
    world.ok("sweep", "--older-than", "1s", "--min-age", "0s", "--yes")
    assert world.folders() == [made["id"]]
    assert world.ok("close", made["id"], "--force", "-o", "json").outcomes[0]["outcome"] == "closed"


def test_a_label_with_another_value_is_not_protected(world):
    made = world.create("--label", "demo=2")
    write_config(world, '[sweep]\nprotect = ["label:demo=1", "id:zzzzzzzz"]\n')
    assert world.ok("close", "--all", "--yes", "--force", "-o", "json").outcomes[0]["id"] == made["id"]
    world.assert_nothing_left()


@pytest.mark.parametrize("rule", ["keep", "label:", "id:", "owner:me", "", "Label:x", " label:x"])
def test_a_rule_that_would_protect_nothing_is_refused(world, rule):
    write_config(world, f'[sweep]\nprotect = ["{rule}"]\n')
    ended = world.run("sweep", "--yes")
    assert ended.code == 2
    assert "sweep.protect" in ended.err
    assert world.run("sweep", "--yes", "--protect", rule).code == 2


def test_a_config_that_is_named_must_be_there(world):
    world.config.unlink()
    for arguments in (["list"], ["create"], ["sweep", "--yes"], ["close", "--all", "--yes"], ["run", "--", "true"]):
        ended = world.run(*arguments)
        assert ended.code == 2, arguments
        assert str(world.config) in ended.err
    world.ok("config", "show")
    world.ok("config", "init")
    world.ok("list")


@pytest.mark.parametrize("text", ["[sweep]\nmax_close = -1\n", "a = " + "[" * 5000])
def test_a_config_that_makes_no_sense_is_a_usage_error(world, text):
    world.config.write_text(text)
    ended = world.run("list")
    assert ended.code == 2
    assert str(world.config) in ended.err


def test_a_config_that_is_no_file_is_refused_and_not_waited_for(world):
    world.config.unlink()
    os.mkfifo(world.config)
    assert world.run("list", timeout=10).code == 2


def test_an_empty_run_selects_nothing_and_is_said(world):
    assert world.run("close", "--run-id", "", "--yes").code == 2


def test_a_token_file_that_others_can_read_draws_a_warning(world, cloud):
    secret = world.folder / "token"
    secret.write_text("canary-token-4711")
    secret.chmod(0o644)
    write_config(world, f'[profiles.w]\nprovider = "browserless"\nurl = "{cloud.url}"\ntoken_file = "{secret}"\n')
    assert f"chmod 600 {secret}" in world.ok("create", "-p", "w").err


def test_the_row_of_a_profile_that_is_gone_lapses_with_its_ttl(world, cloud):
    world.variables["BROWSERLESS_TOKEN"] = "canary-token-4711"
    profile = f'[profiles.w]\nprovider = "browserless"\nurl = "{cloud.url}"\n'
    write_config(world, profile)
    world.create("-p", "w")
    write_config(world)
    world.variables["BROWSERLESS_TOKEN"] = ""
    assert world.run("list").code == 3
    with sqlite3.connect(world.state / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE session SET expires_at = expires_at - 2000")
    ledger.close()
    world.ok("sweep", "--yes")
    assert world.rows() == []
