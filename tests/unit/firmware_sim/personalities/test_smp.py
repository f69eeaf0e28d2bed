"""The SMP device keeps the measured manners of Zephyr, and misbehaves only as planned."""

import hashlib

import pytest

from contract.device import smp
from firmware_sim.device import Device, Identity
from firmware_sim.faults import Faults, Silence, TestBoot, Unplug
from firmware_sim.flash import fresh
from firmware_sim.images import build_image
from firmware_sim.line import Action, CutLine, Reboot, Send
from firmware_sim.personalities.smp import SmpPersonality, SmpSettings

OLD = build_image("1.0.0", 2000, seed=1)
NEW = build_image("2.0.0", 3000, seed=2)
SHA = hashlib.sha256(NEW).digest()

pytestmark = pytest.mark.row("E9")


class Line:
    """A client at the other end, with a clock that only moves when told."""

    def __init__(self, faults: Faults | None = None, **settings) -> None:
        self.device = Device(Identity("pump-1"), fresh(OLD, 65536), faults or Faults())
        self.personality = SmpPersonality(self.device, SmpSettings(**settings))
        self.reader = smp.FrameReader()
        self.sequence = 0
        self.now_s = 0.0
        self.actions: list[Action] = []
        self.boot()

    def boot(self) -> bytes:
        banner = self.personality.boot(self.now_s)
        self.now_s += self.device.boot_time_s + 0.01
        return b"".join(action.data for action in banner if isinstance(action, Send))

    def send(self, data: bytes) -> list[smp.SmpFrame | smp.TextLine]:
        self.now_s += 0.1
        self.actions = self.personality.receive(data, self.now_s)
        sent = b"".join(action.data for action in self.actions if isinstance(action, Send))
        return self.reader.feed(sent)

    def wire(self, request: smp.Request) -> bytes:
        self.sequence += 1
        return b"".join(smp.encode_frame(request.encode(self.sequence)))

    def replies(self, data: bytes) -> list[smp.Response]:
        frames = [found for found in self.send(data) if isinstance(found, smp.SmpFrame)]
        return [smp.decode_response(frame.message) for frame in frames]

    def ask(self, request: smp.Request) -> smp.Response:
        (reply,) = self.replies(self.wire(request))
        assert request.is_answered_by(reply.header, self.sequence)
        return reply

    def upload(self, image: bytes = NEW) -> None:
        chunk = smp.upload_first(len(image), hashlib.sha256(image).digest(), image[:200])
        while (offset := self.ask(chunk).payload["off"]) < len(image):
            chunk = smp.upload_next(offset, image[offset : offset + 200])

    def slots(self) -> list[tuple[object, ...]]:
        found = smp.image_slots(self.ask(smp.state_read()).payload)
        return [
            (each.slot, each.version, each.active, each.confirmed, each.pending, each.permanent)
            for each in found
        ]


def test_os_commands():
    line = Line(buf_size=512, buf_count=3)
    assert line.ask(smp.echo("hello")).payload == {"r": "hello"}
    assert line.ask(smp.os_params()).payload == {"buf_size": 512, "buf_count": 3}
    assert line.ask(smp.bootloader_info()).payload == {"bootloader": "MCUboot"}
    assert line.ask(smp.bootloader_info("mode")).payload == {"mode": 3}
    assert line.ask(smp.bootloader_info("moon")).error == smp.SmpError(0, 3, "query not known")
    sizes = smp.slot_sizes(line.ask(smp.slot_info()).payload)
    assert [(each.slot, each.size) for each in sizes] == [(0, 65536), (1, 65536)]


def test_reset_is_answered_first_and_happens_250_ms_later():
    line = Line()
    assert line.ask(smp.reset()).error is None
    assert line.actions[-1] == Reboot(0.25)


def test_unknown_groups_and_commands_are_not_supported_also_in_version_2():
    line = Line()
    for request in (smp.Request(smp.Op.READ, 70, 1), smp.Request(smp.Op.READ, 1, 99)):
        reply = line.ask(request)
        assert reply.payload == {"rc": 8}
        assert reply.error.is_not_supported


