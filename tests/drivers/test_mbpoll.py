"""mbpoll, a Modbus master that was not written here, reads our simulated meters and sees what they say they served."""

import json
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from field.chain import Part
from simulators.truth import Served, read_served
from tests.sites import bus, meters
from tests.substitution import required_as_root

pytestmark = pytest.mark.slow

LOG_S_MAX = 5.0
MBPOLL = shutil.which("mbpoll")
TURNED = 9
"""The unit of a meter whose energy flows back: its powers are negative."""
METERS = (
    meters("eastron-sdm630", "5", trace="steelplant"),
    meters("acrel-dtsd1352", str(TURNED), reverse=True, trace="steelplant"),
    meters("schneider-iem3155", "200"),
)
SITE = bus("rtu", "pty", *METERS, serial="9600-8N1") + bus("tcp", "modbus-tcp", *METERS)
_LINE = re.compile(r"^\[(\d+)\]:\s+(\S+)", re.MULTILINE)


class Simulated(NamedTuple):
    """The running site: where mbpoll finds each of its buses, and the log of what was served."""

    rtu: str
    tcp_port: str
    log: Path

    def poll(self, bus: str, unit: int, *what: str) -> subprocess.CompletedProcess[str]:
        """Ask once. References are 0-based, and words stand high first (-B)."""
        assert MBPOLL is not None
        where = (
            ["-m", "rtu", "-b", "9600", "-P", "none", self.rtu]
            if bus == "rtu"
            else ["-m", "tcp", "-p", self.tcp_port, "127.0.0.1"]
        )
        return subprocess.run(
            [MBPOLL, "-1", "-0", "-B", "-o", "5", "-a", f"{unit}", *what, *where],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def read(self, bus: str, unit: int, *what: str) -> tuple[list[str], dict[str, str]]:
        """The values that mbpoll prints, in the order of their registers, and those that the meter served."""
        before = len(self._served(bus, unit))
        done = self.poll(bus, unit, *what)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = [value for _, value in sorted((int(at), value) for at, value in _LINE.findall(done.stdout))]
        deadline = time.monotonic() + LOG_S_MAX
        while len(served := self._served(bus, unit)) == before and time.monotonic() < deadline:
            time.sleep(0.01)  # the simulator notes an answer when it has sent it; its file has no event to wait on
        assert len(served) == before + 1
        return shown, served[-1].values

    def _served(self, bus: str, unit: int) -> list[Served]:
        return [entry for entry in read_served(self.log) if entry.meter == f"{bus}-{unit}"] if self.log.exists() else []


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    if MBPOLL is None:
        required_as_root("mbpoll")
        pytest.skip("needs mbpoll (Debian)")
    directory = tmp_path_factory.mktemp("mbpoll")
    (directory / "sim.toml").write_text(SITE, encoding="utf-8")
    log = directory / "served.jsonl"
    sim = Part("sim", ["sim", "-c", f"{directory / 'sim.toml'}", "--served", f"{log}"], directory)
    sim.start()
    try:
        buses = json.loads(sim.first_line())["buses"]
        yield Simulated(buses["rtu"], buses["tcp"].rsplit(":", 1)[1], log)
    finally:
        sim.kill()


def as_printed(plain: str) -> str:
    """The float32 that stands for a decimal, as mbpoll prints it: %g of what the 32 bits hold, not of the decimal."""
    return format(struct.unpack(">f", struct.pack(">f", float(plain)))[0], "g")


def float_bits(plain: str) -> str:
    """The two registers of a float32, in hex."""
    return struct.pack(">f", float(plain)).hex().upper()


@pytest.mark.parametrize("bus", ["rtu", "tcp"])
@pytest.mark.parametrize(
    ("unit", "table", "first", "quantities"),
    [
        (5, "3", 0, ["voltage.a", "voltage.b", "voltage.c", "current.a", "current.b", "current.c"]),
        (5, "3", 70, ["frequency", "energy.active.import.total"]),
        (200, "4", 3027, ["voltage.a", "voltage.b", "voltage.c"]),
        (200, "4", 3109, ["frequency"]),
    ],
)
def test_floats_are_what_was_served_bit_for_bit(
    simulated: Simulated, bus: str, unit: int, table: str, first: int, quantities: list[str]
) -> None:
    count = len(quantities)
    words, served = simulated.read(bus, unit, "-t", f"{table}:hex", "-r", f"{first}", "-c", f"{2 * count}")
    assert list(served) == quantities
    pairs = ["".join(word.removeprefix("0x") for word in words[n : n + 2]) for n in range(0, 2 * count, 2)]
    assert pairs == [float_bits(served[quantity]) for quantity in quantities]

    shown, served = simulated.read(bus, unit, "-t", f"{table}:float", "-r", f"{first}", "-c", f"{count}")
    assert shown == [as_printed(served[quantity]) for quantity in quantities]


@pytest.mark.parametrize("bus", ["rtu", "tcp"])
@pytest.mark.parametrize(
    ("kind", "first", "scale", "quantities"),
    [
        ("4", 97, "0.1", ["voltage.a", "voltage.b", "voltage.c"]),
        ("4", 100, "0.01", ["current.a", "current.b", "current.c"]),
        ("4:int", 10, "0.01", ["energy.active.import.total"]),
        ("4:int", 20, "0.01", ["energy.active.export.total"]),
        ("4:int", 356, "0.001", ["power.active.a", "power.active.b", "power.active.c", "power.active.total"]),
    ],
)
def test_integers_times_their_scale_are_what_was_served(
    simulated: Simulated, bus: str, kind: str, first: int, scale: str, quantities: list[str]
) -> None:
    shown, served = simulated.read(bus, TURNED, "-t", kind, "-r", f"{first}", "-c", f"{len(quantities)}")
    assert list(served) == quantities
    assert [int(text) * Decimal(scale) for text in shown] == [Decimal(served[name]) for name in quantities]
    if first == 356:
        assert all(int(text) < 0 for text in shown)


@pytest.mark.parametrize("bus", ["rtu", "tcp"])
def test_an_integer_of_four_registers_is_what_was_served(simulated: Simulated, bus: str) -> None:
    words, served = simulated.read(bus, 200, "-t", "4:hex", "-r", "3203", "-c", "4")
    wh = int("".join(word.removeprefix("0x") for word in words), 16)
    assert list(served) == ["energy.active.import.total"]
    assert wh * Decimal("0.001") == Decimal(served["energy.active.import.total"]) > 0


@pytest.mark.parametrize("bus", ["rtu", "tcp"])
def test_registers_that_a_meter_lacks_are_an_illegal_address(simulated: Simulated, bus: str) -> None:
    done = simulated.poll(bus, TURNED, "-t", "4", "-r", "60000", "-c", "2")
    assert done.returncode != 0
    assert "Illegal data address" in done.stdout + done.stderr
