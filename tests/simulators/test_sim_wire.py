"""The wire is exact in time, and goes wrong as its seed says."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import BusEntry, SerialSettings
from drivers.line import Line, PortLost
from drivers.profile import load_profile
from protocols.dlt645.frame import ANY_METER, Deframer, Frame
from protocols.modbus.frame import RtuDeframer, read_request
from simulators import virtual
from simulators.describe import uniform
from simulators.meter import SimulatedMeter, build_meter
from simulators.noise import QUIET, Faults, disturb
from simulators.site import MemorySite
from simulators.truth import ServedLog
from simulators.wire import MemoryLine, Wire, t3_5

START = 1_800_000_000_000
S2400, S9600 = SerialSettings.parse("2400-8E1"), SerialSettings.parse("9600-8N1")
ADDRESS = "000000000042"
READ = Frame(address=ADDRESS, control=0x11, data=bytes.fromhex("00000100")).encode()
SDM = read_request(5, 4, 0, 10).encode()


def dlt645(address: str = ADDRESS, **options: Any) -> SimulatedMeter:
    return build_meter(load_profile("dlt645-2007-3p"), meter_id=f"m{address}", address=address,
                       protocol="dlt645-2007", **options)  # fmt: skip


def sdm630(unit: int = 5, **options: Any) -> SimulatedMeter:
    return build_meter(load_profile("eastron-sdm630"), meter_id=f"s{unit}", address=str(unit), protocol="modbus-rtu",
                       **options)  # fmt: skip


class Bench:
    """A wire in virtual time, and everything that arrives with the time at which it did."""

    def __init__(self, meters: list[SimulatedMeter], *, serial: SerialSettings = S2400, **options: Any) -> None:
        self.log = ServedLog()
        self.wire = Wire(meters, serial=serial, now_ms=virtual.now_ms, log=self.log, **options)
        self.line = MemoryLine(self.wire)
        self.arrived: list[tuple[float, bytes]] = []
        self.lost: list[Exception] = []
        self.line.attach(lambda data: self.arrived.append((now(), data)), self.lost.append)

    async def ask(self, data: bytes = READ, wait_s: float = 5.0) -> bytes:
        before = len(self.arrived)
        self.line.write(data)
        await asyncio.sleep(wait_s)
        return b"".join(data for _, data in self.arrived[before:])


def now() -> float:
    return asyncio.get_running_loop().time()


def simulate(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual.run(main(), start_ms=START)


@pytest.mark.parametrize(
    ("serial", "turnaround"), [(S2400, 20.0), (S9600, 37.5), (SerialSettings.parse("1200-8N2"), 500.0)]
)
def test_an_exchange_takes_exactly_its_bits_and_the_turnaround(serial: SerialSettings, turnaround: float) -> None:
    async def main() -> None:
        bench = Bench([dlt645(turnaround_ms=(turnaround, turnaround))], serial=serial)
        for _ in range(50):
            began = now()
            reply = await bench.ask()
            characters = len(READ) + len(reply)
            expected = characters * serial.bits / serial.baud + turnaround / 1000
            assert bench.arrived[-1][0] - began == pytest.approx(expected, abs=1e-9)
        assert bench.log.entries[-1].at_ms == START + int(bench.arrived[-1][0] * 1000 + 1e-3)

    simulate(main)


def test_a_modbus_meter_waits_for_the_end_of_the_question() -> None:
    async def main() -> None:
        bench = Bench([sdm630(turnaround_ms=(0.0, 0.0))], serial=S9600)
        began = now()
        reply = await bench.ask(SDM)
        assert len(reply) == 25
        expected = (8 + 25) * S9600.character_s + 3.5 * S9600.character_s
        assert bench.arrived[0][0] - began == pytest.approx(expected, abs=1e-9)

    simulate(main)
    assert t3_5(SerialSettings.parse("115200-8N1")) == 0.00175


@pytest.mark.parametrize("pieces", [1, 3])
def test_bytes_arrive_each_at_its_time(pieces: int) -> None:
    async def main() -> None:
        bench = Bench([dlt645()], pieces=pieces)
        reply = await bench.ask()
        assert Deframer().feed(reply)
        begins = len(READ) * S2400.character_s + 0.02
        at = 0
        for when, piece in bench.arrived:
            at += len(piece)
            assert when == pytest.approx(begins + at * S2400.character_s, abs=1e-9)
        assert len(bench.arrived) == -(-len(reply) // pieces)

    simulate(main)


def test_a_whole_exchange_is_one_timer() -> None:
    async def main() -> None:
        bench = Bench([dlt645()])
        await bench.ask()
        assert len(bench.arrived) == 1

    simulate(main)


def test_two_families_share_a_wire_each_with_its_settings() -> None:
    async def main() -> None:
        bench = Bench([dlt645(serial=S2400), sdm630(serial=S9600)])
        assert await bench.ask(READ)
        assert not await bench.ask(SDM)
        await bench.line.drained()
        bench.line.apply(S9600)
        assert await bench.ask(SDM)
        assert not await bench.ask(READ)

    simulate(main)


def test_drained_returns_when_the_last_bit_has_left() -> None:
    async def main() -> None:
        bench = Bench([dlt645()])
        bench.line.write(READ)
        await bench.line.drained()
        assert now() == pytest.approx(len(READ) * S2400.character_s, abs=1e-9)

    simulate(main)


def test_a_question_in_chunks_is_heard_and_one_that_breaks_off_is_forgotten() -> None:
    async def main() -> None:
        bench = Bench([dlt645(), sdm630()])
        for question in (READ, SDM):
            for at in range(len(question)):
                bench.line.write(question[at : at + 1])
            assert await bench.ask(b"")
        bench.line.write(READ[:12])
        await asyncio.sleep(2)
        assert await bench.ask(READ)
        assert await bench.ask(SDM)

    simulate(main)


def test_an_absent_meter_and_a_foreign_address_are_silence() -> None:
    async def main() -> None:
        bench = Bench([dlt645(present=False), dlt645("000000000043")])
        assert await bench.ask() == b""
        assert bench.log.entries == []

    simulate(main)


def test_meters_that_answer_together_spoil_each_other() -> None:
    async def main() -> None:
        bench = Bench([dlt645("000000000001"), dlt645("000000000002")])
        reply = await bench.ask(Frame(address=ANY_METER, control=0x13).encode())
        assert Deframer().feed(reply) == []
        assert [entry.intact for entry in bench.log.entries] == [False, False]
        assert bench.wire.counts["collision"] == 1

    simulate(main)


def test_a_question_into_an_answer_spoils_both() -> None:
    async def main() -> None:
        bench = Bench([dlt645(), dlt645("000000000043")])
        bench.line.write(READ)
        await asyncio.sleep(len(READ) * S2400.character_s + 0.05)  # the answer has begun
        reply = await bench.ask(Frame(address="000000000043", control=0x11, data=bytes.fromhex("00000100")).encode())
        assert Deframer().feed(reply) == []
        assert [entry.intact for entry in bench.log.entries] == [False]

    simulate(main)


def test_a_late_answer_comes_after_its_time_and_is_whole() -> None:
    async def main() -> None:
        bench = Bench([dlt645()], faults=Faults(late=1.0, late_ms=(700, 700)))
        began = now()
        reply = await bench.ask()
        expected = (len(READ) + len(reply)) * S2400.character_s + 0.72
        assert bench.arrived[0][0] - began == pytest.approx(expected, abs=1e-9)
        assert bench.log.entries[0].intact

    simulate(main)


FAULTY = {
    "echo": Faults(echo=True), "glitch": Faults(glitch=1.0), "foreign": Faults(foreign=1.0),
    "insertion": Faults(insertion=0.01),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("question", [READ, SDM])
def test_what_stands_around_an_answer_leaves_it_whole(fault: str, question: bytes) -> None:
    async def main() -> None:
        bench = Bench([dlt645(), sdm630()], faults=FAULTY[fault], seed=1)
        good = 0
        for _ in range(20):
            reply = await bench.ask(question)
            found = [f for f in Deframer().feed(reply) if f.address == ADDRESS and f.control == 0x91]
            if question is SDM:
                deframer = RtuDeframer()
                frames = deframer.feed(reply)
                while deframer.pending:
                    frames += deframer.expire()
                good += any(f.unit == 5 and len(f.data) == 21 for f in frames)
            else:
                good += bool(found)
            if fault == "echo":
                assert reply.startswith(question)
        assert good >= (20 if fault != "insertion" else 3)
        if fault in ("glitch", "foreign"):
            assert bench.wire.counts[fault] == 20

    simulate(main)


@pytest.mark.parametrize("faults", [Faults(silent=1), Faults(truncate=1), Faults(loss=1), Faults(burst=1)], ids=str)
def test_a_fault_that_always_strikes_leaves_no_answer(faults: Faults) -> None:
    async def main() -> None:
        bench = Bench([dlt645()], faults=faults)
        for _ in range(10):
            assert Deframer().feed(await bench.ask()) == []

    simulate(main)


def history(seed: int, faults: Faults) -> list[tuple[float, bytes]]:
    found: list[tuple[float, bytes]] = []

    async def main() -> None:
        bench = Bench([dlt645(turnaround_ms=(20, 500)), sdm630()], seed=seed, faults=faults)
        for _ in range(40):
            await bench.ask(READ)
            await bench.ask(SDM)
        found.extend(bench.arrived)

    simulate(main)
    return found


def test_a_seed_replays_to_the_byte_and_another_one_differs() -> None:
    faults = Faults(ber=2e-3, loss=0.002, insertion=0.002, burst=0.001, glitch=0.1, truncate=0.1, silent=0.1, late=0.1,
                    foreign=0.1, echo=True)  # fmt: skip
    assert history(7, faults) == history(7, faults)
    assert history(7, faults) != history(8, faults)


@pytest.mark.parametrize("faults", [Faults(glitch=1.0), Faults(foreign=1.0)])
def test_an_answer_is_intact_whatever_stands_in_front_of_it(faults: Faults) -> None:
    async def main() -> None:
        bench = Bench([dlt645()], faults=faults)
        assert not (await bench.ask()).startswith(b"\xfe\xfe\xfe\xfe\x68B")
        assert bench.log.entries[0].intact

    simulate(main)


def test_an_answer_is_intact_exactly_when_its_frame_arrived_as_sent() -> None:
    async def main() -> None:
        bench = Bench([dlt645()], faults=Faults(ber=1e-3), seed=3)
        for _ in range(200):
            before = len(bench.log.entries)
            reply = await bench.ask()
            if len(bench.log.entries) == before:
                assert reply == b""  # the question was not heard
                continue
            assert bench.log.entries[-1].intact == bool(Deframer().feed(reply))
        assert 100 < sum(entry.intact for entry in bench.log.entries) < 190

    simulate(main)


def test_the_wire_accounts_for_its_time() -> None:
    async def main() -> None:
        bench = Bench([dlt645(turnaround_ms=(30, 30))])
        replies = [await bench.ask() for _ in range(10)]
        characters = 10 * len(READ) + sum(map(len, replies))
        assert bench.wire.wire_s == pytest.approx(characters * S2400.character_s, abs=1e-9)
        assert bench.wire.turnaround_s == pytest.approx(0.3, abs=1e-9)
        assert bench.wire.counts == {"questions": 10, "answers": 10}

    simulate(main)


def test_a_torn_line_is_lost_once_and_can_be_opened_again() -> None:
    async def main() -> None:
        site = MemorySite(uniform(buses=1, meters_per_bus=1), now_ms=virtual.now_ms)
        bus = site.buses()[0]
        lost: list[Exception] = []
        line = await site.open_line(bus)
        assert isinstance(line, MemoryLine)
        line.attach(lambda data: None, lost.append)
        line.tear()
        line.tear()
        assert [type(error) for error in lost] == [PortLost]
        with pytest.raises(PortLost):
            line.write(READ)
        again: Line = await site.open_line(bus)
        got: list[bytes] = []
        again.attach(got.append, lost.append)
        again.write(Frame(address=site.meters([])[0].address, control=0x11, data=bytes.fromhex("00000100")).encode())
        await asyncio.sleep(2)
        assert got
        again.close()
        again.close()
        assert len(lost) == 1
        with pytest.raises(PortLost):
            await site.open_line(BusEntry(name="nowhere", port="/memory/nowhere"))

    simulate(main)


def test_parity_is_enforced_where_there_is_parity() -> None:
    async def main() -> None:
        found = [
            Bench([dlt645()], serial=serial, check_parity=check).line.parity
            for serial, check in [(S2400, True), (S9600, True), (S2400, False)]
        ]
        assert found == ["enforced", "none", "unverified"]

    simulate(main)


@settings(max_examples=100)
@given(data=st.binary(min_size=1, max_size=60), seed=st.integers(0, 1000))
def test_with_parity_a_single_flip_drops_its_byte_and_only_that(data: bytes, seed: int) -> None:
    arrived = disturb(data, Faults(ber=1e-3), Random(seed), parity=True)
    again = disturb(data, Faults(ber=1e-3), Random(seed), parity=True)
    assert arrived == again
    assert len(arrived) <= len(data)
    if len(arrived) == len(data) - 1:
        assert any(data[:n] + data[n + 1 :] == arrived for n in range(len(data)))
    assert disturb(data, QUIET, Random(seed), parity=True) == data


def test_bits_turn_as_often_as_asked() -> None:
    data = bytes(200_000)
    turned = sum(byte.bit_count() for byte in disturb(data, Faults(ber=1e-3), Random(1), parity=False))
    assert turned == pytest.approx(1600, rel=0.1)


@pytest.mark.parametrize("wrong", [{"ber": 1.5}, {"silent": -0.1}, {"late_ms": (5.0, 1.0)}])
def test_faults_are_valid_or_not_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Faults(**wrong)