@pytest.mark.parametrize(
    ("zephyr", "version", "payload"),
    [
        ("4.4.0", 1, {"err": {"group": 1, "rc": 8}}),
        ("3.4.0", 1, {"ret": {"group": 1, "rc": 8}}),
        ("4.4.0", 0, {"rc": 1}),
    ],
)
def test_refusals_are_written_as_the_firmware_age_and_the_request_say(zephyr, version, payload):
    wrong = {"hash": bytes(32), "confirm": False}
    request = smp.Request(smp.Op.WRITE, 1, 0, wrong, version=version)
    assert Line(zephyr=zephyr).ask(request).payload == payload


def test_an_old_firmware_has_no_slot_info_and_no_bootloader_info():
    line = Line(zephyr="3.4.0")
    assert line.ask(smp.slot_info()).error.is_not_supported
    assert line.ask(smp.bootloader_info()).error.is_not_supported


def test_upload_test_reset_confirm_as_the_states_of_the_measured_device():
    line = Line()
    assert line.slots() == [(0, "1.0.0", True, True, False, False)]
    line.upload()
    (_, new) = smp.image_slots(line.ask(smp.state_read()).payload)
    marked = line.ask(smp.state_write(new.hash, confirm=False))
    assert [each.pending for each in smp.image_slots(marked.payload)] == [False, True]
    assert b"Swap type: test" in line.boot()
    assert line.slots() == [
        (0, "2.0.0", True, False, False, False),
        (1, "1.0.0", False, True, False, False),
    ]
    line.ask(smp.state_write(None, confirm=True))
    assert line.slots() == [(0, "2.0.0", True, True, False, False)]
    line.boot()
    assert line.slots() == [(0, "2.0.0", True, True, False, False)]


def test_without_confirmation_the_next_boot_reverts_and_says_so():
    line = Line()
    line.upload()
    line.ask(smp.state_write(line.device.flash.other.hash, confirm=False))
    line.boot()
    assert b"Swap type: revert" in line.boot()
    assert line.slots()[0][1] == "1.0.0"


def test_a_message_over_the_buffer_is_dropped_without_a_word():
    line = Line(buf_size=384)
    fits = smp.max_chunk(384, smp.upload_first(len(NEW), SHA, b""))
    assert line.replies(line.wire(smp.upload_first(len(NEW), SHA, NEW[: fits + 1]))) == []
    assert line.ask(smp.upload_first(len(NEW), SHA, NEW[:fits])).payload == {"off": fits}


def test_a_bad_crc_is_dropped_and_the_next_frame_is_fine():
    line = Line()
    wire = bytearray(line.wire(smp.echo("hello")))
    wire[10] = wire[10] ^ 1 if wire[10] != ord("z") else ord("y")
    assert line.replies(bytes(wire)) == []
    assert line.ask(smp.echo("again")).payload == {"r": "again"}


def test_half_a_line_costs_the_next_frame_and_a_bare_newline_saves_it():
    line = Line()
    half = line.wire(smp.echo("one"))[:12]
    assert line.replies(half) == []
    assert line.replies(line.wire(smp.echo("two"))) == []
    assert line.ask(smp.echo("three")).payload == {"r": "three"}
    assert line.replies(half) == []
    (reply,) = line.replies(b"\n" + line.wire(smp.echo("four")))
    assert reply.payload == {"r": "four"}


def test_a_burst_over_the_receive_pool_is_lost_but_paced_lines_arrive():
    line = Line(rx_lines=2)
    request = smp.echo("x" * 200)
    assert line.replies(line.wire(request)) == []
    lines = line.wire(request).splitlines(keepends=True)
    assert len(lines) == 3
    assert [line.replies(each) for each in lines[:2]] == [[], []]
    assert len(line.replies(lines[2])) == 1


def test_bytes_in_any_pieces_are_the_same_to_the_device():
    line = Line()
    wire = line.wire(smp.echo("piece by piece"))
    found = [reply for byte in wire for reply in line.replies(bytes([byte]))]
    assert [reply.payload for reply in found] == [{"r": "piece by piece"}]


def test_what_is_sent_while_the_device_boots_is_lost():
    line = Line()
    line.personality.boot(line.now_s + 0.05)
    assert line.replies(line.wire(smp.echo("too early"))) == []


