"""The jobs service opposite Amazon's own SDK, both generations of it, over real brokers."""

import asyncio
import contextlib
import threading

import httpx
import pytest
from awscrt import mqtt

from firmware_sim.device import Identity
from firmware_sim.endpoints.connections import Connections
from firmware_sim.endpoints.mqtt import MqttEndpoint
from firmware_sim.families import FAMILIES
from firmware_sim.faults import Faults
from firmware_sim.gadget import GadgetSettings
from gateway.drivers.base import Answered, Command, Probe, Refused, StopWord
from gateway.errors import DeviceUnreachable, StepInvalid
from tests.kit.aws_device import AwsDevice, JobsV1, JobsV2, Rejected, connect, connect5
from tests.kit.aws_rigs import aws_rig
from tests.kit.device_rigs import make_device, running
from tests.kit.mqtt_client import MqttClient
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.row("E4", "E5")

CLIENTS = {"v1": JobsV1, "v2": JobsV2}


class Client:
    """An SDK client whose blocking calls run in a thread."""

    def __init__(self, jobs):
        self._jobs = jobs
        self.heads = []
        self.lists = []

    async def listen(self):
        await asyncio.to_thread(self._jobs.listen, self.heads.append, self.lists.append)

    async def __call__(self, name, *args, **fields):
        return await asyncio.to_thread(getattr(self._jobs, name), *args, **fields)


@pytest.fixture(params=["v1", "v2", "v2 on MQTT 5"])
def jobs(request):
    """Either generation on the embedded broker, and the newer one on MQTT 5 too."""
    version = request.param[:2]
    is_5 = request.param.endswith("5")
    broker = request.getfixturevalue("mosquitto" if is_5 else "nats")
    connection = connect5(broker.port, "thing-1") if is_5 else connect(broker.port, "thing-1")
    yield broker, CLIENTS[version](connection, "thing-1")
    if is_5:
        connection.stop()
    else:
        connection.disconnect().result(10)


async def test_a_job_is_announced_started_updated_and_ended(jobs, tmp_path):
    broker, sdk = jobs
    async with aws_rig(tmp_path, broker) as rig, asyncio.TaskGroup() as steps:
        device = Client(sdk)
        await device.listen()
        empty = await device("get")
        assert (empty.in_progress_jobs, empty.queued_jobs) == ([], [])
        assert (await device("start_next")).execution is None

        step = steps.create_task(rig.delegate({"operation": "install", "version": "2.0"}))
        await wait_until_async(lambda: device.heads and device.lists, message="the word")
        head = device.heads[0].execution
        assert (head.status, head.version_number, head.execution_number) == ("QUEUED", 1, 1)
        assert head.job_document == {"operation": "install", "version": "2.0"}
        (queued,) = device.lists[0].jobs["QUEUED"]
        assert queued.job_id == head.job_id
        assert (await device("get")).queued_jobs[0].job_id == head.job_id

        begun = (await device("start_next", status_details={"step": "look"})).execution
        assert (begun.status, begun.version_number) == ("IN_PROGRESS", 2)
        again = (await device("start_next")).execution
        assert (again.version_number, again.started_at) == (2, begun.started_at)
        taken = await device(
            "update",
            head.job_id,
            status="IN_PROGRESS",
            status_details={"progress": "40%", "step": "write"},
            expected_version=2,
            include_job_execution_state=True,
            include_job_document=True,
        )
        assert taken.execution_state.version_number == 3
        assert taken.job_document == head.job_document
        with pytest.raises(Rejected) as stale:
            await device("update", head.job_id, status="IN_PROGRESS", expected_version=2)
        assert stale.value.error.code == "VersionMismatch"
        assert stale.value.error.execution_state.version_number == 3
        shown = (await device("describe", head.job_id)).execution
        assert shown.status_details == {"progress": "40%", "step": "write"}

        await wait_until_async(lambda: rig.progress, message="progress")
        await device("update", head.job_id, status="SUCCEEDED", status_details={"size": "7"})
        assert await step == Answered({"size": "7"})
        assert rig.progress == [(40.0, "step=write")]
        assert any("IN_PROGRESS (version 3): step=write" in line for line in rig.logs)
        await wait_until_async(lambda: len(device.heads) == 2, message="the word of no job")
        assert device.heads[1].execution is None
        assert device.lists[-1].jobs == {}
        with pytest.raises(Rejected) as late:
            await device("update", head.job_id, status="FAILED")
        assert late.value.error.code == "InvalidStateTransition"
        assert late.value.error.execution_state.status == "SUCCEEDED"
        with pytest.raises(Rejected) as over:
            await device("describe", head.job_id)
        assert over.value.error.code == "TerminalStateReached"
        with pytest.raises(Rejected) as unknown:
            await device("update", "never-heard-of", status="FAILED")
        assert unknown.value.error.code == "ResourceNotFound"


