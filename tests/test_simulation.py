"""A year of bad luck on one afternoon: three machines that share one account, and everything that can go wrong.

Three owners, each with a ledger, a key and a clock of its own, make and lose sessions on one fake of Browserbase, which
faults one request in twenty. What may be ended and what must be is judged here, from what the service saw, and not by
anything of bsess. SIMULATION_SEED is the seed; the rounds are drawn from it, the order within one is up to the kernel.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from fake_browserbase import API_KEY, TERMINAL, FakeBrowserbase
from loopback import LoopbackServer, send

# As many as it takes for both: how many commands die before they have made anything is up to the kernel.
ROUNDS, SESSIONS = 200, 500
SKEWS = {"ann": -300.0, "bob": 0.0, "cleo": 300.0}
# A Date has whole seconds, and was written a while before it was read.
CLOCK_NOISE_SECONDS = 4.0
FAULT_SHARE = 0.05
COMMAND_SECONDS = 60


@dataclass
class Story:
    """What is true of one session, whoever knows it.

    `closing`: whether its owner has asked for its end, so that a sweep may end what that left. `answered`: whether its
    create told of it, False while that is under way, None where nobody but the ledger knows of it. `suspect`: it was
    ended before that was known.
    """

    owner: str | None
    command: int | None = None
    process: subprocess.Popen | None = None
    keep: bool = False
    answered: bool | None = False
    suspect: bool = False
    closing: bool = False
    outlived: int = 0
    told: list[str] = field(default_factory=list)


class Faults(dict):
    """One request in twenty goes wrong, in one of several ways."""

    def __init__(self, dice):
        super().__init__()
        self.dice, self.counts, self.off = dice, Counter(), False

    def get(self, operation, default=None):
        if self.off or self.dice.random() >= FAULT_SHARE:
            return default
        name = self.dice.choice(["500", "502", "503", "504", "429", "reset", "lost", "late", "cut", "half", "html"])
        self.counts[name] += 1
        if name.startswith("50"):
            return int(name)
        if name == "late":
            time.sleep(0.05)
            return default
        done = {"lost": "lost", "html": b"<html>no</html>", "half": b'[{"id": "'}
        return done.get(name) or getattr(self, f"_{name}")

    def _429(self, handler):
        send(handler, 429, b'{"message": "Rate limit exceeded"}', retry_after="0.02")

    def _reset(self, handler):
        handler.close_connection = True
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()

    def _cut(self, handler):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'[{"id"')
        handler.close_connection = True


class Door(LoopbackServer):
    """Where one owner's machine reaches the account: by it is known who asks, for all have one key."""

    def __init__(self, service, owner):
        super().__init__(service._handle)
        self.clock = service.clock
        self._server.owner = owner
        # Those who asked were killed.
        self._server.handle_error = lambda *_: None
        self._open, self._closed = 0, threading.Condition()
        accept, serve = self._server.process_request, self._server.process_request_thread

        def accepted(*arguments):
            self._count(1)
            accept(*arguments)

        def served(*arguments):
            try:
                serve(*arguments)
            finally:
                self._count(-1)

        self._server.process_request, self._server.process_request_thread = accepted, served

    def _count(self, step):
        with self._closed:
            self._open += step
            self._closed.notify_all()

    def settle(self):
        """Wait until all is done that was asked by whoever is gone: a killed create may have left its request."""
        # Once this one is answered, all before it are accepted.
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._server.server_port)) as last:
            last.request("GET", "/")
            last.getresponse().read()
        with self._closed:
            assert self._closed.wait_for(lambda: self._open == 0, COMMAND_SECONDS)


