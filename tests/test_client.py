"""The Python API, as a program would use it."""

from __future__ import annotations

import pytest

from bsess import Client
from bsess.errors import ConfigError, UsageError


@pytest.fixture
def client(world):
    return Client(environment=world.env)


def test_a_session_lives_for_the_length_of_a_block(client, world):
    with client.session(ttl=60, labels={"job": "1"}) as session:
        assert [item.id for item in client.list(mine=True, labels={"job": "1"})] == [session.id]
        assert session.connect_url.startswith("ws://127.0.0.1:")
    world.assert_nothing_left()


def test_a_block_that_raises_ends_its_session_too(client, world):
    with pytest.raises(ZeroDivisionError), client.session():
        raise ZeroDivisionError
    world.assert_nothing_left()


def test_a_close_returns_what_came_of_it(client):
    session = client.create()
    assert client.close(session.id, force=True).outcome == "closed"
    assert client.close(session.id).outcome == "already_closed"


def test_a_sweep_returns_its_decisions(client):
    with client.session() as session:
        report = client.sweep(dry_run=True)
        assert [(item.id, item.end) for item in report.decisions] == [(session.id, False)]


def test_what_cannot_be_is_raised_as_an_error_of_bsess(client, world):
    with pytest.raises(UsageError):
        client.create(ttl=0.001)
    with pytest.raises(ConfigError):
        Client("no-such-profile", environment=world.env)


def test_a_secret_is_not_in_the_representation(client):
    with client.session() as session:
        assert session.connect_url not in repr(session)
