"""A simulated site: one plan, served from memory, from ptys and from TCP, and known to the gateway as it is."""

import asyncio
import errno
import json
import os
import signal
import sys
import termios
import tty
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from config.load import load_site
from config.mistake import ConfigError
from config.model import SerialSettings, UplinkEntry
from drivers.fit import check
from field.clock import wall_ms
from protocols.dlt645.frame import Deframer, Frame
from protocols.dlt645.items import decode_item
from protocols.modbus.frame import RtuDeframer, TcpDeframer, read_request
from simulators import virtual
from simulators.describe import BUS, FAULTS, METERS, TOP, BusPlan, MeterGroup, SitePlan, load_plan, uniform
from simulators.noise import Faults
from simulators.site import MemorySite, RealSite, write_site_files
from simulators.truth import Served, ServedLog, read_served

FAST = SerialSettings.parse("115200-8N1")
READ_DI = bytes.fromhex("00000100")
ENERGY_REPLY = 4 + 12 + 8
"""Bytes: preamble, frame, identifier and value."""


def plan(**changes: object) -> SitePlan:
    """A pty that two families share, a serial server, and Modbus TCP; quick, and without faults."""
    quick = (1.0, 1.0)
    return SitePlan(seed=1, buses=(
        BusPlan(name="roof", kind="pty", serial=FAST, meters=(
            MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=2, turnaround_ms=quick),
            MeterGroup(profile="eastron-sdm630", address="5", turnaround_ms=quick),
        )),
        BusPlan(name="cellar", kind="tcp", serial=FAST, meters=(
            MeterGroup(profile="dlt645-2007-1p", address="000000000101", turnaround_ms=quick),
            MeterGroup(profile="acrel-dtsd1352", address="9", turnaround_ms=quick),
        )),
        BusPlan(name="hall", kind="modbus-tcp", meters=(
            MeterGroup(profile="schneider-iem3155", address="1", count=3, turnaround_ms=quick),
        )),
    ))  # fmt: skip


def read_dlt645(address: str) -> bytes:
    return Frame(address=address, control=0x11, data=READ_DI).encode()