@pytest.mark.parametrize(
    ("end", "code"), [("FAILED", "delegate_failed"), ("REJECTED", "delegate_rejected")]
)
async def test_a_device_that_says_no_fails_the_step_by_name(nats, tmp_path, end, code):
    async with aws_rig(tmp_path, nats) as rig, asyncio.TaskGroup() as steps:
        connection = await asyncio.to_thread(connect, nats.port, "thing-1")
        device = Client(JobsV1(connection, "thing-1"))
        await device.listen()
        step = steps.create_task(rig.delegate({"operation": "install"}))
        await wait_until_async(lambda: device.heads, message="the word")
        job = device.heads[0].execution.job_id
        await device("update", job, status=end, status_details={"reason": "no space"})
        answer = await step
        assert isinstance(answer, Refused)
        assert (answer.code, answer.result) == (code, {"reason": "no space"})
        assert "no space" in answer.text
        await asyncio.to_thread(connection.disconnect().result, 10)


async def test_a_cancel_is_told_and_asks_no_device_that_has_begun(nats, tmp_path):
    async with aws_rig(tmp_path, nats) as rig, asyncio.TaskGroup() as steps:
        connection = await asyncio.to_thread(connect, nats.port, "thing-1")
        device = Client(JobsV2(connection, "thing-1"))
        await device.listen()

        stop = StopWord()
        step = steps.create_task(rig.delegate({"n": 1}, task="queued", stop=stop))
        await wait_until_async(lambda: device.heads, message="the word")
        stop.ask()
        answer = await step
        assert isinstance(answer, Refused)
        assert answer.code == "interrupted"
        await wait_until_async(lambda: len(device.heads) == 2, message="the word of no job")

        stop = StopWord()
        step = steps.create_task(rig.delegate({"n": 2}, task="begun", stop=stop))
        await wait_until_async(lambda: len(device.heads) == 3, message="the next word")
        begun = (await device("start_next")).execution
        stop.ask()  # too late to be asked: it goes on
        await device("update", begun.job_id, status="IN_PROGRESS", status_details={"n": "1"})
        assert not step.done()
        stop.force()
        step.cancel()
        await asyncio.wait({step})
        await wait_until_async(lambda: len(device.heads) == 4, message="the word of no job")
        with pytest.raises(Rejected) as late:
            await device("update", begun.job_id, status="SUCCEEDED")
        assert late.value.error.code == "InvalidStateTransition"
        assert late.value.error.execution_state.status == "CANCELED"
        await asyncio.to_thread(connection.disconnect().result, 10)


async def test_an_execution_is_found_again_after_a_restart(nats, tmp_path):
    connection = await asyncio.to_thread(connect, nats.port, "thing-1")
    device = Client(JobsV1(connection, "thing-1"))
    await device.listen()
    async with aws_rig(tmp_path, nats) as rig, asyncio.TaskGroup() as steps:
        step = steps.create_task(rig.delegate({"n": 1}))
        await wait_until_async(lambda: device.heads, message="the word")
        begun = (await device("start_next")).execution
        await device("update", begun.job_id, status="IN_PROGRESS", expected_version=2)
        step.cancel()
    async with aws_rig(tmp_path, nats) as rig, asyncio.TaskGroup() as steps:
        step = steps.create_task(rig.delegate({"n": 1}, resumed=True))

        async def found():
            return (await device("start_next")).execution

        again = await wait_until_async(found, message="the service")
        assert (again.job_id, again.version_number) == (begun.job_id, 3)
        await device("update", begun.job_id, status="SUCCEEDED", expected_version=3)
        assert await step == Answered({})
    async with aws_rig(tmp_path, nats) as rig:  # the outcome was not journaled: it is still known
        assert await rig.delegate({"n": 1}, resumed=True) == Answered({})
        # A new try of the step is a new execution of the same job.
        async with asyncio.TaskGroup() as steps:
            step = steps.create_task(rig.delegate({"n": 1}))

            def heard():
                heads = [event.execution for event in device.heads if event.execution]
                return [head.job_id for head in heads if head.execution_number == 2]

            assert (await wait_until_async(heard, message="the next word")) == [begun.job_id]
            await device("update", begun.job_id, status="SUCCEEDED", execution_number=2)
            assert await step == Answered({})
    await asyncio.to_thread(connection.disconnect().result, 10)


async def test_what_is_left_of_an_ended_attempt_is_canceled(nats, tmp_path):
    async with aws_rig(tmp_path, nats) as rig, asyncio.TaskGroup() as steps:
        step = steps.create_task(rig.delegate({"n": 1}, task="gone"))

        async def queued():
            return rig.service.thing("thing-1").head

        await wait_until_async(queued, message="the execution")
        step.cancel()
        rig.own("gone", ended=True)

        async def is_over():
            return rig.service.thing("thing-1").head is None

        await wait_until_async(is_over, message="the execution to be canceled")


