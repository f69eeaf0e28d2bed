"""Certificates over every protocol that knows them: real keys, and verbs that may be done twice."""

import asyncio
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cloud.certificates.base import Name
from cloud.certificates.own_ca import OwnCa, make_root
from contract.device import smp
from contract.device import smp_certificates as wire
from firmware_sim.certificates import SmpCertificates
from firmware_sim.faults import Faults, NewCertificate
from firmware_sim.keystore import Keystore, KeystoreRefused
from firmware_sim.personalities.smp import SmpSettings
from gateway.actions.base import Call, StepDone, StepRefused
from gateway.actions.registry import action_for
from gateway.drivers.base import Answered, MakeCsr, Probe, ReadCertificate, Reset
from gateway.errors import DeviceUnreachable, GatewayError, ReplyGarbled, StepInvalid
from gateway.transports import smp_certificates
from tests.conformance.test_drivers import Reach
from tests.kit.device_rigs import demo_profile, mqtt_rig, smp_rig
from tests.kit.waiting import wait_until_async

NOW = 1_800_000_000_000
VERBS = ["request", "sign", "install", "verify", "commit"]
CA = OwnCa(make_root("default", NOW))
SCOPE: dict[str, Any] = {
    "device": {"id": "pump-1"}, "run": {"id": "r"}, "task": {"id": "r-1", "attempt": 1},
}  # fmt: skip


@pytest.fixture(params=["smp", "mqtt"])
def rig(request, tmp_path):
    if request.param == "smp":
        return lambda faults=None: smp_rig(tmp_path, faults)
    broker = request.getfixturevalue("nats")
    return lambda faults=None: mqtt_rig(tmp_path, broker, faults)


Memory = dict[str, Any]


class World(Reach):
    """A rig's driver, and a cloud that knows calls by their body, as the real one does."""

    def __init__(self, it, name="pump-1"):
        super().__init__(it)
        self.name, self.answers, self.given = name, {}, []

    async def ask_cloud(self, call):
        key = str(call.parameters)
        if key not in self.answers:
            if call.uses == "certificate.sign":
                name = Name("default", self.name)
                signed = CA.sign(call.parameters["csr"], name, call.parameters["days"], NOW)
                self.given.append(signed.fingerprint)
                self.answers[key] = vars(signed)
            else:
                self.answers[key] = {"retired": 0}
        return self.answers[key]


async def perform(verb, world, memory, resumed=False, **parameters):
    call = Call(verb, f"certificate.{verb}", parameters, 60.0, resumed, SCOPE, memory)
    outcome = await action_for(call.uses).perform(call, cast(Any, world))
    if isinstance(outcome, StepDone):
        memory |= outcome.memory
    return outcome


@pytest.mark.row("E7", "E3")
async def test_every_verb_may_be_done_twice(rig):
    async with rig() as it:
        world, memory = World(it), Memory()
        for verb in VERBS:
            first = await perform(verb, world, memory)
            again = await perform(verb, world, memory, resumed=True)
            assert isinstance(first, StepDone), (verb, first)
            assert isinstance(again, StepDone), (verb, again)
            if verb in ("request", "sign"):
                assert again.result == first.result
        slot = it.device.keystore.slot(0)
        assert it.device.keystore.keys_made == 1
        assert [slot.active.fingerprint.hex()] == world.given
        assert (slot.pending, slot.in_use) == (None, slot.active)


async def test_the_next_attempt_makes_a_key_of_its_own(rig):
    async with rig() as it:
        world, memory = World(it), Memory()
        await perform("request", world, memory)
        one = memory["csr"]
        SCOPE["task"]["attempt"] = 2
        try:
            await perform("request", world, memory)
        finally:
            SCOPE["task"]["attempt"] = 1
        assert memory["csr"] != one
        assert it.device.keystore.keys_made == 2


@pytest.mark.row("E7")
async def test_a_restart_ends_the_trial_and_another_verify_begins_it_again(rig):
    async with rig() as it:
        world, memory = World(it), Memory()
        for verb in VERBS[:4]:
            assert isinstance(await perform(verb, world, memory), StepDone)
        assert isinstance(await it.ask(Reset()), Answered)

        async def answers():
            try:
                return isinstance(await it.ask(Probe(), 2), Answered)
            except (DeviceUnreachable, ReplyGarbled):
                return False

        await wait_until_async(answers, message="the device to be back")
        committed = await perform("commit", world, memory)
        assert isinstance(committed, StepRefused)
        assert committed.code == "certificate_not_used"
        for verb in VERBS[3:]:
            assert isinstance(await perform(verb, world, memory), StepDone)
        assert [it.device.keystore.slot(0).active.fingerprint.hex()] == world.given


@pytest.mark.row("E7")
async def test_a_certificate_that_does_not_connect_is_not_committed(rig):
    async with rig(Faults(new_certificate=NewCertificate.FAILS)) as it:
        world, memory = World(it), Memory()
        for verb in VERBS[:3]:
            assert isinstance(await perform(verb, world, memory), StepDone)
        for verb in VERBS[3:]:
            refused = await perform(verb, world, memory)
            assert isinstance(refused, StepRefused)
            assert refused.code == "certificate_not_used"
            assert "did not accept" in refused.text
        slot = it.device.keystore.slot(0)
        assert slot.in_use is slot.active


