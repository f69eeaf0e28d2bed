"""Acting on selections over HTTP: what is asked, what is refused, and what is noted of it."""

import pytest


@pytest.mark.row("A11")
async def test_an_action_on_devices_becomes_a_run(api):
    await api.join("north", 3)
    asked = {"query": "gateway:north", "action": {"do": "edit", "tags": {"hall": "3"}}}
    begun = await api.post("/devices/act", json=asked)
    run = begun.json()
    assert (begun.status_code, run["kind"], run["type"]) == (202, "operation", "act_on_devices")
    assert begun.headers["location"] == f"/api/v1/runs/{run['id']}"
    assert run["data"] == asked
    cancelled = await api.post(f"/runs/{run['id']}/cancel")
    assert cancelled.json()["status"] == "cancelling"
    listed = await api.get("/runs", params={"type": "act_on_devices"})
    assert [one["id"] for one in listed.json()["items"]] == [run["id"]]


@pytest.mark.row("A11")
@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/devices/act", {"all": True, "action": {"do": "explode"}}, "action"),
        ("/devices/act", {"all": True}, "action"),
        ("/devices/act", {"action": {"do": "delete"}}, "query"),
        ("/devices/act", {"devices": ["x"], "action": {"do": "delete"}}, "devices"),
        ("/devices/act", {"query": "typ:x", "action": {"do": "delete"}}, "query.typ"),
        ("/gateways/stop", {}, "query"),
        ("/gateways/start", {"gateways": ["nobody"]}, "gateways"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_its_place(api, path, body, key):
    answer = await api.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["key"] == key
    assert (await api.get("/runs", params={"system": True})).json()["items"] == []


@pytest.mark.row("A11")
async def test_a_gateway_shows_that_it_is_to_stop(api):
    await api.join("north", 1)
    assert (await api.get("/gateways/north")).json()["state"] == "working"
    begun = await api.post("/gateways/stop", json={"gateways": ["north"], "reason": "cable"})
    assert (begun.status_code, begun.json()["name"]) == (202, "stop gateways")
    assert (await api.post("/gateways/explode", json={"all": True})).status_code == 422


@pytest.mark.row("A13")
@pytest.mark.row("C16")
async def test_the_audit_log_tells_who_did_what_in_pages(api):
    await api.client.put("/api/v1/secrets/api_key", json={"value": "hunter2-and-more"})
    await api.client.put("/api/v1/holds/site/berlin", json={"reason": "crane"})
    await api.client.delete("/api/v1/holds/site/berlin")
    await api.client.delete("/api/v1/secrets/api_key")
    first = (await api.get("/audit", params={"limit": 3})).json()
    rest = (await api.get("/audit", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    lines = first["items"] + rest["items"]
    assert rest["next_cursor"] is None
    assert [line["action"] for line in lines] == [
        "secret.delete",
        "hold.lift",
        "hold.set",
        "secret.set",
    ]
    assert lines[2]["detail"] == {"reason": "crane"}
    assert lines[0]["by"]["name"]
    assert "hunter2" not in str(lines)
    of_one = (await api.get("/audit", params={"subject": "secret/api_key"})).json()["items"]
    assert [line["action"] for line in of_one] == ["secret.delete", "secret.set"]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await api.client.request(method, "/api/v1/audit")).status_code == 405
