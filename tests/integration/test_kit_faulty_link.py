"""The link of the kit fails the way real lines do, and counts what it did."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.kit.faulty_link import FaultyLink
from tests.kit.waiting import wait_until


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        workers: list[threading.Thread] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                workers.append(threading.Thread(target=send_back, args=(connection,)))
                workers[-1].start()

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for worker in workers:
            worker.join()


def send_back(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


@pytest.fixture
def link(echo: int) -> Iterator[FaultyLink]:
    with FaultyLink(echo) as link:
        yield link


def connect(link: FaultyLink) -> socket.socket:
    return socket.create_connection((link.host, link.port), timeout=20)


def test_a_healthy_link_carries_both_ways_and_counts(link):
    with connect(link) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        assert link.open_connections == 1
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""  # the end was passed on, and came back
    assert (link.counts.to_target, link.counts.from_target) == (5, 5)
    wait_until(lambda: link.open_connections == 0, message="the connection to be forgotten")


def test_a_cut_resets_and_keeps_resetting_until_restored(link):
    with connect(link) as client:
        client.sendall(b"hello")
        client.recv(100)
        link.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with pytest.raises(ConnectionResetError), connect(link) as client:
        client.recv(100)
    link.restore()
    with connect(link) as client:
        client.sendall(b"again")
        assert client.recv(100) == b"again"
    assert (link.counts.accepted, link.counts.cut, link.counts.refused) == (2, 1, 1)


def test_a_single_reset_leaves_new_connections_alone(link):
    with connect(link) as client:
        client.sendall(b"hello")
        client.recv(100)
        link.reset_connections()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with connect(link) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_a_blackhole_is_silent_and_gives_back_what_it_held(link):
    with connect(link) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"one"
        link.blackhole()
        client.sendall(b"two")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(20)
        link.restore()
        assert client.recv(100) == b"two"


def test_a_link_can_be_cut_in_the_middle_of_an_upload(link):
    link.cut_after(to_target=100_000)
    with connect(link) as client, pytest.raises(OSError):
        for _ in range(10_000):
            client.sendall(bytes(1000))
    assert link.is_cut
    assert 100_000 <= link.counts.to_target < 10_000_000


def test_a_delay_holds_each_byte_back_both_ways(link):
    link.delay(0.2)
    with connect(link) as client:
        sent = time.monotonic()
        client.sendall(b"late")
        assert client.recv(100) == b"late"
        assert time.monotonic() - sent >= 0.4  # a lower bound holds on any machine


def test_a_target_that_is_down_resets_the_client():
    with FaultyLink(target_port=1) as link:
        with pytest.raises(ConnectionResetError), connect(link) as client:
            client.recv(1)
        assert link.open_connections == 0
