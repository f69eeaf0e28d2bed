"""The simulated serial line is pulled out and comes back under the same name, upload kept."""

import hashlib
import os
import select
import tty

import pytest

from contract.device import smp
from firmware_sim.images import build_image
from tests.kit.waiting import wait_until

SCENARIO = """
devices:
  - {personality: smp, ids: [pump], faults: {unplugs: [{after_chunks: 2, lasts: 300ms}]}}
"""


def ask(port, request, sequence):
    """Send over a raw descriptor; the reply, or None when the line ended or stayed silent."""
    line = os.open(port, os.O_RDWR | os.O_NOCTTY)
    reader = smp.FrameReader()
    try:
        tty.setraw(line)
        os.write(line, b"\n" + b"".join(smp.encode_frame(request.encode(sequence))))
        while select.select([line], [], [], 0.5)[0] and (data := os.read(line, 4096)):
            for found in reader.feed(data):
                if isinstance(found, smp.SmpFrame):
                    return smp.decode_response(found.message)
    except OSError:
        return None
    finally:
        os.close(line)
    return None


@pytest.mark.row("E9")
@pytest.mark.timeout(30)
def test_an_upload_goes_on_where_the_line_was_pulled_out(tmp_path, programs):
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SCENARIO)
    sim = programs.python("firmware_sim", scenario, "--dir", tmp_path)
    sim.wait_for_line("pump smp ")
    port, image = tmp_path / "pump", build_image("2.0.0", 3000)
    first = smp.upload_first(len(image), hashlib.sha256(image).digest(), image[:200])
    # What is sent while the device boots is lost, as on a real one: ask until it answers.
    wait_until(lambda: ask(port, smp.echo("up?"), 1), message="an answer")
    assert ask(port, first, 10).payload == {"off": 200}
    assert ask(port, smp.upload_next(200, image[200:400]), 11) is None
    wait_until(lambda: port.is_symlink(), message="the line back")
    assert ask(port, first, 12).payload == {"off": 400}
