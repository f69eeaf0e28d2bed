"""The artifact store on disk: what is kept is whole, what is not whole is gone."""

import hashlib

import pytest

from cloud.artifacts.base import inspect_image
from cloud.artifacts.disk import DiskStore
from cloud.errors import Invalid


@pytest.fixture
def store(tmp_path):
    made = DiskStore(tmp_path / "artifacts")
    made.prepare()
    return made


async def chunks(*parts):
    for part in parts:
        yield part


async def save(store, *parts, limit=10_000_000, inspect=lambda path: None):
    stored, _ = await store.save(chunks(*parts), limit, inspect)
    return stored


async def content(store, sha256, start, length):
    return b"".join([block async for block in store.read(sha256, start, length)])


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file())


async def test_a_file_is_found_by_its_digest(store, tmp_path):
    whole = b"abc" * 1_000_000
    stored = await save(store, whole[:5], whole[5:])
    assert stored.sha256 == hashlib.sha256(whole).hexdigest()
    assert stored.size == await store.size(stored.sha256) == len(whole)
    assert await content(store, stored.sha256, 2, 4) == whole[2:6]
    assert await content(store, stored.sha256, 0, len(whole)) == whole
    assert files(tmp_path) == [stored.sha256]


async def test_the_same_bytes_again_are_the_same_file(store, tmp_path):
    assert await save(store, b"x") == await save(store, b"x")
    assert len(files(tmp_path)) == 1


async def test_an_empty_file_is_a_file(store):
    stored = await save(store)
    assert await store.size(stored.sha256) == 0


async def test_too_much_is_refused_and_leaves_nothing(store, tmp_path):
    with pytest.raises(Invalid) as caught:
        await save(store, b"12345", b"6", limit=5)
    assert caught.value.code == "too_large"
    assert files(tmp_path) == []


async def test_what_inspection_refuses_is_not_kept(store, tmp_path):
    with pytest.raises(Invalid) as caught:
        await save(store, b"not an image" * 9, inspect=lambda path: inspect_image(path, True))
    assert caught.value.code == "image_invalid"
    assert "not an MCUboot image" in str(caught.value)
    assert files(tmp_path) == []


async def test_an_upload_that_breaks_off_leaves_nothing(store, tmp_path):
    async def broken():
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.save(broken(), 100, lambda path: None)
    assert files(tmp_path) == []


def test_what_a_stop_left_behind_is_cleared(store, tmp_path):
    (tmp_path / "artifacts" / "incoming" / "half").write_bytes(b"x")
    store.prepare()
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, "0" * 64])
async def test_what_is_no_digest_or_not_here_is_not_found(store, name):
    assert await store.size(name) is None
