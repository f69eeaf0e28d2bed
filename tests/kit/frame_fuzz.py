"""Damaged and random bytes through the decoders of serial frames, and what they made of them.

`python -m tests.kit.frame_fuzz 10000000 [SEED]` prints the figures. A frame is wrong when it is
accepted and was never sent; for replies of a request also when they fit one that did not ask.
"""

import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from contract.device import line_json, smp
from contract.device.smp_frames import FIRST, FURTHER

RATES = (0.0, 1e-4, 1e-3, 1e-2, 5e-2)
STORY = 16_384  # bytes that one reader sees in one manner of damage
PIECES = (1, 3, 17, 64, 255, 1024)


@dataclass
class Figures:
    """What came of it. `accepted` are frames as they were sent.

    `refused` are those that were not taken, `bad_checksum` by their checksum alone: each of these
    had one chance in 65,536 (SMP) or 4,294,967,296 (line-JSON). `checksum_only` passed it and were
    never sent; `wrong` are those of them that also fit a request.
    """

    size: int = 0
    sent: int = 0
    accepted: int = 0
    checksum_only: int = 0
    wrong: int = 0
    refused: int = 0
    bad_checksum: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0
    examples: list[bytes] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.size:,} bytes, {self.sent:,} frames sent, {self.accepted:,} accepted, "
            f"{self.refused:,} refused ({self.bad_checksum:,} by checksum), "
            f"{self.checksum_only} right by checksum only, {self.wrong} WRONG, "
            f"peak {self.peak_bytes // 1024} KiB, {self.seconds:.0f} s"
        )


def damaged(chance: random.Random, data: bytes, rate: float) -> bytes:
    """Flipped bits, lost and doubled bytes, bursts and mixed up pieces; `rate` is per byte."""
    if rate == 0:
        return data
    out, at = bytearray(), 0
    while at < len(data):
        hit = min(at + int(chance.expovariate(rate)), len(data))
        out += data[at:hit]
        if hit == len(data):
            break
        at = hit + 1
        match chance.randrange(8):
            case 0 | 1 | 2:
                out.append(data[hit] ^ (1 << chance.randrange(8)))
            case 3:
                pass
            case 4:
                out += data[hit : hit + 1] * 2
            case 5:
                out += chance.randbytes(chance.randrange(1, 40))
            case 6:  # a piece comes twice, or is gone
                start = max(hit - chance.randrange(60), 0)
                out += data[start:hit] if chance.random() < 0.5 else b""
                at = hit + chance.randrange(60)
            case _:
                out.append(chance.randrange(256))
    return bytes(out)


def pieces(chance: random.Random, data: bytes) -> Iterator[bytes]:
    """The bytes as a port may hand them over."""
    size, at = chance.choice(PIECES), 0
    while at < len(data):
        step = chance.randrange(1, size + 1)
        yield data[at : at + step]
        at += step


def fuzz_line_json(size: int, seed: int = 1) -> Figures:
    """Requests and replies, as on a line that echoes; each reply answers the request before it."""

    def story(chance: random.Random, figures: Figures) -> tuple[bytes, set[bytes]]:
        whole, sent = bytearray(), set()
        while len(whole) < STORY:
            number, address = f"t{seed}-{figures.sent:x}", f"valve-{chance.randrange(3)}"
            values: Any = {"text": _text(chance), "n": chance.randrange(10**6)}
            request = line_json.Request(number, address, "echo", values, "b1")
            answers: list[line_json.Frame] = [
                line_json.Reply(number, address, result=values),
                line_json.Reply(number, address, "refused", code="no", text=_text(chance)),
                line_json.Reply(number, address, "busy", progress=chance.randrange(101)),
                line_json.Event(address, "log", _text(chance)),
            ]
            for frame in (request, chance.choice(answers)):
                line = line_json.encode(frame)
                sent.add(line)
                whole += line
                figures.sent += 1
        return bytes(whole), sent

    def shapes(chance: random.Random) -> bytes:
        tail = b'","crc":"%08x"}\n' % chance.randrange(1 << 32)
        return b'{"id":"t1-1","from":"valve-1","ok":true,"result":"' + _letters(chance) + tail

    def read(data: Iterator[bytes], figures: Figures) -> Iterator[tuple[bytes, bool]]:
        reader = line_json.LineReader()
        for piece in data:
            for frame in reader.feed(piece):
                # A story's ids are its own: whatever fits one and was not sent would be taken.
                yield line_json.encode(frame), not isinstance(frame, line_json.Request)
        counters = reader.counters
        figures.refused += counters.bad_crc + counters.malformed + counters.no_frame
        figures.refused += counters.overlong
        figures.bad_checksum += counters.bad_crc

    return _fuzz(size, seed, story, shapes, read)


