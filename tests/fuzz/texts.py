"""Harnesses of what comes as text: messages of the cloud and of gateways, MQTT, documents, CSV."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ValidationError

from cloud.api.ranges import RangeInvalid, parse_range
from cloud.domain import csv_records
from cloud.errors import SettingsInvalid as CloudSettingsInvalid
from cloud.gateway_link.hello_pages import HelloPages
from cloud.settings import read_settings as read_cloud_settings
from cloud.storage.json_text import clean, to_json
from contract import messages, topics
from contract.documents import DocumentInvalid, load, load_value
from contract.ids import GatewayId, OrgId
from contract.job_document import JobDocument
from contract.query import QueryInvalid, parse
from contract.query_text import parse_text
from contract.template_dialect import TemplateError, check_value, render
from contract.topics import Address, Kind
from firmware_sim.scenario import Scenario
from gateway.cloud_link.wire import LinkState
from gateway.domain import aws_job_messages
from gateway.domain.modbus_profile import ModbusProfile
from gateway.domain.plain_json import cut, plain
from gateway.domain.profile_messages import payload_of
from gateway.domain.profiles import Profile, matches
from gateway.errors import SettingsInvalid
from gateway.journal.sealing import Sealer
from gateway.settings import read_settings
from tests.fuzz.harness import Harness
from tests.golden.samples import SAMPLES

CONFIGS = Path(__file__).parents[2] / "configs"
NORTH = Address(OrgId("default"), GatewayId("north"))
KINDS = list(Kind)


def _messages(kinds: list[Kind]) -> list[bytes]:
    """Samples, with their kind as the first byte."""
    return [bytes([KINDS.index(kind)]) + messages.encode(SAMPLES[kind]) for kind in kinds]


def cloud_message(data: bytes) -> None:
    """What a gateway says, as the cloud reads and keeps it; the first byte is the kind."""
    kind = KINDS[(data[0] if data else 0) % len(KINDS)]
    message = messages.parse(kind, data[1:])
    messages.encode(message)
    match message:
        case messages.Report():
            for item in message.undecodable:
                (clean(item.task) + item.raw + item.reason).encode()
            for state in message.states:
                to_json(state.values).encode()
            for line in message.logs:
                (line.text + to_json(line.data)).encode()
            for task in message.tasks:
                to_json(task.result).encode()
        case messages.Hello():
            pages = HelloPages()
            pages.add(NORTH, message)
            pages.add(NORTH, message)
            messages.digest_of(message.tasks)
        case messages.Call():
            to_json(message.body).encode()


def gateway_message(data: bytes) -> None:
    """What the cloud says, as a gateway's link takes it; nothing is raised."""
    state = LinkState(NORTH, "j-1", "i-1")
    state.session, state.nonce = "s-1", "n-1"
    kind = KINDS[(data[0] if data else 0) % len(KINDS)]
    message = state.open(kind, data[1:])
    if isinstance(message, messages.Welcome) and message.refused is None:
        state.open_session(message)


def topic(data: bytes) -> None:
    address, kind = topics.parse(data.decode("utf-8", "surrogateescape"))
    assert topics.parse(address.topic(kind)) == (address, kind)


def mqtt_payload(data: bytes) -> None:
    """What a device of a profile publishes, until it is a result that JSON knows."""
    value = plain(payload_of(data))
    kept, _ = cut(value, 1_000)
    json.dumps(kept, allow_nan=False).encode()
    text = data.decode("utf-8", "replace")
    matches("tele/+/STATE/#", text)
    matches(text, "tele/x/STATE")


def aws_jobs(data: bytes) -> None:
    name, _, payload = data.partition(b"\n")
    for place in (name.decode("utf-8", "replace"), "$aws/things/pump/jobs/job-1/update"):
        asked = aws_job_messages.read(place, payload)
        if asked is not None and isinstance(asked.request, aws_job_messages.Rejection):
            aws_job_messages.encode(aws_job_messages.rejected(1, asked.request))


def document(model: type[BaseModel]) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        load_value(text, "fuzz.yaml")
        load(text, model, "fuzz.yaml")

    return read


