"""A token and a session's own secret, in all that bsess writes: they must be nowhere."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

import faults
from fake_browserless import SESSION_SECRET, TOKEN
from worlds import wait_for, write_config

ROUND = [
    ["list", "-o", "json"],
    ["list", "-o", "table"],
    ["list", "-o", "jsonl"],
    ["list", "-o", "url"],
    ["create", "--ttl", "5m"],
    ["create", "--ttl", "5m", "-o", "jsonl"],
    ["bql", "{id}", "query { a }"],
    ["usage"],
    ["sweep", "--dry-run", "-o", "json"],
    ["close", "{id}", "--dry-run"],
    ["close", "{id}", "-o", "json"],
    ["sweep", "--yes", "--older-than", "1s", "--min-age", "1s", "-o", "json"],
    ["close", "--all", "--yes", "--force"],
    ["history", "-o", "json"],
    ["config", "show", "-o", "json"],
    ["close", "no-such-session"],
]
FAULTS = [None, 400, 401, 403, 404, 408, 429, 500, "lost", b"<html>", b'{"id": 1}']


def found_in(text):
    return [secret for secret in (TOKEN, SESSION_SECRET) if secret in text]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_no_output_and_no_ledger_holds_a_secret_whatever_goes_wrong(account, cloud, fault):
    made = account.create("--stealth")
    for kind in ("POST", "DELETE", "bql", "graphql"):
        cloud.misbehave[kind] = fault
    for arguments in ROUND:
        words = [word.format(id=made["id"]) if word == "{id}" else word for word in arguments]
        ended = (
            account.run(*words, "--debug", "-v", "--deadline", "1s") if takes_deadline(words) else account.run(*words)
        )
        assert not found_in(ended.out + ended.err), (words, ended)
    connection = sqlite3.connect(account.state / "ledger.sqlite3")
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert TOKEN not in dump
    for file in account.folder.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file


def takes_deadline(words):
    return words[0] not in ("history", "config")


def test_a_closed_session_leaves_no_secret_in_the_state_folder(account):
    made = account.create("--stealth")
    account.ok("close", made["id"], "--force")
    assert [path for path in account.state.rglob("*") if SESSION_SECRET.encode() in path.read_bytes()] == []


def test_a_bugs_traceback_holds_no_secret(account, cloud):
    made = account.create("--stealth")
    broken = account.folder / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import bsess.http as http\n"
        "def fail(*_, **__):\n"
        "    raise RuntimeError('a bug')\n"
        "http.Client.failure = http.Client.json = fail\n"
    )
    cloud.misbehave["DELETE"] = cloud.misbehave["POST"] = 400
    for arguments in (["close", made["id"]], ["create"], ["list"]):
        ended = account.run(*arguments, "--debug", "-v", env={"PYTHONPATH": str(broken)})
        assert "a bug" in ended.err
        assert "Traceback" in ended.err
        assert not found_in(ended.out + ended.err)


def test_the_process_list_shows_no_secret(account):
    silent = faults.FaultServer(faults.silence)
    write_config(account, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{silent.url}"\n')
    try:
        give_a_token_command(account)
        creating = account.start("create", "--timeout", "20s", env={"BROWSERLESS_TOKEN": ""})
        assert wait_for(lambda: silent.requests, 20)
        assert shown_by_processes() == []
        creating.terminate()
        creating.communicate(timeout=20)
    finally:
        silent.close()


def give_a_token_command(account):
    secret = account.folder / "token"
    secret.write_text(TOKEN)
    account.config.write_text(
        account.config.read_text().replace("[profiles.work]", f'[profiles.work]\ntoken_command = "cat {secret}"')
    )
    account.config.chmod(0o600)


def shown_by_processes():
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            try:
                text = (entry / name).read_bytes().decode(errors="replace")
            except OSError:
                continue
            # Other tests of this machine may run beside this one, and their variables are theirs.
            if found_in(text) and ("bsess" in text) and name == "cmdline":
                found.append((entry.name, text))
    return found


def test_a_command_that_run_starts_gets_the_url_by_its_environment_alone(account):
    process = account.start("run", "--", "sh", "-c", "echo ready; read line", stdin=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "ready\n"
        seen = shown_by_processes()
    finally:
        process.communicate("\n", timeout=30)
    assert seen == []
