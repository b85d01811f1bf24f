"""Readings out of the database: CSV, Parquet, or the MeterReadings message of IEC 61968-9 as JSON.

Values are on the meter's own side, exact, with the factor of the point's transformers beside them. Times are UTC.
"""

import csv
import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from central.look import Look
from protocols.quantity import by_name

ROW_GROUP: Final = 65_536
"""Rows of one group in a Parquet file, and what is held in memory of it."""
QUALITIES: Final = {"good": "1.0.0", "unavailable": "2.5.259", "invalid": "2.6.0"}
"""Quality codes of IEC 61968-9; one of `doubtful` is told in words, as is what no code was found for."""
SOURCES: Final = {"manual": "1.4.131", "estimated": "2.8.0"}


class Missing(Exception):
    """What this format needs is not installed; with words for people."""


class Exported(NamedTuple):
    """A reading as it is exported; value: the number, exact, in plain decimal text."""

    point: str
    meter: str
    quantity: str
    unit: str
    stamp: str
    source: str
    value: str | None
    text: str | None
    quality: str
    fault: str | None
    detail: str | None
    ratio: str
    slot: str | None
    read_at: str
    clock_error_ms: int | None
    time_state: str
    task: str
    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which readings: of stamps in [since, until) (UTC ms); with a meter or quantities, only of these.

    landed_since: only such as came in a batch from this time on (UTC ms, the centre's clock).
    """

    since: int
    until: int
    meter: str | None = None
    quantities: tuple[str, ...] = ()
    landed_since: int | None = None


def readings(look: Look, wanted: Wanted, *, by_meter: bool = False) -> Generator[Exported, None, None]:
    """The readings by time, or meter by meter; close it when it is not read to its end. Raises SinkAway."""
    conditions = ["stamp >= ?", "stamp < ?"]
    arguments: list[object] = [look.time(wanted.since), look.time(wanted.until)]
    if wanted.meter is not None:
        conditions.append("meter = ?")
        arguments.append(wanted.meter)
    if wanted.quantities:
        conditions.append(f"quantity IN ({', '.join('?' * len(wanted.quantities))})")
        arguments += wanted.quantities
    if wanted.landed_since is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM inbox AS i WHERE i.gateway = reading.gateway AND i.epoch = reading.epoch"
            " AND i.seq = reading.seq AND i.received_at >= ?)"
        )
        arguments.append(look.time(wanted.landed_since))
    order = "meter, quantity, stamp, source" if by_meter else "stamp, meter, quantity, source"
    for row in look.rows(
        "SELECT point, meter, quantity, stamp, source, value, text, quality, fault, detail, ratio, slot, read_at,"
        f" clock_error_ms, time_state, task, gateway FROM reading WHERE {' AND '.join(conditions)} ORDER BY {order}",
        arguments,
    ):
        point, meter, quantity, stamp, source, value, text, quality, fault, detail, ratio, slot, read_at, *rest = row
        yield Exported(
            point, meter, quantity, _unit(quantity), _iso(look.ms(stamp)) or "", source, _plain(value), text, quality,
            fault, detail, _plain(ratio) or "1", _iso(look.ms(slot)), _iso(look.ms(read_at)) or "", *rest,
        )  # fmt: skip


def lacking(look: Look, wanted: Wanted) -> list[str]:
    """The quantities wanted that the catalogue does not have, and of which there is no reading at these times either:
    a meter's own may be called anything. Raises SinkAway."""
    found = []
    for name in wanted.quantities:
        try:
            by_name(name)
        except KeyError:
            span = (look.time(wanted.since), look.time(wanted.until), name)
            some = look.rows("SELECT 1 FROM reading WHERE stamp >= ? AND stamp < ? AND quantity = ? LIMIT 1", span)
            if next(some, None) is None:
                found.append(name)
    return found


def _plain(number: Any) -> str | None:
    return number if number is None or isinstance(number, str) else format(number, "f")


def _unit(quantity: str) -> str:
    try:
        return by_name(quantity).unit
    except KeyError:
        return ""


def _iso(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_csv(rows: Iterable[Exported], out: TextIO) -> int:
    """Rows with a head of their names, as RFC 4180 has them; how many."""
    writer = csv.writer(out)
    writer.writerow(Exported._fields)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def write_parquet(rows: Iterable[Exported], path: Path) -> int:
    """The same columns; `value` exact as text, and `number` the nearest 64-bit float; how many rows.

    Raises Missing where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise Missing("Parquet: the package pyarrow is not installed; see requirements/parquet.txt") from error
    times = {"stamp", "slot", "read_at"}
    stamp = pa.timestamp("ms", tz="UTC")
    kinds = {name: stamp if name in times else pa.string() for name in Exported._fields} | {
        "clock_error_ms": pa.int64()
    }
    schema = pa.schema([*kinds.items(), ("number", pa.float64())])
    count = 0
    left = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(left, ROW_GROUP)):
            columns: dict[str, list[Any]] = {
                name: list(cells) for name, cells in zip(Exported._fields, zip(*group, strict=True), strict=True)
            }
            for name in times:
                columns[name] = [None if cell is None else datetime.fromisoformat(cell) for cell in columns[name]]
            columns["number"] = [None if cell is None else float(cell) for cell in columns["value"]]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(group)
    return count


def write_cim(rows: Iterable[Exported], out: TextIO, *, now: datetime) -> int:
    """A MeterReadings message, meter by meter as the rows must come; how many readings.

    Its names are those of the XML schema (IEC 61968-9, namespace of 2011, in the message of IEC 61968-100). Readings of
    planned slots stand in IntervalBlocks, and so do all that a transformer's factor counts for, as only these have a
    PendingCalculation to tell it; the others stand in Readings. A quantity without a reading type of IEC 61968-9 is
    named as the catalogue names it; times and texts are values too, though the schema has numbers only.
    """
    header = {"Verb": "created", "Noun": "MeterReadings", "Timestamp": _now(now), "Source": "meterwire"}
    out.write(f'{{"Header": {json.dumps(header)}, "Payload": {{"MeterReadings": {{"MeterReading": [')
    count = 0
    for number, (meter, of_meter) in enumerate(groupby(rows, key=lambda row: row.meter)):
        told, added = _meter_reading(meter, of_meter)
        out.write(",\n" if number else "\n")
        json.dump(told, out, ensure_ascii=False)
        count += added
    out.write("\n]}}}\n")
    return count


def _now(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _meter_reading(meter: str, rows: Iterable[Exported]) -> tuple[dict[str, object], int]:
    blocks: list[dict[str, object]] = []
    single: list[dict[str, object]] = []
    point, count = "", 0
    for quantity, of_quantity in groupby(rows, key=lambda row: row.quantity):
        kind = _reading_type(quantity)
        interval: dict[str, list[dict[str, object]]] = {}
        for row in of_quantity:
            point, count = row.point or point, count + 1
            if row.slot is None and row.ratio == "1":
                single.append({**_reading(row), "ReadingType": kind})
            else:
                interval.setdefault(row.ratio, []).append(_reading(row))
        blocks += [_block(kind, ratio, told) for ratio, told in interval.items()]
    told: dict[str, object] = {"Meter": {"Names": [{"name": meter}]}, "UsagePoint": {"Names": [{"name": point}]}}
    if blocks:
        told["IntervalBlocks"] = blocks
    if single:
        told["Readings"] = single
    return told, count


def _block(kind: dict[str, object], ratio: str, readings: list[dict[str, object]]) -> dict[str, object]:
    """Readings of one factor; PendingCalculation: what is still to be multiplied into each of their values."""
    block: dict[str, object] = {"ReadingType": kind, "IntervalReadings": readings}
    if ratio != "1":
        numerator, denominator = Decimal(ratio).as_integer_ratio()
        block["PendingCalculation"] = {
            "scalarNumerator": numerator, "scalarDenominator": denominator, "ReadingType": kind,
        }  # fmt: skip
    return block


def _reading_type(quantity: str) -> dict[str, object]:
    try:
        cim = by_name(quantity).cim
    except KeyError:
        cim = None
    names: dict[str, object] = {"Names": [{"name": quantity}]}
    return names if cim is None else {"ref": cim, **names}


def _reading(row: Exported) -> dict[str, object]:
    """One reading: no value where there is none, and its qualities."""
    told: dict[str, object] = {"timeStamp": row.stamp, "reportedDateTime": row.read_at, "source": row.source}
    value = row.value if row.value is not None else row.text
    if value is not None:
        told["value"] = value
    words = " ".join(filter(None, (row.quality if row.quality not in QUALITIES else "", row.fault, row.detail)))
    codes = [code for code in (QUALITIES.get(row.quality), SOURCES.get(row.source)) if code is not None]
    qualities: list[dict[str, object]] = [{"ReadingQualityType": {"ref": code}} for code in codes]
    qualities = qualities or [{"ReadingQualityType": {}}]
    if words:
        qualities[0]["comment"] = words
    return {**told, "ReadingQualities": qualities}
