"""The ledger in a SQLite file of the state folder, shared by any number of processes.

WAL, so that readers and a writer do not wait for each other; NORMAL durability but for intents, which are synced
(FULL) because a create must be on disk before it is sent. New files are built aside and renamed into place: an empty
or foreign file under the ledger's name is never taken for a new ledger.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import stat
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from bsess.errors import LedgerError
from bsess.ledger import Row, RowState
from bsess.model import Event, Process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FILE = "ledger.sqlite3"
LOCK_FILE = "ledger.lock"
# "bses": told apart from any other SQLite file by PRAGMA application_id.
APPLICATION_ID = 0x62736573
BUSY_SECONDS = 30.0
_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smbfs",
        "smb3",
        "smb2",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "gpfs",
        "ocfs2",
        "davfs",
    ]
)

# One entry for each schema version, applied in order: entry 0 makes version 1 out of nothing.
MIGRATIONS = (
    """
    CREATE TABLE session (
        key TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        provider TEXT NOT NULL,
        base_url TEXT NOT NULL,
        account TEXT NOT NULL,
        profile TEXT NOT NULL,
        id TEXT,
        state TEXT NOT NULL,
        owner TEXT NOT NULL,
        run TEXT,
        region TEXT,
        labels TEXT NOT NULL,
        created_at REAL NOT NULL,
        changed_at REAL NOT NULL,
        expires_at REAL,
        settled_by REAL,
        creator TEXT,
        owner_process TEXT,
        lease_until REAL,
        claim TEXT,
        claimed_at REAL,
        failure TEXT,
        missed_at REAL,
        connect_url TEXT,
        stop_url TEXT,
        query_url TEXT
    );
    CREATE INDEX session_open ON session (created_at) WHERE state <> 'closed';
    CREATE INDEX session_id ON session (id);
    CREATE TABLE event (
        number INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        event TEXT NOT NULL,
        command TEXT NOT NULL,
        id TEXT,
        profile TEXT NOT NULL,
        provider TEXT NOT NULL,
        owner TEXT NOT NULL,
        run TEXT,
        outcome TEXT,
        reason TEXT
    );
    CREATE INDEX event_at ON event (at);
    """,
)
SCHEMA = len(MIGRATIONS)

_COLUMNS = [
    "key",
    "version",
    "provider",
    "base_url",
    "account",
    "profile",
    "id",
    "state",
    "owner",
    "run",
    "region",
    "labels",
    "created_at",
    "changed_at",
    "expires_at",
    "settled_by",
    "creator",
    "owner_process",
    "lease_until",
    "claim",
    "claimed_at",
    "failure",
    "missed_at",
    "connect_url",
    "stop_url",
    "query_url",
]
_TIMES = [name for name in _COLUMNS if name.endswith(("_at", "_by", "_until"))]
_FORGOTTEN = dict.fromkeys(("connect_url", "stop_url", "query_url", "claim", "claimed_at"))
_EVENT_COLUMNS = ["at", "event", "command", "id", "profile", "provider", "owner", "run", "outcome", "reason"]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM session"  # noqa: S608  our own column names
_INSERT = f"INSERT INTO session ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_UPDATE = f"UPDATE session SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE key = ? AND version = ?"  # noqa: S608
_INSERT_EVENT = f"INSERT INTO event ({', '.join(_EVENT_COLUMNS)}) VALUES ({', '.join('?' * len(_EVENT_COLUMNS))})"  # noqa: S608


class SqliteLedger:
    """A ledger file, made where there is none. Safe for threads; raises LedgerError for all that goes wrong."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        prepare_folder(folder)
        with self._failing():
            # lexists: a link whose disk is not mounted is no reason for a new ledger.
            if not os.path.lexists(self._path):
                _create(folder, self._path)
            self._check_file()
            self._connection = _connect(self._path)
            self._migrate(folder)

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._path)

    def intend(self, row: Row) -> None:
        """Record a create about to be sent; synced to disk when this returns."""
        with self._failing(), self._lock:
            self._connection.execute("PRAGMA synchronous = FULL")
            try:
                with self._begun():
                    self._connection.execute(_INSERT, _values(row))
            finally:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def insert(self, rows: Sequence[tuple[Row, Event]]) -> None:
        """Record sessions that exist already, in one transaction."""
        with self._failing(), self._transaction():
            self._connection.executemany(_INSERT, [_values(row) for row, _ in rows])
            self._connection.executemany(_INSERT_EVENT, [_event_values(event) for _, event in rows])

    def change(self, row: Row, *, event: Event | None = None) -> Row | None:
        """Write a row by compare-and-set, a closed one without its secrets."""
        with self._failing(), self._lock if event is None else self._transaction():
            # Alone, a statement is a transaction.
            return self._change(row, event)

    def change_all(self, changes: Sequence[tuple[Row, Event]]) -> None:
        """Write many rows by compare-and-set, in one transaction."""
        with self._failing(), self._transaction():
            for row, event in changes:
                self._change(row, event)

    def renew(self, key: str, until: float) -> bool:
        """Prolong a lease without touching the row's version: a renewal takes nothing from anybody."""
        with self._failing(), self._transaction():
            cursor = self._connection.execute(
                "UPDATE session SET lease_until = ? WHERE key = ? AND state <> 'closed'", (until, key)
            )
        return cursor.rowcount == 1

    def get(self, key: str) -> Row | None:
        """Return the row of that key."""
        rows = self._rows(f"{_SELECT} WHERE key = ?", (key,))
        return rows[0] if rows else None

    def open_rows(self) -> list[Row]:
        """Return all rows that are not closed, oldest first."""
        return self._rows(f"{_SELECT} WHERE state <> 'closed' ORDER BY created_at, key")

    def find(self, session_id: str) -> list[Row]:
        """Return the rows of that provider id or key, newest first."""
        return self._rows(f"{_SELECT} WHERE id = ? OR key = ? ORDER BY created_at DESC", (session_id, session_id))

    def find_prefix(self, prefix: str) -> list[Row]:
        """Return the open rows whose provider id or key begins so; the case counts."""
        return self._rows(
            f"{_SELECT} WHERE state <> 'closed' AND (substr(id, 1, ?) = ? OR substr(key, 1, ?) = ?)",
            (len(prefix), prefix, len(prefix), prefix),
        )

    def events(self, *, since: float | None = None, limit: int | None = None) -> list[Event]:
        """Return the history, oldest first; of `limit` the newest."""
        with self._failing(), self._lock:
            found = self._connection.execute(
                f"SELECT {', '.join(_EVENT_COLUMNS)} FROM event WHERE at >= ? ORDER BY number DESC LIMIT ?",  # noqa: S608
                (since or 0.0, -1 if limit is None else limit),
            ).fetchall()
        return [Event(*values) for values in reversed(found)]

    def record(self, events: Iterable[Event]) -> None:
        """Add to the history alone, in one transaction."""
        with self._failing(), self._transaction():
            self._connection.executemany(_INSERT_EVENT, [_event_values(event) for event in events])

    def close(self) -> None:
        """Close the file. Nothing is lost if this is never called."""
        with self._lock:
            self._connection.close()

    def _change(self, row: Row, event: Event | None) -> Row | None:
        secrets = _FORGOTTEN if row.state is RowState.CLOSED else {}
        changed = replace(row, version=row.version + 1, **secrets)  # type: ignore[arg-type]
        cursor = self._connection.execute(_UPDATE, (*_values(changed), row.key, row.version))
        if cursor.rowcount != 1:
            return None
        if event is not None:
            self._connection.execute(_INSERT_EVENT, _event_values(event))
        return changed

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[Row]:
        with self._failing():
            with self._lock:
                found = self._connection.execute(query, values).fetchall()
            try:
                return [_row(values) for values in found]
            except (ValueError, TypeError, KeyError) as error:
                raise sqlite3.DatabaseError(f"a row cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._begun():
            yield

    @contextmanager
    def _begun(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _check_file(self) -> None:
        status = self._path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise LedgerError(
                f"the ledger {self._path} is not a file of yours",
                hint="move it away, or set BSESS_STATE_DIR to another folder",
            )
        if status.st_mode & 0o077:
            self._path.chmod(0o600)

    def _migrate(self, folder: Path) -> None:
        version = _version(self._connection)
        if version == SCHEMA:
            return
        if version > SCHEMA:
            self._connection.close()
            raise LedgerError(
                f"the ledger {self._path} has schema {version}, and this bsess knows up to {SCHEMA}",
                code="ledger_newer",
                hint="upgrade bsess, or set BSESS_STATE_DIR to another folder",
            )
        with _creation_lock(folder):
            _apply(self._connection, _version(self._connection))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _ledger_error(self._path, error) from error
        except OSError as error:
            raise _system_error(self._path, error) from error


def peek_ids(folder: Path, *, most: int) -> list[str]:
    """Return the newest open ids without waiting, making or changing anything; none where that cannot be."""
    query = "SELECT COALESCE(id, key) FROM session WHERE state <> 'closed' ORDER BY created_at DESC LIMIT ?"
    try:
        connection = sqlite3.connect(f"{(folder / FILE).as_uri()}?mode=ro", uri=True, timeout=0.2)
        try:
            return [str(row[0]) for row in connection.execute(query, (most,))]
        finally:
            connection.close()
    except sqlite3.Error:
        return []


def prepare_folder(folder: Path) -> None:
    """Make the state folder (0700), or check one that is there: ours, closed to others, on a local disk."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            _check_folder(folder)
    except OSError as error:
        raise _system_error(folder, error) from error
    kind = filesystem(folder)
    if kind in _NETWORK:
        raise LedgerError(
            f"the state folder {folder} is on a network filesystem ({kind}), where SQLite loses data",
            code="ledger_network",
            hint="set BSESS_STATE_DIR to a folder on a local disk",
        )


def filesystem(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return the type of the filesystem that holds `folder`, or None where the platform does not tell (proc(5))."""
    try:
        device = folder.stat().st_dev
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0]
    return None


def _check_folder(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symlink" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise LedgerError(f"the state folder {folder} is {kind}", hint="set BSESS_STATE_DIR to a folder of your own")
    if status.st_uid != os.geteuid():
        raise LedgerError(
            f"the state folder {folder} is another user's", hint="set BSESS_STATE_DIR to a folder of your own"
        )
    if status.st_mode & 0o077:
        # An empty folder that somebody made for us is tightened; one in use, /tmp say, is never changed.
        if any(folder.iterdir()):
            raise LedgerError(f"the state folder {folder} is open to other users", hint=f"chmod 700 {folder}")
        folder.chmod(0o700)


def _create(folder: Path, path: Path) -> None:
    with _creation_lock(folder):
        if os.path.lexists(path):
            return
        new = folder / f"{FILE}.new"
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(new, isolation_level=None)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            _apply(connection, 0)
        finally:
            connection.close()
        new.rename(path)
        _sync_folder(folder)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: never a new file where the ledger was deleted under us.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        _check_application(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_application(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is no ledger of bsess")


def _apply(connection: sqlite3.Connection, version: int) -> None:
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _creation_lock(folder: Path) -> Iterator[None]:
    handle = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ledger_error(path: Path, error: sqlite3.Error) -> LedgerError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LedgerError(
            f"the ledger {path} was locked for {BUSY_SECONDS:g} s",
            code="ledger_busy",
            hint="end what holds it and repeat",
        )
    if name.startswith("SQLITE_FULL"):
        return LedgerError(f"the disk of the ledger {path} is full", code="ledger_full", hint="make room and repeat")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR")):
        return LedgerError(
            f"the ledger {path} cannot be used: {error}",
            code="ledger_unusable",
            hint="check the folder's permissions and disk, or set BSESS_STATE_DIR to another folder",
        )
    return LedgerError(
        f"the ledger {path} is damaged: {error}",
        code="ledger_damaged",
        hint="move it away (its sessions then show as found by tag only), or restore it from a copy",
    )


def _system_error(path: Path, error: OSError) -> LedgerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LedgerError(f"the disk of {path} is full", code="ledger_full", hint="make room and repeat")
    return LedgerError(
        f"the state folder of {path} cannot be used: {error.strerror}",
        code="ledger_unusable",
        hint="set BSESS_STATE_DIR to a folder that you can write",
    )


def _values(row: Row) -> tuple[object, ...]:
    values = {name: getattr(row, name) for name in _COLUMNS}
    values["state"] = row.state.value
    values["labels"] = json.dumps(dict(row.labels), ensure_ascii=False)
    for name in ("creator", "owner_process", "claim"):
        values[name] = _pack(values[name])
    return tuple(values.values())


def _row(values: tuple[object, ...]) -> Row:
    fields = dict(zip(_COLUMNS, values, strict=True))
    fields["state"] = RowState(str(fields["state"]))
    labels = str(fields["labels"])
    fields["labels"] = {} if labels == "{}" else _labels(labels)
    for name in _TIMES:
        if not isinstance(fields[name], (float, NoneType)):
            raise TypeError(name)
    for name in ("creator", "owner_process", "claim"):
        fields[name] = _unpack(fields[name])
    return Row(**fields)  # type: ignore[arg-type]  # the columns are the fields


def _labels(text: str) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise TypeError("labels")
    return found


def _pack(process: Process | None) -> str | None:
    if process is None:
        return None
    return "\t".join((str(process.pid), process.start, process.host, process.boot, process.namespace))


def _unpack(text: object) -> Process | None:
    if text is None:
        return None
    pid, *rest = str(text).split("\t")
    return Process(int(pid), *rest)


def _event_values(event: Event) -> tuple[object, ...]:
    return tuple(getattr(event, name) for name in _EVENT_COLUMNS)