class Service(FakeBrowserbase):
    """The account, whose sessions never end by themselves. `advance` moves its clock; `violations` is to stay empty."""

    def __init__(self, dice):
        super().__init__()
        self.misbehave = Faults(dice)
        self.advance = 0.0
        self.clock = lambda: time.time() + self.advance
        self.stories = {}
        self.violations = []
        self.released = Counter()
        self._asker = None
        self.doors = {owner: Door(self, owner) for owner in SKEWS}

    def put_foreign(self, dice):
        """A session that nobody's bsess made, or that of somebody who is not here."""
        metadata = dice.choice([None, {}, {"bsess_owner": "dora"}, {"bsess_owner": "ANN"}, {"owner": "bob"}])
        name = self.put(metadata=metadata, age=dice.randint(0, 9000), ttl=dice.randint(60, 9600))
        self.stories[name] = Story(None)

    def made(self):
        """How many sessions the three have made."""
        return sum(story.owner is not None for story in list(self.stories.values()))

    def settle(self):
        """Wait until all is done that was asked by whoever is gone."""
        for door in self.doors.values():
            door.settle()

    def close(self):
        for door in self.doors.values():
            door.close()
        super().close()

    def _dispatch(self, handler, method, path, query, body):
        self._asker = handler.server.owner
        super()._dispatch(handler, method, path, query, body)

    def _Sessions_create(self, names, query, body):
        status, made = super()._Sessions_create(names, query, body)
        tags = body["userMetadata"]
        self.stories[made["id"]] = story = Story(self._asker, int(tags["command"]), keep="keep" in tags)
        story.told.append(f"made by {self._asker} at {self.clock():.0f} for {body['timeout']} s, {tags}")
        return status, made

    def _Sessions_update(self, names, query, body):
        status, found = super()._Sessions_update(names, query, body)
        if status == 200:
            self._judge(names["id"])
        return status, found

    def is_orphan(self, session_id, *, slack=0.0):
        """Whether a session is one that its owner's sweep may end; with `slack`, one that it must."""
        story = self.stories[session_id]
        if story.owner is None or story.keep:
            return False
        expires = datetime.fromisoformat(self.sessions[session_id]["expiresAt"]).timestamp()
        return (
            self.clock() >= expires + slack
            or (story.process is not None and story.process.poll() is not None)
            or story.answered is None
        )

    def _judge(self, session_id):
        story = self.stories[session_id]
        story.told.append(f"released by {self._asker} at {self.clock():.0f}")
        self.released[self._asker] += 1
        story.suspect = story.answered is False
        if story.owner != self._asker:
            self.violations.append(f"{session_id} was ended by {self._asker}: {story.told}")
        elif not (story.suspect or story.closing or self.is_orphan(session_id, slack=-CLOCK_NOISE_SECONDS)):
            self.violations.append(f"{session_id} was ended and should live: {story.told}")


@dataclass
class Running:
    """A command under way."""

    owner: str
    kind: str
    number: int
    process: multiprocessing.Process
    output: str
    orphans: list[str] = field(default_factory=list)


def command(*arguments):
    """Run one, in a process that has it imported already: here it would change what time it is."""
    import simulated

    simulated.command(*arguments)


