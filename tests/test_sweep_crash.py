"""A sweep killed with -9 at every step, then another sweep: the same end as of one that nobody disturbed."""

from __future__ import annotations

import copy
import shutil
import signal
import sqlite3
import subprocess
import time
from itertools import count
from pathlib import Path

import pytest

from fake_browserbase import API_KEY
from fake_browserless import TOKEN
from worlds import write_config

KILLING = Path(__file__).parent / "killing"
SWEEP = ("sweep", "--yes", "--older-than", "1h", "--workers", "1")


class Accounts:
    """Two clouds and a ledger with one of each kind of session, and a way back to how all was."""

    def __init__(self, world, base, cloud):
        self.world, self.base, self.cloud = world, base, cloud
        world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BROWSERLESS_TOKEN": TOKEN, "BSESS_OWNER": "me"}
        write_config(
            world,
            f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{base.url}"\n'
            f'[profiles.bl]\nprovider = "browserless"\nurl = "{cloud.url}"\n',
        )
        base.put(metadata={"bsess_owner": "she"}, age=7200, ttl=60)
        base.put(metadata={"bsess_owner": "me", "keep": ""}, age=7200, ttl=60)
        self.tagged = base.put(metadata={"bsess_owner": "me"}, age=7200, ttl=60)
        world.create("-p", "bb")
        self.by_dead_owner("bb")
        self.by_dead_owner("bl")
        self.killed_create("call:Client._exchange")
        self.killed_create("return:Client._exchange")
        base.release_seconds = 0.05
        self._state = world.folder / "before"
        shutil.copytree(world.state, self._state)
        self._sessions = copy.deepcopy((base.sessions, cloud.sessions))

    def by_dead_owner(self, profile):
        with subprocess.Popen(["sleep", "600"]) as owner:
            made = self.world.create("-p", profile, "--owner-pid", str(owner.pid))
            owner.kill()
        return made

    def killed_create(self, point):
        ended = self.world.run("create", "-p", "bb", env={"PYTHONPATH": str(KILLING), "KILL_AT": point})
        assert ended.code == -signal.SIGKILL

    def again(self):
        """Put all back to how it was before any sweep."""
        shutil.rmtree(self.world.state)
        shutil.copytree(self._state, self.world.state)
        self.base.sessions, self.cloud.sessions = copy.deepcopy(self._sessions)
        self.base._releases.clear()

    def end(self):
        """What is left, the living of both clouds and the open rows; and of which sessions history tells the end."""
        with sqlite3.connect(self.world.state / "ledger.sqlite3") as ledger:
            rows = ledger.execute("SELECT key, state, failure FROM session WHERE state <> 'closed' ORDER BY key")
            left = rows.fetchall()
            told = ledger.execute("SELECT DISTINCT id FROM event WHERE event IN ('swept', 'ended')").fetchall()
        return sorted(self.base.running()), sorted(self.cloud.sessions), left, sorted(told)


@pytest.fixture
def accounts(world, base, cloud):
    return Accounts(world, base, cloud)


# What a sweep does that can be told from outside, before and after; each of them every time that it happens.
STEPS = [
    "call:Client._exchange",
    "return:Client._exchange",
    "return:SqliteLedger.change",
    "call:SqliteLedger.change_all",
    "return:SqliteLedger.change_all",
    "return:SqliteLedger.insert",
    "return:select",
    "return:lock",
    "return:ask",
    "call:conclude",
    "return:act",
    "call:Renderer.render",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_sweep_and_another_end_as_one_that_nobody_disturbed(accounts, step):
    accounts.world.ok(*SWEEP)
    undisturbed = accounts.end()
    assert len(undisturbed[0]) == 3, "what is foreign, protected and in use"
    for number in count(1):
        accounts.again()
        killed = accounts.world.run(*SWEEP, env={"PYTHONPATH": str(KILLING), "KILL_AT": f"{step}#{number}"})
        if killed.code == 0:
            break
        assert killed.code == -signal.SIGKILL, killed
        accounts.world.ok(*SWEEP)
        assert accounts.end() == undisturbed, f"killed at {step}#{number}"
    assert number > 1, f"no sweep comes to {step}"


def test_a_killed_sweep_leaves_no_lock(accounts):
    killed = accounts.world.run(*SWEEP, env={"PYTHONPATH": str(KILLING), "KILL_AT": "call:act"})
    assert killed.code == -signal.SIGKILL
    began = time.monotonic()
    accounts.world.ok(*SWEEP)
    assert time.monotonic() - began < 60
