"""Targets over HTTP: groups, users, tables, previews, files that become runs, secrets."""

import pytest

from contract.http.runs import Run


@pytest.mark.row("A2")
async def test_groups_and_users_are_made_edited_and_deleted(api):
    await api.join("north", 3)
    made = await api.post("/groups", json={"id": "lab", "members": ["north-0"]})
    assert (made.status_code, made.headers["location"]) == (201, "/api/v1/groups/lab")
    again = await api.post("/groups", json={"id": "lab"})
    assert (again.status_code, again.json()["code"]) == (409, "exists")
    change = {"add": ["north-1", "north-2"], "remove": ["north-0"]}
    assert (await api.post("/groups/lab/members", json=change)).json()["members"] == 2
    listed = await api.get("/groups/lab/members", params={"limit": 1})
    assert [one["id"] for one in listed.json()["items"]] == ["north-1"]
    more = await api.get(
        "/groups/lab/members", params={"limit": 1, "cursor": listed.json()["next_cursor"]}
    )
    assert [one["id"] for one in more.json()["items"]] == ["north-2"]
    wrong = await api.post("/groups", json={"id": "odd", "query": "typ:x"})
    assert (wrong.status_code, wrong.json()["errors"][0]["key"]) == (422, "query.typ")
    assert (await api.client.delete("/api/v1/groups/lab")).status_code == 204
    assert (await api.get("/groups/lab")).status_code == 404
    await api.post("/users", json={"id": "ada", "name": "Ada", "tags": {"team": "north"}})
    edited = await api.client.patch("/api/v1/users/ada", json={"tags": {"team": None}})
    assert (edited.json()["name"], edited.json()["tags"]) == ("Ada", {})
    device = await api.client.patch("/api/v1/devices/north-0", json={"tags": {"a.b": 1}})
    assert device.status_code == 422
    device = await api.client.patch("/api/v1/devices/north-0", json={"tags": {"site": "spree"}})
    assert device.json()["tags"] == {"site": "spree"}
    gateway = await api.client.patch("/api/v1/gateways/north", json={"tags": {"zone": 1}})
    assert gateway.json()["tags"] == {"zone": 1}


@pytest.mark.row("A8")
async def test_rows_are_added_found_and_edited(api):
    columns = [{"name": "site"}, {"name": "size", "type": "number"}]
    await api.post("/tables", json={"id": "sites", "columns": columns})
    rows = [{"site": "berlin", "size": 1}, {"site": "paris", "size": 2}]
    assert (await api.post("/tables/sites/rows", json={"rows": rows})).status_code == 201
    wrong = await api.post("/tables/sites/rows", json={"rows": [*rows, {"size": "x"}, {"y": 1}]})
    assert [item["key"] for item in wrong.json()["errors"]] == ["rows[2].size", "rows[3].y"]
    for query in ("size>1", '{"size": {"$gt": 1}}'):
        found = await api.get("/tables/sites/rows", params={"query": query})
        assert [row["id"] for row in found.json()["items"]] == [2]
    bad = await api.get("/tables/sites/rows", params={"query": "sizes>1"})
    assert (bad.status_code, "did you mean `size`" in bad.json()["detail"]) == (422, True)
    edited = await api.client.patch("/api/v1/tables/sites/rows/2", json={"values": {"size": None}})
    assert edited.json()["values"] == {"site": "paris"}
    assert (await api.client.delete("/api/v1/tables/sites/rows/2")).status_code == 204
    assert (await api.get("/tables/sites")).json()["rows"] == 1
    reserved = await api.post("/tables", json={"id": "odd", "columns": [{"name": "id"}]})
    assert reserved.status_code == 422


@pytest.mark.row("A11")
async def test_a_file_becomes_a_run(api):
    await api.post("/tables", json={"id": "sites"})
    started = await api.post("/tables/sites/import", content=b"site\nberlin\n")
    assert started.status_code == 202
    run = Run.model_validate(started.json())
    assert (run.kind, run.type, run.status) == ("operation", "import_rows", "running")
    assert (await api.get(f"/runs/{run.id}/download")).status_code == 404
    assert (await api.post("/tables/none/import", content=b"x")).status_code == 404
    assert (await api.post("/tables/sites/import", content=b"")).status_code == 422
    assert (await api.post("/tables/sites/delete-rows")).status_code == 422
    assert (await api.get("/runs")).json()["items"] == []
    listed = await api.get("/runs", params={"type": "import_rows"})
    assert [one["id"] for one in listed.json()["items"]] == [run.id]


@pytest.mark.row("A3")
async def test_a_preview_starts_nothing(api):
    await api.join("north", 3)
    job = await api.save_job()
    found = (await api.post(f"/jobs/{job}/preview", json={"query": "id:north-1"})).json()
    assert (found["count"], [one["id"] for one in found["sample"]]) == (1, ["north-1"])
    document = (
        "name: other\ntargets: {query: 'tag.x:1'}\nsteps: [{uses: flow.log, with: {text: x}}]\n"
    )
    wrong = await api.post("/preview", content=document)
    assert wrong.json()["errors"][0]["key"] == "targets.query.tag.x"
    fine = await api.post("/preview", content=document.replace("tag.x:1", "gateway:nobody"))
    assert (fine.json()["count"], len(fine.json()["warnings"])) == (0, 1)
    assert (await api.get("/runs")).json()["items"] == []


@pytest.mark.row("A13")
async def test_a_secret_is_never_read_back(api):
    set_ = await api.client.put("/api/v1/secrets/api_key", json={"value": "hunter2-and-more"})
    assert (set_.status_code, set_.json()["name"]) == (200, "api_key")
    assert "hunter2" not in set_.text + (await api.get("/secrets")).text
    assert (await api.get("/secrets/api_key")).status_code in (404, 405)
    bad = await api.client.put("/api/v1/secrets/Not-A-Name", json={"value": "x"})
    assert bad.status_code == 422
    job = await api.save_job(
        "name: s\nsteps: [{uses: flow.log, with: {text: '{{ secrets.nobody }}'}}]\n"
    )
    refused = await api.post(f"/jobs/{job}/runs")
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_secret")
    assert (await api.client.delete("/api/v1/secrets/api_key")).status_code == 204
    assert (await api.get("/secrets")).json()["items"] == []