async def over_tcp(endpoint: str, question: bytes, size: int) -> bytes:
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(question)
        async with asyncio.timeout(10):
            return await reader.readexactly(size)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def over_pty(path: str, question: bytes, size: int) -> bytes:
    """Ask on a tty and return so many bytes; its settings stay as they are."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    loop.add_reader(fd, readable.set)
    try:
        os.write(fd, question)
        reply = b""
        async with asyncio.timeout(10):
            while len(reply) < size:
                await readable.wait()
                readable.clear()
                with suppress(BlockingIOError):
                    reply += os.read(fd, 4096)
        return reply
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def test_every_face_serves_what_it_says_it_served() -> None:
    async def main() -> None:
        async with RealSite(plan(), now_ms=wall_ms) as site:
            ports, log = site.ports, site.log
            reply = await over_pty(ports["roof"], read_dlt645("000000000002"), ENERGY_REPLY)
            (frame,) = Deframer().feed(reply)
            (value,) = decode_item("00010000", frame.data[4:])
            assert log.entries[-1].values == {"energy.active.import.total": value.plain}
            assert (log.entries[-1].meter, log.entries[-1].intact) == ("roof-000000000002", True)

            reply = await over_pty(ports["roof"], read_request(5, 4, 0, 6).encode(), 17)
            assert [f.unit for f in RtuDeframer().feed(reply)] == [5]
            assert set(log.entries[-1].values) == {"voltage.a", "voltage.b", "voltage.c"}

            (frame,) = Deframer().feed(await over_tcp(ports["cellar"], read_dlt645("000000000101"), ENERGY_REPLY))
            assert log.entries[-1].meter == "cellar-000000000101"
            assert RtuDeframer().feed(await over_tcp(ports["cellar"], read_request(9, 3, 97, 3).encode(), 11))
            assert set(log.entries[-1].values) == {"voltage.a", "voltage.b", "voltage.c"}

    asyncio.run(main())


def test_modbus_tcp_units_answer_each_and_a_stranger_is_no_target() -> None:
    async def main() -> None:
        async with RealSite(plan(), now_ms=wall_ms) as site:
            questions = b"".join(read_request(unit, 3, 3027, 2, transaction=unit).encode() for unit in (1, 2, 3, 99))
            frames = TcpDeframer().feed(await over_tcp(site.ports["hall"], questions, 3 * 13 + 9))
            assert {f.unit: f.transaction for f in frames} == {1: 1, 2: 2, 3: 3, 99: 99}
            (refused,) = [f for f in frames if f.unit == 99]
            assert refused.exception == 0x0B
            assert {entry.meter for entry in site.log.entries} == {"hall-1", "hall-2", "hall-3"}

    asyncio.run(main())


def test_the_wire_of_a_pty_runs_at_the_speed_its_opener_sets(tmp_path: Path) -> None:
    async def main() -> None:
        link = tmp_path / "ttyRoof"
        roof = BusPlan(name="roof", serial=FAST, link=link, pieces=1,
                       meters=(MeterGroup(profile="dlt645-2007-3p", address="000000000001"),))  # fmt: skip
        async with RealSite(SitePlan(buses=(roof,)), now_ms=wall_ms) as site:
            assert site.ports == {"roof": str(link)}
            fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(fd)
            attributes = termios.tcgetattr(fd)
            attributes[4] = attributes[5] = termios.B19200
            termios.tcsetattr(fd, termios.TCSANOW, attributes)
            loop = asyncio.get_running_loop()
            began = loop.time()
            reply = await over_pty(site.ports["roof"], read_dlt645("000000000001"), ENERGY_REPLY)
            os.close(fd)
            wanted = (16 + 4 + ENERGY_REPLY) * 10 / 19200 + 0.02
            assert loop.time() - began >= wanted - 0.001  # a loop may be early by the resolution of its clock
            assert Deframer().feed(reply)
        assert not link.is_symlink()

    asyncio.run(main())


def test_a_link_that_a_simulator_serves_is_not_taken_over_and_one_that_was_left_behind_is(tmp_path: Path) -> None:
    link = tmp_path / "ttyRoof"
    roof = BusPlan(
        name="roof", serial=FAST, link=link, meters=(MeterGroup(profile="dlt645-1997", address="000000000001"),)
    )
    twice = SitePlan(buses=(roof, replace(roof, name="hall")))

    link.symlink_to("/dev/null")  # left by one that was killed

    async def main() -> None:
        async with RealSite(SitePlan(buses=(roof,)), now_ms=wall_ms):
            served = link.readlink()
            assert served.is_char_device() and served != Path("/dev/null")
            with pytest.raises(OSError, match="in use by another simulator") as refused:
                await RealSite(SitePlan(buses=(roof,)), now_ms=wall_ms).__aenter__()
            assert refused.value.errno == errno.EADDRINUSE and refused.value.filename == str(link)
            assert link.readlink() == served
        with pytest.raises(OSError, match="in use by another simulator"):
            await RealSite(twice, now_ms=wall_ms).__aenter__()
        async with RealSite(SitePlan(buses=(roof,)), now_ms=wall_ms):
            assert link.is_symlink()

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_what_is_no_link_is_not_replaced_by_one(tmp_path: Path) -> None:
    file = tmp_path / "ttyRoof"
    file.write_text("mine")
    roof = BusPlan(
        name="roof", serial=FAST, link=file, meters=(MeterGroup(profile="dlt645-1997", address="000000000001"),)
    )

    async def main() -> None:
        with pytest.raises(FileExistsError, match="no link"):
            await RealSite(SitePlan(buses=(roof,)), now_ms=wall_ms).__aenter__()

    asyncio.run(main())
    assert file.read_text() == "mine" and list(tmp_path.iterdir()) == [file]


def test_the_gateways_files_are_the_site(tmp_path: Path) -> None:
    async def main() -> None:
        async with RealSite(plan(), now_ms=wall_ms) as site:
            wanted = site.site(uplink=UplinkEntry(url="mqtt://127.0.0.1:1883"), directory=tmp_path)
            path = write_site_files(wanted, tmp_path)
            found = load_site(path)
            assert found == wanted
            assert check(found) == []
            assert [m.id for m in found.meters] == [
                "roof-000000000001", "roof-000000000002", "roof-5", "cellar-000000000101", "cellar-9",
                "hall-1", "hall-2", "hall-3",
            ]  # fmt: skip

    asyncio.run(main())


def test_a_plan_gives_the_same_values_in_memory_every_time() -> None:
    async def served() -> list[Served]:
        site = MemorySite(uniform(buses=2, meters_per_bus=3, seed=4, faults=Faults(ber=1e-3)), now_ms=virtual.now_ms)
        for bus in site.buses():
            line = await site.open_line(bus)
            line.attach(lambda data: None, lambda error: None)
            for meter in site.meters([]):
                if meter.bus == bus.name:
                    line.write(read_dlt645(meter.address))
                    await asyncio.sleep(2)
        return site.log.entries

    first, again = (virtual.run(served(), start_ms=1_800_000_000_000) for _ in range(2))
    assert first == again
    assert len({entry.values["energy.active.import.total"] for entry in first}) == len(first) > 3


def test_a_bus_in_memory_is_not_modbus_tcp() -> None:
    with pytest.raises(ValueError, match="hall"):
        MemorySite(plan(), now_ms=lambda: 0)


def test_the_served_log_survives_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "served.jsonl"
    entries = [Served(meter=f"m{n}", at_ms=n, intact=n % 2 == 0, values={"voltage.a": f"23{n}.0"}) for n in range(5)]
    log = ServedLog(path)
    for entry in entries:
        log.add(entry)
    with path.open("a") as file:  # killed while writing a line
        file.write('{"meter": "m9", "at')
    assert list(read_served(path)) == entries
    assert log.replies == 5
    log.close()
    log.close()


SIM_TOML = """
seed = 7
served = "served.jsonl"

