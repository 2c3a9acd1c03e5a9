"""Measure the bars of this project and print them: `python tests/bench/run.py`.

Only ratios within one run count: the two sides of a ratio are measured in turn, and the median of the pairs is told.
Nothing but loopback is used. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = 15
BROWSER_PAIRS = 11
ROWS = 10_000
WRITERS = 20
ARGS = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
BSESS = str(Path(sys.executable).parent / "bsess")
MIB = 1 << 20

Row = tuple[str, str, str, bool]


class Bench:
    """One folder to work in, and the environment of its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "s"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "BSESS_STATE_DIR": str(self.state),
            "BSESS_CONFIG": str(folder / "config.toml"),
        }
        (folder / "config.toml").write_text(f'[profiles.local]\nprovider = "local"\nargs = {json.dumps(ARGS)}\n')

    def seconds(self, argv: list[str], env: dict[str, str] | None = None) -> float:
        """Return the wall time of a command that must succeed."""
        began = time.perf_counter()
        subprocess.run(
            argv,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - began

    def bsess(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run bsess and return what it prints."""
        return subprocess.run(
            [BSESS, *arguments], env={**self.env, **(env or {})}, capture_output=True, text=True, check=True
        ).stdout


def pairs(count: int, one: Callable[[], float], other: Callable[[], float]) -> list[tuple[float, float]]:
    """Measure two things in turn, the first of each pair alternating."""
    one(), other()
    found = []
    for number in range(count):
        if number % 2:
            second = other()
            found.append((one(), second))
        else:
            first = one()
            found.append((first, other()))
    return found


def told(what: str, ratio: float, bar: float, detail: str = "") -> Row:
    """Return a line of the table for a ratio that must not exceed a bar."""
    return what, f"{ratio:.2f}{detail}", f"<= {bar:.2f}", ratio <= bar


def milliseconds(measured: list[tuple[float, float]]) -> str:
    """Return the medians of both sides, for people."""
    first, second = (statistics.median(side) * 1000 for side in zip(*measured, strict=True))
    return f" ({first:.0f} / {second:.0f} ms)"


def start(bench: Bench) -> list[Row]:
    """`--version`, `--help` and one TAB against a bare interpreter and 65 ms."""
    bench.bsess("history")
    found = []
    cases = [
        ("bsess --version", ["--version"], {}),
        ("bsess --help", ["--help"], {}),
        ("one TAB (a command)", ["cl"], {"_BSESS_COMPLETE": "bash"}),
        ("one TAB (session ids)", ["close", ""], {"_BSESS_COMPLETE": "bash"}),
    ]
    for what, arguments, env in cases:
        measured = pairs(
            PAIRS,
            lambda arguments=arguments, env=env: bench.seconds([BSESS, *arguments], env),
            lambda: bench.seconds([sys.executable, "-c", "pass"]),
        )
        ratio = statistics.median(one / (other + 0.065) for one, other in measured)
        found.append(told(f"{what} / (python -c pass + 65 ms)", ratio, 1.0, milliseconds(measured)))
    return found


def browser_by_hand(bench: Bench, number: int) -> float:
    """Start the same Chromium with the same switches, until DevTools listens; return the seconds that took."""
    data = bench.folder / f"hand{number}"
    executable = shutil.which("chromium")
    if executable is None:
        raise SystemExit("no chromium on PATH")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    switches = ["--headless=new", *root, "--remote-debugging-port=0", f"--user-data-dir={data}"]
    command = [executable, *switches, "--no-first-run", "--no-default-browser-check", *ARGS]
    port = data / "DevToolsActivePort"
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=bench.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (port.exists() and len(port.read_text().splitlines()) > 1):
        time.sleep(0.001)
    took = time.perf_counter() - began
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.1)  # the killed browser's files must not slow down what is measured next
    shutil.rmtree(data, ignore_errors=True)
    return took


def browser_by_bsess(bench: Bench) -> float:
    """Make a session, and end it outside of the measurement."""
    began = time.perf_counter()
    made = bench.bsess("create", "-q", "-o", "name").strip()
    took = time.perf_counter() - began
    bench.bsess("close", made, "--force", "--wait")
    time.sleep(0.1)
    return took


def create(bench: Bench) -> list[Row]:
    """`bsess create` against the same browser started by hand."""
    measured = pairs(BROWSER_PAIRS, lambda: browser_by_bsess(bench), lambda: browser_by_hand(bench, 1))
    ratio = statistics.median(one / other for one, other in measured)
    return [told("bsess create / the same Chromium by hand", ratio, 1.3, milliseconds(measured))]


def holder(bench: Bench) -> list[Row]:
    """The memory of what keeps a ttl: its own (PSS and private) and all that is mapped (RSS)."""
    bench.bsess("create", "-q")
    (record,) = bench.state.glob("local/*/browser.json")
    pid = json.loads(record.read_text())["holder"]
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    bench.bsess("close", "--all", "--force", "--yes")
    detail = f" MB resident ({sizes['Pss']:.1f} proportional)"
    return [("memory of a session's holder", f"{sizes['Rss']:.1f}{detail}", "<= 15 MB", sizes["Rss"] <= 15)]


WRITER = """
import json, sys, time
from pathlib import Path
from bsess.ledger import Row, RowState
from bsess.ledger.sqlite import SqliteLedger
folder, number, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
from bsess.model import Event
ledger = SqliteLedger(folder)
print("ready", flush=True)
sys.stdin.readline()
took = []
for index in range(count):
    now = time.time()
    row = Row(key=f"w{number}-{index}", provider="memory", base_url="memory:", account="a", profile="p",
              state=RowState.OPEN, owner="me", created_at=now, changed_at=now, id=f"id-{number}-{index}")
    event = Event(at=now, event="created", command="bench", id=row.id, profile="p", provider="memory", owner="me")
    began = time.perf_counter()
    ledger.insert([(row, event)])
    took.append(time.perf_counter() - began)
    if len(sys.argv) > 4:
        time.sleep(0.01)
ledger.close()
print(json.dumps(took))
"""


def write_at_once(folder: Path, *, pause: bool) -> tuple[list[float], float]:
    """Let 20 processes write 10,000 rows; return the seconds of each write, and of all together."""
    folder.mkdir(mode=0o700)
    each = ROWS // WRITERS
    extra = ["pause"] if pause else []
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(number), str(each), *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    began = time.perf_counter()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    outputs: list[str] = [""] * WRITERS

    def read(number: int) -> None:
        outputs[number] = writers[number].communicate()[0]

    readers = [threading.Thread(target=read, args=(number,)) for number in range(WRITERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return [one for output in outputs for one in json.loads(output)], time.perf_counter() - began


def ledger(bench: Bench) -> list[Row]:
    """10,000 rows of 20 processes at once: none lost, and how long one write takes."""
    from bsess.ledger.sqlite import SqliteLedger

    found = []
    for pause in (False, True):
        folder = bench.folder / f"ledger{pause:d}"
        took, total = write_at_once(folder, pause=pause)
        opened = SqliteLedger(folder)
        began = time.perf_counter()
        rows = len(opened.open_rows())
        read = time.perf_counter() - began
        events = len(opened.events())
        opened.close()
        how = "with 10 ms between a process's writes" if pause else "without a pause"
        what = f"ledger: {WRITERS} processes write {ROWS} rows {how}"
        seconds = f"{rows} rows, {events} events ({total:.1f} s; read {read * 1000:.0f} ms)"
        found.append((what, seconds, f"{ROWS}", rows == events == ROWS))
        p99 = statistics.quantiles(took, n=100)[98] * 1000
        middle = statistics.median(took) * 1000
        found.append((f"  p99 of one unsynced write, {how}", f"{p99:.1f} ms (p50 {middle:.1f})", "<= 20 ms", p99 <= 20))
    return found


BARE_LIST = """
import json, sys
for item in json.loads(open(sys.argv[1]).read()):
    print("\\t".join(str(value) for value in item.values()))
"""


def listing(bench: Bench) -> list[Row]:
    """`bsess list` of 10,000 open rows, against reading the same from JSON and printing it."""
    state = bench.folder / "many"
    env = {"BSESS_STATE_DIR": str(state)}
    bench.bsess("history", env=env)
    import sqlite3

    now = time.time()
    connection = sqlite3.connect(state / "ledger.sqlite3")
    names = "key, version, provider, base_url, account, profile, id, state, owner, labels, created_at, changed_at"
    # Rows of a create that may still be under way: a listing shows them and cannot prove them gone.
    values = [
        (f"{number:016}", 1, "local", "local:", str(os.geteuid()), "local", None, "intent", "me", "{}", now, now)
        for number in range(ROWS)
    ]
    with connection:
        connection.executemany(
            f"INSERT INTO session ({names}, settled_by) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,9e9)", values
        )
    connection.close()
    text = bench.folder / "many.json"
    text.write_text(json.dumps(json.loads(bench.bsess("list", "-o", "json", env=env))["data"]["sessions"]))
    assert len(json.loads(text.read_text())) == ROWS
    found = []
    for kind in ("tsv", "json"):
        measured = pairs(
            5,
            lambda kind=kind: bench.seconds([BSESS, "list", "-o", kind], env),
            lambda: bench.seconds([sys.executable, "-c", BARE_LIST, str(text)]),
        )
        ratio = statistics.median(one / other for one, other in measured)
        found.append(told(f"list of {ROWS}, -o {kind} / json.loads and print", ratio, 1.5, milliseconds(measured)))
    with subprocess.Popen([BSESS, "list"], env={**bench.env, **env}, stdout=subprocess.DEVNULL) as process:
        usage = os.wait4(process.pid, 0)[2]
        process.returncode = 0
    peak = usage.ru_maxrss * 1024 / MIB
    found.append((f"  its peak memory, list of {ROWS}", f"{peak:.0f} MB", "<= 60 MB", peak <= 60))
    return found


def idle_sweep(bench: Bench) -> list[Row]:
    """A sweep with nothing to do, against one listing."""
    measured = pairs(
        PAIRS,
        lambda: bench.seconds([BSESS, "sweep", "--yes", "-q"]),
        lambda: bench.seconds([BSESS, "list", "-q"]),
    )
    ratio = statistics.median(one / other for one, other in measured)
    return [told("a sweep with nothing to do / bsess list", ratio, 1.1, milliseconds(measured))]


class Service:
    """The quick server, as a profile that a bench's config names `bb`."""

    def __init__(self, bench: Bench, sessions: int, latency: float, rate: float | None = None) -> None:
        arguments = [str(sessions), str(latency), *([str(rate)] if rate else [])]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "server.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"
        self.env = {"BSESS_CONFIG": str(bench.folder / "service.toml"), "BSESS_OWNER": "me"}
        self.env |= {
            "BSESS_STATE_DIR": str(bench.folder / f"service{id(self)}"),
            "BROWSERBASE_API_KEY": "bb_live_0123456789",
        }
        text = f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{self.url}"\n'
        Path(self.env["BSESS_CONFIG"]).write_text(text)

    def counted(self) -> dict[str, int]:
        """Return what it counted since it was last asked, and make its sessions anew."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End it."""
        self._process.communicate("")


SDK_RELEASE = """
import sys
from browserbase import Browserbase
client = Browserbase(api_key="bb_live_0123456789", base_url=sys.argv[1])
client.sessions.update(sys.argv[2], status="REQUEST_RELEASE")
"""
ONE_ID = "00000000-0000-0000-0000-00000000000{}"


def close(bench: Bench) -> list[Row]:
    """One `bsess close` of a session that the ledger has, against a bare request and against the vendor's SDK."""
    service = Service(bench, 0, 0.0)
    bench.bsess("history", env=service.env)
    import sqlite3

    path = Path(service.env["BSESS_STATE_DIR"]) / "ledger.sqlite3"
    from bsess.credentials import Token
    from bsess.providers import rented

    names = "key, version, provider, base_url, account, profile, id, state, owner, labels, created_at, changed_at"
    account = rented.account(Token("bb_live_0123456789", ""))

    def ours() -> float:
        connection = sqlite3.connect(path)
        now = time.time()
        row = ("k", 1, "browserbase", service.url, account, "bb", ONE_ID.format(1), "open", "me", "{}", now, now)
        with connection:
            connection.execute("DELETE FROM session")
            connection.execute(f"INSERT INTO session ({names}) VALUES ({','.join('?' * len(row))})", row)
        connection.close()
        return bench.seconds([BSESS, "close", ONE_ID.format(1), "--force"], service.env)

    url = f"{service.url}/v1/sessions/{ONE_ID.format(1)}"
    bare = [sys.executable, "-c", f"import httpx; httpx.delete({url!r})"]
    sdk = [sys.executable, "-c", SDK_RELEASE, service.url, ONE_ID.format(1)]
    by_hand = pairs(PAIRS, ours, lambda: bench.seconds(bare))
    by_sdk = pairs(PAIRS, ours, lambda: bench.seconds(sdk, {"BROWSERBASE_LOG": "error"}))
    service.close()
    return [
        told("bsess close ID / httpx.delete", statistics.median(a / b for a, b in by_hand), 1.0, milliseconds(by_hand)),
        told(
            "bsess close ID / the SDK's release", statistics.median(a / b for a, b in by_sdk), 0.5, milliseconds(by_sdk)
        ),
    ]


def _swept(bench: Bench, service: Service, *arguments: str) -> tuple[float, float, dict[str, int]]:
    """Sweep all that a service has; the seconds, the peak of memory in MB, and what the service counted."""
    service.counted()
    began = time.perf_counter()
    with subprocess.Popen(
        [BSESS, "sweep", "--yes", *arguments],
        env={**bench.env, **service.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        usage = os.wait4(process.pid, 0)[2]
        process.returncode = 0
    took = time.perf_counter() - began
    return took, usage.ru_maxrss * 1024 / MIB, service.counted()


def bulk(bench: Bench) -> list[Row]:
    """A sweep of 10,000 sessions at 50 ms with 50 workers, against the 10.0 s that this takes at the least."""
    service = Service(bench, ROWS, 0.05)
    took, peak, counted = _swept(bench, service, "--workers", "50")
    service.close()
    smaller = Service(bench, ROWS // 10, 0.05)
    _, before, _ = _swept(bench, smaller, "--workers", "50")
    smaller.close()
    done = counted["running"] == 0
    most = f"{counted['connections']} for {counted['requests']} requests"
    return [
        told(f"sweep of {ROWS} at 50 ms, 50 workers / 10.0 s", took / 10.0 if done else 99.0, 1.15, f" ({took:.1f} s)"),
        ("  connections opened", most, "<= 51", counted["connections"] <= 51),
        ("  peak memory", f"{peak:.0f} MB", "<= 60 MB", peak <= 60),
        (f"  more than for {ROWS // 10}", f"{peak - before:.0f} MB", "<= 25 MB", peak - before <= 25),
    ]


def rate(bench: Bench) -> list[Row]:
    """3,000 releases against a service that takes 500 requests a second."""
    service = Service(bench, 3000, 0.0, 500)
    took, _, counted = _swept(bench, service, "--workers", "50")
    service.close()
    least = 3000 / 500
    wasted = 100 * counted["refused"] / counted["requests"]
    done = counted["running"] == 0
    return [
        told("3,000 closes at 500 a second / the least", took / least if done else 99.0, 1.2, f" ({took:.1f} s)"),
        ("  wasted requests", f"{wasted:.1f} %", "<= 3 %", wasted <= 3),
    ]


BENCHES = {
    "close": close,
    "bulk": bulk,
    "rate": rate,
    "start": start,
    "create": create,
    "holder": holder,
    "ledger": ledger,
    "list": listing,
    "sweep": idle_sweep,
}


def main() -> int:
    """Run the benches named, or all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; all of them by default")
    names = parser.parse_args().names or list(BENCHES)
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        parser.error(f"there is no bench {unknown[0]!r}")
    folder = Path(tempfile.mkdtemp(prefix="bs-bench-", dir="/tmp"))
    rows: list[Row] = []
    try:
        bench = Bench(folder)
        for name in names:
            rows += BENCHES[name](bench)
    finally:
        if (folder / "s").exists():
            subprocess.run([BSESS, "close", "--all", "--force", "--yes", "-q"], env=bench.env, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    lines = [("what", "measured", "bar", ""), *((*row[:3], "" if row[3] else "MISSED") for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