def file_of(read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """A file with these bytes, as the program itself opens it."""

    def decode(data: bytes) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "fuzz.yaml"
            path.write_bytes(data)
            read(path)

    return decode


def query(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    parse(parse_text(text))
    parse(payload_of(data))


def template(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    check_value(text)
    render(text, {"ctx": {"a": [1, "x"]}, "payload": {"v": 1.5}})


def csv_file(data: bytes) -> None:
    """Cut into blocks of a size that the first byte tells."""
    size, line, waiting = max(data[0] if data else 1, 1), 1, b""
    for at in range(1, len(data) + 1, size):
        waiting += data[at : at + size]
        is_last = at + size >= len(data)
        records, used, line = csv_records.records_of(waiting, line, is_last=is_last)
        assert 0 <= used <= len(waiting)
        for record in records:
            "".join(record.cells).encode()
        waiting = waiting[used:]
    assert not waiting.strip()


def http_range(data: bytes) -> None:
    part = parse_range(data.decode("latin-1"), 1_000)
    assert part is None or 0 <= part.start < part.start + part.length <= 1_000


def sealed_key(data: bytes) -> None:
    """A journal's key that is damaged: old secrets are gone, new ones are kept all the same."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "journal.key").write_bytes(data)
        sealer = Sealer(Path(folder))
        assert sealer.open("gAAAAABnothing") is None
        assert sealer.open(sealer.seal("a secret")) == "a secret"


def _files(*patterns: str) -> list[bytes]:
    return [path.read_bytes() for each in patterns for path in sorted(CONFIGS.glob(each))]


JOB = b"""\
name: pump-firmware
targets: {resource: device, query: {type: pump, tags.site: "{{ ctx.site }}"}}
context: {site: berlin}
iteration: {mode: parallel, timeout: 15m}
retry: {on: [timeout], attempts: 3, delay: 1m, backoff: 2.0}
rollout: {waves: [{count: 5}, {percent: 100}], abort: [{on: failed, above: 10%, then: cancel}]}
steps:
  - uses: device.command
    with: {name: version}
    expect: "result.version is defined"
"""
MODBUS = b"""\
driver: modbus
name: meter
points:
  power: {kind: input, address: 1, type: float32, unit: W}
"""
# Halves of characters, in an item that cannot be read and beside one.
HALVES = [
    bytes([KINDS.index(Kind.REPORT)]) + body
    for body in (
        b'{"tasks":[{"task":"\\ud800","attempt":1}]}',
        b'{"tasks":[1],"states":[{"number":1,"at":1,"device":"d","values":{"\\udc00":"\\ud800"}}]}',
        b'{"tasks":[1],"logs":[{"number":1,"at":1,"text":"\xed\xa0\x80"}]}',
    )
]
UP = [Kind.PRESENCE, Kind.HELLO, Kind.REPORT, Kind.CALL]
DOWN = [Kind.WELCOME, Kind.OFFER, Kind.CANCEL, Kind.RECEIPT, Kind.REPLY]
AWS = b'$aws/things/pump/jobs/job-1/update\n{"status":"IN_PROGRESS","expectedVersion":"1"}'
INVALID = (DocumentInvalid,)
HARNESSES = (
    Harness("cloud_message", cloud_message, (messages.MessageInvalid,),
            [*_messages(UP), *HALVES]),
    Harness("gateway_message", gateway_message, (), _messages(DOWN), bytes_a_byte=400),
    Harness("topic", topic, (topics.TopicInvalid,), [NORTH.topic(Kind.REPORT).encode()]),
    Harness("mqtt_payload", mqtt_payload, (), [b'{"POWER":"ON","Uptime":1.5e3}', b"online"]),
    Harness("aws_jobs", aws_jobs, (), [AWS, b'x\n{"clientToken":"a","statusDetails":{"a":"b"}}']),
    Harness("job_document", document(JobDocument), INVALID, [JOB], floor=4_000_000),
    Harness("mqtt_profile", document(Profile), INVALID, _files("profiles/*.yaml")[:3],
            floor=4_000_000, bytes_a_byte=800),
    Harness("modbus_profile", document(ModbusProfile), INVALID, [MODBUS], floor=4_000_000),
    Harness("scenario", document(Scenario), INVALID, _files("scenarios/*.yaml")[:2],
            floor=4_000_000),
    Harness("gateway_settings", file_of(lambda path: read_settings(path, {})), (SettingsInvalid,),
            _files("gateway*.yaml"), floor=8_000_000, bytes_a_byte=800),
    Harness("cloud_settings", file_of(read_cloud_settings),
            (CloudSettingsInvalid, ValidationError), _files("cloud.yaml"), floor=8_000_000),
    Harness("query", query, (QueryInvalid,),
            [b"type:pump AND tags.site:berlin", b'{"a":{"$in":[1]}}']),
    Harness("template", template, (TemplateError,),
            [b"{{ ctx.a[0] + 1 }}", b"x {{ payload.v | round }}"], max_size=600,
            floor=20_000_000),
    Harness("csv_file", csv_file, (csv_records.CsvInvalid,), [b'\x10id,name\r\n1,"a ""b"""\r\n']),
    Harness("http_range", http_range, (RangeInvalid,), [b"bytes=0-99", b"bytes=-5"],
            max_size=9_000),
    Harness("sealed_key", sealed_key, (), [b"A" * 43 + b"="]),
)  # fmt: skip
