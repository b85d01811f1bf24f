"""What is said on a line is found among the bytes, of every protocol and both directions, whatever stands around."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import BusEntry, SerialSettings
from drivers.line import Line
from drivers.port import open_line
from field.clock import wall_ms
from field.diagnosis.overheard import PAUSE_S, PAUSE_S_LONG, Overhearing, Piece
from field.diagnosis.sniffing import Summary, overheard, said
from field.main import main
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.frame import read_request, rtu_frame_at
from simulators import virtual
from simulators.endpoints import PtyEndpoint
from simulators.wire import MemoryLine, Wire
from tests.beside import serving
from tests.field.test_cli_words import HAN, prose
from tests.sick import S2400, START_MS, dlt645

ASK_645 = Dlt645Frame(address="202411110001", control=0x11, data=bytes.fromhex("00000100"))
SAY_645 = Dlt645Frame(address="202411110001", control=0x91, data=bytes.fromhex("0000010078563412"))
ASK_97 = Dlt645Frame(address="000000000097", control=0x01, data=bytes.fromhex("1090"))
ASK_RTU = read_request(5, 4, 0, 2)
SAY_RTU = ModbusFrame(unit=5, function=4, data=bytes.fromhex("0443664000"))
NO_RTU = ModbusFrame(unit=5, function=0x84, data=b"\x02")
ASK_ASCII = read_request(7, 3, 16, 1, as_ascii=True)
SAY_ASCII = ModbusFrame(unit=7, function=3, data=bytes.fromhex("020102"), ascii=True)
WRITE = ModbusFrame(unit=5, function=6, data=bytes.fromhex("00010002"))
SPOKEN: Sequence[tuple[str, str, Any]] = (
    ("dlt645-2007", "request", ASK_645),
    ("dlt645-2007", "response", SAY_645),
    ("dlt645-1997", "request", ASK_97),
    ("modbus-rtu", "request", ASK_RTU),
    ("modbus-rtu", "response", SAY_RTU),
    ("modbus-rtu", "response", NO_RTU),
    ("modbus-ascii", "request", ASK_ASCII),
    ("modbus-ascii", "response", SAY_ASCII),
)


def listened(chunks: Sequence[bytes], *, apart_s: float = 0.004) -> list[Piece]:
    """What is found in chunks that come one after the other."""
    hearing = Overhearing()
    pieces = [piece for n, data in enumerate(chunks) for piece in hearing.feed(n * apart_s, data)]
    return pieces + hearing.close()


def frames(pieces: Sequence[Piece]) -> list[tuple[str | None, str | None, Any]]:
    return [(piece.protocol, piece.direction, piece.frame) for piece in pieces if piece.frame is not None]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(SPOKEN), max_size=8), st.integers(0, 2**32), st.integers(1, 20))
def test_every_frame_is_found_however_the_bytes_come(talk: list[tuple[str, str, Any]], seed: int, size: int) -> None:
    rng = Random(seed)
    stream = b"".join(
        bytes(rng.choice((0x00, 0xFF)) for _ in range(rng.randrange(3))) + one.encode() for _, _, one in talk
    )
    pieces = listened([stream[at : at + size] for at in range(0, len(stream), size)])
    assert frames(pieces) == list(talk)
    assert b"".join(piece.raw for piece in pieces) == stream, "every byte is told once"
    assert all(before.ended_at <= after.ended_at for before, after in pairwise(pieces))


@settings(max_examples=100)
@given(st.binary(max_size=700), st.integers(1, 50))
def test_no_byte_is_lost_and_little_is_held(noise: bytes, size: int) -> None:
    hearing, told = Overhearing(), b""
    for n, at in enumerate(range(0, len(noise), size)):
        told += b"".join(piece.raw for piece in hearing.feed(n * 0.001, noise[at : at + size]))
        assert hearing.pending < 1100
    assert told + b"".join(piece.raw for piece in hearing.close()) == noise


@pytest.mark.parametrize("beginning", [b"\x01\x03", b"\x68", b"\x05\x04\x7f", b"\xfe\xfe", b"\x11"])
def test_what_only_looks_like_a_beginning_hides_nothing(beginning: bytes) -> None:
    for one in SPOKEN:
        assert frames(listened([beginning + one[2].encode(), b""])) == [one]


def test_a_write_is_told_from_its_confirmation() -> None:
    found = listened([WRITE.encode(), WRITE.encode(), WRITE.encode()], apart_s=0.1)
    assert [piece.direction for piece in found] == ["request", "response", "request"]
    far = listened([WRITE.encode(), WRITE.encode()], apart_s=20.0)
    assert [piece.direction for piece in far] == ["request", "request"]


def test_a_pause_ends_what_may_have_begun_and_waits_for_what_has() -> None:
    hearing, data = Overhearing(), SAY_645.encode(0)
    assert hearing.feed(0.0, data[:11]) == [] and hearing.quiet(PAUSE_S_LONG - 0.1) == []
    assert frames(hearing.feed(PAUSE_S_LONG - 0.05, data[11:])) == [("dlt645-2007", "response", SAY_645)]
    assert hearing.feed(1.0, data[:11]) == []
    assert [piece.raw for piece in hearing.quiet(1.0 + PAUSE_S_LONG)] == [data[:11]]
    assert hearing.feed(2.0, b"\x05\x04") == [] and hearing.quiet(2.0 + PAUSE_S / 2) == []
    assert [piece.raw for piece in hearing.quiet(2.0 + PAUSE_S)] == [b"\x05\x04"]


def test_a_frame_is_only_where_its_checksum_is() -> None:
    data = b"\x00" + SAY_RTU.encode()
    assert rtu_frame_at(data, 1, "replies") == SAY_RTU
    assert rtu_frame_at(data, 1, "requests") is None
    assert rtu_frame_at(data, 0, "replies") is None
    for bit in range(8, 8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert rtu_frame_at(bytes(damaged), 1, "replies") is None
    assert all(rtu_frame_at(data[:end], 1, "replies") is None for end in range(1, len(data)))


def test_frames_are_said_in_words() -> None:
    (piece,) = listened([SAY_645.encode()])
    assert said(piece)[0].endswith("energy.active.import.total 123456.78 kWh")
    assert "正向有功" in said(piece)[1] and "地址" not in said(piece)[1]
    (piece,) = listened([ASK_RTU.encode()])
    assert said(piece)[0] == "04: read input registers; from register 0 (0-based); 2 registers"
    assert said(listened([b"\x00"])[0]) == ("", "")


def test_who_answers_and_who_does_not_is_counted() -> None:
    other = read_request(9, 3, 0, 1)
    summary = Summary()
    talk: list[Any] = [ASK_RTU, SAY_RTU, other, ASK_RTU, NO_RTU, ASK_645]
    for piece in listened([b"\xff", *(one.encode() for one in talk)], apart_s=0.1):
        summary.take(piece)
    told = {key: (one.questions, one.answers, one.unanswered) for key, one in summary.talks.items()}
    assert told == {
        ("modbus-rtu", "5"): (2, 2, 0),
        ("modbus-rtu", "9"): (1, 0, 1),
        ("dlt645-2007", "202411110001"): (1, 0, 0),
    }
    assert summary.talks["modbus-rtu", "5"].delay_ms == pytest.approx(100)
    assert summary.stray_bytes == 1


def test_nothing_is_ever_written() -> None:
    class Mute(MemoryLine):
        def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
            raise AssertionError(f"wrote {data.hex()}")

    async def main() -> list[Piece]:
        wire = Wire([dlt645()], serial=S2400, now_ms=virtual.now_ms)

        async def open_mute(_: BusEntry) -> Line:
            wire.say(ASK_645.encode(), after_s=1.0)
            wire.say(SAY_645.encode(), after_s=1.5)
            wire.say(b"\x55\xaa", after_s=3.0)
            return Mute(wire)

        bus = BusEntry(name="b", port="/memory/b", serial=S2400)
        return [piece async for piece in overheard(bus, for_s=5.0, open_line=open_mute)]

    found = virtual.run(main(), start_ms=START_MS)
    assert [piece.direction for piece in found] == ["request", "response", None]
    assert found[1].at - found[0].at == pytest.approx(0.5 + (len(SAY_645.encode()) - len(ASK_645.encode())) * 11 / 2400)


def sniff(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sniff", *arguments], catch_exceptions=False)


def serve(talk: Sequence[bytes]) -> tuple[str, threading.Thread]:
    """A serial server that passes on what is said on its bus; how it is reached."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            for data in talk:
                connection.sendall(data)
                time.sleep(0.1)
            assert connection.recv(1) == b"", "a listener says nothing"

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return f"tcp://127.0.0.1:{port}", thread


