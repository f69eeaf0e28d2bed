"""Hello pages stay within the message size, and hold everything once."""

from contract.lifecycle import TaskStatus
from contract.messages import MAX_MESSAGE_BYTES, Hello, InventoryDevice, TaskMark, encode
from gateway.cloud_link.hello import pages

HEAD = Hello(nonce="n", page=1, pages=1, journal="j", instance="i", verbs=["flow.log"])


def marks(count):
    return [
        TaskMark(task=f"r-{n}", attempt=1, revision=n, status=TaskStatus.RUNNING)
        for n in range(count)
    ]


def test_an_empty_gateway_says_one_page():
    (page,) = pages(HEAD, [], [])
    assert (page.page, page.pages, page.verbs) == (1, 1, ["flow.log"])


def test_pages_are_numbered_and_bounded_and_hold_everything():
    devices = [InventoryDevice(id=f"d{n}", attributes={"text": "ä" * 3_000}) for n in range(300)]
    said = pages(HEAD, devices, marks(5_000))
    assert [page.page for page in said] == list(range(1, len(said) + 1))
    assert {page.pages for page in said} == {len(said)}
    assert all(len(encode(page)) <= MAX_MESSAGE_BYTES for page in said)
    assert [d.id for page in said for d in page.devices] == [d.id for d in devices]
    assert [m.task for page in said for m in page.tasks] == [m.task for m in marks(5_000)]
    assert [bool(page.verbs) for page in said].count(True) == 1
