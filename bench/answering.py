"""Meters that answer at once, as one lean process of their own: `python -m bench.answering --help`.

Every question for registers (functions 3 and 4, RTU on ptys, MBAP on free loopback ports) is answered from a ring of
replies made beforehand, in which every register differs from its neighbour in time by a little, as measurements do:
whoever reads twice gets new numbers in every register, and the cost of answering is next to nothing. With a speed
given, the ptys carry question and answer at that speed, every byte of an answer arriving at its own moment.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from threading import Thread

from protocols.checksum import crc16_modbus

ROUNDS = 60
"""Replies in a ring."""
STEP_MAX = 9
MBAP, RTU = 12, 8
"""Bytes of a question for registers."""


@cache
def _bodies(question: bytes) -> tuple[bytes, ...]:
    """Unit to last register: what the meters say to a question (unit, function, first register, count)."""
    count = int.from_bytes(question[4:6], "big")
    rng = random.Random(question)
    registers = [rng.randrange(1_000, 60_000) for _ in range(count)]
    bodies = []
    for _ in range(ROUNDS):
        registers = [register + rng.choice((-1, 1)) * rng.randint(1, STEP_MAX) for register in registers]
        bodies.append(question[:2] + bytes([2 * count]) + b"".join(r.to_bytes(2, "big") for r in registers))
    return tuple(bodies)


@cache
def _rtu(question: bytes) -> Iterator[bytes]:
    return cycle([body + crc16_modbus(body).to_bytes(2, "little") for body in _bodies(question[:6])])


@cache
def _mbap(question: bytes) -> Iterator[bytes]:
    return cycle([b"\0\0" + len(body).to_bytes(2, "big") + body for body in _bodies(question)])


def _answers(held: bytes, size: int, answer: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
    """The answers to all whole questions, and the bytes of the one that is not complete."""
    whole = len(held) - len(held) % size
    return b"".join([answer(held[n : n + size]) for n in range(0, whole, size)]), held[whole:]


def _to_rtu(question: bytes) -> bytes:
    return next(_rtu(question))


def _to_mbap(question: bytes) -> bytes:
    return question[:2] + next(_mbap(question[6:]))


class _Connection(asyncio.Protocol):
    """One client of a Modbus TCP meter."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        answers, self._held = _answers(self._held + data, MBAP, _to_mbap)
        self._transport.write(answers)


def _pty(baud: int | None) -> str:
    """Serve a new pty; the name of its far end, which is kept open so that nobody hangs up."""
    master, slave = os.openpty()
    tty.setraw(slave)
    Thread(target=_serve_pty, args=(master, 10 / baud if baud else None), daemon=True).start()
    return os.ttyname(slave)


def _serve_pty(master: int, character_s: float | None) -> None:
    held = b""
    while True:
        heard = os.read(master, 4096)
        at = time.monotonic()
        answers, held = _answers(held + heard, RTU, _to_rtu)
        if character_s is None:
            os.write(master, answers)
        else:
            for n, byte in enumerate(answers):
                due = at + (len(heard) + 1 + n) * character_s
                time.sleep(max(due - time.monotonic(), 0))
                os.write(master, bytes((byte,)))


async def _serve(ptys: int, tcps: int, baud: int | None) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(_Connection, "127.0.0.1", 0) for _ in range(tcps)]
    ports = [f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    print(json.dumps({"ptys": [_pty(baud) for _ in range(ptys)], "tcps": ports}), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)  # whoever started us is gone, however that came about
    await ended.wait()


@dataclass(frozen=True, slots=True)
class Answering:
    """Where the meters are reached, and the process that they are."""

    pid: int
    ptys: tuple[str, ...]
    tcps: tuple[str, ...]


@contextmanager
def answering(*, ptys: int = 0, tcps: int = 0, baud: int | None = None) -> Iterator[Answering]:
    """So many of them on lines of their own, until the block ends."""
    command = [sys.executable, "-m", "bench.answering", "--pty", str(ptys), "--tcp", str(tcps)]
    command += ["--baud", str(baud)] if baud is not None else []
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield Answering(process.pid, tuple(told["ptys"]), tuple(told["tcps"]))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pty", type=int, default=0)
    parser.add_argument("--tcp", type=int, default=0)
    parser.add_argument("--baud", type=int)
    asked = parser.parse_args()
    asyncio.run(_serve(asked.pty, asked.tcp, asked.baud))
