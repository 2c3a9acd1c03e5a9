"""The real executable, in a world of its own."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from fake_browserbase import FakeBrowserbase
from fake_browserless import TOKEN, FakeBrowserless
from worlds import ORDINARY_USER, ROOT, end_world, make_world, write_config

# Whoever started the tests in the background may have had these ignored, and what is ignored is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter):
    """Print what tests counted, wherever they ran."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def executable() -> str:
    """The installed `bsess` of this interpreter's environment."""
    path = Path(sys.executable).parent / "bsess"
    assert path.exists(), f"{path} is missing: install the project into this environment first"
    return str(path)


@pytest.fixture(scope="session")
def ordinary_program():
    """A bsess that any user can run: this project and what it needs, copied to where everybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="bs-site-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "src" / "bsess", folder / "bsess", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "typer",
        "rich",
        "tomli_w",
        "shellingham",
        "annotated-doc",
        "typing_extensions",
        "pygments",
        "markdown-it-py",
        "mdurl",
    ):
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); from bsess.__main__ import main; main()"
    user = pwd.getpwnam(ORDINARY_USER)
    drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    yield [*drop, "/usr/bin/python3", "-c", start], user.pw_uid
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(executable):
    """A world of the user who runs the tests."""
    made = make_world([executable], os.geteuid())
    yield made
    end_world(made)


@pytest.fixture
def cloud():
    """A fake of Browserless's cloud, which at the end must have got no request that no document has."""
    fake = FakeBrowserless()
    yield fake
    wrong = fake.wrong
    fake.close()
    assert wrong == []


@pytest.fixture
def base():
    """A fake of Browserbase, which at the end must have got no request that its contract does not allow."""
    fake = FakeBrowserbase()
    yield fake
    wrong = fake.wrong
    fake.close()
    assert wrong == []


@pytest.fixture
def account(world, cloud):
    """A world whose default profile is that cloud, and whose owner is `me`."""
    world.variables |= {"BROWSERLESS_TOKEN": TOKEN, "BSESS_OWNER": "me"}
    write_config(world, f'default = "work"\n[profiles.work]\nprovider = "browserless"\nurl = "{cloud.url}"\n')
    return world


# Who runs bsess: whoever runs the tests, and where that is root, an ordinary user as well.
EVERY_USER = ["self", "ordinary"] if os.geteuid() == 0 else ["self"]


@pytest.fixture(params=EVERY_USER)
def any_world(request, executable):
    """A world of root and one of an ordinary user, where the tests run as root; else one of this user."""
    if request.param == "self":
        made = make_world([executable], os.geteuid())
    else:
        made = make_world(*request.getfixturevalue("ordinary_program"))
    yield made
    end_world(made)


@pytest.fixture
def ordinary_world(request, executable):
    """A world of a user who is not root: whom a folder's mode stops."""
    if os.geteuid() == 0:
        made = make_world(*request.getfixturevalue("ordinary_program"))
    else:
        made = make_world([executable], os.geteuid())
    yield made
    end_world(made)
