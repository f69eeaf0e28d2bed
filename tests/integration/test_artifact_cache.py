"""Artifacts from an HTTP server that cuts, lies and redirects: whole in the cache, or an error."""

import asyncio
import hashlib
import http.server
import os
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.artifacts.cache import ArtifactCache
from gateway.artifacts.download import Download
from gateway.artifacts.serve import ArtifactServer
from gateway.errors import ArtifactUnavailable, StorageFull
from tests.kit.waiting import wait_until_async

BODY = os.urandom(200_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Plan:
    """What the server does; `requests` are the Range and Authorization headers it saw."""

    body: bytes = BODY
    cut_after: int | None = None
    statuses: list[int] = field(default_factory=list)
    ignores_range: bool = False
    redirect_to: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def cloud():
    """Address and plan of a server."""
    plan = Plan()
    plan.gate.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            return

        def do_GET(self):
            wanted = self.headers.get("Range", "")
            plan.requests.append((self.path, wanted, self.headers.get("Authorization", "")))
            if plan.statuses:
                self.send_response(plan.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if plan.redirect_to and self.path.startswith("/artifacts"):
                self.send_response(307)
                self.send_header("Location", plan.redirect_to)
                self.end_headers()
                return
            start = int(wanted[6:-1]) if wanted and not plan.ignores_range else 0
            self.send_response(206 if start else 200)
            if start:
                end, size = len(plan.body) - 1, len(plan.body)
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("Content-Length", str(len(plan.body) - start))
            self.end_headers()
            end = len(plan.body) if plan.cut_after is None else start + plan.cut_after
            for at in range(start, min(end, len(plan.body)), 8192):
                self.wfile.write(plan.body[at : min(at + 8192, end)])
                self.wfile.flush()
                plan.gate.wait(20)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", plan
        plan.gate.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(cloud, tmp_path):
    return make_cache(cloud[0], tmp_path)


def make_cache(address, folder, max_bytes=1 << 30, **options):
    # No chance: half of each delay.
    download = Download(address, lambda: "Bearer token", lambda: 0.0, no_progress_s=5.0)
    return ArtifactCache(folder / "cache", download, max_bytes, **options)


def no_progress(percent, note):
    return


@pytest.mark.row("E11")
async def test_a_download_cut_every_few_kilobytes_resumes_until_it_is_whole(cloud, cache):
    _, plan = cloud
    plan.cut_after = 9000
    told = []
    path = await cache.fetch(DIGEST, len(BODY), lambda percent, note: told.append(percent))
    assert path.read_bytes() == BODY
    assert len(plan.requests) == -(-len(BODY) // 9000)
    assert {wanted for _, wanted, _ in plan.requests} >= {"", "bytes=9000-", "bytes=18000-"}
    assert told == sorted(told)
    assert told[-1] == 100


async def test_many_devices_wait_for_one_download(cloud, cache):
    _, plan = cloud
    plan.gate.clear()
    told: list[list[float]] = [[] for _ in range(20)]
    waiting = [
        asyncio.get_running_loop().create_task(
            cache.fetch(DIGEST, len(BODY), lambda p, note, mine=mine: mine.append(p))
        )
        for mine in told
    ]
    await wait_until_async(lambda: all(told), message="everyone to see progress")
    waiting[0].cancel()
    plan.gate.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(isinstance(path, Path) and path.read_bytes() == BODY for path in done[1:])
    assert len(plan.requests) == 1


async def test_the_last_who_leaves_ends_the_download_and_the_next_resumes_it(cloud, cache):
    _, plan = cloud
    plan.gate.clear()
    told: list[float] = []
    waiting = asyncio.get_running_loop().create_task(
        cache.fetch(DIGEST, len(BODY), lambda percent, note: told.append(percent))
    )
    await wait_until_async(lambda: told, message="progress")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    plan.gate.set()
    path = await cache.fetch(DIGEST, len(BODY), no_progress)
    assert path.read_bytes() == BODY
    assert plan.requests[-1][1].startswith("bytes=")


async def test_a_half_file_of_a_killed_process_goes_on(cloud, tmp_path):
    address, plan = cloud
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f"{DIGEST}.part").write_bytes(BODY[:150_000])
    path = await make_cache(address, tmp_path).fetch(DIGEST, len(BODY), no_progress)
    assert path.read_bytes() == BODY
    assert [wanted for _, wanted, _ in plan.requests] == ["bytes=150000-"]


async def test_a_half_file_with_wrong_bytes_is_fetched_again(cloud, tmp_path):
    address, plan = cloud
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f"{DIGEST}.part").write_bytes(b"?" * 150_000)
    path = await make_cache(address, tmp_path).fetch(DIGEST, len(BODY), no_progress)
    assert path.read_bytes() == BODY
    assert len(plan.requests) == 2


async def test_a_damaged_cached_file_is_found_once_per_process(cloud, cache, tmp_path):
    address, plan = cloud
    path = await cache.fetch(DIGEST, len(BODY), no_progress)
    path.write_bytes(b"?" * len(BODY))
    path = await make_cache(address, tmp_path).fetch(DIGEST, len(BODY), no_progress)
    assert path.read_bytes() == BODY
    assert len(plan.requests) == 2


async def test_a_server_without_ranges_is_fine(cloud, cache):
    _, plan = cloud
    plan.ignores_range, plan.cut_after = True, 150_000
    waiting = asyncio.get_running_loop().create_task(cache.fetch(DIGEST, len(BODY), no_progress))
    await wait_until_async(lambda: len(plan.requests) >= 2)
    plan.cut_after = None
    assert (await waiting).read_bytes() == BODY


async def test_trouble_passes_and_a_no_does_not(cloud, cache):
    _, plan = cloud
    plan.statuses = [503, 429, 500]
    await cache.fetch(DIGEST, len(BODY), no_progress)
    assert len(plan.requests) == 4
    plan.statuses = [404]
    with pytest.raises(ArtifactUnavailable, match="404"):
        await cache.fetch("0" * 64, 10, no_progress)
    assert len(plan.requests) == 5


async def test_other_bytes_than_named_are_refused(cloud, cache, tmp_path):
    _, plan = cloud
    plan.body = b"?" * len(BODY)
    with pytest.raises(ArtifactUnavailable) as caught:
        await cache.fetch(DIGEST, len(BODY), no_progress)
    assert caught.value.code == "digest_mismatch"
    assert not list((tmp_path / "cache").iterdir())


async def test_nobody_there_is_given_up_in_time(tmp_path):
    download = Download("http://127.0.0.1:9", lambda: None, lambda: 0.0, no_progress_s=0.3)
    cache = ArtifactCache(tmp_path / "cache", download, 1 << 30)
    with pytest.raises(ArtifactUnavailable, match="cannot fetch"):
        await cache.fetch(DIGEST, len(BODY), no_progress)


async def test_a_redirect_elsewhere_does_not_carry_our_credentials(cloud, cache):
    address, plan = cloud
    plan.redirect_to = address.replace("127.0.0.1", "localhost") + "/signed?token=1"
    path = await cache.fetch(DIGEST, len(BODY), no_progress)
    assert path.read_bytes() == BODY
    (first, _, ours), (second, _, theirs) = plan.requests
    assert (first, ours) == (f"/artifacts/{DIGEST}", "Bearer token")
    assert (second, theirs) == ("/signed?token=1", "")


async def test_the_least_used_goes_first_and_what_a_task_holds_stays(cloud, tmp_path):
    address, plan = cloud
    cache = make_cache(address, tmp_path, max_bytes=2500)
    names = []
    for number in range(4):
        plan.body = bytes([number]) * 1000
        names.append(hashlib.sha256(plan.body).hexdigest())
        holder = "task-1" if number == 0 else ""
        path = await cache.fetch(names[-1], 1000, no_progress, holder)
        os.utime(path, (number, number))
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    assert kept == {names[0], names[3]}
    cache.release("task-1")
    plan.body = b"x" * 1000
    await cache.fetch(hashlib.sha256(plan.body).hexdigest(), 1000, no_progress)
    assert names[0] not in {path.name for path in (tmp_path / "cache").iterdir()}


async def test_a_full_disk_is_said_before_the_first_byte(cloud, tmp_path):
    cache = make_cache(cloud[0], tmp_path, keep_free=1 << 62)
    with pytest.raises(StorageFull):
        await cache.fetch(DIGEST, len(BODY), no_progress)
    assert cloud[1].requests == []


def get(url, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


async def test_devices_fetch_from_the_gateway_with_ranges(cloud, cache):
    await cache.fetch(DIGEST, len(BODY), no_progress)
    async with ArtifactServer(cache.find) as server:
        url = server.url_for(DIGEST)
        assert (await asyncio.to_thread(get, url))[::2] == (200, BODY)
        status, headers, body = await asyncio.to_thread(get, url, Range="bytes=1000-1999")
        assert (status, body) == (206, BODY[1000:2000])
        assert headers["Content-Range"] == f"bytes 1000-1999/{len(BODY)}"
        assert (await asyncio.to_thread(get, url, Range="bytes=-5"))[2] == BODY[-5:]
        assert (await asyncio.to_thread(get, url, Range="bytes=999999-"))[0] == 416
        status, headers, body = await asyncio.to_thread(get, url, method="HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(BODY)), b"")
        assert (await asyncio.to_thread(get, url, method="PUT"))[0] == 405
        for other in ("0" * 64, "", "../../etc/passwd", f"{DIGEST}/x"):
            assert (await asyncio.to_thread(get, f"{url[: -len(DIGEST)]}{other}"))[0] == 404


@pytest.mark.row("E6", "E11")
async def test_devices_fetch_only_what_a_running_task_has_many_at_once(cloud, cache):
    await cache.fetch(DIGEST, len(BODY), no_progress, holder="task:1")
    await cache.fetch(DIGEST, len(BODY), no_progress, holder="task:2")
    async with ArtifactServer(cache.find_held) as server:
        url = server.url_for(DIGEST)
        answers = await asyncio.gather(*(asyncio.to_thread(get, url) for _ in range(20)))
        assert {answer[::2] for answer in answers} == {(200, BODY)}
        cache.release("task:1")
        assert (await asyncio.to_thread(get, url))[0] == 200
        cache.release("task:2")
        assert (await asyncio.to_thread(get, url))[0] == 404
        assert cache.find(DIGEST) is not None  # kept for the next task, and served to nobody


async def test_nonsense_and_stalled_clients_do_not_hurt_the_server(cloud, cache):
    await cache.fetch(DIGEST, len(BODY), no_progress)
    async with ArtifactServer(cache.find) as server:
        for nonsense in (b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000, b"\x16\x03\x01\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(nonsense)
            assert b" 400 " in await reader.readline()
            writer.close()
        stalled = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(10)]
        assert (await asyncio.to_thread(get, server.url_for(DIGEST)))[2] == BODY
        for _, writer in stalled:
            writer.close()
