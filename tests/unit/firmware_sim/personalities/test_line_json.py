"""Line-JSON devices on one line do what is asked once, each for itself; what is planned happens."""

import pytest

from contract.device.line_json import REBOOTED, Event, LineReader, Reply, Request, encode
from firmware_sim.device import Device, Identity
from firmware_sim.faults import Chatter, Faults
from firmware_sim.flash import fresh
from firmware_sim.images import build_image
from firmware_sim.line import LineFaults, Send
from firmware_sim.personalities.line_json import LineJsonPersonality, LineJsonSettings

pytestmark = pytest.mark.row("E9")
OLD = build_image("1.0.0", 2000, seed=1)


class Line:
    """A client at the other end, with a clock that only moves when told."""

    def __init__(self, faults: LineFaults | None = None, **own: Faults) -> None:
        self.devices = {
            name: Device(Identity(name), fresh(OLD, 65536), own.get(name, Faults()), 0.1)
            for name in ("a", "b")
        }
        self.personality = LineJsonPersonality(
            [*self.devices.values()], faults or LineFaults(), LineJsonSettings()
        )
        self.now_s = 0.0
        self.started = self.personality.boot(self.now_s)
        self.now_s = 1.0

    def send(self, data: bytes):
        self.now_s += 0.1
        self.actions = self.personality.receive(data, self.now_s)
        sent = b"".join(action.data for action in self.actions if isinstance(action, Send))
        return LineReader().feed(sent)

    def ask(self, number, to, cmd, boot="b1", **params):
        return self.send(encode(Request(number, to, cmd, params, boot)))


def test_only_the_one_who_is_asked_answers():
    line = Line()
    assert line.ask("1", "b", "echo", text="x") == [Reply("1", "b", result={"echo": "x"})]
    assert line.ask("2", "c", "echo", text="x") == []
    assert [line.devices[name].counters.requests for name in "ab"] == [0, 1]


def test_an_id_that_comes_again_gets_its_reply_and_is_not_done_again():
    line = Line()
    first = line.ask("1", "a", "add")
    assert line.ask("1", "a", "add") == first == [Reply("1", "a", result={"total": 1})]
    line.ask("2", "a", "version", boot=None)
    assert line.ask("1", "a", "add") == first
    assert line.ask("3", "a", "add") == [Reply("3", "a", result={"total": 2})]
    assert (line.devices["a"].counters.done, line.devices["a"].counters.repeats) == (2, 2)


def test_what_was_meant_for_an_earlier_boot_is_refused():
    line = Line()
    line.ask("1", "a", "reset")
    line.now_s += 1
    (reply,) = line.ask("2", "a", "add")
    assert (reply.state, reply.code) == ("refused", REBOOTED)
    assert line.ask("3", "a", "version", boot=None)[0].result["boot"] == "b2"
    assert line.ask("4", "a", "add", boot="b2") == [Reply("4", "a", result={"total": 1})]


def test_long_work_is_busy_until_it_is_done():
    line = Line()
    assert line.ask("1", "a", "work", seconds=1.0) == [Reply("1", "a", "busy", progress=0.0)]
    assert line.ask("1", "a", "work", seconds=1.0)[0].progress == pytest.approx(10)
    line.now_s += 1
    assert line.ask("1", "a", "work", seconds=1.0) == [Reply("1", "a", result={"worked_s": 1.0})]
    assert line.devices["a"].counters.done == 1


def test_a_device_that_starts_hears_nothing():
    line = Line()
    line.personality.units["a"].boot(line.now_s + 0.1)
    assert line.ask("1", "a", "ping") == []


def test_events_and_refusals():
    line = Line(b=Faults(log_noise=1.0))
    assert line.ask("1", "a", "say", text="hi")[1] == Event("a", "log", "hi")
    assert isinstance(line.ask("1", "b", "ping")[1], Event)
    for command, code in (("make_coffee", "unknown_command"), ("write", "bad_parameters")):
        assert line.ask(command, "a", command)[0].code == code


def test_an_echoing_line_repeats_every_byte_before_the_reply():
    line = Line(LineFaults(echo=True))
    request = Request("1", "a", "ping", {}, "b1")
    assert line.send(encode(request)) == [request, Reply("1", "a", result={})]


def test_a_split_line_brings_every_byte_alone():
    line = Line(LineFaults(split=True))
    assert line.ask("1", "a", "ping") == [Reply("1", "a", result={})]
    assert {len(action.data) for action in line.actions} == {1}


def test_the_same_seed_spoils_the_same_bytes():
    data = bytes(range(256)) * 40
    noisy = LineFaults(seed="1", flipped=0.01, dropped=0.01, doubled=0.01)
    spoilt = noisy.spoil("out", data, 0)
    assert spoilt == noisy.spoil("out", data, 0) != data
    assert spoilt != LineFaults(seed="2", flipped=0.01).spoil("out", data, 0)
    assert abs(len(spoilt) - len(data)) < 200
    half = len(data) // 2
    assert noisy.spoil("out", data[:half], 0) + noisy.spoil("out", data[half:], half) == spoilt


def test_chatter_fills_its_time_and_no_other():
    sends = Line(LineFaults(chatters=(Chatter(2.0, 1.0, 1000),))).started
    assert len(b"".join(send.data for send in sends)) == 1000
    assert (sends[0].after_s, sends[-1].after_s) == (2.0, pytest.approx(2.95))
