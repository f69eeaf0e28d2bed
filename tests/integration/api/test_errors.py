"""Every error is a problem document with a stable code, whoever makes it."""

import pytest

from cloud.coordinator import access
from cloud.errors import StorageFull, StorageUnavailable
from contract.http.problems import CODES, Problem


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate_json(answer.content)
    assert found.code == code
    assert (found.status, found.title) == CODES[code]
    assert found.request_id == answer.headers["x-request-id"]
    return found


async def test_a_request_without_a_token_is_told_how(api):
    async with api.client_with(None) as stranger:
        for path in ("/jobs", "/runs/x", "/events?run=x", "/runs/x/report.csv", "/artifacts"):
            found = problem(await stranger.get(f"/api/v1{path}"), 401, "not_authenticated")
            assert "Bearer" in found.help
        answer = await stranger.get("/api/v1/jobs")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        await_post = await stranger.post("/api/v1/jobs", content="name: [")
        problem(await_post, 401, "not_authenticated")


async def test_a_wrong_token_is_refused(api):
    async with api.client_with("wrong") as stranger:
        problem(await stranger.get("/api/v1/jobs"), 401, "not_authenticated")


async def test_an_address_that_is_not_there_is_said(api):
    problem(await api.get("/nothing"), 404, "not_found")
    problem(await api.client.get("/nothing/at/all"), 404, "not_found")


async def test_a_method_that_is_not_taken_names_those_that_are(api):
    answer = await api.client.delete("/api/v1/runs")
    problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


async def test_a_bad_query_names_its_key(api):
    found = problem(await api.get("/jobs?limit=many"), 422, "invalid")
    assert found.errors[0].key == "query.limit"
    problem(await api.get("/jobs?limit=0"), 422, "invalid")
    problem(await api.get("/jobs?cursor=nonsense"), 422, "invalid")
    found = problem(await api.get("/runs?status=done"), 422, "invalid")
    assert "known are" in found.detail


async def test_a_body_that_is_not_json_has_line_and_column(api):
    found = problem(await api.post("/gateways", content='{"id": "a"\n,,}'), 422, "invalid")
    assert found.errors[0].line == 2
    found = problem(await api.post("/gateways", json={"id": "UPPER"}), 422, "invalid")
    assert found.errors[0].key == "id"
    problem(await api.post("/gateways", content=b"\xff\xfe"), 422, "invalid")


async def test_a_body_too_large_is_refused_while_it_comes(api):
    problem(await api.post("/jobs", content="x" * 60_000), 413, "too_large")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageFull("no space"), 507, "storage_full"),
        (StorageUnavailable("gone"), 503, "unavailable"),
        (ZeroDivisionError("a mistake of ours"), 500, "internal"),
    ],
)
async def test_trouble_below_is_a_problem_that_tells_no_secrets(
    api, monkeypatch, error, status, code
):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(access, "authenticate", fail)
    answer = await api.get("/jobs")
    problem(answer, status, code)
    assert "mistake of ours" not in answer.text
    assert ("retry-after" in answer.headers) == (code == "unavailable")


async def test_health_needs_no_token(api):
    async with api.client_with(None) as stranger:
        assert (await stranger.get("/healthz")).text == "ok\n"
        assert (await stranger.get("/readyz")).json() == {"ready": True, "missing": []}
        version = (await stranger.get("/version")).json()
        assert version["product"] == "roundsman"
        assert version["incarnation"]
        text = (await stranger.get("/metrics")).text
        assert "roundsman_http_requests_total" in text


async def test_the_description_is_complete(api):
    schema = (await api.get("/openapi.json")).json()
    paths = schema["paths"]
    assert "/artifacts/{sha256}" in paths
    body = paths["/api/v1/jobs"]["post"]["requestBody"]["content"]
    assert body["application/yaml"]["schema"]["$ref"].endswith("/JobDocument")
    text = str(schema)
    names = {word.split("'")[0] for word in text.split("#/components/schemas/")[1:]}
    assert names <= set(schema["components"]["schemas"])