def test_shell_noise_and_garbage_do_no_harm():
    line = Line()
    assert (
        line.replies(b"uname -a\r\n\x00\xff\x06\x09!!!\n\x04\x14AAAA\n" + b"x" * 5000 + b"\n") == []
    )
    assert line.ask(smp.echo("fine")).payload == {"r": "fine"}


def test_payloads_of_wrong_types_are_refused_not_crashed_on():
    line = Line()
    for payload in ({}, {"off": -1, "data": b""}, {"off": "0"}, {"off": 0, "data": "text"}):
        request = smp.Request(smp.Op.WRITE, 1, 1, payload)
        assert line.ask(request).error == smp.SmpError(None, 3, "invalid value")
    body = b"\xff\xff"
    raw = smp.Header(smp.Op.READ, 1, 0, 9, len(body)).encode() + body
    (reply,) = line.replies(b"".join(smp.encode_frame(raw)))
    assert reply.error == smp.SmpError(None, 3, "invalid value")


def test_silence_late_and_doubled_replies():
    line = Line(Faults(silences=(Silence(after_requests=2, requests=1),), doubled_replies=1))
    assert len(line.replies(line.wire(smp.os_params()))) == 2
    assert line.replies(line.wire(smp.os_params())) == []
    assert len(line.replies(line.wire(smp.os_params()))) == 2
    late = Line(Faults(late_replies=1, late_by_s=5))
    late.ask(smp.os_params())
    assert late.actions[0].after_s > 5


def test_a_planned_reboot_swallows_the_reply_to_its_chunk_and_forgets_the_upload():
    line = Line(Faults(reboot_after_chunks=(2,)))
    assert line.ask(smp.upload_first(len(NEW), SHA, NEW[:200])).payload == {"off": 200}
    assert line.replies(line.wire(smp.upload_next(200, NEW[200:400]))) == []
    assert line.actions == [Reboot()]
    line.boot()
    assert line.ask(smp.upload_next(400, NEW[400:600])).payload == {"off": 0}


def test_a_planned_unplug_keeps_the_session_in_the_device():
    line = Line(Faults(unplugs=(Unplug(2.0, after_chunks=2),)))
    line.ask(smp.upload_first(len(NEW), SHA, NEW[:200]))
    assert line.replies(line.wire(smp.upload_next(200, NEW[200:400]))) == []
    assert line.actions == [CutLine(2.0)]
    assert line.ask(smp.upload_first(len(NEW), SHA, NEW[:200])).payload == {"off": 400}
    assert line.device.counters.resumes == 1


@pytest.mark.parametrize("fate", [TestBoot.REVERTS, TestBoot.IGNORED])
def test_a_device_that_says_success_and_runs_the_old_version(fate):
    line = Line(Faults(test_boot=fate))
    line.upload()
    marked = line.ask(smp.state_write(line.device.flash.other.hash, confirm=False))
    assert marked.error is None
    line.boot()
    assert line.slots()[0] == (0, "1.0.0", True, True, False, False)


def test_a_device_that_refuses_its_image():
    reply = Line(Faults(refuse_upload=30)).ask(smp.upload_first(len(NEW), SHA, NEW[:200]))
    assert reply.error == smp.SmpError(1, 30, "image too large")


def test_logs_around_replies_are_text_and_torn_replies_are_lost():
    noisy = Line(Faults(log_noise=1))
    for _ in range(20):
        found = noisy.send(noisy.wire(smp.os_params()))
        assert [type(each) for each in found] == [smp.TextLine, smp.SmpFrame]
    torn = Line(Faults(torn_replies=1))
    assert torn.replies(torn.wire(smp.os_params())) == []


def test_a_lossy_line_loses_about_what_it_should_and_damage_is_never_served():
    line = Line(Faults(seed="7", lost_lines=0.1, corrupted_lines=0.1))
    asked, answered = {}, 0
    for number in range(250):
        wire = line.wire(smp.echo(str(number)))
        asked[line.sequence] = {"r": str(number)}
        for reply in line.replies(b"\n" + wire):  # a reply without its newline comes with the next
            assert reply.payload == asked[reply.header.sequence]
            answered += 1
    assert 120 < answered < 210
