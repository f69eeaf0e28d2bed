"""Offers cut into messages: bounded, whole, each with the bodies it names."""

from hypothesis import given
from hypothesis import strategies as st

from cloud.gateway_link.sender import offer_batches
from contract.messages import JobBody, Offer, OfferedTask, encode

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"


def body(name, size=10):
    return JobBody(run=RUN, hash=name, job="job", steps=[], context={"x": "y" * size})


def task(ordinal, name="a", size=0):
    return OfferedTask(
        task=f"{RUN}-{ordinal}", attempt=1, run=RUN, body=name, ordinal=ordinal,
        parameters={"x": "ü" * size} if size else {},
    )  # fmt: skip


def size_of(batch, bodies):
    used = {one.body: bodies[one.body] for one in batch}
    offer = Offer(session="s" * 36, counter=2**52, bodies=list(used.values()), tasks=batch)
    return len(encode(offer))


def test_no_offers_are_no_messages():
    assert list(offer_batches([], {})) == []


def test_a_message_holds_fifty_tasks():
    batches = list(offer_batches([task(n) for n in range(120)], {"a": body("a")}))
    assert [len(batch) for batch in batches] == [50, 50, 20]


def test_a_task_too_large_for_any_message_goes_alone():
    tasks = [task(0), task(1, size=200_000), task(2)]
    batches = list(offer_batches(tasks, {"a": body("a")}))
    assert [[one.ordinal for one in batch] for batch in batches] == [[0], [1], [2]]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12_000)), min_size=1, max_size=60),
    st.integers(10, 40_000),
)
def test_every_task_goes_once_and_no_message_is_too_large(shapes, body_size):
    bodies = {name: body(name, body_size) for name in "abc"}
    tasks = [task(number, name, size) for number, (name, size) in enumerate(shapes)]
    batches = list(offer_batches(tasks, bodies))
    assert [one for batch in batches for one in batch] == tasks
    for batch in batches:
        assert len(batch) == 1 or size_of(batch, bodies) <= 128 * 1024
