"""Each request that bsess can send to Browserbase, against an independent server of the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fake_browserbase import API_KEY
from servers import Prism
from test_browserbase import FLAGS
from worlds import write_config

ID = "5a1b0cc4-5f0a-4a2e-8f2e-3f1f2f1f0a11"
WORDS = [
    ["create", "--ttl", "60s", "--label", "job=42"],
    ["list", "-p", "bb"],
    ["list", "-p", "bb", "--status", "all", "--label", "job=42"],
    ["list", "-p", "bb", "--status", "timed_out"],
    ["close", ID],
    ["close", ID, "--force"],
    ["adopt", ID],
    ["show", ID],
    ["live", ID, "--pages"],
    ["logs", ID],
    ["recording", ID],
    ["recording", ID, "--mp4", "--file", "rec.mp4"],
    ["context", "create"],
    ["context", "show", ID],
    ["context", "delete", ID],
    ["usage", "-p", "bb"],
    ["sweep", "--yes", "--older-than", "1h"],
]


@pytest.fixture(scope="module")
def prism():
    server = Prism(Path(__file__).parent / "browserbase.openapi.json")
    yield server
    server.close()


@pytest.fixture
def bb(world, prism):
    world.variables |= {"BROWSERBASE_API_KEY": API_KEY, "BSESS_OWNER": "me", "BSESS_PROXY_PASSWORD": "pw"}
    write_config(world, f'default = "bb"\n[profiles.bb]\nprovider = "browserbase"\nurl = "{prism.url}"\n')
    return world


def violations(text):
    return re.findall(r"(?i)violation.*|UNPROCESSABLE_ENTITY.*|Request terminated.*", text)


@pytest.mark.parametrize("words", [*WORDS, *(["create", *flags] for flags, _ in FLAGS)], ids=" ".join)
def test_the_contracts_own_server_accepts_each_request(bb, prism, words):
    before = len(prism.log())
    bb.run(*words, "--deadline", "3s")
    said = prism.log()[before:]
    assert re.search(r"(GET|POST|DELETE) /v1/", said, re.IGNORECASE) or "Request received" in said, said
    assert violations(said) == []


def test_the_contracts_own_server_refuses_what_it_does_not_allow(bb, prism):
    before = len(prism.log())
    ended = bb.run("create", "--set", "browserSettings.os=7")
    assert ended.code == 1
    assert violations(prism.log()[before:])
