"""What devices were like over time: stored once, in pages and periods, and swept."""

import pytest

from cloud.errors import Invalid, NotFound
from cloud.storage import samples
from cloud.storage.database import Session
from cloud.storage.views import devices as device_views
from cloud.storage.views import samples as views
from cloud.storage.views.samples import Wanted
from contract.ids import DEFAULT_ORG
from contract.messages import DeviceState
from contract.periods import Period
from tests.integration.storage.test_plans import numbers, plan, reads_all
from tests.integration.storage.world import World

pytestmark = pytest.mark.row("E2")
HOUR = 3_600_000


@pytest.fixture
def berlin(world: World) -> World:
    world.join("berlin", ["pump-1", "pump-2"])
    return world


def sample(number, at, device="pump-1", order=0, link="unknown", **values):
    return DeviceState(number=number, order=order, at=at, device=device, link=link, values=values)


def history(world: World, device="pump-1", **wanted):
    keys, period = frozenset(wanted.pop("keys", ())), wanted.pop("period", Period())
    page = world.run_now(views.list_samples, DEFAULT_ORG, Wanted(device, period, keys), **wanted)
    return [{**one.values} for one in page.items], page.next_cursor


def state(world: World, device="pump-1"):
    return world.run_now(device_views.get_device, DEFAULT_ORG, device).state


def test_a_stream_that_comes_twice_or_in_another_cut_is_stored_once(berlin: World):
    first = [sample(n, berlin.now + n, order=n, bar=n) for n in (1, 2, 3)]
    again = [*first, sample(4, berlin.now + 4, order=4, bar=4)]
    for states in (first, first, again, first[1:]):
        outcome = berlin.report("berlin", states=states, time=berlin.now + 10)
        assert [(s.kind, s.number) for s in outcome.streams] == [("states", states[-1].number)]
    assert history(berlin)[0] == [{"bar": n} for n in (1, 2, 3, 4)]
    assert berlin.sql("SELECT kept FROM sample_counts") == [(4,)]


def test_what_is_live_holds_though_the_backlog_comes_behind_it(berlin: World):
    live = sample(1, berlin.now, order=9, bar=9)
    late = [sample(n, berlin.now - HOUR + n, order=n, bar=n, rpm=n) for n in range(1, 9)]
    berlin.report("berlin", states=[live])
    berlin.report("berlin", states=late, stream="backlog")
    assert state(berlin) == {"bar": 9, "rpm": 8}
    found = history(berlin)[0]
    assert [one["bar"] for one in found] == [*range(1, 9), 9]


def test_a_gateway_whose_clock_lags_is_not_ignored_after_a_step_recorded_state(berlin: World):
    assert berlin.run_now(samples.record, DEFAULT_ORG, "pump-1", {"bar": 1, "by": "x"}, berlin.now)
    berlin.now += 60_000
    lag = berlin.now - 5 * HOUR
    berlin.report("berlin", states=[sample(1, lag - 10, order=1, bar=2)], time=lag)
    assert state(berlin) == {"bar": 2, "by": "x"}
    ((at,), *_) = berlin.sql("SELECT max(at) FROM device_samples")
    assert at == berlin.now - 10
    berlin.report("berlin", states=[sample(2, 5, order=2, bar=3)], time=lag)  # and jumps
    assert state(berlin)["bar"] == 3


def test_samples_of_a_device_of_another_gateway_are_left_out(berlin: World):
    berlin.join("paris", ["lift-1"])
    strange = [sample(1, berlin.now, device="pump-1", bar=1), sample(2, 1, device="nobody")]
    outcome = berlin.report("paris", states=strange)
    assert outcome.streams[0].number == 2  # it need not say them again
    assert history(berlin) == ([], None)
    with pytest.raises(NotFound):
        history(berlin, "nobody")


