"""Hello pages: complete, repeated, out of order, abandoned."""

from cloud.gateway_link.hello_pages import HelloPages
from contract.ids import GatewayId, OrgId
from contract.lifecycle import TaskStatus
from contract.messages import Hello, InventoryDevice, TaskMark
from contract.topics import Address

NORTH = Address(OrgId("default"), GatewayId("north"))
SOUTH = Address(OrgId("default"), GatewayId("south"))


def page(number, of, nonce="n1"):
    return Hello(
        nonce=nonce,
        page=number,
        pages=of,
        journal="j1",
        instance="i1",
        devices=[InventoryDevice(id=f"device-{number}")],
        tasks=[TaskMark(task=f"run-{number}", attempt=1, revision=1, status=TaskStatus.RUNNING)],
    )


def test_a_hello_of_one_page_is_whole_at_once():
    assert HelloPages().add(NORTH, page(1, 1)) == page(1, 1)


def test_pages_may_come_twice_and_in_any_order():
    pages = HelloPages()
    assert pages.add(NORTH, page(3, 3)) is None
    assert pages.add(NORTH, page(1, 3)) is None
    assert pages.add(NORTH, page(1, 3)) is None
    whole = pages.add(NORTH, page(2, 3))
    assert [device.id for device in whole.devices] == ["device-1", "device-2", "device-3"]
    assert [mark.task for mark in whole.tasks] == ["run-1", "run-2", "run-3"]


def test_pages_of_two_gateways_never_mix():
    pages = HelloPages()
    assert pages.add(NORTH, page(1, 2)) is None
    assert pages.add(SOUTH, page(2, 2)) is None
    assert len(pages.add(NORTH, page(2, 2)).devices) == 2


def test_a_new_hello_drops_the_unfinished_one():
    pages = HelloPages()
    pages.add(NORTH, page(1, 2, "old"))
    assert pages.add(NORTH, page(2, 2, "new")) is None
    assert pages.add(NORTH, page(1, 2, "new")).nonce == "new"


def test_a_page_beyond_the_last_counts_for_nothing():
    assert HelloPages().add(NORTH, page(3, 2)) is None


def test_memory_stays_bounded_and_the_oldest_goes_first():
    pages = HelloPages(max_gateways=2)
    for name in ("a", "b", "c"):
        pages.add(Address(OrgId("default"), GatewayId(name)), page(1, 2))
    assert pages.add(Address(OrgId("default"), GatewayId("a")), page(2, 2)) is None
    assert pages.add(Address(OrgId("default"), GatewayId("c")), page(2, 2)) is not None


def test_nothing_is_left_behind_by_whole_hellos():
    pages = HelloPages(max_items=10)
    for _ in range(100):
        assert pages.add(NORTH, page(1, 2)) is None
        assert pages.add(NORTH, page(2, 2)) is not None
