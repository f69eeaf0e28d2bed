"""The serial port on real ptys: locked, never blocking, and let go of at once."""

import asyncio
import os
import tty

import pytest

from gateway.errors import DeviceUnreachable
from gateway.transports.serial_port import WRITE_HIGH_WATER, SerialPort
from tests.kit.waiting import wait_until_async


@pytest.fixture
def pty():
    """A pty as (master descriptor, path of the slave); the test may close the master."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    yield master, os.ttyname(slave)
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            continue


async def test_bytes_go_both_ways(pty):
    master, path = pty
    port = SerialPort(path, 115200, dtr=None)
    await port.open()
    os.write(master, b"hello")
    assert await port.read() == b"hello"
    port.write(b"world")
    await port.drain(1)
    await wait_until_async(lambda: os.read(master, 100) == b"world")
    await port.close()
    assert not port.is_open


async def test_no_port_is_unreachable(tmp_path):
    with pytest.raises(DeviceUnreachable, match="cannot open"):
        await SerialPort(str(tmp_path / "none")).open()


async def test_a_port_is_ours_alone_and_free_again_after_close(pty):
    _, path = pty
    first, second = SerialPort(path), SerialPort(path)
    await first.open()
    with pytest.raises(DeviceUnreachable, match="lock"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()
    await second.close()


async def test_a_hung_device_stops_the_writer_not_the_loop(pty):
    _, path = pty
    port = SerialPort(path)
    await port.open()
    with pytest.raises(DeviceUnreachable, match="hangs"):
        while True:
            port.write(b"x" * WRITE_HIGH_WATER)
            await port.drain(0.1)
    async with asyncio.timeout(5):
        await port.close()


async def test_an_unplugged_port_is_gone_for_reader_and_writer(tmp_path):
    master, slave = os.openpty()
    tty.setraw(slave)
    port = SerialPort(os.ttyname(slave))
    await port.open()
    reading = asyncio.get_running_loop().create_task(port.read())
    os.close(slave)
    os.close(master)
    with pytest.raises(DeviceUnreachable):
        await reading
    with pytest.raises(DeviceUnreachable):
        port.write(b"x")
    with pytest.raises(DeviceUnreachable):
        await port.read()
    await port.close()


async def test_what_arrived_before_the_end_is_still_read(pty):
    master, path = pty
    port = SerialPort(path)
    await port.open()
    os.write(master, b"last words")
    assert await port.read() == b"last words"
    await port.close()
    with pytest.raises(DeviceUnreachable):
        await port.read()


async def test_an_opening_that_was_given_up_does_not_keep_the_port(pty):
    _, path = pty
    port = SerialPort(path)
    for _ in range(20):
        opening = asyncio.get_running_loop().create_task(port.open())
        await asyncio.sleep(0)  # it is on its way
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await port.open()
        assert port.is_open
    await port.close()
