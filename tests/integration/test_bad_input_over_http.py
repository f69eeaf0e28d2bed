"""Answers and requests of HTTP that are none: our own errors come of them, and nothing hangs."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.artifacts.download import Download
from gateway.artifacts.serve import ArtifactServer
from gateway.errors import GatewayError
from gateway.transports.web import Web, WebAnswer, WebRequest

DATA = b"0123456789" * 10
SHA = hashlib.sha256(DATA).hexdigest()
LOCATIONS = (
    b"http://[::1", b"//[", b"http://127.0.0.1:99999/", b"http://127.0.0.1:x/", b"\xe4\xf6",
    b"http://" + b"a" * 300 + b"/", b"http://\xff/", b"file:///etc/passwd", b"/\x01 ", b"",
)  # fmt: skip
ANSWERS = (
    b"", b"\x00" * 50, b"HTTP/1.1\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 99999 X\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 60 + b"\r\nabc",
    b"HTTP/1.1 206 X\r\nContent-Range: bytes " + b"9" * 5_000 + b"-1/*\r\n\r\nabc",
    b"HTTP/1.1 206 X\r\nContent-Range: bytes 0-1/" + b"9" * 5_000 + b"\r\n\r\nabc",
    b"HTTP/1.1 206 X\r\nContent-Range: bytes 5-1/100\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"[" * 5_000,
    *(b"HTTP/1.1 302 X\r\nLocation: " + where + b"\r\n\r\n" for where in LOCATIONS),
)  # fmt: skip
WITHIN_S = 30


@asynccontextmanager
async def answering(answer: bytes):
    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass  # the story is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def fetch_and_ask(answer: bytes, folder: Path) -> None:
    async with answering(answer) as url, asyncio.timeout(WITHIN_S):
        download = Download(url, lambda: None, lambda: 0.0, no_progress_s=0)
        with pytest.raises(GatewayError):
            await download.fetch(SHA, len(DATA), folder / SHA, lambda count: None)
        request = WebRequest("GET", url + "/", {}, None, timeout_s=10, max_bytes=1_000, redirects=2)
        try:
            found = await Web([ip_network("127.0.0.0/8")]).ask(request)
        except GatewayError:
            return
        assert isinstance(found, WebAnswer)
        assert len(found.body) <= 1_000


@pytest.mark.row("E11")
@pytest.mark.parametrize("number", range(len(ANSWERS)))
async def test_an_answer_that_is_none_is_an_error_of_ours(number, tmp_path):
    await fetch_and_ask(ANSWERS[number], tmp_path)


@pytest.mark.row("E11")
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from(ANSWERS), at=st.integers(0, 80), more=st.binary(max_size=40))
def test_any_answer_ends_in_an_error_of_ours(head, at, more, tmp_path):
    asyncio.run(fetch_and_ask(head[:at] + more + head[at:], tmp_path))


REQUESTS = (
    b"\x00" * 100, b"GET\r\n", b"GET / HTTP/1.1\r\nRange: bytes=0-0-0",
    b"GET /%s HTTP/1.1\r\nRange: bytes=" + b"9" * 5_000 + b"-", b"GET /%s HTTP/9\r\n\xff: \xff",
    b"GET /%s HTTP/1.1\r\nRange: bytes=-" + b"9" * 5_000, b"GET /../%s HTTP/1.1",
    "GET /%s HTTP/1.1\r\nRange: bytes=²-٣".encode(), b"GET /%s HTTP/1.1\r\nRange: bytes=-0",
)  # fmt: skip


@pytest.mark.row("E11")
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(more=st.lists(st.binary(max_size=60), max_size=3))
def test_whatever_a_device_asks_the_next_one_gets_its_file(more, tmp_path):
    file = tmp_path / SHA
    file.write_bytes(DATA)
    raised = []

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda _, what: raised.append(what))
        async with ArtifactServer(lambda sha: file if sha == SHA else None) as server:
            for asked in [*REQUESTS, *more, b"x" * 20_000, b"GET /%s HTTP/1.1"]:
                async with asyncio.timeout(WITHIN_S):
                    answer = await said(server.port, asked.replace(b"%s", SHA.encode()))
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert answer.endswith(DATA)

    asyncio.run(story())
    assert raised == []


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request + b"\r\n\r\n")
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.close()
