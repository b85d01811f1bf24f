"""Values a second from sealed batches into PostgreSQL: verified, opened, decoded, copied, the unique key kept.

A worker is a process of its own with its own connection, and takes the batches of one gateway that has a backlog, as
many as it is given; the server is Debian's, with `fsync` and `synchronous_commit` on. A worker and its server process
take turns, so that one worker uses one core; two are two gateways' backlogs at once. `by_processor_time` is what the
second would bring if nothing else ran: it says so on a busy machine too.

The other extreme are small batches of many gateways, as in the `prompt` profile: 20 values of one meter each, landed as
many at a time as mosquitto has under way to a subscriber by default. 100,000 meters that are read every 15 minutes are
111 of them a second.
"""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from bench.figure import Figure, rate
from central.landing import Landing, spare_the_collector
from central.sinks.postgres import PostgresSink
from protocols.capture import Capture, Record
from tests.fleet import NOW, Gateway, centre, trust
from tests.postgres import Postgres
from tests.records import reference_load

VALUES_MIN = 100_000
TIMES_MIN = 1.7
HOUR_MS = 3_600_000
SMALL_MIN = 4_500
"""Twice those 111 a second."""
TOGETHER = 20
WARM = 2
"""Batches that each worker lands before the clock starts: plans, partitions, keys."""


def run(batches: int = 60, meters: int = 100, rounds: int = 2, gateways: int = 500) -> Iterator[Figure]:
    """One worker on hourly batches of the reference load, then two at once, each the best of so many rounds; and one
    on small batches of so many gateways."""
    directory = Path(tempfile.mkdtemp(prefix="mw-bench-landing-"))
    server = Postgres(directory, fsync=True, shared_buffers="512MB").start()
    try:
        one = min((_round(server, 1, batches, meters) for _ in range(rounds)), key=_seconds)
        two = min((_round(server, 2, batches, meters) for _ in range(rounds)), key=_seconds)
        small = _small(server.create(), gateways)
    finally:
        server.stop()
        shutil.rmtree(directory)
    values = batches * meters * 80
    yield replace(_rate("one worker", one, values), at_least=VALUES_MIN)
    yield _rate("two workers", two, 2 * values)
    yield small
    cores = len(os.sched_getaffinity(0))
    yield Figure(
        bench="landing", what="two workers against one", figure=2 * one[0] / two[0], unit="times",
        at_least=TIMES_MIN if cores > 1 else None,
        more={"cores": cores, "by_processor_time": round(min(cores, 2) * 2 * sum(one[1:]) / sum(two[1:]), 2)},
    )  # fmt: skip


def _small(url: str, gateways: int) -> Figure:
    """Three batches of each gateway, a meter's 20 values in each."""
    senders = [Gateway(id=f"gw-{number}") for number in range(gateways)]
    sink = PostgresSink(url)
    trusted = trust(*(sender.id for sender in senders))
    landing = Landing(sink, centre=centre(), gateways=trusted, now_ms=lambda: NOW)
    landing.receive_all([sender.key() for sender in senders])
    captures = [record for record in reference_load(1, seed=1) if isinstance(record, Capture)][:3]
    messages = [
        sender.batch(seq, [replace(capture, meter=f"m-{sender.id}")])
        for seq, capture in enumerate(captures, 1)
        for sender in senders
    ]
    began, spent, served = time.perf_counter(), time.process_time(), _server_s(sink)
    for first in range(0, len(messages), TOGETHER):
        landing.receive_all(messages[first : first + TOGETHER])
    seconds, spent, served = time.perf_counter() - began, time.process_time() - spent, _server_s(sink) - served
    count = len(messages)
    assert landing.counters["readings"] == 20 * count, landing.counters
    sink.close()
    figure = rate("landing", f"one worker, batches of 20 values, {TOGETHER} at a time", 20 * count, seconds, "values/s",
                  worker_us=round(spent / count * 1e6), server_us=round(served / count * 1e6))  # fmt: skip
    return replace(figure, at_least=SMALL_MIN)


def _rate(what: str, measured: tuple[float, float, float], values: int) -> Figure:
    seconds, worker, serving = measured
    return rate("landing", f"{what}, hourly batches of the reference load", values, seconds, "values/s",
                worker_us=round(worker / values * 1e6, 2), server_us=round(serving / values * 1e6, 2))  # fmt: skip


def _seconds(measured: tuple[float, float, float]) -> float:
    return measured[0]


def _round(server: Postgres, workers: int, batches: int, meters: int) -> tuple[float, float, float]:
    """Seconds on the clock, processor seconds of so many workers, and of their server processes; in a new database."""
    url = server.create()
    PostgresSink(url).close()  # the tables are made once
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for number in range(workers):
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, url, f"gw-{number}", number, batches, meters))
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()  # ready
    began = time.perf_counter()
    for pipe in pipes:
        pipe.send(None)
    spent = [pipe.recv() for pipe in pipes]
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds, sum(worker for worker, _ in spent), sum(serving for _, serving in spent)


def _work(pipe: Connection, url: str, name: str, seed: int, batches: int, meters: int) -> None:
    """One worker: makes its batches, says so, and lands them when it is told to."""
    gateway = Gateway(id=name)
    sink = PostgresSink(url)
    landing = Landing(sink, centre=centre(), gateways=trust(name), now_ms=lambda: NOW)
    landing.receive(*gateway.key())
    hour = reference_load(meters, seed=seed)
    messages = [gateway.batch(seq, _later(hour, seq)) for seq in range(1, WARM + batches + 1)]
    for message in messages[:WARM]:
        landing.receive(*message)
    spare_the_collector()
    pipe.send(None)
    pipe.recv()
    began, served = time.process_time(), _server_s(sink)
    for message in messages[WARM:]:
        landing.receive(*message)
    spent = time.process_time() - began, _server_s(sink) - served
    assert landing.counters["readings"] == (WARM + batches) * meters * 80, landing.counters
    sink.close()
    pipe.send(spent)


def _server_s(sink: PostgresSink) -> float:
    """Processor seconds of the server process that serves this connection."""
    stat = Path(f"/proc/{sink._connected().info.backend_pid}/stat").read_text(encoding="ascii").split()
    return (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")


def _later(records: Sequence[Record], hours: int) -> list[Record]:
    by = hours * HOUR_MS
    return [
        replace(record, slot=record.slot + by, stamp=record.stamp + by, read_at=record.read_at + by)
        for record in records
        if isinstance(record, Capture) and record.slot is not None
    ]