def test_pages_go_by_time_either_way_and_by_key(berlin: World):
    states = [
        sample(n, berlin.now - 50 + n // 2, order=n, **({"rare": n} if n % 40 == 0 else {"bar": n}))
        for n in range(1, 101)
    ]
    berlin.report("berlin", states=states)
    for order, expected in (("oldest", list(range(1, 101))), ("newest", list(range(100, 0, -1)))):
        found, cursor = history(berlin, order=order, limit=30)
        while cursor:
            more, cursor = history(berlin, order=order, limit=30, cursor=cursor)
            found += more
        assert [next(iter(one.values())) for one in found] == expected
    assert history(berlin, keys=["rare"])[0] == [{"rare": 40}, {"rare": 80}]
    last = history(berlin, keys=["rare"], order="newest", limit=1)[0]
    assert last == [{"rare": 80}]
    period = Period(berlin.now - 40, berlin.now - 38)
    assert [one["bar"] for one in history(berlin, period=period)[0]] == [20, 21, 22, 23]
    _, cursor = history(berlin, limit=5)
    with pytest.raises(Invalid):
        history(berlin, limit=5, keys=["bar"], cursor=cursor)


def test_a_page_of_a_rare_key_looks_at_so_many_rows_and_goes_on(berlin: World, monkeypatch):
    monkeypatch.setattr(views, "LOOKED_AT", 10)
    states = [sample(n, berlin.now + n, order=n, bar=n) for n in range(1, 26)]
    berlin.report("berlin", states=[*states, sample(26, berlin.now + 26, order=26, rare=1)])
    pages, cursor = [], None
    while True:
        found, cursor = history(berlin, keys=["rare"], cursor=cursor)
        pages.append(found)
        if cursor is None:
            break
    assert pages == [[], [], [{"rare": 1}]]


def test_an_export_goes_on_where_a_chunk_ended(berlin: World, monkeypatch):
    monkeypatch.setattr(views, "CHUNK", 3)
    berlin.report("berlin", states=[sample(n, berlin.now + n, order=n, a=n, b=0) for n in range(8)])
    berlin.run_now(samples.record, DEFAULT_ORG, "pump-1", {"a": 9}, berlin.now + 20)
    found, after = berlin.run_now(views.values_after, DEFAULT_ORG, Wanted("pump-1"))
    while after is not None:
        more, after = berlin.run_now(views.values_after, DEFAULT_ORG, Wanted("pump-1"), after)
        found += more
    assert [value for _, key, value in found if key == "a"] == [*range(1, 8), 9]


def test_the_oldest_samples_go_first_by_age_and_by_number(berlin: World):
    states = [sample(n, berlin.now - 100 * HOUR + n * HOUR, order=n, bar=n) for n in range(1, 101)]
    berlin.report("berlin", states=states)
    before = berlin.now - 60 * HOUR
    assert berlin.run_now(samples.to_sweep, before, 10**6) == [DEFAULT_ORG]
    rounds = 0
    while berlin.run_now(samples.sweep, DEFAULT_ORG, before, 10**6, 7):
        rounds += 1
    assert rounds == 5
    assert [one["bar"] for one in history(berlin, limit=1000)[0]] == list(range(40, 101))
    assert berlin.run_now(samples.to_sweep, before, 10**6) == []
    assert berlin.run_now(samples.to_sweep, 0, 20) == [DEFAULT_ORG]
    while berlin.run_now(samples.sweep, DEFAULT_ORG, 0, 20, 7):
        pass
    assert [one["bar"] for one in history(berlin, limit=1000)[0]] == list(range(81, 101))
    assert berlin.sql("SELECT kept FROM sample_counts") == [(20,)]
    assert state(berlin) == {"bar": 100}


def test_pages_and_sweeps_go_by_an_index(berlin: World):
    numbers(
        berlin,
        "INSERT INTO device_samples (org, device, at, source, number, link, state) "
        "SELECT :org, 'pump-2', d.n, 'journal', d.n, 'up', '{}' FROM numbers d",
        org=DEFAULT_ORG,
    )

    def page(session: Session) -> object:
        return views.list_samples(session, DEFAULT_ORG, Wanted("pump-2", Period(5, 19_000)))

    assert not reads_all(plan(berlin, page))
    assert "device_samples_by_time" in plan(berlin, lambda s: samples.to_sweep(s, 5, 10))
    wanted = Wanted("pump-2", Period(5, 19_000))
    newest = lambda s: views.list_samples(s, DEFAULT_ORG, wanted, order="newest")  # noqa: E731
    assert not reads_all(plan(berlin, newest))