[[bus]]
name = "roof"
link = "ttyRoof"

[bus.faults]
ber = 1e-4
late_ms = [700, 900]
echo = true

[[bus.meters]]
profile = "dlt645-2007-3p"
address = "000000000001"
count = 4
turnaround_ms = [20, 60]

[[bus.meters]]
profile = "eastron-sdm630"
address = "1"
serial = "9600-8N1"

[[bus]]
name = "hall"
kind = "modbus-tcp"

[[bus.meters]]
profile = "acrel-dtsd1352"
address = "1"
count = 2
trace = "steelplant"
"""


def test_sim_toml_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "sim.toml"
    file.write_text(SIM_TOML)
    found = load_plan(file)
    assert (found.seed, found.served, found.meter_count) == (7, tmp_path / "served.jsonl", 7)
    roof, hall = found.buses
    assert (roof.link, roof.faults.ber, roof.faults.late_ms, roof.faults.echo) == (
        tmp_path / "ttyRoof",
        1e-4,
        (700, 900),
        True,
    )
    assert [(entry.id, entry.protocol) for _, entry in roof.entries()][-2:] == [
        ("roof-000000000004", "dlt645-2007"),
        ("roof-1", "modbus-rtu"),
    ]
    assert [(entry.id, entry.protocol) for _, entry in hall.entries()] == [
        ("hall-1", "modbus-tcp"),
        ("hall-2", "modbus-tcp"),
    ]


def test_every_mistake_in_sim_toml_is_listed(tmp_path: Path) -> None:
    file = tmp_path / "sim.toml"
    text = SIM_TOML.replace("seed = 7", 'seed = "x"').replace("ber = 1e-4", "ber = 7").replace("late_ms", "latest_ms")
    text = text.replace('"000000000001"', '"1234"').replace('serial = "9600-8N1"', 'protocol = "modbus-tcp"')
    text = text.replace('profile = "acrel-dtsd1352"', 'profile = "nobody"').replace('name = "hall"', 'name = "roof"')
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_plan(file)
    places = {mistake.where for mistake in caught.value.mistakes}
    assert places >= {
        "seed", "bus[1].faults.ber", "bus[1].faults.latest_ms", "bus[1].meters[1].address", "bus[1].meters[2].protocol",
        "bus[2].meters[1].profile",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "[[bus]]\nname = 'a'\n", "bus = 3", "[bus]\nname = 'a'", "not toml"])
def test_a_site_without_meters_is_a_mistake(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sim.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_plan(file)


def test_every_key_of_sim_toml_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sim.md").read_text(encoding="utf-8")
    for head, keys in [("", TOP), ("[[bus]] ", BUS), ("[[bus.meters]] ", METERS), ("[bus.faults] ", FAULTS)]:
        for key in keys:
            default = {"required": "required", None: "none"}.get(
                key.default if not isinstance(key.default, list) else 0
            )  # type: ignore[call-overload]
            shown = default or f"`{json.dumps(key.default)}`"
            assert f"| `{head}{key.name}` | {shown} | {key.says} |" in page


ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from field.main import main; main()", "sim")


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "sim.toml").write_text(SIM_TOML)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "-c", str(tmp_path / "sim.toml"), "--json", "--served", str(tmp_path / "log.jsonl"),
            "--site", str(tmp_path / "gateway"), stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                ready = json.loads(await process.stdout.readline())
            assert ready["ready"]
            assert (ready["meters"], set(ready["buses"])) == (7, {"roof", "hall"})
            assert len(load_site(Path(ready["site"])).meters) == 7
            question = read_request(2, 3, 97, 3, transaction=1).encode()
            await over_tcp(ready["buses"]["hall"], question, 15)
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                code = await process.wait()
        assert code == 0
        assert [entry.meter for entry in read_served(tmp_path / "log.jsonl")] == ["hall-2"]

    asyncio.run(main())


def test_the_command_lists_mistakes_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "sim.toml").write_text(SIM_TOML.replace("seed = 7", "sede = 7"))

    async def main() -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "-c", str(tmp_path / "sim.toml"), stderr=asyncio.subprocess.PIPE, cwd=ROOT
        )
        _, errors = await process.communicate()
        return process.returncode or 0, errors

    code, errors = asyncio.run(main())
    assert code == 2
    assert b"sede" in errors