async def test_a_certificate_of_another_key_or_without_its_chain_is_refused(rig):
    async with rig() as it:
        world, memory = World(it), Memory()
        await perform("request", world, memory)
        other = Keystore("pump-1").request(0, "x", "pump-1").csr
        pem = x509.load_der_x509_csr(other).public_bytes(Encoding.PEM).decode()
        signed = CA.sign(pem, Name("default", "pump-1"), 30, NOW)
        own = CA.sign(memory["csr"], Name("default", "pump-1"), 30, NOW)
        foreign = make_root("default", NOW).certificate
        for certificate, chain, why in (
            (signed.certificate, signed.chain, "key"),
            (own.certificate, foreign, "chain"),
            (own.certificate, "", "CA|chain"),
        ):
            parameters = {"certificate": certificate, "chain": chain}
            refused = await perform("install", world, dict(memory), **parameters)
            assert isinstance(refused, StepRefused)
            assert refused.code == "certificate_refused"
            assert any(word in refused.text for word in why.split("|"))
        with pytest.raises(StepInvalid, match="no PEM"):
            await perform("install", world, memory, certificate="nonsense")


async def test_parameters_that_templates_filled_wrongly_are_named(rig):
    async with rig() as it:
        world, memory = World(it), Memory(csr="x", certificate_fingerprint="feed")
        for verb, parameters, why in (
            ("request", {"slot": "{{ 1 }}"}, "slot"),
            ("sign", {"days": "{{ 1 }}"}, "days"),
            ("sign", {"days": 900}, "days"),
            ("verify", {}, "sha256 in hex"),
            ("commit", {"fingerprint": "x" * 64}, "sha256 in hex"),
            ("install", {}, "needs a `certificate`"),
        ):
            with pytest.raises(StepInvalid, match=why):
                await perform(verb, world, memory, **parameters)
        with pytest.raises(StepInvalid, match="needs a `csr`"):
            await perform("sign", world, Memory())
        assert it.device.keystore.slots == {}


async def test_a_slot_that_is_not_there_is_refused(rig):
    async with rig() as it:
        refused = await perform("request", World(it), {}, slot=9)
        assert isinstance(refused, StepRefused)
        assert refused.code == "device_refused"
        assert "slot" in refused.text


@pytest.mark.row("E7")
async def test_a_bad_line_costs_repetitions_and_nothing_else(tmp_path):
    faults = Faults(lost_lines=0.03, corrupted_lines=0.03, doubled_replies=0.1, log_noise=0.2)
    async with smp_rig(tmp_path, faults) as it:
        world, memory = World(it), Memory()
        for verb in VERBS:
            for _ in range(10):
                try:
                    outcome = await perform(verb, world, memory)
                except GatewayError:
                    continue  # as the worker does: the step is taken up again
                break
            assert isinstance(outcome, StepDone), (verb, outcome)
        assert it.device.keystore.keys_made == 1
        assert [it.device.keystore.slot(0).active.fingerprint.hex()] == world.given


async def test_a_device_without_the_group_says_so(tmp_path):
    async with smp_rig(tmp_path, settings=SmpSettings(certificates=False)) as it:
        refused = await perform("request", World(it), {})
        assert isinstance(refused, StepRefused)
        assert refused.code == "verb_unsupported"


async def test_a_profile_without_the_section_says_so(tmp_path, nats):
    profile = demo_profile().model_copy(update={"certificate": None})
    async with mqtt_rig(tmp_path, nats, profile=profile) as it:
        for request in (ReadCertificate(), MakeCsr("a", "b")):
            with pytest.raises(StepInvalid, match="no certificates") as error:
                await it.ask(request)
            assert error.value.code == "verb_unsupported"


# -- pieces over SMP


@given(buf_size=st.integers(160, 2000), losses=st.lists(st.integers(0, 2), max_size=40))
def test_pieces_arrive_whole_whatever_is_lost_or_doubled(buf_size, losses):
    """0: as it should be; 1: the reply is lost, so asked again; 2: the request arrives twice."""
    keys, plan = Keystore("pump-1"), iter(losses)
    device = SmpCertificates(keys)

    async def ask(request):
        assert len(request.encode(0)) + smp.FRAME_OVERHEAD <= max(buf_size, 200)
        for _ in range(2 if next(plan, 0) else 1):
            try:
                answer = device.answer(request.op, request.command, request.payload)
            except KeystoreRefused as error:
                answer = {"err": {"group": wire.GROUP, "rc": error.rc}}
        assert answer is not None
        header = smp.Header(request.op + 1, request.group, request.command, 0)
        return smp.decode_response(smp.encode_message(header, answer))

    async def story():
        made = await smp_certificates.make_csr(ask, 0, "a-name", "pump-1")
        assert not isinstance(made, smp.SmpError)
        signed = CA.sign(made[0], Name("default", "pump-1"), 30, NOW)
        refused = await smp_certificates.install(
            ask, 0, signed.certificate, signed.chain, buf_size, lambda percent, note: None
        )
        assert refused is None
        state = await smp_certificates.read_state(ask, 0)
        assert state.pending.hex() == signed.fingerprint
        assert (state.request, state.key_id.hex()) == ("a-name", made[1])

    asyncio.run(story())