def fuzz_smp(size: int, seed: int = 1) -> Figures:
    """Replies of uploads, image lists and echoes; taken when op, group, command and number fit."""
    expected: list[tuple[int, int, int, int]] = []

    def story(chance: random.Random, figures: Figures) -> tuple[bytes, set[bytes]]:
        whole, sent, sequence = bytearray(), set(), chance.randrange(256)
        expected.clear()
        while len(whole) < STORY:
            sequence = (sequence + 1) & 0xFF
            image = {"slot": 0, "version": "1.0", "hash": chance.randbytes(32)}
            replies: list[tuple[int, int, dict[str, Any]]] = [
                (smp.Group.IMAGE, smp.Command.IMAGE_UPLOAD, {"off": chance.randrange(1 << 20)}),
                (smp.Group.OS, smp.Command.OS_ECHO, {"r": _text(chance)}),
                (smp.Group.IMAGE, smp.Command.IMAGE_STATE, {"images": [image]}),
            ]
            group, command, payload = chance.choice(replies)
            header = smp.Header(smp.Op.WRITE_REPLY, group, command, sequence)
            message = smp.encode_message(header, payload)
            sent.add(message)
            expected.append((smp.Op.WRITE_REPLY, int(group), command, sequence))
            whole += b"".join(smp.encode_frame(message))
            figures.sent += 1
        return bytes(whole), sent

    def shapes(chance: random.Random) -> bytes:
        size = chance.randrange(8, 80)
        text = smp.encode_frame(chance.randbytes(size))[0][2:]
        length = smp.encode_frame(bytes(size))[0][2:4]
        return chance.choice((FIRST, FIRST, FURTHER)) + length + text[2:-4] + _letters(chance)[:4]

    def read(data: Iterator[bytes], figures: Figures) -> Iterator[tuple[bytes, bool]]:
        reader, fits = smp.FrameReader(), set(expected)
        for piece in data:
            for item in reader.feed(piece):
                if isinstance(item, smp.SmpFrame):
                    yield item.message, _is_taken(item.message, fits)
        counters = reader.counters
        figures.refused += counters.bad_crc + counters.garbled + counters.incomplete
        figures.refused += counters.oversize + counters.stray
        figures.bad_checksum += counters.bad_crc

    return _fuzz(size, seed, story, shapes, read)


def _is_taken(message: bytes, fits: set[tuple[int, int, int, int]]) -> bool:
    """Whether any request of the story would take it: harder than one request at a time."""
    try:
        header = smp.decode_response(message).header
    except smp.SmpInvalid:
        return False
    return (header.op, header.group, header.command, header.sequence) in fits


_Story = Callable[[random.Random, Figures], tuple[bytes, set[bytes]]]
_Read = Callable[[Iterator[bytes], Figures], Iterator[tuple[bytes, bool]]]


def _fuzz(
    size: int, seed: int, story: _Story, shapes: Callable[[random.Random], bytes], read: _Read
) -> Figures:
    chance, figures, number = random.Random(seed), Figures(), 0
    began_s = time.monotonic()
    tracemalloc.start()
    while figures.size < size:
        whole, sent = story(chance, figures)
        rate = RATES[number % (len(RATES) + 1)] if number % (len(RATES) + 1) < len(RATES) else None
        number += 1
        if rate is None:  # nothing but garbage, half of it in the shape of frames
            made = [chance.randbytes(STORY // 2)]
            made += [shapes(chance) + b"\n" for _ in range(STORY // 200)]
            chance.shuffle(made)
            figures.sent -= len(sent)
            data, sent = b"".join(made), set()
        else:
            data = damaged(chance, whole, rate)
        data = data[: max(size - figures.size, 1)]
        figures.size += len(data)
        for frame, is_taken in read(pieces(chance, data), figures):
            if frame in sent:
                figures.accepted += 1
                continue
            figures.checksum_only += 1
            if is_taken:
                figures.wrong += 1
                figures.examples.append(frame)
    figures.peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures.seconds = time.monotonic() - began_s
    return figures


def _text(chance: random.Random) -> str:
    return "".join(chance.choices("abcdefgh ijkl", k=chance.randrange(40)))


def _letters(chance: random.Random) -> bytes:
    return bytes(chance.choices(b"ABCDEFabcdef0123456789+/", k=chance.randrange(4, 40)))


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for name, fuzz in (("line_json", fuzz_line_json), ("smp", fuzz_smp)):
        print(f"{name}: {fuzz(size, seed)}", flush=True)


if __name__ == "__main__":
    main()
