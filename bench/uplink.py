"""Bytes per value on the uplink: what a batch weighs as it is published, envelope and topic counted apart.

An hour's batch of the reference load is held to 1.5 bytes a value. Others follow, without a bound: the same load from
meters that serve float32; meters simulated from the traces of a home and of a steel plant; and, where it is at hand,
358 homes' own readings.
"""

import csv
import gzip
import os
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path

from bench.figure import Figure
from protocols.batch import decode, encode
from protocols.capture import Capture, Record, Source, TimeState, Value
from protocols.envelope import BatchKind, DataKey, seal
from protocols.modbus.registers import shortest_float32
from protocols.quantity import Quantity, by_name
from protocols.topics import topic
from simulators.load import Load
from simulators.trace import TraceName
from tests.records import REFERENCE, reference_load

GATEWAY = "gw-0001"
BYTES_MAX = 1.5
RESIDENTIAL = "MW_BENCH_RESIDENTIAL"
"""Environment: where the residential trace is, if not beside the checkout."""
BESIDE = Path(__file__).resolve().parents[2] / "shared/data/traces/residential_15min_ch537.csv.gz"
QUARTER_MS = 900_000
START = 1_763_683_200_000


def run(meters: int = 100, hours: int = 24) -> Iterator[Figure]:
    """The reference hour, then `hours` of each measured load in hourly batches."""
    yield _figure("reference load, 100 meters x 20 quantities x 4 quarter hours", [reference_load()], at_most=BYTES_MAX)
    yield _figure("reference load as float32, 100 meters x 20 quantities x 4 quarter hours", [float32_hour()])
    traces: tuple[TraceName, ...] = ("household", "steelplant")
    for trace in traces:
        what = f"{trace} trace, {meters} simulated meters x 20 quantities, hourly batches"
        yield _figure(what, list(simulated_hours(trace, meters, hours)))
    residential = Path(os.environ.get(RESIDENTIAL, BESIDE))
    if residential.exists():
        batches = list(residential_hours(residential, hours))
        yield _figure(f"residential trace, {len(batches[0]) // 4} homes x 1 register, hourly batches", batches)


def _figure(what: str, batches: Sequence[Sequence[Record]], at_most: float | None = None) -> Figure:
    key = DataKey(kid=bytes(8), key=bytes(32), salt=bytes(4), epoch=1, day=20_000)
    values = body_bytes = sealed_bytes = 0
    for seq, records in enumerate(batches, 1):
        body = encode(records)
        assert decode(body) == list(records)
        values += sum(len(record.values) for record in records if isinstance(record, Capture))
        body_bytes += len(body)
        sealed_bytes += len(seal(key, gateway=GATEWAY, seq=seq, kind=BatchKind.CAPTURES, body=body))
    return Figure(
        bench="uplink", what=what, figure=sealed_bytes / values, unit="bytes/value", at_most=at_most,
        more={
            "values": values, "batches": len(batches), "body_bytes": body_bytes,
            "envelope_bytes": sealed_bytes - body_bytes,
            "topic_bytes": len(batches) * len(topic(GATEWAY, "up", "batch")),
        },
    )  # fmt: skip


def float32_hour() -> list[Record]:
    """The reference load from meters that serve float32: with what stands behind the last digit of the others.

    A register that does not move shows the same digits again.
    """
    rng = random.Random("uplink float32")
    shown: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    records: list[Record] = []
    for capture in reference_load():
        assert isinstance(capture, Capture)
        values = []
        for value, (name, decimals) in zip(capture.values, REFERENCE, strict=True):
            assert value.number is not None
            before, exact = shown.get((capture.meter, name), (None, Decimal()))
            if before != value.number:
                full = float(value.number) + rng.uniform(-0.5, 0.5) * 10**-decimals
                exact = shortest_float32(struct.pack(">f", full))
            shown[capture.meter, name] = value.number, exact
            values.append(Value(quantity=value.quantity, number=exact))
        records.append(replace(capture, values=tuple(values)))
    return records


def _capture(meter: str, point: str, slot: int, delay_ms: int, values: tuple[Value, ...]) -> Capture:
    return Capture(
        meter=meter, point=point, task="curve", slot=slot, stamp=slot, read_at=slot + delay_ms,
        time_state=TimeState.TRUSTED, clock_error_ms=None, source=Source.METER_LIVE, values=values,
    )  # fmt: skip


def simulated_hours(trace: TraceName, meters: int, hours: int) -> Iterator[list[Record]]:
    """What simulated meters show that follow a measured load curve: the quantities of the reference load."""
    rng = random.Random(f"uplink {trace}")
    kinds = [by_name(name) for name, _ in REFERENCE]
    loads = [(f"{rng.randrange(10**11, 10**12)}", Load(n, trace=trace)) for n in range(meters)]
    for hour in range(hours):
        records: list[Record] = []
        for slot in range(START + hour * 4 * QUARTER_MS, START + (hour + 1) * 4 * QUARTER_MS, QUARTER_MS):
            for n, (meter, load) in enumerate(loads):
                delay_ms = 500 + n * 137 + rng.randrange(-20, 21)
                values = tuple(_value(kind, load.plain(kind.name, slot + delay_ms)) for kind in kinds)
                records.append(_capture(meter, f"pt-{n + 1:05d}", slot, delay_ms, values))
        yield records


def _value(kind: Quantity, plain: str | None) -> Value:
    assert plain is not None, kind.name
    return Value(quantity=kind, number=Decimal(plain))


def residential_hours(path: Path, hours: int) -> Iterator[list[Record]]:
    """Energy registers that run with the measured energies, at the step in which each meter measures."""
    rng = random.Random("uplink residential")
    kind = by_name("energy.active.import.total")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        homes = [name.removesuffix("_wh") for name in next(reader)[1:]]
        rows = list(islice(reader, hours * 4))
    columns = list(zip(*([Decimal(cell) for cell in row[1:]] for row in rows), strict=True))
    # A meter whose every energy is a multiple of 10 Wh shows 0.01 kWh; the others show 0.001 kWh.
    steps = [Decimal("0.01") if all(cell % 10 == 0 for cell in column) else Decimal("0.001") for column in columns]
    registers = [rng.randrange(10_000, 5_000_000) * step for step in steps]
    for hour in range(len(rows) // 4):
        records: list[Record] = []
        for row in rows[hour * 4 : hour * 4 + 4]:
            slot = round(datetime.fromisoformat(row[0]).timestamp() * 1000)
            for n, cell in enumerate(row[1:]):
                registers[n] = (registers[n] + Decimal(cell) / 1000).quantize(steps[n])
                delay_ms = 500 + n * 137 + rng.randrange(-20, 21)
                value = Value(quantity=kind, number=registers[n])
                records.append(_capture(homes[n], f"pt-{n + 1:05d}", slot, delay_ms, (value,)))
        yield records