class Simulation:
    """The three machines and what befalls them."""

    def __init__(self, folder, seed):
        self.seed, self.folder = seed, folder
        self.dice = random.Random(seed)
        self.service = Service(random.Random(seed + 1))
        self.counts = Counter()
        self.commands = 0
        self.owners = {}  # command number -> the owner process that was named
        self.forks = multiprocessing.get_context("forkserver")
        self.forks.set_forkserver_preload(["simulated"])
        # Python 3.11 gives the server no path of ours, and what it cannot import it leaves out without a word.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            multiprocessing.forkserver.ensure_running()
        self.environments = {name: self._machine(name) for name in SKEWS}

    def _machine(self, name):
        home = self.folder / name
        (home / "state").mkdir(parents=True, mode=0o700)
        config = f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{self.service.doors[name].url}"\n'
        (home / "config.toml").write_text(config)
        return {
            "PATH": "/usr/bin:/bin", "HOME": str(home), "BSESS_CONFIG": str(home / "config.toml"),
            "BSESS_STATE_DIR": str(home / "state"), "BSESS_OWNER": name, "BROWSERBASE_API_KEY": API_KEY,
        }  # fmt: skip

    def start(self, owner, kind, *arguments, kill_at=None, kill_after=None, orphans=()):
        self.commands += 1
        number = self.commands
        if kind == "create":
            arguments = (*arguments, "--label", f"command={number}")
        output = str(self.folder / owner / f"{number}.out")
        offset = self.service.advance + SKEWS[owner]
        process = self.forks.Process(
            target=command,
            args=([kind, *arguments], self.environments[owner], offset, output, kill_at),
        )
        process.start()
        if kill_after is not None:
            threading.Timer(kill_after, process.kill).start()
        self.counts[kind] += 1
        return Running(owner, kind, number, process, output, list(orphans))

    def round(self):
        """One round: time goes on, processes die, and the machines do what they do, all at a time."""
        self.service.advance += self.dice.uniform(10, 60)
        self._crash()
        if self.dice.random() < 0.1:
            self.service.put_foreign(self.dice)
        running = []
        for owner in SKEWS:
            if self.dice.random() < 0.6:
                running.append(self._create(owner))
            sweeps = self.dice.choice([0, 0, 0, 1, 1, 2])
            running += [self._sweep(owner, killed=self.dice.random() < 0.3) for _ in range(sweeps)]
            mine = [name for name, story in self.service.stories.items() if story.owner == owner and self._lives(name)]
            if mine and self.dice.random() < 0.1:
                chosen = self.dice.choice(mine)
                self.service.stories[chosen].closing = True
                running.append(self.start(owner, "close", chosen))
        self.finish(running)

    def _lives(self, session_id):
        return self.service.sessions[session_id]["status"] not in TERMINAL

    def _crash(self):
        for process in {story.process for story in self.service.stories.values() if story.process is not None}:
            if process.poll() is None and self.dice.random() < 0.07:
                process.kill()
                process.wait()
                self.counts["owner processes killed"] += 1

    def _create(self, owner):
        flags = [
            "--ttl",
            f"{self.dice.randint(60, 1200)}s",
            "-o",
            "name",
            "--count",
            str(self.dice.choice([1, 1, 2, 3])),
        ]
        process = None
        if self.dice.random() < 0.5:
            process = subprocess.Popen(["sleep", "3600"])
            flags += ["--owner-pid", str(process.pid)]
        if self.dice.random() < 0.05:
            flags += ["--label", "keep"]
        self.owners[self.commands + 1] = process
        return self.start(owner, "create", *flags, **self._killing(12, killed=self.dice.random() < 0.2))

    def _killing(self, steps, *, killed):
        """When a command dies: at one of its steps, or at any time."""
        if not killed:
            return {}
        if self.dice.random() < 0.3:
            return {"kill_after": self.dice.uniform(0, 0.3)}
        return {"kill_at": self.dice.randint(1, steps)}

    def _sweep(self, owner, *, killed):
        with self.service._lock:
            orphans = [
                name
                for name, story in self.service.stories.items()
                if story.owner == owner
                and self._lives(name)
                and self.service.is_orphan(name, slack=CLOCK_NOISE_SECONDS)
            ]
        return self.start(owner, "sweep", "--yes", **self._killing(25, killed=killed), orphans=orphans)

    def finish(self, running):
        """Wait for the round's commands, and take in what each has come to."""
        for one in running:
            one.process.join(COMMAND_SECONDS)
            assert one.process.exitcode is not None, f"seed {self.seed}: {one} hangs"
        self.service.settle()
        for one in running:
            getattr(self, f"_after_{one.kind}")(one, one.process.exitcode)

    def _after_create(self, one, code):
        self.counts[f"create: {self._name(one, code)}"] += 1
        told = Path(one.output).read_text().split() if Path(one.output).exists() else []
        for name, story in self.service.stories.items():
            if story.command == one.number:
                story.process = self.owners.get(one.number)
                story.answered = True if name in told else None
                # Killed after it had told of it: who made it may use it or not, and the sweep may see it or not.
                story.closing |= bool(story.answered) and code not in (0, 3)
                story.told.append(f"its create ended with {code}")
                if story.answered and story.suspect and not story.closing:
                    self.service.violations.append(f"{name} was ended while it was made: {story.told}")
                self.counts["sessions that nobody was told of"] += story.answered is None

    def _after_close(self, one, code):
        self.counts[f"close: {self._name(one, code)}"] += 1

    def _after_sweep(self, one, code):
        self.counts[f"sweep: {self._name(one, code)}"] += 1
        if code != 0:
            return
        for name in one.orphans:
            story = self.service.stories[name]
            story.told.append(f"swept over at {self.service.clock():.0f}")
            if self._lives(name):
                story.outlived += 1
                self.counts["most sweeps that an orphan outlived"] = max(
                    story.outlived, self.counts["most sweeps that an orphan outlived"]
                )
                if story.outlived >= 2:
                    self.service.violations.append(f"{name} outlived two sweeps: {story.told}")

    @staticmethod
    def _name(one, code):
        if code == -signal.SIGKILL:
            return "killed"
        return "another was at work" if code == 75 else f"ended with {code}"

    def open_rows(self):
        """The sessions that the three ledgers still have open; one that nobody was told of is there by its tag."""
        tagged = {
            session["userMetadata"]["bsess_key"]: name
            for name, session in self.service.sessions.items()
            if self.service.stories[name].owner is not None
        }
        found = set()
        for owner in SKEWS:
            with contextlib.closing(sqlite3.connect(self.folder / owner / "state" / "ledger.sqlite3")) as ledger:
                rows = ledger.execute("SELECT id, key FROM session WHERE state <> 'closed'").fetchall()
            found |= {name or tagged.get(key, key) for name, key in rows}
        return found

    def end(self):
        """End what the simulation itself started."""
        for process in self.owners.values():
            if process is not None:
                process.kill()
                process.wait()
        self.service.close()


