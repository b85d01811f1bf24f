"""A second reader of batch bodies, written from docs/wire.md alone and sharing no code with protocols.batch.

It is slow and trusts what it reads: an oracle for the tests, and an example for other languages.
"""

import json
import zlib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "wire-vectors.json"
QUALITY = ("good", "doubtful", "unavailable", "invalid")
FAULT = ("bus", "silent", "garbled", "refused", "absent", "implausible", "clock", "missed", "internal", "dropped")
SOURCE = ("meter_freeze", "meter_load_record", "meter_live", "gateway_freeze", "manual", "estimated")
TIME_STATE = ("trusted", "untrusted")
WHAT = (None, None, "number", "time", "text")


@cache
def _names() -> tuple[dict[int, str], dict[int, str]]:
    """Rows and stores of section 10, by their numbers."""
    page: dict[str, list[dict[str, Any]]] = json.loads(PAGE.read_text())
    rows = {row["number"]: row["name"] for row in page["catalogue"]}
    return rows, {store["code"]: store["name"] for store in page["stores"]}


class Reader:
    """Section 7 of the page."""

    def __init__(self, body: bytes) -> None:
        assert body[0] == 1
        self.raw = zlib.decompress(body[1:], -15)
        self.at = 0
        self.rows, self.stores = _names()

    def take(self, count: int) -> bytes:
        self.at += count
        return self.raw[self.at - count : self.at]

    def varint(self) -> int:
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number += (byte % 128) << shift
            shift += 7
            if byte < 128:
                return number

    def column(self, runs: list[int]) -> list[int]:
        count = sum(runs)
        if not count:
            return []
        order, width = divmod(self.take(1)[0], 16)
        planes = [self.take(count) for _ in range(width)]
        numbers = []
        for place in range(count):
            coded = int.from_bytes(bytes(plane[place] for plane in planes), "big")
            numbers.append(coded // 2 if coded % 2 == 0 else -(coded + 1) // 2)
        if not order:
            return numbers
        found, start, rest = [], 0, iter(numbers[len(runs) :])
        for place, run in enumerate(runs):
            start += numbers[place]
            now, step = start, 0
            found.append(now)
            for _ in range(run - 1):
                step = next(rest) + (step if order == 2 else 0)
                now += step
                found.append(now)
        return found

    def table(self) -> list[int]:
        return self.column([self.varint()])

    def name(self, number: int) -> str:
        row = self.rows[number & (15 << 34 | 1023)]
        tariff, last, store, nth = number >> 10 & 63, number >> 16 & 15, number >> 21 & 31, number >> 26 & 255
        if tariff:
            row = row.removesuffix(".total") + f".t{tariff}"
        row += f".last_{last}" if last else ""
        if store:
            row += f".{self.stores[store]}" + (f"_{nth}" if nth else "")
        return row + (".time" if number >> 20 & 1 else "")

    def records(self) -> list[dict[str, Any]]:
        count = self.varint()
        lengths = self.table()
        texts = self.texts = [self.take(length).decode() for length in lengths]
        quantities = []
        for number in self.table():
            if number:
                quantities.append(self.name(number))
            else:
                parts = [self.varint() for _ in range(14)]
                quantities.append(texts[parts[6]])
        lengths = self.table()
        flat = iter(self.column([sum(lengths)]))
        shapes = [[quantities[next(flat)] for _ in range(length)] for length in lengths]
        many = self.varint()
        series = list(zip(*(self.column([many]) for _ in range(7)), strict=True))
        order = self.column([count])
        runs = [order.count(place) for place in range(many)]
        made = self.timed(series, runs)
        for shape, names in enumerate(shapes):
            members = [place for place in range(many) if series[place][0] == 2 + shape]
            columns = [self.values(name, [runs[place] for place in members]) for name in names]
            rows = iter(zip(*columns, strict=True))
            for place in members:
                for capture in made[place]:
                    capture["values"] = list(next(rows))
        assert self.at == len(self.raw)
        queues = [iter(each) for each in made]
        return [next(queues[place]) for place in order]

    def timed(self, series: list[tuple[int, ...]], runs: list[int]) -> list[list[dict[str, Any]]]:
        """The records of each series, without values."""
        captures = [place for place, each in enumerate(series) if each[0] >= 2]
        slotted = [place for place in captures if series[place][1] & 16]
        clocked = [place for place in captures if series[place][1] & 32]
        gaps = [place for place, each in enumerate(series) if each[0] == 0]
        events = [place for place, each in enumerate(series) if each[0] == 1]
        slots, stamps, reads, clocks, missed, opened, ats = (
            self.split(members, runs) for members in (slotted, captures, captures, clocked, gaps, gaps, events)
        )
        made: list[list[dict[str, Any]]] = [[] for _ in series]
        text = self.texts
        for place in events:
            _, flags, meter, name, *_ = series[place]
            for at in ats[place]:
                made[place].append(
                    {"type": "event", "name": text[name], "at": at, "meter": text[meter] if flags else None,
                     "detail": self.detail()}
                )  # fmt: skip
        for place in gaps:
            _, fault, meter, task, detail, *_ = series[place]
            for slot, after in zip(missed[place], opened[place], strict=True):
                made[place].append(
                    {"type": "gap", "meter": text[meter], "task": text[task], "slot": slot, "fault": FAULT[fault],
                     "detail": text[detail - 1] if detail else None, "opened_at": slot + after}
                )  # fmt: skip
        for place in captures:
            _, flags, meter, task, point, ct, pt = series[place]
            for number in range(runs[place]):
                planned = slots[place][number] if place in slots else None
                stamp = stamps[place][number] + (planned or 0)
                made[place].append(
                    {"type": "capture", "meter": text[meter], "point": text[point], "task": text[task], "slot": planned,
                     "stamp": stamp, "read_at": stamp + reads[place][number],
                     "time_state": TIME_STATE[flags >> 3 & 1],
                     "clock_error_ms": clocks[place][number] if place in clocks else None,
                     "source": SOURCE[flags & 7], "ct": text[ct], "pt": text[pt]}
                )  # fmt: skip
        return made

    def split(self, members: list[int], runs: list[int]) -> dict[int, list[int]]:
        numbers = iter(self.column([runs[place] for place in members]))
        return {place: [next(numbers) for _ in range(runs[place])] for place in members}

    def detail(self) -> dict[str, str | int]:
        found: dict[str, str | int] = {}
        for _ in range(self.varint()):
            name, item = self.texts[self.varint()], self.varint()
            coded = item // 2
            found[name] = self.texts[coded] if item % 2 == 0 else coded // 2 if coded % 2 == 0 else -(coded + 1) // 2
        return found

    def values(self, name: str, runs: list[int]) -> list[dict[str, Any]]:
        head = self.take(1)[0]
        told: list[str]
        if head & 3 == 0:
            exponent = self.take(1)[0] - 64
            wholes = self.column(runs)
            drops = self.column(runs) if head & 4 else [0] * len(wholes)
            told = [
                str(Decimal((int(whole < 0), tuple(map(int, str(abs(whole) // 10**drop))), exponent + drop)))
                for whole, drop in zip(wholes, drops, strict=True)
            ]
        else:
            told = [self.texts[place] for place in self.column(runs)]
        kind = ("number", "time", "text")[head & 3]
        empty = {"quantity": name, "number": None, "time": None, "text": None}
        values = [{**empty, kind: each, "quality": "good", "fault": None, "detail": None} for each in told]
        at = 0
        for _ in range(self.varint() if head & 8 else 0):
            at += self.varint()
            flags = self.take(1)[0]
            what = flags >> 2 & 7
            value: dict[str, Any] = dict(values[at]) if what == 0 else dict(empty)
            if (told_as := WHAT[what]) is not None:
                value[told_as] = self.texts[self.varint()]
            value["quality"] = QUALITY[flags & 3]
            value["fault"] = FAULT[self.take(1)[0]] if flags & 32 else None
            value["detail"] = self.texts[self.varint()] if flags & 64 else None
            values[at] = value
        return values
