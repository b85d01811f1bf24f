"""While nothing that comes can end a frame the process rests: a reply costs a few wake-ups, not one for each byte."""

import asyncio
import os
import pty
import time
import tty
from collections.abc import Callable, Generator
from itertools import pairwise
from threading import Thread

import pytest

from config.model import BusEntry, SerialSettings
from drivers.line import Line, PortLost, Receive
from drivers.port import Port, open_line
from protocols.dialogue import Answer, Garbled, Reply
from protocols.modbus.dialogue import read_registers
from protocols.modbus.frame import Frame
from tests.script import meter, registers
from tests.standstill import TRIES, watched

SERIAL = SerialSettings(baud=9600, parity="N")
COUNT = 60
REPLY = registers(1, *range(COUNT))
DELIVERIES_MAX = 20
"""Of the 125 bytes of a reply, with rests of half the inter-byte limit, 25 ms."""
APART_S = 0.02

pytestmark = pytest.mark.real


class PacedMeter:
    """A meter on a pty that says what it is told to, every byte at its own moment."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        tty.setraw(self.ours)
        self.name = os.ttyname(self.theirs)
        self._speaking: Thread | None = None
        self.said_at: list[float] = []
        """When each byte was said (monotonic seconds)."""
        self.ended_at = 0.0
        """When the exchange with it ended."""

    def say(self, data: bytes, character_s: float = SERIAL.character_s) -> None:
        self.said_at.clear()
        self._speaking = Thread(target=self._say, args=(data, character_s))
        self._speaking.start()

    def _say(self, data: bytes, character_s: float) -> None:
        began = time.monotonic()
        for n, byte in enumerate(data):
            time.sleep(max(began + (n + 1) * character_s - time.monotonic(), 0))
            os.write(self.ours, bytes((byte,)))
            self.said_at.append(time.monotonic())

    def finish(self) -> None:
        """Return when all has been said."""
        if self._speaking is not None:
            self._speaking.join()
            self._speaking = None

    def unplug(self) -> None:
        self.finish()
        for fd in (self.ours, self.theirs):
            if fd >= 0:
                os.close(fd)
        self.ours = self.theirs = -1


@pytest.fixture
def paced() -> Generator[PacedMeter, None, None]:
    made = PacedMeter()
    yield made
    made.unplug()


class Counted:
    """A real line that counts how often it delivers, and may pass on that all is wanted at once."""

    def __init__(self, *, restless: bool = False) -> None:
        self.deliveries = 0
        self._restless = restless

    async def open(self, bus: BusEntry) -> Line:
        line = await open_line(bus)
        attach = line.attach

        def counting(receive: Receive, lost: Callable[[Exception], None]) -> None:
            def receive_counted(data: bytes) -> float | None:
                self.deliveries += 1
                wanted = receive(data)
                return None if self._restless else wanted

            attach(receive_counted, lost)

        line.attach = counting  # type: ignore[method-assign]
        return line


async def ask(paced: PacedMeter, counted: Counted, said: bytes, *, timeout_s: float = 2.0) -> Answer[Frame]:
    port = Port(BusEntry(name="b1", port=paced.name, serial=SERIAL), open_line=counted.open, now_ms=lambda: 0)
    await port.open()
    one = meter("1", "modbus-rtu", bus=port.bus)
    try:
        paced.say(said)
        return await port.exchange(
            next(read_registers(1, 4, 0, COUNT)), one.deframer(), settings=one.settings, timeout_s=timeout_s,
            gap_s=one.gap_s, character_s=one.character_s, inter_byte_s=one.inter_byte_s,
        )  # fmt: skip
    finally:
        paced.ended_at = port.ended
        port.close()


async def replied(paced: PacedMeter, counted: Counted, said: bytes) -> bytes | None:
    """The frame that was found, asked for again where the machine stood still so long that what was said came apart."""
    for _ in range(TRIES):
        counted.deliveries = 0
        with watched() as seen:
            answer = await ask(paced, counted, said)
        if isinstance(answer, Reply):
            return answer.frame.encode()
        if max(seen.longest_s, *(after - before for before, after in pairwise(paced.said_at))) < APART_S:
            break
        paced.finish()
    return None


@pytest.mark.slow
async def test_a_reply_of_125_bytes_wakes_the_process_a_few_times(paced: PacedMeter) -> None:
    counted = Counted()
    assert await replied(paced, counted, REPLY) == REPLY
    assert counted.deliveries <= DELIVERIES_MAX


@pytest.mark.slow
async def test_behind_the_echo_of_the_question_it_is_no_more(paced: PacedMeter) -> None:
    counted = Counted()
    assert await replied(paced, counted, next(read_registers(1, 4, 0, COUNT)).data + REPLY) == REPLY
    assert counted.deliveries <= DELIVERIES_MAX


@pytest.mark.slow
async def test_who_never_rests_is_woken_far_more_often(paced: PacedMeter) -> None:
    counted, most = Counted(restless=True), 0
    for _ in range(TRIES):  # about 120, and fewer where the machine has no time for so many
        assert await replied(paced, counted, REPLY) == REPLY
        paced.finish()
        if (most := max(most, counted.deliveries)) > 2 * DELIVERIES_MAX:
            break
    assert most > 2 * DELIVERIES_MAX


@pytest.mark.slow
@pytest.mark.parametrize("said", [REPLY[:2], REPLY[:40], REPLY[:-1], b"\x01" + REPLY[:60]])
async def test_a_reply_that_breaks_off_is_all_seen_by_the_time_out(paced: PacedMeter, said: bytes) -> None:
    assert await ask(paced, Counted(), said, timeout_s=0.5) == Garbled(said)


@pytest.mark.slow
async def test_a_time_out_in_the_midst_of_a_reply_leaves_nothing_unread(paced: PacedMeter) -> None:
    answer = await ask(paced, Counted(), REPLY, timeout_s=0.06)
    assert isinstance(answer, Garbled)
    assert 0 < sum(at < paced.ended_at - 0.005 for at in paced.said_at) <= len(answer.seen)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [b"\x01", b"\x01\x03\xfa", b"\x05\x04\x78\x00"])
async def test_the_reply_behind_noise_that_promises_more_is_found(paced: PacedMeter, noise: bytes) -> None:
    assert await replied(paced, Counted(), noise + REPLY) == REPLY


@pytest.mark.slow
async def test_an_adapter_pulled_out_during_a_rest_ends_the_exchange_at_once(paced: PacedMeter) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    loop.call_later(0.4, paced.unplug)  # the port listens for 0.3 s first
    with pytest.raises(PortLost):
        await ask(paced, Counted(), REPLY[:60], timeout_s=5.0)
    assert loop.time() - began < 2.0


@pytest.mark.slow
async def test_a_port_closed_during_a_rest_leaves_nothing_behind(paced: PacedMeter) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    asking = asyncio.create_task(ask(paced, Counted(), REPLY, timeout_s=5.0))
    await asyncio.sleep(0.37)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.1)
    assert complaints == []