@pytest.mark.slow
@pytest.mark.real
def test_a_talk_is_told_to_people_and_to_machines() -> None:
    talk = [ASK_645.encode(), SAY_645.encode(), ASK_RTU.encode(), b"\x00\xff\x00"]
    port, thread = serve(talk)
    result = sniff("--port", port, "--seconds", "0.8", "--json")
    thread.join(5)
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["frame"] * 3 + ["bytes", "address", "address", "summary"]
    assert lines[3]["hex"] == "00FF00"
    assert list(lines[0]) == [
        "kind", "at_ms", "at_s", "gap_ms", "protocol", "direction", "address", "text", "hex",
    ]  # fmt: skip
    assert 80 <= lines[4]["delay_ms"] <= 300
    port, thread = serve(talk[:2])
    chinese = sniff("--port", port, "--seconds", "0.5", "--hex", "--lang", "zh")
    assert chinese.exit_code == 0
    assert "202411110001" in chinese.stdout and "91 08" in chinese.stdout
    assert HAN.search(chinese.stderr) and not prose(chinese.output)


@pytest.mark.slow
@pytest.mark.real
def test_a_tty_is_listened_to_and_a_busy_one_refused() -> None:
    wire = Wire([], serial=SerialSettings.parse("9600-8N1"), now_ms=wall_ms)
    endpoint = PtyEndpoint(wire)
    with serving(endpoint) as port:
        timer = threading.Timer(0.3, lambda: endpoint._write(ASK_RTU.encode()))
        timer.start()
        result = sniff("--port", port, "--serial", "9600-8N1", "--seconds", "0.8", "--lang", "en")
        assert result.exit_code == 0, result.output
        assert "-> 5  04: read input registers" in result.stdout

        async def both() -> Result:
            line = await open_line(BusEntry(name="held", port=port, serial=wire.serial))
            try:
                return await asyncio.to_thread(sniff, "--port", port, "--seconds", "0.1")
            finally:
                line.close()

        assert asyncio.run(both()).exit_code == 4
        assert sniff("--port", port, "--seconds", "0.1").exit_code == 3


def test_what_is_wrong_is_said() -> None:
    assert sniff("--port", "/dev/ttyNONE").exit_code == 3
    wrong = sniff("--port", "/dev/x", "--serial", "fast", "--lang", "en")
    assert wrong.exit_code == 2
    assert "2400-8E1" in wrong.stderr
