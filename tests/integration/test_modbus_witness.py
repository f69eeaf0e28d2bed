"""A third party's Modbus master works with the simulated units over their pty.

minimalmodbus shares no line of code with us or with pymodbus, so both ends agree with the world.
"""

import subprocess
import sys
import time

import minimalmodbus
import pytest

SCENARIO = """
seed: 7
devices:
  - personality: modbus
    id: drive
    count: 2
    unit: 11
    line: rs485
    boot_time: 20ms
    registers:
      coils: {0: 0, 1: 1, 2: 1}
      discrete: {7: 1}
      holding: {0: 1500, 1: 65535, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 9: 0}
      input: {0: 1, 1: 34464}
      exceptions: {9: 4}
"""

pytestmark = pytest.mark.row("E4", "E9")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("witness")
    (folder / "scenario.yaml").write_text(SCENARIO)
    arguments = [str(folder / "scenario.yaml"), "--dir", str(folder)]
    simulator = subprocess.Popen(
        [sys.executable, "-m", "firmware_sim", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert simulator.stdout.readline() == f"drive-1 modbus {folder / 'rs485'}\n"
        assert simulator.stdout.readline() == f"drive-2 modbus {folder / 'rs485'}\n"
        yield str(folder / "rs485")
    finally:
        simulator.terminate()
        simulator.communicate(timeout=30)


@pytest.fixture
def master(port):
    def made(unit):
        instrument = minimalmodbus.Instrument(port, unit)
        instrument.serial.baudrate = 115200
        instrument.serial.timeout = 2.0
        return instrument

    return made


def patiently(ask):
    """The first question may come while the devices boot."""
    for _ in range(20):
        try:
            return ask()
        except minimalmodbus.NoResponseError:
            time.sleep(0)
    return ask()


def test_every_function_is_understood(master):
    unit = master(11)
    assert patiently(lambda: unit.read_register(0)) == 1500
    assert unit.read_register(1, signed=True) == -1
    assert unit.read_long(0, functioncode=4) == 100_000
    assert unit.read_bits(0, 3, functioncode=1) == [0, 1, 1]
    assert unit.read_bit(7, functioncode=2) == 1
    unit.write_register(2, 421, functioncode=6)
    unit.write_register(3, 7, functioncode=16)
    assert unit.read_registers(2, 2) == [421, 7]
    unit.write_float(4, 21.5)
    assert unit.read_float(4) == 21.5
    unit.write_string(6, "ABCD", number_of_registers=2)
    assert unit.read_string(6, 2) == "ABCD"
    unit.write_bit(0, 1)
    assert unit.read_bit(0, functioncode=1) == 1
    unit.write_bits(0, [0, 0, 1])
    assert unit.read_bits(0, 3, functioncode=1) == [0, 0, 1]


def test_two_units_on_one_line_are_two(master):
    one, other = master(11), master(12)
    patiently(lambda: other.write_register(2, 5, functioncode=6))
    one.write_register(2, 4, functioncode=6)
    assert (one.read_register(2), other.read_register(2)) == (4, 5)


def test_exceptions_have_their_codes(master):
    unit = master(11)
    patiently(lambda: unit.read_register(0))
    with pytest.raises(minimalmodbus.IllegalRequestError, match="illegal data address"):
        unit.read_register(4000)
    with pytest.raises(minimalmodbus.SlaveReportedException, match="failure"):
        unit.read_register(9)


def test_a_unit_that_is_not_there_is_silent(master):
    patiently(lambda: master(11).read_register(0))
    nobody = master(40)
    nobody.serial.timeout = 0.2
    with pytest.raises(minimalmodbus.NoResponseError):
        nobody.read_register(0)
