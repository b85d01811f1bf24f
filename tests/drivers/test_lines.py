"""Real lines: a serial device (a pty here) and a TCP connection."""

import asyncio
import os
import pty
import termios
import tty
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import serial
from serial.rs485 import RS485Settings

from config.model import BusEntry, Rs485, SerialSettings
from drivers.line import PortBusy, PortLost
from drivers.port import Port, open_line
from protocols.dialogue import Reply, Silence
from protocols.dlt645 import v2007
from tests.script import energy, meter

EVEN = SerialSettings(baud=9600, parity="E")


class Device:
    """A pty: our end, and the name of the serial device that is the other."""

    def __init__(self) -> None:
        self.ours, self._theirs = pty.openpty()
        tty.setraw(self.ours)
        self.name = os.ttyname(self._theirs)

    def unplug(self) -> None:
        for fd in (self.ours, self._theirs):
            if fd >= 0:
                os.close(fd)
        self.ours = self._theirs = -1


@pytest.fixture
def device() -> Generator[Device, None, None]:
    made = Device()
    yield made
    made.unplug()


def bus(port: str, serial: SerialSettings = EVEN) -> BusEntry:
    return BusEntry(name="b1", port=port, serial=serial)


async def ask(port: Port, *, timeout_s: float = 5.0) -> object:
    one = meter(bus=port.bus)
    question = next(v2007.read("000000000001", ["00010000"]))
    return await port.exchange(
        question, one.deframer(), settings=one.settings, timeout_s=timeout_s, gap_s=one.gap_s,
        character_s=one.character_s, inter_byte_s=one.inter_byte_s,
    )  # fmt: skip


async def test_a_question_and_its_answer_cross_a_serial_device(device: Device) -> None:
    port = Port(bus(device.name), now_ms=lambda: 0)
    await port.open()
    loop = asyncio.get_running_loop()
    heard = b""

    def listen() -> None:
        nonlocal heard
        heard += os.read(device.ours, 100)
        if heard.endswith(b"\x16"):
            os.write(device.ours, energy())

    loop.add_reader(device.ours, listen)
    try:
        assert isinstance(await ask(port), Reply)
    finally:
        loop.remove_reader(device.ours)
        port.close()
    assert heard == next(v2007.read("000000000001", ["00010000"])).data


async def test_a_pty_drops_parity_and_is_told_as_unverified(device: Device) -> None:
    for _ in range(2):  # the second opening is the one that the C library may refuse
        line = await open_line(bus(device.name))
        told = [str(line.parity)]
        for settings in (SerialSettings(baud=2400, parity="N"), SerialSettings(baud=2400, parity="O")):
            line.apply(settings)
            told.append(line.parity)
        assert told == ["unverified", "none", "unverified"]
        line.close()


async def test_parity_counts_as_enforced_only_when_all_three_flags_read_back(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = await open_line(bus(device.name))
    real = termios.tcgetattr

    def lacking(flag: int, index: int) -> None:
        def read(fd: int) -> list[object]:
            attributes = real(fd)
            attributes[0] |= termios.INPCK | termios.IGNPAR
            attributes[2] |= termios.PARENB
            attributes[2] &= ~termios.PARODD
            attributes[index] &= ~flag
            return attributes

        monkeypatch.setattr(termios, "tcgetattr", read)

    for flag, index, expected in [
        (0, 0, "enforced"),
        (termios.INPCK, 0, "unverified"),
        (termios.IGNPAR, 0, "unverified"),
        (termios.PARENB, 2, "unverified"),
    ]:
        with monkeypatch.context():
            lacking(flag, index)
            monkeypatch.setattr(termios, "tcsetattr", lambda *_: None)
            line.apply(EVEN)
            assert line.parity == expected
        monkeypatch.undo()
    line.close()


async def test_parity_is_checked_by_the_kernel_after_every_change(device: Device) -> None:
    line = await open_line(bus(device.name))
    fd = os.open(device.name, os.O_RDWR | os.O_NOCTTY)
    try:
        for settings in (EVEN, SerialSettings(baud=2400, parity="O"), SerialSettings(baud=2400, parity="E")):
            line.apply(settings)
            assert termios.tcgetattr(fd)[0] & (termios.INPCK | termios.IGNPAR) == termios.INPCK | termios.IGNPAR
        line.apply(SerialSettings(baud=2400, parity="N"))
        assert termios.tcgetattr(fd)[0] & termios.INPCK == 0
    finally:
        os.close(fd)
        line.close()


async def test_a_device_in_use_is_busy(device: Device) -> None:
    line = await open_line(bus(device.name))
    with pytest.raises(PortBusy, match="in use"):
        await open_line(bus(device.name))
    line.close()
    (await open_line(bus(device.name))).close()


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("/dev/no-such-device", "no such device"),
        ("/dev/null", "not a serial device"),
        ("tcp://127.0.0.1:1", "refused"),
        ("tcp://127.0.0.1", "expected tcp://host:port"),
        ("tcp://127.0.0.1:70000", "expected tcp://host:port"),
    ],
)
async def test_what_cannot_be_opened_says_why(port: str, said: str) -> None:
    with pytest.raises(PortLost, match=said):
        await open_line(bus(port))


