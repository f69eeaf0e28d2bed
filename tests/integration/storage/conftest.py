"""A prepared cloud database, and a small world in it: an org, a gateway in session, devices."""

from collections.abc import Iterator

import pytest

from cloud.storage.database import Database, open_database
from tests.integration.storage.world import World


@pytest.fixture
def database(prepared_url: str) -> Iterator[Database]:
    opened = open_database(prepared_url)
    yield opened
    opened.close()


@pytest.fixture
def world(database: Database) -> World:
    return World(database)
