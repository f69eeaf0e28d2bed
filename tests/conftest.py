"""Fixtures every test may ask for. What is slow to import or start is imported when asked for."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.kit.brokers import Broker, Mosquitto, MosquittoWithCertificates, Nats
    from tests.kit.postgres import PostgresServer
    from tests.kit.prepared import PreparedPostgres, PreparedSqlite
    from tests.kit.processes import Programs
    from tests.kit.warm_starts import WarmStarts

# The blob repeats a failed example exactly; deadlines would time a shared machine.
# Half of the usual examples: `make test` has many properties, and runs at every change.
settings.register_profile("roundsman", print_blob=True, deadline=None, max_examples=50)
settings.load_profile("roundsman")

_PROGRAMS: "pytest.StashKey[Programs]" = pytest.StashKey()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows how the logs of its programs end."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    programs = item.stash.get(_PROGRAMS, None)
    if report.failed and programs is not None:
        for name, tail in programs.tails():
            report.sections.append((f"log of {name}", tail))


@pytest.fixture(scope="session")
def warm_starts() -> "Iterator[WarmStarts | None]":
    """What starts our programs quicker in all tests of this worker."""
    from tests.kit.processes import warm_starts

    with warm_starts() as starts:
        yield starts


@pytest.fixture
def programs(
    tmp_path: Path, request: pytest.FixtureRequest, warm_starts: "WarmStarts | None"
) -> "Iterator[Programs]":
    """Real programs of one test: `programs.python("gateway", ...)`; all ended at its end."""
    from tests.kit.processes import programs_in

    with programs_in(tmp_path / "logs", warm_starts) as started:
        request.node.stash[_PROGRAMS] = started
        yield started


@pytest.fixture
def mosquitto(tmp_path: Path) -> "Iterator[Mosquitto]":
    """A running mosquitto without TLS, MQTT 5."""
    from tests.kit.brokers import MOSQUITTO, Mosquitto

    if not MOSQUITTO.exists():
        pytest.skip(f"{MOSQUITTO} is missing: apt install mosquitto")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture
def mosquitto_with_certificates(tmp_path: Path) -> "Iterator[MosquittoWithCertificates]":
    """A running mosquitto with the configuration we ship, our paths and port in it."""
    from tests.kit.brokers import MOSQUITTO, MosquittoWithCertificates
    from tests.kit.processes import REPOSITORY

    if not MOSQUITTO.exists():
        pytest.skip(f"{MOSQUITTO} is missing: apt install mosquitto")
    configuration = REPOSITORY / "configs" / "mosquitto.conf"
    with MosquittoWithCertificates(tmp_path / "mosquitto", configuration) as broker:
        yield broker


@pytest.fixture
def nats(tmp_path: Path) -> "Iterator[Nats]":
    """A running NATS with its MQTT listener, MQTT 3.1.1, sessions on disk."""
    from tests.kit.brokers import Nats

    with Nats(tmp_path / "nats") as broker:
        yield broker


@pytest.fixture(params=["mosquitto", "nats"])
def broker(request: pytest.FixtureRequest) -> "Broker":
    """The test runs once on each broker."""
    running: Broker = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    """A PostgreSQL server for all tests of this worker, started by the first that asks."""
    from tests.kit.postgres import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: "PostgresServer") -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database, dropped afterwards."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of an empty database; the test runs once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'cloud.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> "PreparedSqlite":
    from tests.kit.prepared import PreparedSqlite

    return PreparedSqlite(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def prepared_postgres(postgres: "PostgresServer") -> "PreparedPostgres":
    from tests.kit.prepared import PreparedPostgres

    return PreparedPostgres(postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The SQLAlchemy URL of a database with all tables; the test runs once on each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("prepared_sqlite").copy_to(tmp_path / "cloud.db")
        return
    url: str = request.getfixturevalue("prepared_postgres").copy()
    yield url
    request.getfixturevalue("postgres").drop_database(url)


@pytest.fixture
def page(request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[Page]":
    """A page in real Chromium; any console error fails the test."""
    from tests.kit.browser import CHROMIUM, open_page

    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: apt install chromium")
    with ExitStack() as stack:
        yield stack.enter_context(open_page(trace=tmp_path / "failed.png"))