async def test_a_device_without_permission_says_so(tmp_path: Path) -> None:
    port = tmp_path / "tty"
    port.touch(mode=0)
    with pytest.raises(PortLost, match=r"permission denied|not a serial device"):  # root may open anything
        await open_line(bus(str(port)))


@pytest.mark.parametrize(("rs485", "levels"), [("rts", (True, False)), ("rts-inverted", (False, True))])
async def test_the_driver_is_asked_to_turn_the_pair_also_after_a_change_of_speed(
    device: Device, monkeypatch: pytest.MonkeyPatch, rs485: Rs485, levels: tuple[bool, bool]
) -> None:
    asked: list[tuple[bool, bool, bool]] = []

    def record(self: serial.Serial, settings: RS485Settings) -> None:
        asked.append((settings.rts_level_for_tx, settings.rts_level_for_rx, settings.loopback))

    monkeypatch.setattr(serial.Serial, "_set_rs485_mode", record)
    line = await open_line(replace(bus(device.name), rs485=rs485))
    assert asked[-1] == (*levels, False)
    asked.clear()
    line.apply(SerialSettings(baud=2400, parity="E"))
    assert asked[-1] == (*levels, False)
    line.close()
    asked.clear()
    (await open_line(bus(device.name))).close()
    assert asked == []


async def test_a_device_that_cannot_turn_the_pair_is_refused_with_a_reason(device: Device) -> None:
    with pytest.raises(PortLost, match="does not turn RS-485 pairs: leave out rs485 = rts"):
        await open_line(replace(bus(device.name), rs485="rts"))
    (await open_line(bus(device.name))).close()  # and is free again


async def test_a_device_is_opened_by_the_name_of_its_place(device: Device, tmp_path: Path) -> None:
    by_path = tmp_path / "serial/by-path"
    by_path.mkdir(parents=True)
    name = by_path / "pci-0000:00:14.0-usb-0:2:1.0-port0"
    name.symlink_to(device.name)
    line = await open_line(bus(str(name)))
    with pytest.raises(PortBusy, match="in use"):
        await open_line(bus(device.name))
    line.close()


async def test_an_adapter_that_is_pulled_out_ends_the_exchange(device: Device) -> None:
    port = Port(bus(device.name), now_ms=lambda: 0)
    await port.open()
    asyncio.get_running_loop().call_soon(device.unplug)
    with pytest.raises(PortLost):
        await ask(port)
    assert not port.is_open
    port.close()


async def test_a_question_and_its_answer_cross_tcp_and_a_closed_end_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\x16")
        writer.write(energy())
        await reader.readuntil(b"\x16")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        number = server.sockets[0].getsockname()[1]
        port = Port(bus(f"tcp://127.0.0.1:{number}"), now_ms=lambda: 0)
        await port.open()
        assert port.parity == "none"
        assert isinstance(await ask(port), Reply)
        with pytest.raises(PortLost, match="closed by the far end"):
            await ask(port)
        port.close()


async def test_what_a_serial_server_had_kept_is_thrown_away_at_opening() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(energy())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = Port(bus(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"), now_ms=lambda: 0)
        await port.open()
        assert isinstance(await ask(port, timeout_s=0.05), Silence)
        assert port.counters.stray_bytes == len(energy())
        port.close()