async def test_several_things_get_their_own_jobs_only(nats, tmp_path):
    names = ("thing-1", "thing-2", "thing-3")
    async with aws_rig(tmp_path, nats, *names) as rig, asyncio.TaskGroup() as steps:
        for name in names:
            connection = await asyncio.to_thread(connect, nats.port, name)
            device = AwsDevice(JobsV1(connection, name), tmp_path / f"{name}.jsonl")
            threading.Thread(target=device.run, daemon=True).start()
        tasks = [
            steps.create_task(rig.delegate({"for": name, "reports": 3}, name, f"task-{name}"))
            for name in names
        ]
        for task in tasks:
            assert await task == Answered({"result": "installed", "parts": "3"})
        for name in names:
            said = (tmp_path / f"{name}.jsonl").read_text()
            assert said.count('"began"') == 1
            assert f'"for": "{name}"' in said


def test_the_sdk_needs_no_tls_on_the_gateways_own_network(nats):
    connection = connect(nats.port, "thing-9")
    assert isinstance(connection, mqtt.Connection)
    connection.disconnect().result(10)


FAULTS = {
    "steady": Faults(),
    "doubles": Faults(doubled_replies=0.7),
    "stale": Faults(corrupted_lines=0.4),
    "loses": Faults(lost_lines=0.2),
    "dies": Faults(reboot_after_chunks=(2, 5, 9)),
}


async def test_devices_that_misbehave_end_each_job_once(nats, tmp_path):
    """All at once: each says what it did, and no version is ever taken twice."""
    told: dict[str, list[tuple[str, dict[str, object]]]] = {name: [] for name in FAULTS}

    def teller(name):
        return lambda what, about: told[name].append((what, about))

    async with (
        aws_rig(tmp_path, nats, *FAULTS) as rig,
        httpx.AsyncClient(trust_env=False) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        for name, faults in FAULTS.items():
            device = make_device(faults)
            device.identity = Identity(name, "aws_jobs")
            device.experienced = teller(name)
            personality = FAMILIES["aws_jobs"](device, GadgetSettings())
            endpoint = MqttEndpoint(personality, nats.url, http, Connections())
            await stack.enter_async_context(running(endpoint.run))
        async with asyncio.TaskGroup() as steps:
            for name in FAULTS:
                document = {"reports": 4, "result": {"of": name}}
                steps.create_task(check_job(rig, name, document))
    for name in FAULTS:
        begun = {about["job"] for what, about in told[name] if what == "job"}
        assert len(begun) == 1
        ends = [about for what, about in told[name] if what == "job ended"]
        assert all(end["status"] == "SUCCEEDED" for end in ends)


async def check_job(rig, name, document):
    answer = await rig.delegate(document, name, f"task-{name}", within_s=100)
    assert answer == Answered({"of": name}), name


async def test_a_device_that_rejects_all_is_believed(nats, tmp_path):
    device = make_device(Faults(refuse_upload=1))
    device.identity = Identity("thing-1", "aws_jobs")
    personality = FAMILIES["aws_jobs"](device, GadgetSettings())
    async with (
        aws_rig(tmp_path, nats) as rig,
        httpx.AsyncClient(trust_env=False) as http,
        running(MqttEndpoint(personality, nats.url, http, Connections()).run),
    ):
        answer = await rig.delegate({"operation": "x"})
        assert isinstance(answer, Refused)
        assert answer.code == "delegate_rejected"


async def test_garbage_from_one_device_holds_up_no_other(nats, tmp_path):
    async with aws_rig(tmp_path, nats, "thing-1", "thing-2") as rig:
        with MqttClient("noise", nats.port) as noise:
            for number in range(300):
                leaf = ("get", "start-next", "x/update", "y", "notify/z")[number % 5]
                noise.publish(f"$aws/things/thing-2/jobs/{leaf}", b"\xff{" * (number % 50))
            connection = await asyncio.to_thread(connect, nats.port, "thing-1")
            device = Client(JobsV2(connection, "thing-1"))
            assert (await device("get")).queued_jobs == []

            def is_over():
                counters = rig.service.counters
                return counters.rejected + counters.throttled >= 200

            await wait_until_async(is_over, message=str(rig.service.counters))
            await asyncio.to_thread(connection.disconnect().result, 10)
    assert rig.service.counters.throttled > 0


async def test_what_an_aws_device_cannot_do_is_said(nats, tmp_path):
    async with aws_rig(tmp_path, nats) as rig:
        with pytest.raises(StepInvalid) as unsupported:
            await rig.ask(Command("version"))
        assert unsupported.value.code == "verb_unsupported"
        with pytest.raises(DeviceUnreachable):
            await rig.ask(Probe())
        with pytest.raises(StepInvalid, match="32768"):
            await rig.delegate({"much": "x" * 40_000})
        with MqttClient("thing-1", nats.port) as client:
            client.publish("$aws/things/thing-1/jobs/get", b"")
            await wait_until_async(lambda: rig.service.has_heard("thing-1"))
        assert await rig.ask(Probe()) == Answered()