@pytest.fixture
def simulation(tmp_path):
    made = Simulation(tmp_path, int(os.environ.get("SIMULATION_SEED", "4711")))
    yield made
    made.end()
    assert made.service.wrong == []


def test_nothing_alive_is_ended_and_no_orphan_outlives_two_sweeps(simulation, record_property):
    service = simulation.service
    rounds = 0
    while rounds < ROUNDS or service.made() < SESSIONS:
        rounds += 1
        simulation.round()
        assert service.violations == [], f"seed {simulation.seed}, round {rounds}"
    # All is over: every process dies, every ttl passes, and nothing goes wrong any more.
    service.misbehave.off = True
    for process in simulation.owners.values():
        if process is not None:
            process.kill()
            process.wait()
    for _ in range(2):
        service.advance += 1500
        last = [simulation._sweep(owner, killed=False) for owner in SKEWS]
        simulation.finish(last)
        told = {one.owner: (one.process.exitcode, Path(one.output).read_text()) for one in last}
        assert {code for code, _ in told.values()} == {0}, f"seed {simulation.seed}: {told}"
    assert service.violations == []
    left = {name: service.stories[name] for name in service.running()}
    kept = {name for name, story in left.items() if story.keep}
    foreign = {name for name, story in service.stories.items() if story.owner is None}
    assert {name: left[name].told for name in left.keys() - kept - foreign} == {}, f"seed {simulation.seed}"
    assert foreign <= left.keys()
    assert simulation.open_rows() == kept, f"seed {simulation.seed}"
    counts = simulation.counts
    made = service.made()
    told = {"rounds": rounds, "seed": simulation.seed, "sessions": made, **counts, "released": service.released}
    record_property("simulation", json.dumps({**told, "faults": service.misbehave.counts}))
    assert counts["sweep: killed"] >= 30
    assert counts["create: killed"] >= 20
    assert counts["owner processes killed"] >= 50
    assert counts["sessions that nobody was told of"] >= 10
    assert counts["sweep: ended with 0"] >= 200
    assert sum(service.misbehave.counts.values()) >= 100


def test_the_judge_finds_what_it_is_there_for(simulation):
    """A sweep by rules that are wrong is seen: it ends what lives."""
    simulation.finish([simulation.start("bob", "create", "--ttl", "20m", "-o", "name")])
    (name,) = simulation.service.stories
    assert simulation.service.stories[name].answered
    simulation.service.advance += 600
    simulation.service.misbehave.off = True
    simulation.finish([simulation.start("bob", "sweep", "--yes", "--older-than", "5m")])
    assert len(simulation.service.violations) == 1
