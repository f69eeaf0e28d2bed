"""The history of a device's state over HTTP: periods, keys, pages, files."""

import json

import pytest
from pydantic import JsonValue

from cloud.storage import samples
from contract.ids import DEFAULT_ORG
from tests.integration.api.conftest import NOW, Service

pytestmark = pytest.mark.row("E2")
PATH = "/devices/north-0/state"


async def a_history(api: Service, count: int) -> None:
    """A sample a minute, the last one now."""
    await api.join("north", 1)
    for number in range(count):
        at = NOW - (count - 1 - number) * 60_000
        values: dict[str, JsonValue] = {"bar": number, "mode": "=eco"}
        await api.database.run(samples.record, DEFAULT_ORG, "north-0", values, at)


async def test_pages_go_on_and_a_period_and_keys_choose(api: Service):
    await a_history(api, 10)
    seen, cursor = [], None
    asked = {"period": "5m", "limit": 2, "keys": "bar,rpm"}
    while True:
        page = (await api.get(PATH, params=asked)).json()
        seen += [one["values"] for one in page["items"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
        asked["cursor"] = cursor
        api.now += 1_000
    assert seen == [{"bar": number} for number in range(4, 10)]
    newest = (await api.get(PATH, params={"order": "newest", "limit": 1})).json()["items"]
    assert newest[0]["values"] == {"bar": 9, "mode": "=eco"}
    bounds = {"from": str(NOW - 120_000), "to": str(NOW)}
    assert len((await api.get(PATH, params=bounds)).json()["items"]) == 2


async def test_a_whole_period_is_a_file_that_no_spreadsheet_runs(api: Service):
    await a_history(api, 2)
    file = await api.get(f"{PATH}.csv", params={"keys": "mode"})
    assert file.headers["content-disposition"] == 'attachment; filename="state-north-0.csv"'
    assert file.text.splitlines()[0] == "at,key,value"
    assert [line.partition(",")[2] for line in file.text.splitlines()[1:]] == ["mode,'=eco"] * 2
    lines = (await api.get(f"{PATH}.ndjson")).text.splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["bar", "mode"] * 2


async def test_what_cannot_be_asked_is_told(api: Service):
    await a_history(api, 1)
    for path, wrong, status in (
        (PATH, {"period": "soon"}, 422),
        (PATH, {"order": "random"}, 422),
        (PATH, {"cursor": "x"}, 422),
        ("/devices/nobody/state", {}, 404),
        ("/devices/nobody/state.csv", {}, 404),
    ):
        found = (await api.get(path, params=wrong)).status_code
        assert found in (status, 400), (path, wrong, found)
