"""Artifacts over HTTP: pushed, checked, named once, fetched in parts by who may."""

import hashlib

import httpx

from firmware_sim.images import build_image

DATA = bytes(range(256)) * 100
SHA = hashlib.sha256(DATA).hexdigest()


async def push(api, name, data, **query):
    return await api.post("/artifacts", params={"name": name, **query}, content=data)


async def test_a_file_is_kept_under_its_name_and_digest(api):
    answer = await push(api, "notes-1.0", DATA)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/artifacts/notes-1.0"
    assert (answer.json()["sha256"], answer.json()["size"]) == (SHA, len(DATA))
    assert answer.json()["image_version"] is None
    assert (await push(api, "notes-1.0", DATA)).status_code == 200
    answer = await push(api, "notes-1.0", b"other")
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    listed = (await api.get("/artifacts")).json()["items"]
    assert [one["name"] for one in listed] == ["notes-1.0"]
    assert (await api.get("/artifacts/nothing")).status_code == 404


async def test_a_real_image_is_recognised_and_a_bad_one_says_what_is_wrong(api):
    image = build_image("1.2.3", 5_000)
    answer = await push(api, "pump-1.2.3", image)
    assert answer.json()["image_version"] == "1.2.3"
    assert len(answer.json()["image_hash"]) == 64
    broken = bytearray(image)
    broken[200] ^= 1
    answer = await push(api, "broken", bytes(broken))
    assert (answer.status_code, answer.json()["code"]) == (422, "image_invalid")
    assert "damaged" in answer.json()["detail"]
    answer = await push(api, "text", b"not an image" * 10, kind="image")
    assert "not an MCUboot image" in answer.json()["detail"]
    assert (await push(api, "text", b"not an image" * 10)).status_code == 201
    names = [one["name"] for one in (await api.get("/artifacts")).json()["items"]]
    assert names == ["pump-1.2.3", "text"]


async def test_bad_names_and_too_much_are_refused(api):
    for name in ("", "..", "a/b", "-x", "a" * 200, "0" * 64):
        assert (await push(api, name, DATA)).status_code == 422
    answer = await push(api, "large", b"x" * 100_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def endless():
        while True:
            yield b"x" * 10_000

    answer = await push(api, "endless", endless())
    assert answer.status_code == 413


async def test_a_gateway_fetches_with_its_own_token_in_parts(api):
    await push(api, "notes", DATA)
    token = await api.join("north", 1)
    async with api.client_with(token) as gateway:
        url = f"/artifacts/{SHA}"
        whole = await gateway.get(url)
        assert whole.content == DATA
        assert whole.headers["etag"] == f'"{SHA}"'
        assert "immutable" in whole.headers["cache-control"]
        part = await gateway.get(url, headers={"range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, DATA[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(DATA)}"
        rest = await gateway.get(url, headers={"range": "bytes=25000-", "if-range": f'"{SHA}"'})
        assert rest.content == DATA[25000:]
        anew = await gateway.get(url, headers={"range": "bytes=25000-", "if-range": '"other"'})
        assert (anew.status_code, anew.content) == (200, DATA)
        outside = await gateway.get(url, headers={"range": "bytes=99999-"})
        assert (outside.status_code, outside.json()["code"]) == (416, "range_invalid")
        assert outside.headers["content-range"] == f"bytes */{len(DATA)}"
        head = await gateway.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(DATA))
        known = await gateway.get(url, headers={"if-none-match": f'"{SHA}"'})
        assert known.status_code == 304
        # Its token fetches artifacts, and nothing else.
        assert (await gateway.get("/api/v1/jobs")).status_code == 401


async def test_nobody_else_fetches_and_nothing_else_is_fetched(api):
    await push(api, "notes", DATA)
    async with api.client_with(None) as stranger:
        assert (await stranger.get(f"/artifacts/{SHA}")).status_code == 401
    assert (await api.client.get(f"/artifacts/{SHA}")).status_code == 200
    for path in ("0" * 64, "notes", "..%2f..%2fcloud.db", "%2e%2e", SHA.upper()):
        url = httpx.URL(f"http://test/artifacts/{path}")
        assert (await api.client.get(url)).status_code == 404, path


async def test_gateways_are_made_once_and_their_token_shown_once(api):
    token = await api.join("north", 2)
    assert token
    again = await api.post("/gateways", json={"id": "north"})
    assert (again.status_code, again.json()["code"]) == (409, "exists")
    one = (await api.get("/gateways/north")).json()
    assert one["devices"] == 2
    assert "token" not in one
    devices = (await api.get("/devices?gateway=north")).json()["items"]
    assert [device["id"] for device in devices] == ["north-0", "north-1"]
    assert (await api.get("/devices/north-0")).json()["gateway"] == "north"
    assert (await api.get("/devices/nothing")).status_code == 404
    assert (await api.get("/gateways/nothing")).status_code == 404
